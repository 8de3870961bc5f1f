"""The index on disk agrees with a dict, wherever its tables end, and the numbers on disk with a list."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.fold import cells as cells_module
from policies.fold import digests as digests_module
from policies.fold import shelf as shelf_module
from policies.fold import slots as slots_module
from policies.fold.cells import Cells
from policies.fold.digests import Digests
from policies.fold.packer import TextPacker
from policies.fold.scratch import IN_MEMORY, Column, Scratch, ScratchFailed
from policies.fold.shelf import Shelf
from policies.fold.slots import Slots

SPREAD = st.integers(0, (1 << 32) - 1)
CHOSEN = st.sampled_from((0, 1, 1 << 16, 1 << 31, (1 << 32) - 1))
"""Marks that collide, at both ends and in the middle."""
PLACES = ("memory", "disk", "full disk")


class Filling(io.BytesIO):
    """A file on a disk that is full after some bytes; half of what does not fit is written."""

    room = 150

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # as a file takes it
        if view.nbytes > self.room:
            super().write(view[: self.room])
            self.room = 0
            raise OSError(28, "No space left on device")
        self.room -= view.nbytes
        return super().write(view)


class Full(Scratch):
    """Every file of it fills up."""

    def open(self) -> io.BytesIO:
        return Filling()


def scratches(place: str) -> Iterator[Scratch]:
    if place == "memory":
        yield IN_MEMORY
    elif place == "full disk":
        yield Full(spill=True)
    else:
        with TemporaryDirectory() as root, Scratch(Path(root)) as scratch:
            yield scratch
            assert not list(Path(root).iterdir())


def kept(chunks: Iterator[bytes], scratch: Scratch) -> Column:
    """What was written, as a reader of a snapshot has it."""
    data = b"".join(chunks)
    return Column(scratch, (io.BytesIO(b"before" + data + b"behind"), 6, len(data)))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that a few numbers are beyond."""
    monkeypatch.setattr(slots_module, "_PIECE", 5)
    monkeypatch.setattr(slots_module, "_SAME", 2)
    monkeypatch.setattr(cells_module, "BLOCK", 4)
    monkeypatch.setattr(digests_module, "FULL", 6)


@pytest.mark.parametrize("place", PLACES)
@given(marks=st.lists(SPREAD | CHOSEN, max_size=150), cuts=st.sets(st.integers(0, 150), max_size=3))
def test_numbers_of_each_mark_are_those_that_were_added(place: str, marks: list[int], cuts: set[int]) -> None:
    for scratch in scratches(place):
        slots, known = Slots(scratch, 8), dict[int, list[int]]()
        for number, mark in enumerate(marks):
            if number in cuts:
                slots = Slots(scratch, 8, kept(slots.chunks(), scratch))
                assert slots.begin == slots.count == number
            before = list(slots.numbers(mark))
            assert sorted(before) == known.get(mark, [])
            slots.add(mark)
            known.setdefault(mark, []).append(number)
            assert slots.count == number + 1
        for mark in {*marks, 0, 5, (1 << 32) - 1}:
            assert sorted(slots.numbers(mark)) == known.get(mark, [])
            assert set(slots.older(mark)) == {n for n in known.get(mark, []) if n < slots.begin}
        run = array("Q", b"".join(slots.chunks()))
        assert list(run) == sorted(mark << 32 | number + 1 for number, mark in enumerate(marks))
        # Halved each time, however few numbers there are of what it takes to find them.
        assert len(slots._runs) <= max(1, len(marks)).bit_length()


def key_of(number: int, mark: int) -> str:
    return f"{mark:08x}{sha256(number.to_bytes(4, 'big')).hexdigest()[8:]}"


@pytest.mark.parametrize("place", PLACES)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(("add", "add", "find", "keep")), st.integers(0, 99), CHOSEN), max_size=150
    ),
    since=st.integers(0, 99),
)
def test_digests_are_as_a_dict_through_any_snapshots(place: str, steps: list[tuple[str, int, int]], since: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests_module, "Slots", lambda scratch, base=None: Slots(scratch, 8, base))
        for scratch in scratches(place):
            digests, known = Digests(32, scratch), dict[str, int]()
            for step, number, mark in steps:
                key = key_of(number, mark)
                if step == "keep":
                    parts = digests.rows.chunks(), digests.slots.chunks()
                    digests = Digests(32, scratch, *(kept(chunks, scratch) for chunks in parts))
                elif step == "find":
                    later = known[key] if known.get(key, -1) >= since else None
                    assert digests.find(key, since) == later
                    assert digests.find(key) == known.get(key)
                else:
                    assert digests.add(key) == (key not in known)
                    known.setdefault(key, len(known))
                assert len(digests) == len(known)
            for key, number in known.items():
                assert digests.find(key) == number
                assert digests.find(key[:8] + key[:7:-1]) is None


