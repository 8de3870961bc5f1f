"""An audit by many processes finds what an audit by one finds; when one of them fails, nothing is found at all."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from forged import MESSAGE, forged_signature, signature_of_another_statement
from governing import revoke
from ledger_factory import make_ledger
from station import Station, new_station

from keys import ahead as ahead_module
from keys.ahead import Asked, SignaturesAhead, WorkerFailed
from keys.ed25519 import Joined, PublicKey
from ledger.objects import DirectoryObjects
from ledger.sqlite.store import SqliteStore
from policies import read_ahead
from policies.auditing.audit import audit
from policies.auditing.report import Report
from policies.fold import shelf as audit_shelf
from policies.fold.deployment import Deployment
from policies.fold.packer import Packer
from policies.fold.scratch import IN_MEMORY
from policies.fold.shelf import SHELVED, Shelf, shelved_state
from policies.fold.snapshot import Folded
from policies.replay import Replay

ENTRIES = 400


@pytest.fixture(autouse=True)
def processes_for_short_ledgers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "WORTH_PROCESSES", 0)


def examine(root: Path, jobs: int) -> Report:
    with SqliteStore.open(root / "ledger.db", read_only=True) as store:
        return audit(store, DirectoryObjects(root / "objects"), remembered=None, jobs=jobs)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    make_ledger(root, ENTRIES)
    return root


def flip(root: Path, seq: int, at: int) -> None:
    with closing(sqlite3.connect(root / "ledger.db")) as connection:
        (data,) = connection.execute("SELECT data FROM record WHERE seq = ?", (seq,)).fetchone()
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        connection.execute("UPDATE record SET data = ? WHERE seq = ?", (changed, seq))
        connection.commit()


def good(root: Path) -> None:
    del root


def changed_early(root: Path) -> None:
    flip(root, 20, 100)


def changed_late(root: Path) -> None:
    flip(root, ENTRIES - 2, 100)


def two_changed(root: Path) -> None:
    flip(root, 40, 200)
    flip(root, 300, 200)


def cut(root: Path) -> None:
    with closing(sqlite3.connect(root / "ledger.db")) as connection:
        connection.execute("DELETE FROM record WHERE seq >= ?", (ENTRIES - 5,))
        connection.commit()


@pytest.mark.parametrize("harm", [good, changed_early, changed_late, two_changed, cut])
def test_report_does_not_depend_on_the_number_of_processes(
    made: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(made, root)
    harm(root)
    alone = examine(root, 1)
    assert alone.ok is (harm is good)
    assert alone == examine(root, 2) == examine(root, 4)


def key_that_was_revoked(station: Station) -> int:
    said = station.sign("ada", MESSAGE)
    revoke(station, "ada", position=0)
    return station.force(said)


@pytest.mark.parametrize("forge", [forged_signature, signature_of_another_statement, key_that_was_revoked])
def test_forgery_is_found_by_any_number_of_processes(tmp_path: Path, forge: Callable[[Station], int]) -> None:
    station = new_station(tmp_path)
    seq = forge(station)
    for _ in range(3):
        station.force(station.sign("cbo", MESSAGE))
    alone = examine(tmp_path, 1)
    assert alone.findings[0].entry == seq
    assert alone.decided == seq
    assert alone == examine(tmp_path, 2) == examine(tmp_path, 4)


def test_same_statement_twice_is_found_by_any_number_of_processes(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    said = station.sign("cbo", MESSAGE)
    station.force(said)
    seq = station.force(said)
    alone = examine(tmp_path, 1)
    assert [finding.entry for finding in alone.findings] == [seq]
    assert alone == examine(tmp_path, 2)


def test_process_that_dies_is_an_error_and_no_report(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mortal(SignaturesAhead):
        told = 0

        def ask(self, publics: Sequence[PublicKey], joined: Sequence[Joined]) -> Asked:
            asked = super().ask(publics, joined)
            self.told += len(joined)
            if self.told >= ENTRIES // 2:
                for worker in self._workers:
                    os.kill(worker._process.pid, signal.SIGKILL)
                    worker._process.wait()
            return asked

    monkeypatch.setattr(read_ahead, "SignaturesAhead", Mortal)
    with pytest.raises(WorkerFailed):
        examine(made, 2)


def test_processes_that_prove_nothing_change_no_finding(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = tmp_path / "idle.py"
    idle.write_text(
        "import os\nfrom keys.ahead_worker import HEADER, HELLO, NUMBER, _read\nos.write(1, HELLO)\n"
        "while header := _read(HEADER.size):\n"
        "    number, count, size = HEADER.unpack(header)\n"
        "    _read(size)\n"
        "    os.write(1, NUMBER.pack(number) + bytes(count))\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(ahead_module, "COMMAND", (sys.executable, str(idle)))
    assert examine(made, 2) == examine(made, 1)


def test_what_rests_on_a_shelf_is_what_was_put_there(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing stays an object for longer than it takes to look at another one.
    monkeypatch.setattr(audit_shelf.Shelf.__init__, "__defaults__", (IN_MEMORY, 1))
    with SqliteStore.open(made / "ledger.db", read_only=True) as store:
        objects = DirectoryObjects(made / "objects")
        whole = Replay(store, objects, None).sync()
        ended: list[Folded] = []
        assert audit(store, objects, remembered=None, keep=ended.append).ok
    leases: object = ended[0].state.leases
    assert isinstance(leases, Shelf)
    for name in SHELVED:
        assert dict(getattr(ended[0].state, name).items()) == getattr(whole, name)
    assert ended[0].state == whole


def test_shelf_behaves_like_a_dict(made: Path) -> None:
    with SqliteStore.open(made / "ledger.db", read_only=True) as store:
        deployments = Replay(store, DirectoryObjects(made / "objects"), None).sync().deployments
    shelf: Shelf[Deployment] = Shelf(Packer(Deployment), keep=2)
    for key, value in deployments.items():
        shelf[key] = value
    assert len(deployments) > 5
    assert list(shelf) == list(deployments)
    assert list(shelf.values()) == list(deployments.values())
    assert len(shelf) == len(deployments)
    assert "none" not in shelf
    assert shelf.get("none") is None
    first = next(iter(shelf))
    shelf[first].tier = 77
    for key in shelf:
        assert shelf[key].lease_digest == key
    assert shelf[first].tier == 77
    shelf[first] = shelf[key]
    assert shelf[first].lease_digest == key
    assert len(shelf) == len(deployments)
    assert list(shelf) == list(deployments)
    assert first in shelf
    with pytest.raises(TypeError):
        del shelf[first]
    with pytest.raises(KeyError):
        shelf["none"]


def test_value_that_was_asked_for_may_be_changed_until_others_were(made: Path) -> None:
    shelf: Shelf[list[int]] = Shelf(Packer(list[int]), keep=3)
    for number in range(20):
        shelf[f"{number}"] = [number]
    for number in range(20):
        held = shelf[f"{number}"]
        for other in range(3):
            shelf[f"{(number + other + 1) % 20}"]
        held.append(-1)
    assert list(shelf.values()) == [[number, -1] for number in range(20)]


def test_resting_leases_take_little_memory(made: Path) -> None:
    with SqliteStore.open(made / "ledger.db", read_only=True) as store:
        state = Replay(store, DirectoryObjects(made / "objects"), None).sync()
    shelf: object = shelved_state().leases
    assert isinstance(shelf, Shelf)
    packed = [len(shelf.packer.pack(lease)) for lease in state.leases.values()]
    assert max(packed[1:]) < 1_500
