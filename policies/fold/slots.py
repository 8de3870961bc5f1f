"""Finding one of millions of keys with a fixed piece of memory: which numbers have a mark.

    slot = mark (the first 32 bits of a key) << 32 | number + 1; 0 is free
    table = slots by their mark's lowest bits, at most half of them taken; the newest numbers, in memory
    run = slots in rising order, as this machine has integers; all other numbers

A table that is full becomes a run, which stays in memory until the next one is full; the runs before it lie in scratch
files. Those of like size are merged, so of n numbers there are no more than log2(n) runs, and each number is written
that often at most. A slot only leads to where a key may be: whoever looks compares the whole key before believing it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from math import isqrt
from typing import Final

from policies.fold.scratch import IN_MEMORY, Column, Scratch

MOST: Final = 1 << 16
"""Slots of a table at most: half as many numbers, and 8 bytes each."""
FEW: Final = 1 << 12
"""As `MOST`, where much fewer numbers are looked up much less often."""
_FIRST: Final = 1 << 10
_SIZE: Final = 8
_LOW: Final = (1 << 32) - 1
_PIECE: Final = 2_048
"""Slots of a run that are merged at once."""
_GUESSES: Final = 4
"""Looks where a mark should be; after these, in the middle of the rest: for marks that somebody chose."""
_SAME: Final = 64
"""Slots that are read at once for the numbers of a mark, which nearly always has one."""


class Slots:
    """Numbers from 0, by their marks. `most`: slots of a table, a power of two. `base`: what `chunks` gave, in which
    every number is that was added then.
    """

    def __init__(self, scratch: Scratch = IN_MEMORY, most: int = MOST, base: Column | None = None) -> None:
        size = 0 if base is None else base.size
        if size % _SIZE:
            raise ValueError("not a run of slots")
        self._scratch = scratch
        self._most: Final = most
        self._runs: list[Column] = [base] if base is not None and size else []
        self._before = array("Q")
        self.table = array("Q", bytes(_SIZE * min(_FIRST, most)))
        self.begin = self.count = size // _SIZE
        """Numbers from `begin` on are in `table`."""

    def chunks(self) -> Iterator[bytes]:
        """One run of all of them, in pieces. Raises: ScratchFailed."""
        return _merge([*map(_pieces, self._runs), iter([self._before]), iter([_sorted(self.table)])])

    def numbers(self, mark: int) -> Iterator[int]:
        """Every number with this mark, and no other. Raises: ScratchFailed."""
        table = self.table
        mask = len(table) - 1
        at = mark & mask
        while slot := table[at]:
            if slot >> 32 == mark:
                yield (slot & _LOW) - 1
            at = (at + 1) & mask
        yield from self.older(mark)

    def older(self, mark: int) -> Iterator[int]:
        """As `numbers`, of those below `begin`."""
        yield from _numbers(self._before, bisect_left(self._before, mark << 32), mark)
        for run in reversed(self._runs):
            yield from _search(run, mark)

    def add(self, mark: int, at: int | None = None) -> None:
        """Put the next number under a mark. `at`: the free slot of the table for it, from a search after the last
        `add`.

        Raises: ScratchFailed.
        """
        if 2 * (self.count + 1 - self.begin) > len(self.table):
            self._make_room()
            at = None
        if at is None:
            at = _free(self.table, mark)
        self.count += 1
        self.table[at] = mark << 32 | self.count

    def _make_room(self) -> None:
        if len(self.table) < self._most:
            old, self.table = self.table, array("Q", bytes(2 * _SIZE * len(self.table)))
            for slot in old:
                if slot:
                    self.table[_free(self.table, slot >> 32)] = slot
            return
        if self._before:
            self._settle(self._before)
        self._before, self.begin = _sorted(self.table), self.count
        self.table = array("Q", bytes(_SIZE * self._most))

    def _settle(self, slots: array[int]) -> None:
        """Make a run of these, and of the runs that are no longer than what it has become by then."""
        runs, size = list(self._runs), _SIZE * len(slots)
        merged: list[Column] = []
        while runs and runs[-1].size <= size:
            size += runs[-1].size
            merged.append(runs.pop())
        run = Column(self._scratch)
        for chunk in _merge([*map(_pieces, merged), iter([slots])]):
            run.append(chunk)
        self._runs = [*runs, run]
        for each in merged:
            each.close()


def _free(table: array[int], mark: int) -> int:
    mask = len(table) - 1
    at = mark & mask
    while table[at]:
        at = (at + 1) & mask
    return at


def _numbers(slots: Sequence[int], at: int, mark: int) -> Iterator[int]:
    """The numbers of slots with a mark, from the first of them on."""
    while at < len(slots) and slots[at] >> 32 == mark:
        yield (slots[at] & _LOW) - 1
        at += 1


def _sorted(table: array[int]) -> array[int]:
    return array("Q", sorted(filter(None, table)))


def _pieces(run: Column) -> Iterator[Sequence[int]]:
    return (_read(run, at, _PIECE) for at in range(0, run.size // _SIZE, _PIECE))


def _read(run: Column, at: int, count: int) -> memoryview[int]:
    count = min(count, run.size // _SIZE - at)
    return memoryview(run.read(_SIZE * at, _SIZE * count)).cast("Q")


def _merge(runs: Iterable[Iterator[Sequence[int]]]) -> Iterator[bytes]:
    """The slots of runs as one, in pieces. Each run: in pieces as well."""
    held = [(piece, run) for run in runs if (piece := next(run, ()))]
    while held:
        # What is not greater than the least of the pieces' ends comes before everything that was not read yet.
        end = min(piece[-1] for piece, _ in held)
        slots: list[int] = []
        rest = []
        for piece, run in held:
            at = bisect_right(piece, end)
            slots += piece[:at]
            left = piece[at:] if at < len(piece) else next(run, ())
            if left:
                rest.append((left, run))
        held = rest
        # Sorting what consists of a few sorted parts is merging them.
        slots.sort()
        yield array("Q", slots).tobytes()


def _search(run: Column, mark: int) -> Iterator[int]:
    """The numbers with this mark in a run."""
    low, high = 0, run.size // _SIZE
    wanted, guesses = mark << 32, 0
    # Slots before `low` are less than what is wanted, and from `high` on none is; marks of the slots beside them.
    least, greatest = 0, _LOW
    while low < high:
        guesses += 1
        ahead = (mark - least) / (greatest - least + 1) if guesses <= _GUESSES else 0.5
        # Marks are spread so evenly that of n of them one in twenty is farther than this from where it should be.
        aside = isqrt(high - low) + 1
        at = max(low, min(low + int(ahead * (high - low)) - aside, high - 2 * aside))
        piece = _read(run, at, min(2 * aside, high - at))
        if piece[-1] < wanted:
            low, least = at + len(piece), piece[-1] >> 32
        elif piece[0] >= wanted and at > low:
            high, greatest = at, piece[0] >> 32
        else:
            found = bisect_left(piece, wanted)
            if piece[found] >> 32 != mark:
                return
            low = at + found
            break
    while low < run.size // _SIZE:
        piece = _read(run, low, _SAME)
        yield from _numbers(piece, 0, mark)
        if piece[-1] >> 32 != mark:
            return
        low += len(piece)
