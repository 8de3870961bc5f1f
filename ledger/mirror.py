"""Mirroring an export: its files fetched from where it is published, into a directory of one's own.

Whoever publishes it may lie, leave out, flood or hang: every size has a limit before it is read, every name is computed
here, and nothing is believed. A mirror that is kept holds, as its checkpoint, the last one that an audit of it found
good; what lies behind that is fetched anew each time.

Source: C2SP tlog-tiles; docs/FORMAT.md, export.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Final, Protocol

from keys.errors import CalyxError, FormatError, Unavailable, UsageError
from ledger.checkpoint import Checkpoint, peek_checkpoint
from ledger.durable import hidden_file, make_directory, replace_file, sync_directory, sync_file
from ledger.export import check_place
from ledger.export_reader import ExportReader, open_bounded, read_bounded
from ledger.note import MAX_NOTE
from ledger.objects import CHUNK
from ledger.tiles import (
    CHECKPOINT_PATH,
    MAX_BUNDLE,
    WIDTH,
    Bundle,
    Tile,
    bundles_of,
    format_path,
    parse_bundle,
    tiles_of,
)

MAX_MISSING: Final = 16
"""Files that may be missing before a mirror gives up."""
_AT_ONCE: Final = 8


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
        """Use some of it up. Raises: Unavailable (`mirror_too_large`)."""
        with self._lock:
            self._left -= count
            if self._left < 0:
                raise Unavailable(
                    "mirror_too_large",
                    "the export is larger than this mirror may become",
                    hint="raise it with --max-gib, if you trust its publisher not to fill your disk",
                )


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
            shutil.copyfileobj(found, file, CHUNK)
            return True


class Mirror:
    """A copy of the export at `source` in the directory `root`: `fetch` it, audit what that gives, and `keep` it when
    it is good.
    """

    def __init__(self, source: Source, root: Path, allowance: Allowance) -> None:
        self._source = source
        self._root = root
        self._allowance = allowance
        self._touched: set[Path] = set()
        self._missing = 0
        self._lock = Lock()

    def fetch(
        self, verify: Callable[[ExportReader], None], progress: Callable[[int, int], None] | None = None
    ) -> ExportReader:
        """Fetch the newest checkpoint and every file that it asks for and that the mirror does not hold; a reader of
        that. What is missing at the source the reader names.

        `verify`: called when only the first entries are there, and raises unless the checkpoint is the log's; nobody
        else can make this fetch a file. `progress`: called with files done, and of all.

        Raises: Unavailable (`export_missing`, `mirror_too_large`, `mirror_write_failed`; as `Source`); FormatError
        when the checkpoint is none; UsageError (`not_an_export`); CalyxError (`head_contradicted`) when the source
        shows a shorter or another history than the mirror holds.
        """
        note = self._source.fetch(CHECKPOINT_PATH, MAX_NOTE)
        if note is None:
            raise Unavailable(
                "export_missing",
                f"there is no checkpoint at {self._source.address}",
                hint="name the directory or address that calyx ledger export writes to; --home reads a home",
            )
        new = peek_checkpoint(note)
        try:
            make_directory(self._root)
            old = self._kept(new)
            size = 0 if old is None else old.size
            first = [bundle for bundle in islice(bundles_of(new.size, size), 1) if bundle.index == 0]
            for bundle in first:
                self._store(bundle)
            verify(ExportReader(self._root, note))
            self._check_overlap(old, new)
            self._fetch_new(size, new.size, first, progress)
        except OSError as error:
            raise self._unwritten(error) from None
        return ExportReader(self._root, note)

    def keep(self, note: bytes) -> None:
        """Make `note` the mirror's checkpoint, durable: an audit of all that it covers was good.

        Raises: Unavailable (`mirror_write_failed`).
        """
        try:
            for directory in sorted(self._touched, reverse=True):
                sync_directory(directory)
            replace_file(self._root / CHECKPOINT_PATH, note, 0o644)
        except OSError as error:
            raise self._unwritten(error) from None

    def _kept(self, new: Checkpoint) -> Checkpoint | None:
        note = read_bounded(self._root / CHECKPOINT_PATH, MAX_NOTE)
        if note is None:
            check_place(self._root)
            return None
        try:
            old = peek_checkpoint(note)
        except FormatError:
            raise UsageError("not_an_export", f"{self._root} is no mirror of an export") from None
        if old.origin != new.origin:
            raise UsageError(
                "not_an_export",
                f"{self._root} mirrors the log {old.origin}, and {self._source.address} is {new.origin}",
                hint="name another directory",
            )
        if old.size > new.size or (old.size == new.size and old.root != new.root):
            raise self._contradicted(old, new)
        return old

    def _check_overlap(self, old: Checkpoint | None, new: Checkpoint) -> None:
        """Compare the last entries that the mirror holds with what stands there now. Each entry names the one before
        it, so the last one stands for all of them.
        """
        if old is None or not old.size:
            return
        index = (old.size - 1) // WIDTH
        data = self._fetch(Bundle(index, min(WIDTH, new.size - index * WIDTH)))
        if data is None:
            return  # the reader names what is missing
        place, content = data
        ours = ExportReader(self._root, read_bounded(self._root / CHECKPOINT_PATH, MAX_NOTE)).load_bundle(index)
        try:
            theirs = parse_bundle(content, place.width)
        except FormatError:
            return  # damaged, which the audit finds
        if None not in ours and theirs[: len(ours)] != ours:
            raise self._contradicted(old, new)

    def _fetch_new(
        self, old: int, size: int, done_already: list[Bundle], progress: Callable[[int, int], None] | None
    ) -> None:
        places: Iterator[Tile | Bundle] = chain(
            islice(bundles_of(size, old), len(done_already), None), tiles_of(size, old)
        )
        total = 2 * (size // WIDTH - old // WIDTH + 1)
        done = 0
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            # A few at a time, so that a failure ends it and a claimed size costs no memory.
            while some := list(islice(places, 8 * _AT_ONCE)):
                list(pool.map(self._store, some))
                done += len(some)
                if progress is not None:
                    progress(min(done, total), total)

    def _store(self, place: Tile | Bundle) -> None:
        fetched = self._fetch(place)
        if fetched is None:
            with self._lock:
                self._missing += 1
                if self._missing > MAX_MISSING:
                    raise Unavailable(
                        "export_missing", f"more than {MAX_MISSING} files are missing at {self._source.address}"
                    )
            return
        found, data = fetched
        path = self._root / format_path(found)
        make_directory(path.parent)
        with hidden_file(self._root, 0o644) as (file, hidden):
            file.write(data)
            file.flush()
            sync_file(file.fileno())
            file.close()
            hidden.replace(path)
        with self._lock:
            self._touched |= {path.parents[depth] for depth in range(format_path(found).count("/") + 1)}

    def _fetch(self, place: Tile | Bundle) -> tuple[Tile | Bundle, bytes] | None:
        """A file, or the full one that replaced it."""
        for wanted in dict.fromkeys((place, replace(place, width=WIDTH))):
            limit = wanted.size if isinstance(wanted, Tile) else wanted.width * (MAX_BUNDLE // WIDTH)
            data = self._source.fetch(format_path(wanted), limit)
            if data is not None:
                self._allowance.take(len(data))
                return wanted, data
        return None

    def _contradicted(self, old: Checkpoint, new: Checkpoint) -> CalyxError:
        return CalyxError(
            "head_contradicted",
            f"{self._source.address} shows {new.size} entries, root {new.root.hex()[:16]}, which do not extend the "
            f"{old.size} entries, root {old.root.hex()[:16]}, that {self._root} holds",
            hint="do not sign or deploy; compare with another copy of the ledger",
            remembered=old.size,
            found=new.size,
        )

    def _unwritten(self, error: OSError) -> Unavailable:
        return Unavailable("mirror_write_failed", f"cannot write the mirror in {self._root}: {error.strerror}")
