"""Putting a rebuilt ledger in the place of a damaged one, in steps of which each may be the last.

    1  nobody else has the ledger open, and nobody can open it (the locks that SQLite itself takes)
    2  the damaged file and its log are kept aside, byte for byte, and on the disk
    3  the log is folded into the damaged file by SQLite; where SQLite cannot open that file, nobody reads the log
       either, and it is removed. From here on no log is left that could be read into another file
    4  the new file takes the name
    5  the damaged file, which a process may have waited for, is marked as no ledger

After a crash before 4 the damaged ledger is there as it was; after it, the new one is.

Source: SQLite file format and locking (lockingv3, WAL mode): every connection to a WAL database holds a shared lock.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from keys.errors import Unavailable
from ledger.durable import sync_directory, sync_file
from ledger.place import is_hidden

_PENDING_BYTE: Final = 0x4000_0000
_LOCK_BYTES: Final = 512
"""SQLite's pending and reserved byte, and the 510 of its shared range."""


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only process that has the ledger file open. No other opens it meanwhile.

    Raises: Unavailable (`ledger_busy`, `ledger_unreadable`).
    """
    if sys.platform == "win32":
        raise Unavailable("ledger_busy", "a ledger is repaired on POSIX systems only", hint="repair a copy there")
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise Unavailable("ledger_unreadable", f"cannot open {path}: {error.strerror}") from None
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTES, _PENDING_BYTE)
        except OSError:
            raise _busy(path) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def workshop(directory: Path) -> Iterator[Path]:
    """A directory beside the ledger to work in, removed at the end; what an earlier crash left is removed first.

    Raises: OSError.
    """
    for path in directory.iterdir():
        if is_hidden(path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
    work = directory / f".{secrets.token_hex(12)}.tmp"
    work.mkdir(mode=0o700)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def put_in_place(new: Path, path: Path, aside: Path) -> Path | None:
    """Replace the ledger `path` by the closed file `new`, durable on return; where the old one is kept, None when there
    was none. `aside`: a directory with a copy of it. The caller is `alone`.

    Raises: Unavailable (`ledger_busy`); OSError. Then the old ledger is still in its place.
    """
    there = path.exists()
    if there:
        status = path.stat()
        new.chmod(status.st_mode & 0o7777)
        with suppress(PermissionError):
            os.chown(new, status.st_uid, status.st_gid)
    _sync(new)
    kept = None
    with _folded(path, there) as old:
        if there:
            kept = _keep_aside(aside, path)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        sync_directory(path.parent)
        new.rename(path)
        sync_directory(path.parent)
        if old is not None:
            with suppress(sqlite3.Error):
                old.execute("PRAGMA journal_mode = MEMORY")
                old.execute("PRAGMA application_id = 0")
    return kept


@contextmanager
def _folded(path: Path, there: bool) -> Iterator[sqlite3.Connection | None]:
    """The old ledger with its log folded in, held by SQLite's exclusive lock; None when SQLite cannot open it."""
    if not there:
        yield None
        return
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=rw", uri=True, isolation_level=None, timeout=0
    )
    try:
        old: sqlite3.Connection | None = connection
        try:
            for pragma in ("locking_mode = EXCLUSIVE", "synchronous = FULL", "journal_mode = DELETE"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise _busy(path) from None
            if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            old = None
        yield old
    finally:
        connection.close()


def _keep_aside(aside: Path, path: Path) -> Path:
    for each in aside.iterdir():
        _sync(each)
    sync_directory(aside)
    number = 1
    while (kept := path.with_name(f"{path.stem}.damaged-{number}")).exists():
        number += 1
    aside.rename(kept)
    sync_directory(path.parent)
    return kept


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def _busy(path: Path) -> Unavailable:
    return Unavailable(
        "ledger_busy",
        f"another program has {path} open",
        hint="stop the executor, the agents and every other calyx that uses this home, then repair again",
    )
