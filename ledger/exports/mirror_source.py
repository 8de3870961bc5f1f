"""Where a mirror fetches from, and how much it may fetch."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import BinaryIO, Final, Protocol

from keys.errors import Unavailable
from ledger.exports.reader import open_bounded, read_bounded
from ledger.objects import CHUNK


class Source(Protocol):
    """Where an export is published. Used by several threads at once."""

    @property
    def address(self) -> str:
        """What names the place in messages."""
        ...

    def fetch(self, path: str, limit: int) -> bytes | None:
        """The file at `path` below the export's prefix, None when there is none.

        Raises: Unavailable when it is over `limit` bytes, takes too long, or cannot be had.
        """
        ...

    def fetch_to(self, path: str, file: BinaryIO, limit: int) -> bool:
        """Write the file at `path` to `file`; False when there is none. Raises: as `fetch`."""
        ...


class Allowance:
    """How many bytes may still be fetched, over all files and threads."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._lock = Lock()

    def take(self, count: int) -> None:
        """Use some of it up; nothing, when it is not enough. Raises: Unavailable (`mirror_too_large`)."""
        with self._lock:
            if count > self._left:
                raise Unavailable(
                    "mirror_too_large",
                    "the export is larger than this mirror may become",
                    hint="raise it with --max-gib, if you trust its publisher not to fill your disk",
                )
            self._left -= count

    def give_back(self, count: int) -> None:
        """Of what was taken, this was not fetched."""
        with self._lock:
            self._left += count


class DirectorySource:
    """`Source` in a directory of this machine. No link is followed in a file's place."""

    def __init__(self, root: Path) -> None:
        self.address: Final = str(root)
        self._root: Final = root

    def fetch(self, path: str, limit: int) -> bytes | None:
        return read_bounded(self._root / path, limit)

    def fetch_to(self, path: str, file: BinaryIO, limit: int) -> bool:
        with open_bounded(self._root / path, limit) as found:
            if found is None:
                return False
            left = limit
            # It may grow while it is read.
            while chunk := found.read(min(CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    raise Unavailable("answer_too_large", f"{self._root / path} is over {limit} bytes")
                file.write(chunk)
            return True
