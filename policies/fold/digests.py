"""Rows that are too many for memory, and digests among them, each found by itself (`policies.fold.slots`)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Final, Generic, TypeVar

from policies.fold.scratch import IN_MEMORY, Column, Scratch
from policies.fold.slots import Slots

FULL: Final = 4_096
"""Rows in memory from which on the older half leaves it. The law's lag of 1,024 entries reaches into the other."""
_LOW: Final = (1 << 32) - 1

T = TypeVar("T")


class Rows(Generic[T]):
    """Rows of `width` bytes, by number; the newest ones are in memory as they were given.

    `pack`: the bytes of many rows; `unpack`: one row again. `recent`: the rows from number `begin` on.
    """

    def __init__(
        self, width: int, pack: Callable[[list[T]], bytes], unpack: Callable[[bytes], T], column: Column | None = None
    ) -> None:
        self._width = width
        self._pack = pack
        self._unpack = unpack
        self._column = column or Column()
        self.begin = self._column.size // width
        self.recent: list[T] = []

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows):
            return NotImplemented
        if self.begin == other.begin == 0:
            return self.recent == other.recent
        return len(self) == len(other) and self._digest() == other._digest()

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __len__(self) -> int:
        return self.begin + len(self.recent)

    def __getitem__(self, number: int) -> T:
        at = number - self.begin
        if at >= 0:
            return self.recent[at]
        if number < 0:
            raise IndexError(number)
        return self._unpack(self._column.read(self._width * number, self._width))

    def append(self, row: T) -> None:
        """Add a row."""
        self.recent.append(row)
        if len(self.recent) >= FULL:
            self.spill()

    def spill(self) -> None:
        """Let the older half leave memory; for whoever adds to `recent` by itself."""
        half = len(self.recent) // 2
        self._column.append(self._pack(self.recent[:half]))
        del self.recent[:half]
        self.begin += half

    def chunks(self) -> Iterator[bytes]:
        """The bytes of every row, in pieces."""
        yield from self._column.chunks()
        yield self._pack(self.recent)

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


class Digests:
    """Keys of `2 * width` lower-case hex digits that look random, by number, and the number of each. `column`, `slots`:
    of an earlier one.
    """

    def __init__(
        self,
        width: int,
        scratch: Scratch = IN_MEMORY,
        column: Column | None = None,
        slots: Column | None = None,
    ) -> None:
        self._length = 2 * width
        self.rows = hex_rows(width, column or Column(scratch))
        self.slots = Slots(scratch, base=slots)
        if self.slots.count != len(self.rows):
            raise ValueError("not the slots of these rows")
        self._missed = ("", 0)

    def __len__(self) -> int:
        return self.slots.count

    def find(self, key: str, since: int = 0) -> int | None:
        """The number of a key, None where it was not added, or before number `since`. The newest are found soonest.

        Raises: ScratchFailed.
        """
        if len(key) != self._length:
            return None
        table = self.slots.table
        mask = len(table) - 1
        mark = int(key[:8], 16)
        at = mark & mask
        while slot := table[at]:
            if slot >> 32 == mark and self.rows[(slot & _LOW) - 1] == key:
                return (slot & _LOW) - 1 if slot & _LOW > since else None
            at = (at + 1) & mask
        if since < self.slots.begin:
            for number in self.slots.older(mark):
                if self.rows[number] == key:
                    return number if number >= since else None
        self._missed = (key, at)
        return None

    def append(self, key: str) -> None:
        """Add a key that `find` does not know. Raises: ScratchFailed."""
        missed, at = self._missed
        self.slots.add(int(key[:8], 16), at if missed == key else None)
        self._missed = ("", 0)
        self.rows.append(key)

    def add(self, key: str) -> bool:
        """Add a key if it is new; whether it was. Raises: ScratchFailed."""
        if self.find(key) is not None:
            return False
        self.append(key)
        return True
