"""The ledger in one SQLite file: append-if-head under SQLite's writer lock, and streaming reads beside it.

A crash can fall at any point of an append. Before the commit's sync has finished, the next open finds the old head,
or the whole new one if the frames happened to reach the disk; it never finds a part, because records, frontier and
checkpoint are one transaction. A checkpoint that was signed for a transaction that did not commit has left this
process for nowhere.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn, Self

from keys.errors import CalyxError, FormatError, Refused, Unavailable
from ledger.checkpoint import CheckpointSigner, peek_checkpoint
from ledger.head import Head
from ledger.merkle import HASH_SIZE, Frontier, hash_leaf, hash_root
from ledger.record import Record
from ledger.sqlite.file import OpenFile, corrupt, create_file, mapped, open_file, put_new, remove_database
from ledger.sqlite.writer import TILE_HEIGHT, SqliteWriter
from ledger.store import DISK_FULL, HeadMoved, Tip

READ_BATCH: Final = 128
LENGTHEN_AFTER: Final = 8
"""Commits of one store until it makes the log longer: whoever says one thing and goes has no use for that."""

_INSERT_RECORD: Final = "INSERT INTO record (seq, leaf, data) VALUES (?, ?, ?)"
_INSERT_NODE: Final = "INSERT INTO node (level, idx, hash) VALUES (?, ?, ?)"
_SELECT_TIP: Final = "SELECT size, hash, checkpoint, frontier FROM tip WHERE one = 1"
_UPDATE_TIP: Final = "UPDATE tip SET size = ?, hash = ?, checkpoint = ?, frontier = ? WHERE one = 1"
_SELECT_RECORDS: Final = "SELECT seq, data FROM record WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?"
_LOWEST: Final = -(2**63)
"""Where whoever reads from entry 0 looks from: a row before it is as wrong as one that is missing."""
_SELECT_LEAVES: Final = "SELECT leaf FROM record WHERE seq >= ? AND seq < ? ORDER BY seq"
_SELECT_NODES: Final = "SELECT hash FROM node WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx"


_Row = tuple[int, bytes, bytes, bytes]
"""Size, hash, checkpoint and frontier, of the right types and nothing more."""


class SqliteStore:
    """A `ledger.store.Store` over one connection. Use it in the thread that opened it; each thread opens its own."""

    def __init__(self, path: Path, opened: OpenFile, *, read_only: bool) -> None:
        self.path: Final = path
        self._read_only: Final = read_only
        self._opened = opened
        self._connection = opened.connection
        self._failed = False
        self._commits = 0
        # What this store committed last, and the tree over it. While the row is still that one, nothing else is read.
        self._last: tuple[_Row, Head, Frontier] | None = None

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make an empty ledger and open it. Raises: Refused (`ledger_exists`); Unavailable."""
        create_file(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Open a ledger. `read_only` works on copies that cannot be written.

        Raises: Unavailable (`ledger_missing`, `ledger_unreadable`); CalyxError (`ledger_corrupt`, `ledger_version`).
        """
        return cls(path, open_file(path, "ro" if read_only else "rw"), read_only=read_only)

    def close(self) -> None:
        """Let go of the file. What was committed is already durable."""
        # SQLite does so itself only for the last who closes, and not if that one is a reader.
        if not self._read_only and not self._failed:
            self._opened.fold_log()
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tip(self) -> Tip:
        row = self._row()
        if self._last is not None and row == self._last[0]:
            return Tip(self._last[1], row[2])
        return Tip(self._parse(row)[0], row[2])

    def head(self) -> Head:
        return self.tip().head

    def checkpoint(self) -> bytes:
        return self.tip().checkpoint

    def frontier(self) -> Frontier:
        """The tree over the newest head, from its row: a cache, proved only by the checkpoint's root."""
        return self._parse(self._row())[1]

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        # Batches instead of one long query: no read transaction stays open, so the WAL can be folded back meanwhile.
        # Rows are never changed, so the batches fit together.
        at = start
        end = 2**63 - 1 if stop is None else stop
        limit = READ_BATCH
        while at < end:
            try:
                with mapped(self.path, at):
                    rows = self._connection.execute(_SELECT_RECORDS, (at or _LOWEST, end, limit)).fetchall()
            except CalyxError:
                if limit == 1:
                    raise
                # One by one, so that those before it are given out, and the one that cannot be read is named.
                limit = 1
                continue
            for seq, data in rows:
                if seq != at or type(data) is not bytes:
                    what = f"a row lies before entry {at}" if seq < at else f"entry {at} is missing or is not bytes"
                    raise corrupt(self.path, what, at)
                yield data
                at += 1
            if len(rows) < limit:
                return

    def leaf(self, seq: int) -> str:
        for data in self.read(seq, seq + 1):
            return hash_leaf(data).hex()
        raise corrupt(self.path, f"entry {seq} is missing", seq)

    def node(self, level: int, index: int) -> bytes:
        stored = level - level % TILE_HEIGHT
        first, count = index << (level - stored), 1 << (level - stored)
        with mapped(self.path):
            if stored == 0:
                rows = self._connection.execute(_SELECT_LEAVES, (first, first + count)).fetchall()
            else:
                rows = self._connection.execute(_SELECT_NODES, (stored, first, first + count)).fetchall()
        hashes = [row[0] for row in rows]
        if len(hashes) != count or any(type(each) is not bytes or len(each) != HASH_SIZE for each in hashes):
            raise corrupt(self.path, f"its tree has no whole node at level {level}, index {index}")
        return hash_root(hashes)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read as of one moment inside, whoever appends meanwhile: for `ledger.sqlite.check`."""
        with mapped(self.path):
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def count_rows(self) -> tuple[int, int]:
        """How many record rows and node rows there are, whatever their numbers: for `ledger.sqlite.check`."""
        with mapped(self.path):
            records = self._connection.execute("SELECT count(*) FROM record").fetchone()[0]
            nodes = self._connection.execute("SELECT count(*) FROM node").fetchone()[0]
        return records, nodes

    @contextmanager
    def writer(self, sign: CheckpointSigner) -> Iterator[SqliteWriter]:
        if self._failed:
            raise _write_failed(self.path, "an earlier write failed, so what the disk holds is unknown")
        self._execute("BEGIN IMMEDIATE")
        last, self._last = self._last, None
        try:
            row = self._row()
            if last is not None and row == last[0]:
                _, head, frontier = last
            else:
                head, frontier = self._parse(row)
                _check_cache(self.path, head, row[2], frontier)
            writer = SqliteWriter(self._flush, head, frontier)
            yield writer
            if writer.head == head:
                self._connection.execute("ROLLBACK")
                self._last = row, head, frontier
                return
            writer.flush()
            if self._commits >= LENGTHEN_AFTER and self._opened.lengthen_log():
                self._commits = 0
            note = sign(frontier.size, frontier.root())
            row = writer.head.size, bytes.fromhex(writer.head.hash), note, frontier.format()
            self._execute(_UPDATE_TIP, row)
            # Until here a crash leaves the old head. COMMIT returns after the frames are synced; if it fails, the
            # entries may or may not be there at the next open, and in no case were they acknowledged.
            self._execute("COMMIT")
            # Nobody may be told that an entry is durable in a file that was moved away meanwhile.
            self._opened.check_place()
            self._commits += 1
            self._last = row, writer.head, frontier
        except BaseException:
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise

    def append(self, expected: Head, records: Sequence[Record], sign: CheckpointSigner) -> Head:
        with self.writer(sign) as writer:
            if writer.head != expected:
                raise HeadMoved(expected, writer.head)
            for record in records:
                writer.append(record)
            return writer.head

    def backup(self, path: Path) -> None:
        """Write a whole copy of the ledger, as of now, to the new file `path`; durable on return.

        Raises: Refused (`ledger_exists`); Unavailable (`ledger_write_failed`).
        """
        hidden = path.with_name(f".{secrets.token_hex(12)}.tmp")
        try:
            # SQLite would make it readable by others.
            os.close(os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with closing(sqlite3.connect(hidden)) as copy:
                self._connection.backup(copy)
            put_new(hidden, path)
        except FileExistsError:
            raise Refused("ledger_exists", f"{path} exists", hint="a copy never overwrites") from None
        except (OSError, sqlite3.Error) as error:
            raise Unavailable("ledger_write_failed", f"cannot write {path}: {error}") from None
        finally:
            remove_database(hidden)

    def _row(self) -> _Row:
        self._opened.check_place()
        try:
            row = self._connection.execute(_SELECT_TIP).fetchone()
        except (sqlite3.Error, UnicodeDecodeError):
            with mapped(self.path):
                raise
        if row is None or type(row[0]) is not int or any(type(value) is not bytes for value in row[1:]):
            raise corrupt(self.path, "its tip row is missing or damaged")
        size, digest, checkpoint, frontier = row
        return size, digest, checkpoint, frontier

    def _parse(self, row: _Row) -> tuple[Head, Frontier]:
        try:
            frontier = Frontier.parse(row[3])
        except FormatError:
            raise corrupt(self.path, "its frontier is damaged") from None
        if frontier.size != row[0] or len(row[1]) != HASH_SIZE:
            raise corrupt(self.path, "its frontier is of another size than its head")
        return Head(row[0], row[1].hex()), frontier

    def _flush(self, records: list[tuple[int, bytes, bytes]], nodes: list[tuple[int, int, bytes]]) -> None:
        try:
            self._connection.executemany(_INSERT_RECORD, records)
            if nodes:
                self._connection.executemany(_INSERT_NODE, nodes)
        except sqlite3.Error as error:
            self._refuse(error)

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> None:
        try:
            self._connection.execute(statement, values)
        except sqlite3.Error as error:
            self._refuse(error)

    def _refuse(self, error: sqlite3.Error) -> NoReturn:
        """After a failed sync the kernel may have dropped the pages it could not write, so this store writes no more. A
        full disk is different: nothing was half written, and giving up the reserve makes room.
        """
        if isinstance(error, sqlite3.IntegrityError):
            raise corrupt(self.path, "it already holds rows after its head") from None
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise Unavailable(
                DISK_FULL,
                f"nothing was appended to {self.path}: the disk is full",
                hint="make room; nothing was lost, and it can be said again",
            ) from None
        if code == sqlite3.SQLITE_IOERR:
            self._failed = True
            raise _write_failed(self.path, str(error)) from None
        with mapped(self.path):
            raise error


def _check_cache(path: Path, head: Head, checkpoint: bytes, frontier: Frontier) -> None:
    """Prove that what the next checkpoint will be computed from is what the last one signed. A log must never sign two
    trees that contradict each other, and a damaged row would make it do that.
    """
    if head.size == 0:
        return
    try:
        signed = peek_checkpoint(checkpoint)
    except CalyxError:
        raise corrupt(path, "its checkpoint is damaged") from None
    if signed.size != frontier.size or signed.root != frontier.root():
        raise corrupt(path, "its tree is not the one that its checkpoint signs")


def _write_failed(path: Path, why: str) -> Unavailable:
    return Unavailable(
        "ledger_write_failed",
        f"nothing was appended to {path}: {why}",
        hint="look at the disk; then start again and read what is there before you retry",
    )