@pytest.mark.parametrize("place", PLACES)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(("append", "append", "set", "keep")), st.integers(0, 60), st.integers(0, 1 << 63)),
        max_size=60,
    )
)
def test_cells_are_as_a_list_through_any_snapshots(place: str, steps: list[tuple[str, int, int]]) -> None:
    for scratch in scratches(place):
        cells, known = Cells(scratch), list[int]()
        for step, number, value in steps:
            if step == "append":
                cells.append(value if number % 2 else 0)
                known.append(value if number % 2 else 0)
            elif step == "keep":
                cells = Cells(scratch, list(cells.chunks()))
            elif number < len(known):
                cells[number] = known[number] = value
            else:
                with pytest.raises(IndexError):
                    cells[number] = value
            assert len(cells) == len(known)
        assert [cells[number] for number in range(len(known))] == known
        assert list(array("Q", b"".join(cells.chunks()))) == known
        with pytest.raises(IndexError):
            cells[-1]


def test_full_disk_without_leave_to_spill_is_said() -> None:
    random, scratch = Random(5), Full()
    slots, cells = Slots(scratch, 8), Cells(scratch)
    with pytest.raises(ScratchFailed, match="No space left") as error:
        for _ in range(1_000):
            slots.add(random.getrandbits(32))
    assert error.value.code == "scratch_failed"
    with pytest.raises(ScratchFailed, match="No space left"):
        for _ in range(1_000):
            cells.append(7)
    # Nothing of what was there before is lost, and nothing else is found.
    assert slots.count >= 8
    assert sorted(slot & 0xFFFF for slot in array("Q", b"".join(slots.chunks()))) == list(range(1, slots.count + 1))


def three_marks(key: str) -> int:
    return int(key) % 3


@pytest.mark.parametrize("place", PLACES)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(("set", "set", "get", "in", "keep")), st.integers(0, 30), st.text(max_size=3)),
        max_size=99,
    )
)
def test_shelf_is_as_a_dict_through_any_snapshots(place: str, steps: list[tuple[str, int, str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf_module, "KEEP", 2)
        patch.setattr(shelf_module, "FEW", 8)
        # Names that share their mark.
        patch.setattr(shelf_module, "_mark", three_marks)
        for scratch in scratches(place):
            shelf, known = Shelf(TextPacker(), scratch, 2), dict[str, str]()
            for step, number, value in steps:
                key = str(number)
                if step == "set":
                    shelf[key] = known[key] = value
                elif step == "get":
                    assert shelf.get(key) == known.get(key)
                elif step == "in":
                    assert (key in shelf) == (key in known)
                else:
                    parts = {name: kept(chunks, scratch) for name, chunks in shelf.parts().items()}
                    shelf = Shelf.resume(TextPacker(), parts["rows"], parts["places"], parts["slots"], scratch, 2)
                assert len(shelf) == len(known)
            assert list(shelf.items()) == list(known.items())
            assert list(shelf) == list(known)


@pytest.mark.parametrize("marks", [range(5_000), range(1 << 31, (1 << 31) + 5_000), [7] * 3_000])
def test_marks_that_somebody_chose_take_few_looks(marks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots(most=64)
    for mark in marks:
        slots.add(mark)
    looks: list[int] = []
    read = slots_module._read

    def look(run: Column, at: int, count: int) -> memoryview[int]:
        looks.append(at)
        return read(run, at, count)

    monkeypatch.setattr(slots_module, "_read", look)
    missing = [mark for mark in (0, 3, 1 << 31, (1 << 31) - 1, (1 << 32) - 1) if mark not in marks]
    for mark in missing:
        assert not list(slots.older(mark))
    assert len(looks) <= len(missing) * len(slots._runs) * 18


def test_runs_that_were_merged_take_no_room(tmp_path: Path) -> None:
    random = Random(2)
    with Scratch(tmp_path) as scratch:
        slots = Slots(scratch, 8)
        for number in range(2_000):
            slots.add(random.getrandbits(32))
            assert sum(run.size for run in slots._runs) <= 8 * number
            assert len(scratch._files) == len(slots._runs) <= 10
