"""The ledger's SQLite file: its schema, how it is made and opened, and what SQLite's errors mean here.

    record(seq, leaf, data)      one row for each entry; `data` is the record's bytes and the only truth
    node(level, idx, hash)       complete subtrees at levels 8, 16, ..., so that a proof reads few rows; a cache
    tip(size, hash, frontier, checkpoint)   one row, written in the same transaction as the records it covers

WAL with synchronous=FULL: a commit returns after its frames are synced, and a reader never waits for a writer.

Whoever appends much makes the log longer than what is in it. A sync after a write at a file's end waits for the file
system's own journal too; one over blocks that are there already does not, which is nearly half of what a commit takes.
Once the log has grown to where SQLite begins it anew, it is like that anyway. SQLite takes the zeros behind its newest
frame for what they are, no frame: their salt is not the log's.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal
from urllib.parse import quote

from keys.errors import CalyxError, Refused, Unavailable
from ledger.durable import sync_directory, sync_file
from ledger.merkle import Frontier

APPLICATION_ID: Final = 0x43414C58  # "CALX"
SCHEMA_VERSION: Final = 1
BUSY_SECONDS: Final = 30.0
BESIDE: Final = ("-wal", "-shm", "-journal")
"""What follows a database's name in those of the files that SQLite makes beside it."""
MAX_BLOB: Final = 1_000_000
LOG_STEP: Final = 1 << 20
"""Bytes by which the log is made longer at once: about 100 commits."""
LOG_ROOM: Final = 1 << 26
"""Bytes that must be free for that. On a full disk they are for what is said, not for saying it sooner."""

TABLES: Final = {
    "record": "CREATE TABLE record (seq INTEGER PRIMARY KEY, leaf BLOB NOT NULL, data BLOB NOT NULL) STRICT",
    "node": (
        "CREATE TABLE node (level INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL, "
        "PRIMARY KEY (level, idx)) STRICT, WITHOUT ROWID"
    ),
    "tip": (
        "CREATE TABLE tip (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, hash BLOB NOT NULL, "
        "frontier BLOB NOT NULL, checkpoint BLOB NOT NULL) STRICT"
    ),
}


def corrupt(path: Path, why: str, entry: int | None = None) -> CalyxError:
    """The error for a file that is not a whole ledger; `entry` where it is known."""
    return CalyxError(
        "ledger_corrupt",
        f"{path} is not a whole ledger: {why}",
        hint="calyx ledger fsck says what is lost; with --repair --from a copy it comes back",
        entry=entry,
    )


