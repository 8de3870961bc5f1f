"""Finding one of millions of keys with eight bytes of memory a slot, and the rows that are too many for memory.

    slot = mark (the first 32 bits of a key) << 32 | number + 1; 0 is free; at most half of the slots are taken

A slot only leads to where a key may be: whoever looks compares the whole key before believing it.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Final, Generic, TypeVar

from policies.scratch import CHUNK, IN_MEMORY, Column, Scratch

RECENT: Final = 2_048
"""Rows that at least stay in memory: the law's lag of 1,024 entries reaches no farther back."""
_FIRST_SLOTS: Final = 1 << 10
_LOW: Final = (1 << 32) - 1

T = TypeVar("T")


class Rows(Generic[T]):
    """Rows of `width` bytes, by number; the newest ones are in memory as they were given.

    `pack`: the bytes of many rows; `unpack`: one row again.
    """

    def __init__(
        self, width: int, pack: Callable[[list[T]], bytes], unpack: Callable[[bytes], T], column: Column | None = None
    ) -> None:
        self._width = width
        self._pack = pack
        self._unpack = unpack
        self._column = column or Column()
        self._begin = self._column.size // width
        self._recent: list[T] = []

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows):
            return NotImplemented
        if self._begin == other._begin == 0:
            return self._recent == other._recent
        return len(self) == len(other) and self._digest() == other._digest()

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __len__(self) -> int:
        return self._begin + len(self._recent)

    def __getitem__(self, number: int) -> T:
        at = number - self._begin
        if at >= 0:
            return self._recent[at]
        if number < 0:
            raise IndexError(number)
        return self._unpack(self._column.read(self._width * number, self._width))

    def append(self, row: T) -> None:
        """Add a row."""
        recent = self._recent
        recent.append(row)
        if len(recent) >= 2 * RECENT:
            self._column.append(self._pack(recent[:RECENT]))
            del recent[:RECENT]
            self._begin += RECENT

    def chunks(self) -> Iterator[bytes]:
        """The bytes of every row, in pieces."""
        yield from self._column.chunks()
        yield self._pack(self._recent)

    def _digest(self) -> bytes:
        digest = sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.digest()


def hex_rows(width: int, column: Column | None = None) -> Rows[str]:
    """Rows of `2 * width` hex digits."""
    return Rows(width, lambda rows: bytes.fromhex("".join(rows)), bytes.hex, column)


def integer_rows(column: Column | None = None) -> Rows[int]:
    """Rows that are signed integers of 64 bits."""
    return Rows(
        8,
        lambda rows: struct.pack(f"<{len(rows)}q", *rows),
        lambda data: int.from_bytes(data, "little", signed=True),
        column,
    )


class Slots:
    """The table: which numbers have a mark. `data`: of an earlier table of this machine (`chunks`), with `count`
    numbers in it.
    """

    def __init__(self, data: Iterable[bytes] | None = None, count: int = 0) -> None:
        self.table = array("Q", bytes(8 * _FIRST_SLOTS) if data is None else b"")
        for chunk in data or ():
            self.table.frombytes(chunk)
        if not self.table or len(self.table) & (len(self.table) - 1) or 2 * count > len(self.table):
            raise ValueError("not a table of slots")
        self.count = count

    def chunks(self) -> Iterator[bytes]:
        """The table's bytes, as this machine has them, in pieces."""
        view = memoryview(self.table).cast("B")
        for at in range(0, len(view), CHUNK):
            yield bytes(view[at : at + CHUNK])

    def numbers(self, mark: int) -> Iterator[int]:
        """Every number with this mark, and few others."""
        table = self.table
        mask = len(table) - 1
        at = mark & mask
        while slot := table[at]:
            if slot >> 32 == mark:
                yield (slot & _LOW) - 1
            at = (at + 1) & mask

    def add(self, mark: int, at: int | None = None) -> None:
        """Put the next number under a mark. `at`: the free slot for it, from a search since the last `add`."""
        if 2 * (self.count + 1) > len(self.table):
            self._widen()
            at = None
        if at is None:
            at = self._free(mark)
        self.count += 1
        self.table[at] = mark << 32 | self.count

    def _free(self, mark: int) -> int:
        table = self.table
        mask = len(table) - 1
        at = mark & mask
        while table[at]:
            at = (at + 1) & mask
        return at

    def _widen(self) -> None:
        old = self.table
        mask = 2 * len(old) - 1
        table = self.table = array("Q", bytes(8 * (mask + 1)))
        for slot in old:
            if slot:
                at = (slot >> 32) & mask
                while table[at]:
                    at = (at + 1) & mask
                table[at] = slot


class Digests:
    """Keys of `2 * width` lower-case hex digits that look random, by number, and the number of each."""

    def __init__(
        self,
        width: int,
        scratch: Scratch = IN_MEMORY,
        column: Column | None = None,
        slots: Iterable[bytes] | None = None,
    ) -> None:
        self._length = 2 * width
        self.rows = hex_rows(width, column or Column(scratch))
        self.slots = Slots(slots, len(self.rows))
        self._missed = ("", 0)

    def __len__(self) -> int:
        return self.slots.count

    def find(self, key: str) -> int | None:
        """The number of a key, None where it was not added."""
        if len(key) != self._length:
            return None
        table = self.slots.table
        mask = len(table) - 1
        mark = int(key[:8], 16)
        at = mark & mask
        while slot := table[at]:
            if slot >> 32 == mark and self.rows[(slot & _LOW) - 1] == key:
                return (slot & _LOW) - 1
            at = (at + 1) & mask
        self._missed = (key, at)
        return None

    def append(self, key: str) -> None:
        """Add a key that `find` does not know."""
        missed, at = self._missed
        self.slots.add(int(key[:8], 16), at if missed == key else None)
        self._missed = ("", 0)
        self.rows.append(key)

    def add(self, key: str) -> bool:
        """Add a key if it is new; whether it was."""
        if self.find(key) is not None:
            return False
        self.append(key)
        return True
