"""Files that are there, whole, once the call returns.

A file is written under a hidden name beside its final one, synced, put in place by one system call (`link` for a name
that must be new, `rename` for one that may exist), and then its directory is synced. Whoever sees the final name sees
all of the content. A crash before the last step leaves a hidden file that nothing reads; a crash before the
directory's sync may undo the last step, but then the call had not returned.

What this cannot mend: a disk that lies about its cache. Windows has no sync of directories; there the last step is
durable when the file system says so.
"""

from __future__ import annotations

import errno
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

_FULL_SYNC: Final = 51
"""F_FULLFSYNC of macOS, where fsync alone leaves data in the drive's cache."""


class SyncFailed(OSError):
    """What the disk holds is unknown, whatever the number of the error: do not write again, and do not acknowledge."""


def sync_file(descriptor: int) -> None:
    """Put a file's content on the disk. Raises: SyncFailed."""
    if sys.platform == "darwin":
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(descriptor, _FULL_SYNC)
            return
    _sync(descriptor)


def sync_directory(path: Path) -> None:
    """Put a directory's names on the disk. Raises: SyncFailed; OSError where it cannot be opened."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror) from error


def lock_file(descriptor: int, wait_s: float) -> None:
    """Wait for the lock of an open file, which is held until the descriptor is closed, also by a crash.

    Raises: TimeoutError when another process holds it for longer than `wait_s` seconds (on Windows ten, and OSError);
    OSError.
    """
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
    else:
        import fcntl

        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(errno.ETIMEDOUT, "another process holds its lock") from None
            # flock has no timeout of its own.
            time.sleep(0.001)


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Make a directory and its missing parents; each one's name is on the disk on return."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with suppress(FileExistsError):
        path.mkdir(mode)
    sync_directory(path.parent)


@contextmanager
def hidden_file(directory: Path, mode: int) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file under a hidden name, to be put in place by the caller; removed afterwards if it was not."""
    path = directory / f".{secrets.token_hex(12)}.tmp"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Give `path` the content `data`, whole and durable, whatever was there.

    Raises: OSError.
    """
    place_file(path, data, mode, path.parent)
    sync_directory(path.parent)


def place_file(path: Path, data: bytes, mode: int, beside: Path) -> None:
    """Give `path` the content `data`, whole; durable once its directory was synced. `beside`: a directory of the same
    file system, where the hidden file lies and a crash may leave it.

    Raises: OSError.
    """
    with hidden_file(beside, mode) as (file, hidden):
        file.write(data)
        file.flush()
        sync_file(file.fileno())
        file.close()
        hidden.replace(path)


def create_file(path: Path, data: bytes, mode: int) -> None:
    """Make the new file `path` with the content `data`, whole and durable.

    Raises: FileExistsError when the name is taken; OSError.
    """
    with hidden_file(path.parent, mode) as (file, hidden):
        file.write(data)
        file.flush()
        sync_file(file.fileno())
        file.close()
        os.link(hidden, path)
    sync_directory(path.parent)
