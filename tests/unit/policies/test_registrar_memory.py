"""What a registrar looks up before it appends: the remembered head, and what was said before."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest
from refusal import refused
from station import Station, new_station

from keys.errors import CalyxError, Unavailable
from ledger.head import EMPTY_HEAD
from policies.fold.digests import Digests
from policies.fold.scratch import ScratchFailed
from policies.submitter import Draft


def cut_to(station: Station, size: int, tip: tuple[object, ...]) -> None:
    """Take the ledger back to `size` entries in place, with the tip row that it had then."""
    with sqlite3.connect(station.root / "ledger.db") as connection:
        connection.execute("DELETE FROM record WHERE seq >= ?", (size,))
        connection.execute("DELETE FROM tip")
        connection.execute("INSERT INTO tip VALUES (?, ?, ?, ?, ?)", tip)
    connection.close()


def intent(number: int) -> Draft:
    return Draft("intent", {"id": f"INT-20260105-{number:03}", "target": "web", "what": "a", "why": "b"})


def test_nothing_is_appended_to_a_ledger_cut_behind_what_another_process_remembered(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    idle = station.new_registrar()
    size = idle.sync().size
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        tip = connection.execute("SELECT * FROM tip").fetchone()
    connection.close()
    station.say("cbo", "intent", intent(1).fields)
    remembered = station.memory.load(str(station.root))
    cut_to(station, size, tip)
    # Two at once would jump over the remembered size, where no hash could contradict it any more.
    with pytest.raises(CalyxError, match="entries are missing at the end") as refusal:
        idle.submit_all(station.signer("cbo"), [intent(2), intent(3)])
    assert refusal.value.code == "head_contradicted"
    assert station.store.head().size == size
    assert station.memory.load(str(station.root)) == remembered


def test_durable_entry_whose_head_is_not_remembered_is_named_and_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = new_station(tmp_path)
    size = station.state.size

    def full(*_: object) -> None:
        raise Unavailable("memory_write_failed", "the disk is full")

    monkeypatch.setattr(station.memory, "note", full)
    with pytest.raises(Unavailable) as refusal:
        station.say("ada", "message", {"type": "question", "to": None, "reply_to": None, "text": "there?"})
    assert refusal.value.code == "head_not_remembered"
    assert refusal.value.fields["entry"] == size
    monkeypatch.undo()
    assert station.state.size == size + 1


def test_head_that_could_not_be_noted_is_remembered_before_anything_follows_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who goes on after a full disk acts on the entry, and a cut of it must not go unnoticed then."""
    station = new_station(tmp_path)
    registrar = station.new_registrar()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ledger.memory._replace", full)
        patch.setattr("ledger.memory._write", full)
        with refused("head_not_remembered", cause="memory_full"):
            registrar.submit(station.signer("cbo"), intent(1))
        patch.setattr("ledger.memory.replace_file", full)
        with refused("memory_full"):
            registrar.sync()
    assert registrar.sync().size == registrar.head.size
    remembered = station.memory.load(str(station.root))
    assert remembered is not None
    assert remembered.head == station.store.head()


def test_head_is_on_the_disk_when_the_command_that_noted_it_ends(tmp_path: Path) -> None:
    """What was only noted, a loss of power may take."""
    station = new_station(tmp_path)
    with station.new_registrar() as registrar:
        seq = registrar.submit(station.signer("cbo"), intent(1)).seq
    for noted in (tmp_path / "memory").glob("*.recent"):
        noted.write_bytes(b"")
    remembered = station.memory.load(str(station.root))
    assert remembered is not None
    assert remembered.size == seq + 1


def test_statement_that_came_again_gets_its_entry_whatever_is_in_the_way_of_a_new_one(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    said = station.sign("cbo", intent(1))
    (receipt,) = station.registrar.append([said])
    station.say("cbo", "intent", intent(2).fields)
    assert station.registrar.append([said]) == [receipt]
    station.clock.now -= 3_600
    assert station.registrar.append([said]) == [receipt]
    with pytest.raises(Unavailable) as refusal:
        station.registrar.append([station.sign("cbo", intent(3))])
    assert refusal.value.code == "clock_suspect"


def test_state_that_a_full_disk_left_half_changed_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    station = new_station(tmp_path)
    before = station.state.size

    def full(*_: object) -> None:
        raise ScratchFailed(OSError(28, "No space left on device"))

    with monkeypatch.context() as patch:
        patch.setattr(Digests, "append", full)
        with pytest.raises(ScratchFailed):
            station.say("cbo", "intent", intent(1).fields)
    assert station.registrar.head == EMPTY_HEAD
    assert station.registrar.sync().size == before
    station.say("cbo", "intent", intent(1).fields)
    assert station.state.size == before + 1
