"""What can still be read of a ledger, from its file in whatever state, or from an export: records by position, and
hints at their leaves. Nothing here is trusted; `ledger.repair.assemble` proves what is taken.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, Protocol, Self
from urllib.parse import quote

from keys.errors import CalyxError, UsageError
from ledger.exports.export import OBJECTS
from ledger.exports.reader import ExportReader
from ledger.merkle import HASH_SIZE
from ledger.note import MAX_NOTE
from ledger.record import MAX_RECORD
from ledger.repair.pages import find_spans
from ledger.sqlite.file import MAX_BLOB, TABLES, create_file
from ledger.tiles import CHECKPOINT_PATH, WIDTH, Tile

LEDGER: Final = "ledger.db"

_MIN_RECORD: Final = 256
"""No record is shorter, so a file of a size holds no more of them than that."""
_BATCH: Final = 256
_SELECT: Final = """
    SELECT seq, CASE WHEN typeof(leaf) = 'blob' AND length(leaf) <= ? THEN leaf END,
        CASE WHEN typeof(data) = 'blob' AND length(data) <= ? THEN data END
    FROM record WHERE """
_IN_ORDER: Final = f"{_SELECT} seq >= ? AND seq < ? ORDER BY seq"
_ALONE: Final = f"{_SELECT} seq = ?"
_TIP: Final = "SELECT size, hash, checkpoint FROM tip WHERE length(hash) <= ? AND length(checkpoint) <= ? LIMIT 1"
_DEPTH: Final = 6
"""Directories that a bundle's name may lead through."""
_MAX_GAP: Final = 16
"""Bundles that an export may lack, and as many again as it has."""


class Row(NamedTuple):
    """What a source has at one position: the record's bytes if they can be read, and a leaf hash that stands beside."""

    data: bytes | None
    hint: bytes | None


class Source(Protocol):
    """Records of a ledger, as far as they can be read."""

    @property
    def end(self) -> int:
        """Positions from 0 that may hold a record."""
        ...

    @property
    def note(self) -> bytes:
        """The signed checkpoint, b"" where there is none."""
        ...

    @property
    def last(self) -> bytes | None:
        """Hint at the leaf of the last record under that checkpoint."""
        ...

    def rows(self) -> Iterator[Row]:
        """The positions from 0 to `end`, in order. Another call begins anew."""
        ...


class NoSource:
    """A ledger of which nothing is left."""

    end = 0
    note = b""
    last: bytes | None = None

    def rows(self) -> Iterator[Row]:
        """Nothing."""
        return iter(())


