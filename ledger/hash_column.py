"""A hash for each entry, or none, in a file without a name: as many as a ledger has, in a fixed piece of memory."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import Final

from ledger.merkle import HASH_SIZE

_CELL: Final = 1 + HASH_SIZE
_CELLS: Final = 4_096
"""Cells in memory at once. Whoever walks in order, up or down, finds the next ones there."""


class HashColumn:
    """Cells of 32 bytes or None, numbered from 0; those that were never set are None. Close it at the end.

    Raises: OSError when the disk of temporary files is full.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115  # closed by its owner
        self._block = 0
        self._cells = bytearray(_CELL * _CELLS)
        self._changed = False
        self._blocks = 0

    def close(self) -> None:
        """Let go of the file; nothing of it is left."""
        self._file.close()

    def __getitem__(self, at: int) -> bytes | None:
        start = self._find(at)
        return bytes(self._cells[start + 1 : start + _CELL]) if self._cells[start] else None

    def __setitem__(self, at: int, value: bytes | None) -> None:
        start = self._find(at)
        if value is not None and len(value) != HASH_SIZE:
            raise ValueError("a cell holds a hash of 32 bytes")
        self._cells[start : start + _CELL] = bytes(_CELL) if value is None else b"\x01" + value
        self._changed = True

    def first(self, count: int) -> Iterator[bytes | None]:
        """The first so many cells."""
        return (self[at] for at in range(count))

    def _find(self, at: int) -> int:
        if at < 0:
            raise IndexError("cells are numbered from 0")
        block, cell = divmod(at, _CELLS)
        if block != self._block:
            if self._changed:
                self._write()
            # A cell that a checkpoint claims may lie further than a file reaches.
            data = b""
            if block < self._blocks:
                self._file.seek(block * len(self._cells))
                data = self._file.read(len(self._cells))
            self._cells[:] = data.ljust(len(self._cells), b"\x00")
            self._block = block
        return cell * _CELL

    def _write(self) -> None:
        self._file.seek(self._block * len(self._cells))
        self._file.write(self._cells)
        self._changed = False
        self._blocks = max(self._blocks, self._block + 1)
