"""A reserve for a full disk: a file beside the ledger that is given up so that a halt and a rollback can be written.

It is given up for what leads toward safety only (`policies.law.safety`), and made again when there is room for it and
more. Without it nothing new is claimed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from keys.errors import Unavailable
from keys.regular import open_regular
from keys.words import counted
from ledger.durable import sync_directory

SIZE: Final = 16 * 1024 * 1024
LOW: Final = 4 * 1024 * 1024
"""Free bytes below which it is given up at once: what is flipped back needs a little room, too."""

_CHUNK: Final = 1024 * 1024


class Reserve:
    """The reserve at `path`. `size`: bytes."""

    def __init__(self, path: Path, size: int = SIZE) -> None:
        self._path = path
        self._size = size

    def ensure(self) -> None:
        """Make it where it is not there, durable on return, with as much room left beside it.

        Raises: Unavailable (`no_reserve`).
        """
        with suppress(FileNotFoundError):
            if self._path.stat().st_blocks * 512 >= self._size:
                return
        try:
            if self._free() < 2 * self._size:
                raise _missing(self._path, f"{counted(self._free(), 'byte')} are free")
            descriptor = open_regular(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, links=False)
            try:
                _fill(descriptor, self._size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_directory(self._path.parent)
        except OSError as error:
            self.give_up()
            raise _missing(self._path, error.strerror or str(error)) from None

    def low(self) -> bool:
        """Whether the disk is so full that what leads toward safety may not fit."""
        try:
            return self._free() < LOW
        except OSError:
            return False

    def give_up(self) -> bool:
        """Make room; whether there was a reserve."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def _free(self) -> int:
        room = os.statvfs(self._path.parent)
        return room.f_bavail * room.f_frsize


def _fill(descriptor: int, size: int) -> None:
    # Neither a hole nor zeros: a file system that packs what it stores would keep no room for either.
    while size > 0:
        size -= os.write(descriptor, os.urandom(min(size, _CHUNK)))


def _missing(path: Path, why: str) -> Unavailable:
    return Unavailable(
        "no_reserve",
        f"the reserve {path} for a full disk cannot be made: {why}",
        hint="make room on that disk; until then nothing is claimed",
    )