class FileSource:
    """A ledger file, read where it is. `copied`: it is a copy that nobody else uses."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, copied: bool = False) -> None:
        self._connection = connection
        log = path.with_name(path.name + "-wal")
        logged = log.stat().st_size if log.exists() else 0
        self._limit = (path.stat().st_size + logged) // _MIN_RECORD + 1
        # Another process may change the file meanwhile, and a log holds pages in place of the file's.
        self._still = path if copied and not logged else None
        size, self.last, self.note = self._load_tip()
        self.end: Final = min(max(size, self._count(size)), self._limit)

    @classmethod
    def open(cls, path: Path, *, copied: bool = False) -> Self:
        """Read a file as SQLite does. Raises: sqlite3.Error; OSError."""
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BLOB)
            connection.execute("PRAGMA trusted_schema = OFF")
            _check_tables(connection)
            return cls(path, connection, copied=copied)
        except BaseException as error:
            connection.close()
            if isinstance(error, UnicodeDecodeError):
                # SQLite's own message quotes a damaged schema.
                raise sqlite3.DatabaseError("its schema is not UTF-8") from None
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def rows(self) -> Iterator[Row]:
        for start in range(0, self.end, _BATCH):
            yield from self._batch(start, min(start + _BATCH, self.end))

    def _batch(self, start: int, stop: int) -> Iterator[Row]:
        try:
            found = self._select(_IN_ORDER, start, stop, count=stop - start)
        except sqlite3.Error:
            # One by one, so that a damaged page costs no more than the entries on it.
            found = {}
            first = bisect_right(self._spans, start, key=lambda each: each.stop)
            after = bisect_left(self._spans, stop, key=lambda each: each.start)
            for span in self._spans[first:after]:
                for seq in range(max(span.start, start), min(span.stop, stop)):
                    found |= self._find(seq)
        for seq in range(start, stop):
            yield found.get(seq, Row(None, None))

    def _find(self, seq: int) -> dict[int, Row]:
        # In order, the one before a damaged page is not given out, as what follows is read first; by its number alone,
        # one is not found that a damaged key leads past.
        for query, numbers in ((_ALONE, (seq,)), (_IN_ORDER, (seq, seq + 1))):
            with suppress(sqlite3.Error):
                if found := self._select(query, *numbers, count=1):
                    return found
        return {}

    def _select(self, query: str, *numbers: int, count: int) -> dict[int, Row]:
        # No more than are asked for, of no more than a record's size: pages may lead back to pages.
        found = self._connection.execute(query, (HASH_SIZE, MAX_RECORD, *numbers)).fetchmany(count)
        return {seq: _row(leaf, data) for seq, leaf, data in found}

    @cached_property
    def _spans(self) -> list[range]:
        """Positions that are looked at one by one, in order: none that is below what is no page of the table."""
        with suppress(sqlite3.Error, OSError):
            if self._still is not None:
                return find_spans(self._still, self._connection, self._limit)
        return [range(self._limit)]

    def _load_tip(self) -> tuple[int, bytes | None, bytes]:
        with suppress(sqlite3.Error):
            for size, last, note in self._connection.execute(_TIP, (HASH_SIZE, MAX_NOTE)):
                return (
                    size if type(size) is int else 0,
                    last if type(last) is bytes and len(last) == HASH_SIZE else None,
                    note if type(note) is bytes else b"",
                )
        return 0, None, b""

    def _count(self, size: int) -> int:
        # Counting rows would walk through every page, and a hostile file has endless ones.
        with suppress(sqlite3.Error):
            (value,) = self._connection.execute("SELECT max(seq) + 1 FROM record").fetchone()
            if type(value) is int and 0 <= value <= self._limit:
                return value
        if size or not self._spans:
            return 0
        # Whole batches: rows that are not where they should be are found beside those that are.
        return -(-self._spans[-1].stop // _BATCH) * _BATCH


class ExportSource:
    """An export: its bundles, and the tiles of level 0 as hints."""

    def __init__(self, root: Path) -> None:
        self._reader = ExportReader(root)
        self.end: Final = min(self._reader.size, WIDTH * (2 * _count_bundles(root / "tile" / "entries") + _MAX_GAP))
        self.note: Final = self._reader.note
        self.last: bytes | None = None

    def rows(self) -> Iterator[Row]:
        for index in range(-(-self.end // WIDTH)):
            width = min(WIDTH, self._reader.size - index * WIDTH)
            tile = b""
            with suppress(CalyxError):
                tile = self._reader.load_tile(Tile(0, index, width))
            for number, data in enumerate(self._reader.load_bundle(index)):
                hint = tile[HASH_SIZE * number : HASH_SIZE * (number + 1)]
                yield Row(data, hint or None)


def copy_file(path: Path, directory: Path) -> Path:
    """Copy a ledger file with its log, as they are, into a new directory; the copy's path.

    Raises: OSError, also when the disk has no room for them: it is the ledger's own, and is not filled up.
    """
    directory.mkdir(mode=0o700)
    copy = directory / LEDGER
    logs = [each for each in (path, path.with_name(path.name + "-wal")) if each.exists()]
    if sum(each.stat().st_size for each in logs) > shutil.disk_usage(directory).free:
        raise OSError(errno.ENOSPC, f"there is no room to work on a copy of {path}")
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
    return copy


def open_damaged(copy: Path) -> FileSource | NoSource:
    """Read a copy of a ledger file that may be damaged: as it is, or else, and then the copy is changed, with a first
    page like that of a new ledger, which says nothing but where the tables begin.

    Raises: OSError.
    """
    for prepare in (None, _graft):
        with suppress(sqlite3.Error, CalyxError):
            if prepare is not None:
                prepare(copy)
            source = FileSource.open(copy, copied=True)
            if source.end or source.note:
                return source
            source.close()
    return NoSource()


def open_source(path: Path, work: Path) -> Source:
    """A copy of a ledger that a person names: an export, a backup or another home, or a ledger file.

    Raises: UsageError (`not_a_source`); as `ExportReader`; OSError.
    """
    if (path / CHECKPOINT_PATH).is_file():
        return ExportSource(path)
    file = path / LEDGER if path.is_dir() else path
    if file.is_file():
        return open_damaged(copy_file(file, work / "source"))
    raise UsageError("not_a_source", f"{path} is no export, backup or ledger", hint="name its directory")


def find_objects(path: Path) -> Path:
    """The directory of the objects that go with what `open_source` opens."""
    return (path if path.is_dir() else path.parent) / OBJECTS


def _check_tables(connection: sqlite3.Connection) -> None:
    """Prove that what is read are tables of ours, and no view that never ends. Raises: sqlite3.DatabaseError."""
    connection.text_factory = bytes
    query = "SELECT type, sql FROM sqlite_schema WHERE name = ? LIMIT 2"
    for name in ("record", "tip"):
        found = connection.execute(query, (name,)).fetchall()
        if found != [(b"table", TABLES[name].encode("ascii"))]:
            raise sqlite3.DatabaseError(f"{name} is not the table of a ledger")


def _count_bundles(directory: Path, depth: int = _DEPTH) -> int:
    """How many files there are that may be entry bundles; no link is followed."""
    try:
        with os.scandir(directory) as entries:
            return sum(
                _count_bundles(directory / each.name, depth - 1) if depth and each.is_dir(follow_symlinks=False) else 1
                for each in entries
            )
    except OSError:
        return 0


def _graft(copy: Path) -> None:
    """Give a file the first page of a new ledger: the tables of every ledger begin on the same pages."""
    with TemporaryDirectory(prefix="calyx-") as directory:
        fresh = Path(directory) / LEDGER
        create_file(fresh)
        with closing(sqlite3.connect(fresh)) as connection:
            (size,) = connection.execute("PRAGMA page_size").fetchone()
            connection.execute("PRAGMA journal_mode = DELETE")
        page = bytearray(fresh.read_bytes()[:size])
    pages = copy.stat().st_size // size
    page[28:32] = pages.to_bytes(4, "big")
    # What the log holds is newer than the page that it would be read through.
    with closing(sqlite3.connect(copy, isolation_level=None)) as log, suppress(sqlite3.Error, UnicodeDecodeError):
        log.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy.with_name(copy.name + "-wal").unlink(missing_ok=True)
    copy.with_name(copy.name + "-shm").unlink(missing_ok=True)
    with copy.open("r+b") as file:
        file.write(page)


def _row(leaf: object, data: object) -> Row:
    return Row(
        data if type(data) is bytes and len(data) <= MAX_RECORD else None,
        leaf if type(leaf) is bytes and len(leaf) == HASH_SIZE else None,
    )
