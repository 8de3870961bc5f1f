"""A directory that an export, a mirror or a backup is written to: by one process at a time, without what a crash left
there, and never through a link to somewhere else.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from keys.errors import Unavailable, UsageError
from keys.regular import open_regular

STRAY_AFTER_S: Final = 3_600
"""Seconds after which a hidden file is no longer somebody's work."""

_HIDDEN: Final = re.compile(r"\.[0-9a-f]{24}\.tmp(-journal|-wal|-shm)?", re.ASCII)


def is_hidden(name: str) -> bool:
    """Whether a name is that of a file that somebody is writing, or was killed while writing; SQLite has its own beside
    one.
    """
    return _HIDDEN.fullmatch(name) is not None


def list_names(directory: Path) -> list[str]:
    """The names in a directory; none when there is no such directory. Raises: OSError."""
    try:
        return os.listdir(directory)  # noqa: PTH208  # names alone
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove_hidden(*directories: Path) -> None:
    """Remove the files that a crash left in directories that the caller has `locked`. Raises: OSError."""
    for directory in directories:
        for name in filter(is_hidden, list_names(directory)):
            path = directory / name
            if not stat.S_ISDIR(path.lstat().st_mode):
                path.unlink(missing_ok=True)


@contextmanager
def held(file: BinaryIO) -> Iterator[None]:
    """Show `remove_left` that a hidden file is being written: a lock on it, also when `file` is closed meanwhile."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.dup(file.fileno())
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_left(directory: Path, now: float) -> None:
    """Remove the files that a crash left in a directory that others may be writing to: old ones that nobody has `held`.
    `now`: the time by the clock that gives files theirs. Raises: OSError when the directory cannot be listed.
    """
    if sys.platform == "win32":
        return
    import fcntl

    for path in (directory / name for name in list_names(directory) if is_hidden(name)):
        with suppress(OSError):
            if now - path.lstat().st_mtime < STRAY_AFTER_S:
                continue
            with os.fdopen(open_regular(path, links=False), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def check_directory(root: Path, path: Path) -> None:
    """Prove that what lies between `root` and `path` below it is directories, as far as it is there, and no link that
    leads elsewhere. Who may write to `root` can still change that afterwards.

    Raises: UsageError (`not_a_directory`); OSError.
    """
    for each in (path, *path.parents):
        if each == root:
            return
        try:
            mode = each.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(mode):
            raise UsageError(
                "not_a_directory",
                f"{each} is no directory but {'a link' if stat.S_ISLNK(mode) else 'a file'}, and is not written to",
                hint="remove it, or name another directory",
            )


@contextmanager
def locked(root: Path, code: str, message: str) -> Iterator[None]:
    """Be the only one who writes to the directory `root`; a crash lets go of it.

    Raises: Unavailable with `code` and `message` when somebody else does; OSError.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(code, message, hint="wait for it to end") from None
        yield
    finally:
        os.close(descriptor)
