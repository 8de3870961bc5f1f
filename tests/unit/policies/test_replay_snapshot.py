"""A replay that begins at a snapshot: as good as one from the first entry, and at none that nobody vouched for."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
from auditing import Auditor
from judged import count_judged
from refusal import refused
from station import Station, new_station

from ledger.memory import HeadMemory
from ledger.sqlite.store import SqliteStore
from ledger.store import Reader
from policies.fold.history import History
from policies.fold.scratch import Column, Scratch, ScratchFailed
from policies.pin import Pin
from policies.registrar import Registrar
from policies.replay import Replay
from policies.submitter import Draft

WHEN = "2026-01-05T09:00:00Z"
QUESTION = {"type": "question", "to": None, "reply_to": None, "text": "Who is there?"}


@pytest.fixture
def station(tmp_path: Path) -> Station:
    station = new_station(tmp_path)
    lease = station.propose()
    station.begin(lease)
    return station


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seqs that replays judge."""
    return count_judged(monkeypatch)


def user_of(station: Station) -> Auditor:
    return Auditor(station.root / "user", station.root / "ledger.db", station.objects, home=str(station.root))


def replay(station: Station, reader: Reader | None = None, scratch: Scratch | None = None) -> Replay:
    pin = Pin(station.memory, str(station.root))
    snapshots = user_of(station).snapshots(scratch or Scratch())
    return Replay(reader or station.store, station.objects, pin, snapshots=snapshots)


def keep(station: Station) -> int:
    """Read all of it, and keep the snapshot."""
    first = Replay(station.store, station.objects, None)
    first.sync()
    first.keep(user_of(station).snapshots(), first.head.size, WHEN)
    return first.head.size


def test_only_what_is_new_is_judged(station: Station, judged: list[int]) -> None:
    size = keep(station)
    judged.clear()
    following = replay(station)
    assert following.sync() == station.state
    assert judged == []
    assert following.checkpoint == station.store.checkpoint()
    station.say("ada", "message", QUESTION)
    judged.clear()
    assert following.sync() == station.state
    assert judged == [size]
    # What goes wrong later leads back to the snapshot, not to the first entry.
    following.forget()
    judged.clear()
    assert following.sync() == station.state
    assert judged == [size]


class Watched(Scratch):
    """Knows which of its files there still are. `full`: nothing more goes into one than its first 100 bytes."""

    def __init__(self, directory: Path, *, full: bool = False) -> None:
        super().__init__(directory, spill=True)
        self.full = full
        self.made: list[weakref.ref[Any]] = []

    def open(self) -> Any:
        file: Any = super().open()
        self.made.append(weakref.ref(file))
        if self.full:
            write = file.write

            def full(data: bytes) -> int:
                write(bytes(data)[:100])
                raise OSError(28, "No space left on device")

            file.write = full
        return file

    @property
    def left(self) -> int:
        return sum(file is not None and not file.closed for file in (made() for made in self.made))


def test_reader_that_begins_anew_lets_its_files_go(station: Station) -> None:
    """Each failed append makes it begin anew; a disk that is full for a day must not cost it all its descriptors."""
    keep(station)
    with Watched(station.root / "scratch") as scratch:
        following = replay(station, scratch=scratch)
        for count in range(1, 4):
            assert following.sync() == station.state
            assert following.begun is not None
            # As many as the first time, and the others are gone.
            assert len(scratch.made) == count * scratch.left > 0
            following.forget()


def test_copy_that_does_not_fit_takes_no_room(station: Station) -> None:
    """What must be taken back on a full disk needs the room that half of a copy would hold."""
    keep(station)
    with Watched(station.root / "scratch", full=True) as scratch:
        following = replay(station, scratch=scratch)
        assert following.sync() == station.state
        assert following.begun is not None
        assert scratch.made
        assert scratch.left == 0