def create_file(path: Path) -> None:
    """Make an empty ledger file, mode 0644, durable on return; it appears whole or not at all.

    Raises: Refused (`ledger_exists`); Unavailable (`ledger_write_failed`).
    """
    hidden = path.with_name(f".{secrets.token_hex(12)}.tmp")
    try:
        os.close(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        with closing(_connect(hidden, "rw")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in TABLES.values():
                connection.execute(statement)
            connection.execute("INSERT INTO tip VALUES (1, 0, ?, ?, ?)", (bytes(32), Frontier().format(), b""))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        put_new(hidden, path)
    except FileExistsError:
        raise Refused("ledger_exists", f"{path} exists", hint="a ledger is never overwritten") from None
    except (OSError, sqlite3.Error) as error:
        raise Unavailable("ledger_write_failed", f"cannot make {path}: {error}") from None
    finally:
        remove_database(hidden)


def remove_database(path: Path) -> None:
    """Remove a database's file and what SQLite may have left beside it, as far as they are there. Raises: OSError."""
    for suffix in ("", *BESIDE):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def put_new(hidden: Path, path: Path) -> None:
    """Give a closed file its new name, durable on return. Raises: FileExistsError; OSError."""
    descriptor = os.open(hidden, os.O_RDWR)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)
    os.link(hidden, path)
    sync_directory(path.parent)


class OpenFile:
    """A connection to the ledger file at `path`, and the private copy that it reads where the file itself cannot be."""

    def __init__(self, path: Path, connection: sqlite3.Connection, copy: TemporaryDirectory[str] | None = None) -> None:
        self.connection: Final = connection
        self._path = path
        self._copy = copy
        self._files: Final = (str(path), f"{path}-wal")
        self._places: tuple[tuple[int, int] | None, ...] = ()
        self._log_size = -1

    def remember_place(self) -> None:
        """Note which files are open, once the first read has made the log."""
        self._places = tuple(map(_place, self._files))

    def check_place(self) -> None:
        """Prove that the path still leads to the file, and the log, that are open. SQLite would go on with files that
        somebody moved away, which nobody else reads any more.

        Raises: CalyxError (`ledger_replaced`).
        """
        for opened, file in zip(self._places, self._files, strict=False):
            # None: a log that was not there; a sealed ledger is read without one.
            if opened is not None and (found := _place(file)) != opened:
                raise CalyxError(
                    "ledger_replaced",
                    f"{self._path} is {'gone' if found is None else 'another file'} since this process opened it",
                    hint="find out who moved it; audit what is there now, then start again",
                )

    def lengthen_log(self) -> bool:
        """Put zeros behind the end of the log, if it grew or was cut since this was done last, and the disk has room;
        whether it was done. Call it inside a write transaction only: nobody else touches the log meanwhile.
        """
        if sys.platform == "win32":
            return False
        try:
            if os.stat(self._files[1]).st_size == self._log_size:  # noqa: PTH116  # once for each commit
                return False
            descriptor = os.open(self._files[1], os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError:
            return False
        try:
            status, disk = os.fstat(descriptor), os.fstatvfs(descriptor)
            if (status.st_dev, status.st_ino) != self._places[1] or disk.f_bavail * disk.f_frsize < LOG_ROOM:
                return False
            self._log_size = status.st_size + os.pwrite(descriptor, bytes(LOG_STEP), status.st_size)
        except OSError:
            # Zeros that did not get there are none that a commit needs.
            return False
        finally:
            os.close(descriptor)
        return True

    def fold_log(self) -> None:
        """Bring what the log holds into the file, as far as nobody else is reading it just now. What was committed is
        durable in either place; in the file alone, a plain copy of it is the whole ledger.
        """
        with suppress(sqlite3.Error):
            self.connection.execute("PRAGMA busy_timeout = 0")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Let go of the file, and remove the private copy."""
        with suppress(sqlite3.Error):
            self.connection.close()
        if self._copy is not None:
            self._copy.cleanup()


def ledger_missing(path: Path) -> Unavailable:
    """What to raise where no ledger is. Who named the wrong directory must not be sent off to make another ledger."""
    hint = "name its directory with --home or CALYX_HOME; calyx init makes a new ledger"
    return Unavailable("ledger_missing", f"there is no ledger at {path}", hint=hint)


def is_there(path: Path) -> bool:
    """Whether there is something where a ledger file should be. Raises: Unavailable (`ledger_unreadable`) when its
    directory may not be looked into.
    """
    try:
        return path.exists()
    except PermissionError as error:
        raise Unavailable(
            "ledger_unreadable", f"{path} cannot be read: {error.strerror}", hint="check the owner of its directory"
        ) from None


def check_beside(path: Path) -> None:
    """Prove that what SQLite opens beside a ledger file are files. It would wait for ever at a pipe.

    Raises: Unavailable (`ledger_unreadable`).
    """
    for suffix in BESIDE:
        beside = path.with_name(path.name + suffix)
        if beside.exists() and not beside.is_file():
            raise Unavailable(
                "ledger_unreadable", f"{beside} is not a regular file", hint="look at what it is, and move it away"
            )


def open_file(path: Path, mode: Literal["rw", "ro"]) -> OpenFile:
    """Open a ledger file and prove that its schema is ours, to the letter.

    Raises: Unavailable (`ledger_missing`, `ledger_unreadable`, `ledger_read_only`); CalyxError (`ledger_corrupt`).
    """
    if not is_there(path) or not path.is_file():
        raise ledger_missing(path)
    check_beside(path)
    with mapped(path):
        opened = _open_private(path) if mode == "ro" and _is_sealed(path) else OpenFile(path, _connect(path, mode))
        try:
            _check_schema(path, opened.connection)
            opened.remember_place()
        except BaseException:
            opened.close()
            raise
    return opened


@contextmanager
def mapped(path: Path, entry: int | None = None) -> Iterator[None]:
    """Turn SQLite's errors into ours. `entry`: the entry that is being read."""
    try:
        yield
    except sqlite3.Error as error:
        raise _meaning(path, error, entry) from None
    except UnicodeDecodeError as error:
        # Also of SQLite's own message, which quotes the damaged schema.
        raise corrupt(path, f"a text in it is not UTF-8 ({error.reason})", entry) from None


def _connect(path: Path, mode: Literal["rw", "ro"], *, sealed: bool = False) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}" + ("&immutable=1" if sealed else "")
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS, cached_statements=16)
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BLOB)
        # A file from elsewhere must not run functions of its own, and damage in a page must show.
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "foreign_keys = OFF"):
            connection.execute(f"PRAGMA {pragma}")
        if mode == "rw":
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute("PRAGMA checkpoint_fullfsync = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _place(file: str) -> tuple[int, int] | None:
    """Which file a path leads to."""
    try:
        status = os.stat(file)  # noqa: PTH116  # twice for each commit
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_sealed(path: Path) -> bool:
    """Whether SQLite could not make the log's index beside the file, and needs one. With nothing in the log, and nobody
    to write one, the file alone is the ledger.
    """
    index = path.with_name(path.name + "-shm")
    return not os.access(path.parent, os.W_OK) and not index.exists()


def _open_private(path: Path) -> OpenFile:
    """Read a sealed ledger. SQLite has no way to read a log without an index, so a file with a log is copied."""
    log = path.with_name(path.name + "-wal")
    if not log.exists() or not log.stat().st_size:
        return OpenFile(path, _connect(path, "ro", sealed=True))
    copy = TemporaryDirectory(prefix="calyx-")
    try:
        for each in (path, log):
            shutil.copyfile(each, Path(copy.name) / each.name)
        return OpenFile(path, _connect(Path(copy.name) / path.name, "ro"), copy)
    except BaseException as error:
        copy.cleanup()
        if isinstance(error, OSError):
            raise Unavailable("ledger_unreadable", f"{path} cannot be copied to be read: {error.strerror}") from None
        raise


def _check_schema(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise corrupt(path, "it is another program's database" if path.stat().st_size else "it is empty")
    if version != SCHEMA_VERSION:
        raise CalyxError(
            "ledger_version",
            f"{path} has ledger schema {version}, and this program reads {SCHEMA_VERSION}",
            hint="use the release of calyx that wrote it",
        )
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchmany(len(TABLES) + 1)
    if len(found) != len(TABLES) or set(found) != {("table", name, name, sql) for name, sql in TABLES.items()}:
        raise corrupt(path, "its schema is not that of a ledger")


def _meaning(path: Path, error: sqlite3.Error, entry: int | None) -> CalyxError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable("ledger_busy", f"another program is writing to {path}", hint="try again")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return Unavailable("ledger_read_only", f"{path} cannot be written", hint="check its owner and mode")
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM):
        return Unavailable("ledger_unreadable", f"{path} cannot be read: {error}", hint="check its owner and the disk")
    if primary == sqlite3.SQLITE_FULL:
        return Unavailable("ledger_write_failed", f"the disk of {path} is full", hint="free space, then try again")
    return corrupt(path, str(error), entry)
