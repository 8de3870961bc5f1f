"""A registrar that has read the whole ledger still asks the memory before it appends: another process may know more."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from station import Station, new_station

from keys.errors import CalyxError, Unavailable
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
