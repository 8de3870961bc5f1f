"""Putting a rebuilt ledger in the place of a damaged one, in steps of which each may be the last.

    1  nobody else has the ledger open, and nobody can open it: first by a lock of our own, then by SQLite's. In between
       anybody could write, so that once SQLite has its lock both files must be what was copied
    2  the damaged file and its log are kept aside, byte for byte, and on the disk
    3  the log is folded into the damaged file by SQLite, for which a byte that lets only later releases write is put
       right; where SQLite cannot open that file, nobody reads the log either, and it is removed. From here on no log is
       left that could be read into another file
    4  the new file takes the name
    5  the damaged file, which a process may have waited for, is marked as no ledger

After a crash before 4 the damaged ledger is there as it was; after it, the new one is.

Source: SQLite file format and locking (lockingv3, WAL mode): every connection to a WAL database holds a shared lock.
fcntl_locking(2): a process loses its locks of a file when it closes any descriptor of it, as whoever copies the file
does; locks of an open file description stay.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sqlite3
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from keys.errors import Unavailable
from ledger.durable import sync_directory, sync_file
from ledger.place import is_hidden
from ledger.repair.source import LEDGER

if sys.platform != "win32":
    import fcntl

_PENDING_BYTE: Final = 0x4000_0000
_LOCK_BYTES: Final = 512
"""SQLite's pending and reserved byte, and the 510 of its shared range."""
_FLOCK: Final = "hhqqi4x"
"""Type, whence, start, length, pid: Linux's `struct flock` where an off_t has 64 bits."""
_WRITE_VERSION: Final = 18
_READ_VERSION: Final = 19
_VERSIONS: Final = (1, 2)
_CHUNK: Final = 1 << 20


class Held:
    """A ledger file that this process has open and nobody else. Nothing here closes its descriptor before the end."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path: Final = path
        self._descriptor: Final = descriptor

    def lock(self) -> None:
        """Let nobody open it. Raises: OSError."""
        self._set(fcntl.F_WRLCK)

    def let_go(self) -> None:
        """Leave it to SQLite's own locks. Raises: OSError."""
        self._set(fcntl.F_UNLCK)

    def let_write(self) -> None:
        """Let SQLite write to a file that it can read: a write version that is none becomes the read version.

        Raises: OSError.
        """
        header = os.pread(self._descriptor, _READ_VERSION + 1, 0)
        if (
            len(header) > _READ_VERSION
            and header[_READ_VERSION] in _VERSIONS
            and header[_WRITE_VERSION] not in _VERSIONS
        ):
            os.pwrite(self._descriptor, header[_READ_VERSION:], _WRITE_VERSION)

    def check_unchanged(self, aside: Path) -> None:
        """Prove that the file and its log are still what was copied, but for what `let_write` did.

        Raises: Unavailable (`ledger_busy`); OSError.
        """
        at = 0
        with aside.open("rb") as copy:
            while data := copy.read(_CHUNK):
                here = os.pread(self._descriptor, len(data), at)
                if at == 0 and len(here) > _READ_VERSION and data[_WRITE_VERSION] not in _VERSIONS:
                    here = here[:_WRITE_VERSION] + data[_WRITE_VERSION:_READ_VERSION] + here[_READ_VERSION:]
                if here != data:
                    raise _busy(self._path)
                at += len(data)
        log, log_aside = (each.with_name(each.name + "-wal") for each in (self._path, aside))
        if os.pread(self._descriptor, 1, at) or _content(log) != _content(log_aside):
            raise _busy(self._path)

    def _set(self, how: int) -> None:
        if sys.platform == "linux":
            flock = struct.pack(_FLOCK, how, os.SEEK_SET, _PENDING_BYTE, _LOCK_BYTES, 0)
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, flock)
        elif how == fcntl.F_WRLCK:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTES, _PENDING_BYTE)


@contextmanager
def alone(path: Path) -> Iterator[Held | None]:
    """Be the only process that has the ledger file open. No other opens it meanwhile. None where there is no file.

    Raises: Unavailable (`ledger_busy`, `ledger_unreadable`).
    """
    if sys.platform == "win32":
        raise Unavailable("ledger_busy", "a ledger is repaired on POSIX systems only", hint="repair a copy there")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise Unavailable("ledger_unreadable", f"cannot open {path}: {error.strerror}") from None
    try:
        held = Held(path, descriptor)
        try:
            held.lock()
        except OSError:
            raise _busy(path) from None
        yield held
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


def put_in_place(new: Path, path: Path, aside: Path, held: Held | None) -> Path | None:
    """Replace the ledger `path` by the closed file `new`, durable on return; where the old one is kept, None when there
    was none. `aside`: a directory with a copy of it, from which `new` was made. `held`: what `alone` gave.

    Raises: Unavailable (`ledger_busy`); OSError. Then the old ledger is still in its place.
    """
    there = path.exists()
    if there != (held is not None):
        raise _busy(path)
    if there:
        status = path.stat()
        new.chmod(status.st_mode & 0o7777)
        with suppress(PermissionError):
            os.chown(new, status.st_uid, status.st_gid)
    _sync(new)
    kept = None
    with _folded(path, aside / LEDGER, held) as old:
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
def _folded(path: Path, aside: Path, held: Held | None) -> Iterator[sqlite3.Connection | None]:
    """The old ledger with its log folded in, held by SQLite's exclusive lock; None when SQLite cannot open it."""
    if held is None:
        yield None
        return
    held.let_write()
    held.let_go()
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=rw", uri=True, isolation_level=None, timeout=0
    )
    try:
        old: sqlite3.Connection | None = connection
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
            held.check_unchanged(aside)
            connection.execute("PRAGMA journal_mode = DELETE")
        except UnicodeDecodeError:
            # Of SQLite's own message, which quotes a damaged schema.
            old = None
            held.check_unchanged(aside)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise _busy(path) from None
            if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            old = None
            held.check_unchanged(aside)
        yield old
    finally:
        connection.close()


def _content(path: Path) -> bytes | None:
    """SHA-256 of a file that is not empty."""
    if not path.exists() or not path.stat().st_size:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


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
