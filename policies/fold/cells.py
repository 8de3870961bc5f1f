"""Integers that are read and changed by number, in a file without a name, as many as there are."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterable, Iterator
from typing import IO, Final

from policies.fold.scratch import IN_MEMORY, Scratch, ScratchFailed, read_all, write_all

BLOCK: Final = 1_024
"""Cells in memory at once. Whoever goes from one to the next, or adds them, finds the next ones there."""
_SIZE: Final = 8


class Cells:
    """Unsigned integers of 64 bits, numbered from 0. `chunks`: the first of them, as `chunks` gives them.

    Raises: ScratchFailed, each of its methods.
    """

    def __init__(self, scratch: Scratch = IN_MEMORY, chunks: Iterable[bytes] = ()) -> None:
        self._scratch = scratch
        self._file: IO[bytes] | None = None
        self._end = 0
        """Bytes in the file."""
        self._number = 0
        self._block = array("Q", bytes(_SIZE * BLOCK))
        self._changed = False
        for chunk in chunks:
            self._write(self._end, chunk)
        self._count = self._end // _SIZE
        self._load(self._count // BLOCK)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> int:
        at = self._find(number)
        return self._block[at]

    def __setitem__(self, number: int, value: int) -> None:
        at = self._find(number)
        if self._block[at] != value:
            self._block[at] = value
            self._changed = True

    def append(self, value: int) -> None:
        """Add a cell."""
        self._count += 1
        try:
            self[self._count - 1] = value
        except BaseException:
            self._count -= 1
            raise

    def chunks(self) -> Iterator[bytes]:
        """All of it as bytes, in pieces, as this machine has integers."""
        for first in range(0, self._count, BLOCK):
            self._find(first)
            yield self._block[: self._count - first].tobytes()

    def _find(self, number: int) -> int:
        if not 0 <= number < self._count:
            raise IndexError(number)
        block, at = divmod(number, BLOCK)
        if block != self._number:
            if self._changed:
                self._write(_SIZE * BLOCK * self._number, self._block.tobytes())
                self._changed = False
            self._load(block)
        return at

    def _load(self, block: int) -> None:
        at = _SIZE * BLOCK * block
        size = max(0, min(_SIZE * BLOCK, self._end - at))
        data = read_all(self._file, at, size) if self._file is not None and size else b""
        self._block, self._number = array("Q", data.ljust(_SIZE * BLOCK, b"\0")), block

    def _write(self, at: int, data: bytes) -> None:
        try:
            if self._file is None:
                self._file = self._scratch.open()
            write_all(self._file, at, data)
        except OSError as error:
            if not self._scratch.spill:
                raise ScratchFailed(error) from None
            # All of it goes into memory: what a file holds in the place of a write that failed is not known.
            held = b"" if self._file is None else read_all(self._file, 0, self._end)
            if self._file is not None:
                self._file.close()
            self._file = io.BytesIO(held)
            write_all(self._file, at, data)
        self._end = max(self._end, at + len(data))
