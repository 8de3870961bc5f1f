"""A reader that has much to read has signatures checked by other processes, believes them as itself, and needs none."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from forged import MESSAGE, forged_signature, signature_of_another_statement
from ledger_factory import make_ledger
from station import Station, new_station

from keys import ahead as ahead_module
from keys.ahead import Asked, SignaturesAhead
from keys.ed25519 import Joined, PublicKey
from ledger.objects import DirectoryObjects
from ledger.sqlite.store import SqliteStore
from policies import read_ahead
from policies.fold.state import State
from policies.replay import Replay, Unlawful

ENTRIES = 400
MACHINES = 340
"""Of these at least so many are signed by machines."""


@pytest.fixture(autouse=True)
def processes_for_short_ledgers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "WORTH_PROCESSES", 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    make_ledger(root, ENTRIES)
    return root


def read(root: Path, jobs: int) -> tuple[State, list[int]]:
    seen: list[int] = []
    with SqliteStore.open(root / "ledger.db", read_only=True) as store:
        objects = DirectoryObjects(root / "objects")
        replay = Replay(store, objects, None, lambda entry, _: seen.append(entry.seq), jobs=jobs)
        return replay.sync(), seen


class Counted(SignaturesAhead):
    """Counts what it is told, and the processes that were ended when its context was."""

    told = 0
    ended: list[int | None]

    def ask(self, publics: Sequence[PublicKey], joined: Sequence[Joined]) -> Asked:
        type(self).told += len(joined)
        return super().ask(publics, joined)

    def __exit__(self, *exception: object) -> None:
        processes = [worker._process for worker in self._workers]
        super().__exit__(*exception)
        type(self).ended = [process.poll() for process in processes]


def test_much_is_read_by_several_processes_and_all_of_them_end(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched(Counted):
        pass

    monkeypatch.setattr(read_ahead, "SignaturesAhead", Watched)
    assert read(made, 2) == read(made, 1) == (read(made, 4)[0], list(range(ENTRIES)))
    assert Watched.told >= 2 * MACHINES
    assert len(Watched.ended) == 3
    assert None not in Watched.ended


def test_little_is_read_alone(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched(Counted):
        pass

    monkeypatch.setattr(read_ahead, "SignaturesAhead", Watched)
    monkeypatch.setattr(read_ahead, "WORTH_PROCESSES", ENTRIES + 1)
    assert read(made, 2)[1] == list(range(ENTRIES))
    assert Watched.told == 0


@pytest.mark.parametrize("jobs", [2, 3])
def test_process_that_dies_is_done_without_and_no_entry_is_seen_twice(
    made: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    class Mortal(Counted):
        def ask(self, publics: Sequence[PublicKey], joined: Sequence[Joined]) -> Asked:
            if self._workers and type(self).told >= ENTRIES // 2:
                os.kill(self._workers[0]._process.pid, signal.SIGKILL)
                self._workers[0]._process.wait()
            return super().ask(publics, joined)

    monkeypatch.setattr(read_ahead, "SignaturesAhead", Mortal)
    assert read(made, jobs) == read(made, 1)
    assert Mortal.told > ENTRIES // 2
    assert Mortal.ended == []


def test_process_that_cannot_be_started_is_done_without(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module, "COMMAND", ("/nowhere/python",))
    assert read(made, 2) == read(made, 1)


@pytest.mark.parametrize("forge", [forged_signature, signature_of_another_statement])
def test_forgery_is_refused_by_any_number_of_processes(tmp_path: Path, forge: Callable[[Station], int]) -> None:
    station = new_station(tmp_path)
    seq = forge(station)
    station.force(station.sign("cbo", MESSAGE))
    for jobs in (1, 2):
        with pytest.raises(Unlawful) as caught:
            read(tmp_path, jobs)
        assert (caught.value.entry, caught.value.cause.code) == (seq, "bad_signature")
