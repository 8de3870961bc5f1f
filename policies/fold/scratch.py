"""Bytes that only grow and are rarely read again, kept in files without a name instead of in memory.

What lies there is gone when the process ends, whatever ends it, and nobody else can open it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final, Self
from weakref import WeakSet

from keys.errors import Unavailable
from ledger.durable import make_directory

CHUNK: Final = 1 << 20
ROOM: Final = 32 * 1024 * 1024
"""Bytes of a disk that are left free. Its last ones are for the ledger: where those are gone a good rollout is taken
back, and no cache is worth that. Twice what the reserve for that case takes.
"""


class ScratchFailed(Unavailable):
    """The disk of a scratch file is full or broken. It says nothing about any entry."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            "scratch_failed",
            f"a temporary file failed: {error.strerror or error}",
            hint="make room in the user's cache directory, and try again",
        )


def leave_room(descriptor: int, size: int) -> None:
    """Find the disk of an open file full where so many bytes more would not leave `ROOM`. Raises: OSError."""
    if sys.platform != "win32":
        disk = os.fstatvfs(descriptor)
        if disk.f_bavail * disk.f_frsize < size + ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Unnamed(io.FileIO):
    """A file that goes with the last who has it, and that leaves room: a state that is given up leaves nothing."""

    def write(self, data: Any, /) -> int:
        leave_room(self.fileno(), memoryview(data).nbytes)
        return super().write(data)

    def __del__(self) -> None:
        self.close()


class Scratch:
    """Where columns lie: in files in `directory`, or in memory where that is None or cannot be written to. A file is
    gone when nobody holds it any more: whoever reads a ledger anew drops what it read before. As a context it closes
    all of them.

    `spill`: memory takes what no longer goes into a file. For whoever must go on when the disk is full.
    """

    def __init__(self, directory: Path | None = None, *, spill: bool = False) -> None:
        self._directory: Final = directory
        self._files: WeakSet[IO[bytes]] = WeakSet()
        self.spill: Final = spill

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the files go."""
        for file in list(self._files):
            file.close()

    def open(self) -> IO[bytes]:
        """A new empty file that has no name, until it is closed or nobody has it any more."""
        if self._directory is not None:
            try:
                make_directory(self._directory, 0o700)
                with TemporaryFile(buffering=0, dir=self._directory) as made:
                    file = Unnamed(os.dup(made.fileno()), "r+b")
                self._files.add(file)
                return file
            except OSError:
                # An auditor's machine may have no place to write. Memory does, and takes more of it. What is in the way
                # may pass, so the next file is tried anew.
                pass
        return io.BytesIO()


IN_MEMORY: Final = Scratch()


class Column:
    """Bytes that only grow. `base`: a file that holds the first ones, its first byte of them and how many they are;
    it is only read.
    """

    def __init__(self, scratch: Scratch = IN_MEMORY, base: tuple[IO[bytes], int, int] | None = None) -> None:
        self._scratch = scratch
        # What is only read now: where its first byte is in the column, its file, and where it is in that. Rising.
        self._closed: list[tuple[int, IO[bytes], int]] = [] if base is None else [(0, base[0], base[1])]
        self._borrowed = 0 if base is None else 1
        self._begin = 0 if base is None else base[2]
        self._file: IO[bytes] | None = None
        self.size = self._begin

    def append(self, data: bytes) -> int:
        """Add bytes; where the first of them lies.

        Raises: ScratchFailed.
        """
        at = self.size
        try:
            if self._file is None:
                self._file = self._scratch.open()
            write_all(self._file, at - self._begin, data)
        except OSError as error:
            if not self._scratch.spill:
                raise ScratchFailed(error) from None
            # What was written before the disk was full stays where it is, and the rest of it takes no room from whoever
            # needs the last.
            if self._file is not None and at > self._begin:
                with suppress(OSError):
                    self._file.truncate(at - self._begin)
                self._closed.append((self._begin, self._file, 0))
            self._begin, self._file = at, io.BytesIO()
            write_all(self._file, at - self._begin, data)
        self.size += len(data)
        return at

    def read(self, at: int, size: int) -> bytes:
        """`size` bytes from `at` on. Raises: ScratchFailed."""
        if at >= self._begin:
            if self._file is None:
                raise IndexError(at)
            return read_all(self._file, at - self._begin, size)
        number = bisect_right(self._closed, at, key=lambda part: part[0])
        begin, file, first = self._closed[number - 1]
        end = self._closed[number][0] if number < len(self._closed) else self._begin
        if at + size > end:
            return self.read(at, end - at) + self.read(end, at + size - end)
        return read_all(file, first + at - begin, size)

    def close(self) -> None:
        """Let go of all of it but `base`; it is not to be used any more."""
        for _, file, _ in self._closed[self._borrowed :]:
            file.close()
        if self._file is not None:
            self._file.close()

    def chunks(self) -> Iterator[bytes]:
        """All of it, in pieces. Raises: ScratchFailed."""
        begins = [*(part[0] for part in self._closed), self._begin, self.size]
        for begin, end in pairwise(begins):
            for at in range(begin, end, CHUNK):
                yield self.read(at, min(CHUNK, end - at))


def write_all(file: IO[bytes], at: int, data: bytes) -> None:
    """Write all bytes at a place. Raises: OSError; then some of them may be there."""
    file.seek(at)
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def read_all(file: IO[bytes], at: int, size: int) -> bytes:
    """Exactly `size` bytes from a place. Raises: ScratchFailed."""
    try:
        file.seek(at)
        data = file.read(size)
        while len(data) < size:
            more = file.read(size - len(data))
            if not more:
                raise OSError("it ends too early")
            data += more
    except OSError as error:
        raise ScratchFailed(error) from None
    return data
