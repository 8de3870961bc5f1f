"""What a fold keeps in memory does not grow with the deployments that are over."""

from __future__ import annotations

import errno
import gc
import io
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from auditing import Auditor
from station import Station, fleet, matrix, new_station

from ledger.chain import Entry
from policies import replay as replay_module
from policies.fold import digests
from policies.fold import shelf as audit_shelf
from policies.fold.deployment import Deployment
from policies.fold.packer import Packer
from policies.fold.scratch import Column, Scratch, ScratchFailed, Unnamed
from policies.fold.shelf import SHELVED, Shelf, shelved_state
from policies.fold.slots import Slots
from policies.fold.snapshot import copy_snapshot
from policies.fold.state import LeaseState, State
from policies.law.registers import newest_first
from policies.pin import Pin
from policies.replay import Replay

KEEP = 16
MANY = 3 * KEEP


def deploy(station: Station, number: int) -> None:
    """A deployment of one instance, from its intent to its end."""
    lease = station.propose(f"LEASE-20260105-{number:06}")
    station.approve(lease)
    station.claim(lease)
    station.event("cp20", lease, "ABORTED", cause="test", text="")


def held(state: State) -> dict[str, int]:
    """How many values of each mapping are objects in memory."""
    found = {}
    for name in SHELVED:
        shelf: Shelf[Any] = getattr(state, name)
        assert len(shelf._numbers) == len(shelf._names) == len(shelf._young) + len(shelf._old)
        found[name] = len(shelf._names)
    return found


def alive(model: type) -> int:
    """How many of a class there are in this process."""
    return sum(type(each) is model for each in gc.get_objects())


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def test_no_more_objects_after_twice_as_many_deployments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "shelved_state", partial(shelved_state, keep=KEEP))
    station = new_station(tmp_path, policy=matrix(tiers=[100]))
    station.take_term()
    with Scratch(tmp_path / "scratch") as scratch:
        replay = Replay(station.store, station.objects, None, scratch=scratch)
        counts: list[dict[str, int]] = []
        objects: list[tuple[int, int]] = []
        state = replay.sync()
        for round_ in range(2):
            for number in range(MANY):
                deploy(station, round_ * MANY + number)
            before = alive(Deployment), alive(LeaseState)
            state = replay.sync()
            gc.collect()
            counts.append(held(state))
            # The station's own fold keeps all of them; only what the replay added counts.
            objects.append((alive(Deployment) - before[0], alive(LeaseState) - before[1]))
        assert len(state.deployments) == 2 * MANY
        assert all(count <= 2 * KEEP for each in counts for count in each.values())
        assert all(count <= 2 * KEEP for count in objects[0])
        # Going on from there, objects come and go, and are no more than there were.
        assert all(count <= KEEP for count in objects[1])
        assert not state.open_leases
        assert state == station.state


def test_disk_that_fills_up_on_the_way_loses_nothing(tmp_path: Path) -> None:
    """The first part lies in the file, and the rest in memory, in one order."""

    class Filling(io.BytesIO):
        room = 10

        def write(self, data: Any, /) -> int:
            if self.room < len(data):
                super().write(bytes(data)[: self.room])
                self.room = 0
                raise OSError(28, "No space left on device")
            self.room -= len(data)
            return super().write(data)

    made: list[Filling] = []

    class Small(Scratch):
        def open(self) -> Any:
            made.append(Filling())
            return made[-1]

    base = io.BytesIO(b"xxabc")
    column = Column(Small(spill=True), (base, 2, 3))
    places = [column.append(data) for data in (b"defg", b"hijkl", b"mnopqr", b"st")]
    assert places == [3, 7, 12, 18]
    assert b"".join(column.chunks()) == b"abcdefghijklmnopqrst"
    assert [column.read(at, 2) for at in (0, 3, 5, 7, 12, 18)] == [b"ab", b"de", b"fg", b"hi", b"mn", b"st"]
    # What did not fit takes no room on the full disk.
    assert [file.getvalue() for file in made] == [b"defghijkl"]
    with pytest.raises(ScratchFailed):
        Column(Small()).append(b"more than ten bytes")


def test_looking_again_and_again_takes_no_more_room(station: Station) -> None:
    """A loop that looks at more leases than stay objects, for months, must not fill the disk."""
    lease = station.propose()
    station.begin(lease)
    deployment = next(iter(station.state.deployments.values()))
    deployment.intended = {f"web-{number * number:x}" for number in range(200)}
    shelf = Shelf(Packer(Deployment), keep=KEEP)
    for number in range(MANY):
        shelf[f"{number}"] = replace(deployment, claim_seq=number)
    sizes = []
    for _ in range(4):
        for number in range(MANY):
            assert shelf[f"{number}"].claim_seq == number
        sizes.append(shelf._rows.size)
    assert sizes[1:] == sizes[:1] * 3
    # What did change is written out all the same.
    shelf["7"].intended.add("new")
    for number in range(MANY):
        assert ("new" in shelf[f"{number}"].intended) is (number == 7)
    assert shelf._rows.size > sizes[0]
    assert "new" in shelf["7"].intended