def test_last_room_of_a_disk_is_for_the_ledger(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that fills the disk for a moment would have a good rollout halted and taken back."""
    size = keep(station)
    user = user_of(station)
    before = user.file.read_bytes()
    monkeypatch.setattr("policies.fold.scratch.ROOM", 1 << 62)
    with Scratch(tmp_path / "scratch", spill=True) as scratch:
        following = replay(station, scratch=scratch)
        assert following.sync() == station.state
        assert following.begun is not None
        with refused("snapshot_write_failed"):
            following.keep(user.snapshots(scratch), size, WHEN)
    assert user.file.read_bytes() == before
    assert not list(user.file.parent.glob(".*"))
    with Scratch(tmp_path / "scratch") as scratch, refused("scratch_failed"):
        Column(scratch).append(b"x")


def test_replay_goes_on_where_a_whole_audit_ended(station: Station, judged: list[int]) -> None:
    assert user_of(station).whole().ok
    size = station.store.head().size
    station.complete(next((each.lease.id, digest) for digest, each in station.state.leases.items()))
    judged.clear()
    with Scratch(station.root / "scratch") as scratch:
        assert replay(station, scratch=scratch).sync() == station.state
    assert judged[0] == size


def test_without_a_fit_snapshot_all_is_judged(station: Station, judged: list[int]) -> None:
    size = keep(station)
    judged.clear()
    file = user_of(station).file
    file.write_bytes(file.read_bytes()[:-1])
    assert replay(station).sync() == station.state
    assert judged == list(range(size)) or judged == [0, *range(size)]


def test_newer_snapshot_of_another_process_is_not_put_back_to_an_older_one(station: Station) -> None:
    """As by a command that had read the ledger before the executor went on, and ends after that."""
    slow, fast = replay(station), replay(station)
    slow.sync()
    station.say("ada", "message", QUESTION)
    fast.sync()
    assert fast.keep_new(1, 0)
    assert not slow.keep_new(1, 0)
    kept = user_of(station).snapshots().note()
    assert kept is not None
    assert kept.size == fast.head.size
    # It goes on from there like everybody else.
    slow.sync()
    assert not slow.keep_new(1, 0)
    station.say("ada", "message", QUESTION)
    slow.sync()
    assert slow.keep_new(1, 0)


def test_shorter_ledger_than_the_snapshot_and_the_memory(station: Station, tmp_path: Path) -> None:
    station.store.backup(tmp_path / "older.db")
    station.say("ada", "message", QUESTION)
    keep(station)
    with SqliteStore.open(tmp_path / "older.db", read_only=True) as older, refused("head_contradicted"):
        replay(station, older).sync()


def test_remembered_head_is_held_against_a_snapshot_too(station: Station) -> None:
    """A snapshot of all there is spares the reading, and not the question whether there was more."""
    keep(station)
    state = station.state
    station.memory = HeadMemory(station.root / "other-memory")
    head = station.store.head()
    station.memory.remember(str(station.root), state.ledger, type(head)(head.size + 1, "ab" * 32))
    with refused("head_contradicted"):
        replay(station).sync()


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), ScratchFailed(OSError(5, "Input/output error"))])
def test_half_of_a_change_is_neither_kept_nor_gone_on_from(
    station: Station, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    """Whoever is interrupted in the middle keeps what it read all the same, and later readers believe that."""
    pin = Pin(station.memory, str(station.root))
    snapshots = user_of(station).snapshots()
    registrar = Registrar(
        station.store,
        station.objects,
        station.log_key,
        pin,
        clock=station.clock,
        random=station.random,
        snapshots=snapshots,
    )
    registrar.sync()

    def fail(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch, pytest.raises(type(fault)):
        patch.setattr(History, "append", fail)
        registrar.submit(station.signer("ada"), Draft("message", QUESTION))
    registrar.keep_new(1, station.clock())
    assert replay(station).sync() == station.state
    registrar.submit(station.signer("ada"), Draft("message", QUESTION))
    registrar.keep_new(1, station.clock())
    station.registrar.sync()
    following = replay(station)
    assert following.sync() == station.state
    assert following.begun is not None


def test_unlawful_entry_behind_the_snapshot(station: Station) -> None:
    keep(station)
    seq = station.force(station.sign("cp20", Draft("term", {"epoch": 7, "reason": "jump"})))
    following = replay(station)
    for _ in range(2):
        with refused("unlawful_entry", entry=seq, cause="wrong_epoch"):
            following.sync()
