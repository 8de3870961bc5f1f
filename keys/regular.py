"""Regular files, opened without waiting. A pipe in a file's place would be waited for, a device read for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

_FLAGS: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: Path | str, flags: int = os.O_RDONLY, mode: int = 0o600, *, links: bool = True) -> int:
    """A descriptor of a regular file; what it is is asked of the descriptor, so that is what will be read. `flags`,
    `mode`: as `os.open` has them. `links`: whether one in the file's place is followed.

    Raises: OSError, also for what is no regular file.
    """
    descriptor = os.open(path, flags | _FLAGS | (0 if links else getattr(os, "O_NOFOLLOW", 0)), mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


def read_regular(path: Path | str, limit: int, *, links: bool = True) -> bytes:
    """The content of a regular file; of one that is over `limit` bytes, the first `limit` + 1. Raises: as
    `open_regular`.
    """
    with os.fdopen(open_regular(path, links=links), "rb") as file:
        return file.read(limit + 1)