def test_newest_is_found_without_looking_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(Packer(Wide), keep=KEEP)
    for number in range(MANY):
        shelf[str(number)] = Wide({str(number): ""})
    reads: list[int] = []
    read = shelf._read

    def watched(number: int) -> bytes:
        reads.append(number)
        return read(number)

    monkeypatch.setattr(shelf, "_read", watched)
    assert list(islice(newest_first(shelf), 2)) == [Wide({"47": ""}), Wide({"46": ""})]
    assert reads == []
    assert [each for value in newest_first(shelf) for each in value.before] == list(map(str, reversed(range(MANY))))
    assert list(newest_first({"a": 1, "b": 2})) == [2, 1]


def tables(state: State) -> int:
    """Bytes of memory that find entries and the values on shelves."""
    slots = state.history._digests.slots
    size = len(slots.table) + len(slots._before)
    for name in SHELVED:
        shelf: Shelf[Any] = getattr(state, name)
        size += len(shelf._slots.table) + len(shelf._slots._before) + len(shelf._places._block)
    return 8 * size


def test_no_more_memory_to_find_entries_when_there_are_twice_as_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "shelved_state", partial(shelved_state, keep=KEEP))
    monkeypatch.setattr(digests, "Slots", partial(Slots, most=64))
    monkeypatch.setattr(audit_shelf, "FEW", 16)
    station = new_station(tmp_path, policy=matrix(tiers=[100]))
    station.take_term()
    with Scratch(tmp_path / "scratch") as scratch:
        replay = Replay(station.store, station.objects, None, scratch=scratch)
        taken = []
        for round_ in range(3):
            for number in range(MANY):
                deploy(station, round_ * MANY + number)
            taken.append(tables(replay.sync()))
        assert taken[0] == taken[1] == taken[2], taken
        assert replay.state == station.state
        known = station.state.history
        assert [replay.state.history.find(known._digests.rows[seq]) for seq in range(known.size)] == [
            *range(known.size)
        ]


def test_state_that_is_given_up_leaves_no_files(tmp_path: Path) -> None:
    """Each append that fails gives one up; an executor whose disk is full for a night has thousands of those."""
    station = new_station(tmp_path)
    station.begin(station.propose())
    user = Auditor(tmp_path / "user", tmp_path / "ledger.db", station.objects, home=str(tmp_path))
    first = Replay(station.store, station.objects, None)
    first.sync()
    with Scratch(tmp_path / "scratch") as scratch:
        first.keep(user.snapshots(), first.head.size, "2026-01-05T09:00:00Z")
        pin = Pin(station.memory, str(tmp_path))
        replay = Replay(station.store, station.objects, pin, snapshots=user.snapshots(scratch))
        counts = []
        for _ in range(4):
            assert replay.sync() == station.state
            counts.append(len(scratch._files))
            replay.forget()
        assert counts[0] > 0
        assert counts[1:] == counts[:1] * 3
        assert not list((tmp_path / "scratch").iterdir())


def test_files_that_ran_out_for_a_moment_leave_no_more_than_one_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process that runs for months would keep in memory from then on whatever comes, until somebody restarts it."""

    def exhausted(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with Scratch(tmp_path / "scratch") as scratch:
        with monkeypatch.context() as patch:
            patch.setattr("policies.fold.scratch.TemporaryFile", exhausted)
            assert isinstance(scratch.open(), io.BytesIO)
        assert isinstance(scratch.open(), Unnamed)


def test_part_of_a_snapshot_on_a_full_disk_is_let_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Scratch(tmp_path / "scratch", spill=True) as scratch:
        room = 5

        def write(file: Any, data: Any) -> int:
            if len(data) > room:
                raise OSError(28, "No space left on device")
            return len(data)

        monkeypatch.setattr("policies.fold.scratch.Unnamed.write", write, raising=False)
        copy, _ = copy_snapshot(io.BytesIO(b"more than five bytes"), scratch)
        assert copy.seek(0) == 0
        assert copy.read() == b"more than five bytes"
        assert not scratch._files or all(file.closed for file in scratch._files)


def test_observer_of_a_shelved_fold_sees_each_entry(tmp_path: Path) -> None:
    station = Station(tmp_path)
    station.genesis()
    station.enact_fleet(fleet(1))
    seen: list[int] = []

    def observe(entry: Entry, state: State) -> None:
        seen.append(entry.seq)
        assert state.size == entry.seq + 1

    replay = Replay(station.store, station.objects, None, observe, scratch=Scratch())
    assert replay.sync() == station.state
    assert seen == list(range(station.state.size))


@dataclass
class Wide:
    before: dict[str, str]


@pytest.mark.parametrize(("instances", "most"), [(20, 1_000), (1_000, audit_shelf.KEEP)])
def test_wide_deployments_are_not_kept_by_the_thousand(instances: int, most: int) -> None:
    before = {f"web-{number}": "ab" * 32 for number in range(instances)}
    shelf = Shelf(Packer(Wide), keep=1_000)
    held = []
    for number in range(3 * most):
        shelf[str(number)] = Wide(before)
        held.append(len(shelf._young))
    assert max(held) == most
    assert shelf["0"] == Wide(before)
