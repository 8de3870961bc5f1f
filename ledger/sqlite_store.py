"""The ledger in one SQLite file: append-if-head under SQLite's writer lock, and streaming reads beside it.

A crash can fall at any point of an append. Before the commit's sync has finished, the next open finds the old head,
or the whole new one if the frames happened to reach the disk; it never finds a part, because records, frontier and
checkpoint are one transaction. A checkpoint that was signed for a transaction that did not commit has left this
process for nowhere.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from keys.errors import CalyxError, FormatError, Unavailable, UsageError
from ledger.checkpoint import CheckpointSigner, peek_checkpoint
from ledger.head import Head
from ledger.merkle import HASH_SIZE, Frontier, hash_leaf, hash_root
from ledger.record import Record
from ledger.sqlite_file import OpenFile, corrupt, create_file, mapped, open_file, put_new
from ledger.store import DISK_FULL, HeadMoved, Tip

READ_BATCH: Final = 128
FLUSH_AT: Final = 512
TILE_HEIGHT: Final = 8

_INSERT_RECORD: Final = "INSERT INTO record (seq, leaf, data) VALUES (?, ?, ?)"
_INSERT_NODE: Final = "INSERT INTO node (level, idx, hash) VALUES (?, ?, ?)"
_SELECT_TIP: Final = "SELECT size, hash, checkpoint, frontier FROM tip WHERE one = 1"
_UPDATE_TIP: Final = "UPDATE tip SET size = ?, hash = ?, frontier = ?, checkpoint = ? WHERE one = 1"
_SELECT_RECORDS: Final = "SELECT seq, data FROM record WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?"
_SELECT_LEAVES: Final = "SELECT leaf FROM record WHERE seq >= ? AND seq < ? ORDER BY seq"
_SELECT_NODES: Final = "SELECT hash FROM node WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx"


class SqliteStore:
    """A `ledger.store.Store` over one connection. Use it in the thread that opened it; each thread opens its own."""

    def __init__(self, path: Path, opened: OpenFile, *, read_only: bool) -> None:
        self.path: Final = path
        self._read_only: Final = read_only
        self._opened = opened
        self._connection = opened.connection
        self._failed = False
        self._last_written: tuple[bytes, bytes] | None = None

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make an empty ledger and open it. Raises: UsageError (`ledger_exists`); Unavailable."""
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
        head, checkpoint, _ = self._tip()
        return Tip(head, checkpoint)

    def head(self) -> Head:
        return self._tip()[0]

    def checkpoint(self) -> bytes:
        return self._tip()[1]

    def frontier(self) -> Frontier:
        """The tree over the newest head, from its row: a cache, proved only by the checkpoint's root."""
        return self._tip()[2]

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        # Batches instead of one long query: no read transaction stays open, so the WAL can be folded back meanwhile.
        # Rows are never changed, so the batches fit together.
        at = start
        end = 2**63 - 1 if stop is None else stop
        limit = READ_BATCH
        while at < end:
            try:
                with mapped(self.path, at):
                    rows = self._connection.execute(_SELECT_RECORDS, (at, end, limit)).fetchall()
            except CalyxError:
                if limit == 1:
                    raise
                # One by one, so that those before it are given out, and the one that cannot be read is named.
                limit = 1
                continue
            for seq, data in rows:
                if seq != at or type(data) is not bytes:
                    raise corrupt(self.path, f"entry {at} is missing or is not bytes", at)
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
        """Read as of one moment inside, whoever appends meanwhile: for `sqlite_check`."""
        with mapped(self.path):
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def count_rows(self) -> tuple[int, int]:
        """How many record rows and node rows there are, whatever their numbers: for `sqlite_check`."""
        with mapped(self.path):
            records = self._connection.execute("SELECT count(*) FROM record").fetchone()[0]
            nodes = self._connection.execute("SELECT count(*) FROM node").fetchone()[0]
        return records, nodes

    @contextmanager
    def writer(self, sign: CheckpointSigner) -> Iterator[SqliteWriter]:
        if self._failed:
            raise _write_failed(self.path, "an earlier write failed, so what the disk holds is unknown")
        with self._written(), mapped(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            head, checkpoint, frontier = self._tip()
            if self._last_written != (checkpoint, frontier.format()):
                _check_cache(self.path, head, checkpoint, frontier)
            writer = SqliteWriter(self._flush, head, frontier)
            yield writer
            if writer.head == head:
                self._connection.execute("ROLLBACK")
                return
            writer.flush()
            note = sign(frontier.size, frontier.root())
            with self._written():
                self._connection.execute(
                    _UPDATE_TIP, (writer.head.size, bytes.fromhex(writer.head.hash), frontier.format(), note)
                )
                # Until here a crash leaves the old head. COMMIT returns after the frames are synced; if it fails, the
                # entries may or may not be there at the next open, and in no case were they acknowledged.
                self._connection.execute("COMMIT")
            # Nobody may be told that an entry is durable in a file that was moved away meanwhile.
            self._opened.check_place()
            self._last_written = (note, frontier.format())
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

        Raises: UsageError (`ledger_exists`); Unavailable (`ledger_write_failed`).
        """
        hidden = path.with_name(f".{secrets.token_hex(12)}.tmp")
        try:
            with closing(sqlite3.connect(hidden)) as copy:
                self._connection.backup(copy)
            put_new(hidden, path)
        except FileExistsError:
            raise UsageError("ledger_exists", f"{path} exists", hint="a copy never overwrites") from None
        except (OSError, sqlite3.Error) as error:
            raise Unavailable("ledger_write_failed", f"cannot write {path}: {error}") from None
        finally:
            for suffix in ("", "-wal", "-shm"):
                hidden.with_name(hidden.name + suffix).unlink(missing_ok=True)

    def _tip(self) -> tuple[Head, bytes, Frontier]:
        self._opened.check_place()
        with mapped(self.path):
            row = self._connection.execute(_SELECT_TIP).fetchone()
        if row is None or type(row[0]) is not int or any(type(value) is not bytes for value in row[1:]):
            raise corrupt(self.path, "its tip row is missing or damaged")
        size, digest, checkpoint, stored = row
        try:
            frontier = Frontier.parse(stored)
        except FormatError:
            raise corrupt(self.path, "its frontier is damaged") from None
        if frontier.size != size or len(digest) != HASH_SIZE:
            raise corrupt(self.path, "its frontier is of another size than its head")
        return Head(size, digest.hex()), checkpoint, frontier

    def _flush(self, records: list[tuple[int, bytes, bytes]], nodes: list[tuple[int, int, bytes]]) -> None:
        with self._written():
            self._connection.executemany(_INSERT_RECORD, records)
            if nodes:
                self._connection.executemany(_INSERT_NODE, nodes)

    @contextmanager
    def _written(self) -> Iterator[None]:
        """After a failed sync the kernel may have dropped the pages it could not write, so this store writes no more. A
        full disk is different: nothing was half written, and giving up the reserve makes room.
        """
        try:
            yield
        except sqlite3.IntegrityError:
            raise corrupt(self.path, "it already holds rows after its head") from None
        except sqlite3.Error as error:
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
                raise


class SqliteWriter:
    """`ledger.store.Writer`: made by `SqliteStore.writer`, of use inside its context only."""

    def __init__(
        self,
        store: Callable[[list[tuple[int, bytes, bytes]], list[tuple[int, int, bytes]]], None],
        head: Head,
        frontier: Frontier,
    ) -> None:
        self._store = store
        self._head = head
        self._frontier = frontier
        self._records: list[tuple[int, bytes, bytes]] = []
        self._nodes: list[tuple[int, int, bytes]] = []

    @property
    def head(self) -> Head:
        return self._head

    def append(self, record: Record) -> None:
        if record.seq != self._head.size or record.prev != self._head.hash:
            raise HeadMoved(Head(record.seq, record.prev), self._head)
        leaf = bytes.fromhex(record.leaf)
        self._records.append((record.seq, leaf, record.data))
        for level, node in enumerate(self._frontier.append(leaf), start=1):
            if level % TILE_HEIGHT == 0:
                self._nodes.append((level, record.seq >> level, node))
        self._head = Head(record.seq + 1, record.leaf)
        if len(self._records) >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Hand the rows to SQLite, inside the open transaction."""
        if self._records:
            self._store(self._records, self._nodes)
            self._records, self._nodes = [], []


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
