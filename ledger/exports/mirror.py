"""Mirroring an export: its files fetched from where it is published, into a directory of one's own.

Whoever publishes it may lie, leave out, flood or hang: every size has a limit before it is read, every name is computed
here, and nothing is believed. A mirror that is kept holds, as its checkpoint, the last one that an audit of it found
good; what lies behind that is fetched anew each time.

Source: C2SP tlog-tiles; docs/FORMAT.md, export.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Final, Self

from keys.errors import CalyxError, FormatError, Unavailable, UsageError
from keys.words import counted
from ledger.checkpoint import Checkpoint, peek_checkpoint
from ledger.durable import make_directory, place_file, replace_file, sync_directory
from ledger.exports.export import OBJECTS, check_place
from ledger.exports.mirror_source import Allowance, Source
from ledger.exports.reader import ExportReader, peek_published, read_bounded
from ledger.note import MAX_NOTE
from ledger.place import list_names, locked, remove_hidden
from ledger.tiles import (
    CHECKPOINT_PATH,
    MAX_BUNDLE,
    WIDTH,
    Bundle,
    Tile,
    bundles_of,
    format_path,
    parse_bundle,
    partial_of,
    tiles_of,
)

MAX_MISSING: Final = 16
"""Files that may be missing before a mirror gives up."""
_AT_ONCE: Final = 8
_PARTIAL: Final = re.compile(r"[0-9]{3}\.p", re.ASCII)
_WIDTH: Final = re.compile(r"[0-9]{1,3}", re.ASCII)


class Mirror:
    """A copy of the export at `source` in the directory `root`: `fetch` it, audit what that gives, and `keep` it when
    it is good. From the fetch to the end of its context nobody else mirrors to that directory.
    """

    def __init__(self, source: Source, root: Path, allowance: Allowance) -> None:
        self._source = source
        self._root = root
        self._allowance = allowance
        self._touched: set[Path] = set()
        self._missing = 0
        self._lock = Lock()
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def fetch(
        self, verify: Callable[[ExportReader], None], progress: Callable[[int, int], None] | None = None
    ) -> ExportReader:
        """Fetch the newest checkpoint and every file that it asks for and that the mirror does not hold, or does not
        hold any more; a reader of that. What is missing at the source the reader names.

        `verify`: called when only the first entries are there, and raises unless the checkpoint is the log's; nobody
        else can make this fetch a file. `progress`: called with files done, and of all.

        Raises: Unavailable (`export_missing`, `mirror_busy`, `mirror_too_large`, `mirror_write_failed`; as `Source`);
        FormatError (`bad_checkpoint`) when the checkpoint is none; UsageError (`not_an_export`); CalyxError
        (`head_contradicted`) when the source shows a shorter or another history than the mirror holds, or another log.
        """
        note = self._source.fetch(CHECKPOINT_PATH, MAX_NOTE)
        if note is None:
            raise Unavailable(
                "export_missing",
                f"there is no checkpoint at {self._source.address}",
                hint="name the directory or address that calyx ledger export writes to; --home reads a home",
            )
        new = peek_published(note, self._source.address)
        try:
            make_directory(self._root)
            self._held.enter_context(locked(self._root, "mirror_busy", f"another audit mirrors to {self._root}"))
            old = self._kept(new)
            remove_hidden(self._root, self._root / OBJECTS)
            size = 0 if old is None else old.size
            first = [bundle for bundle in islice(bundles_of(new.size, size), 1) if bundle.index == 0]
            again = [bundle for bundle in islice(self._lost(size, new.size), 1) if bundle == Bundle(0)]
            for place in (*first, *again):
                self._store(place)
            verify(ExportReader(self._root, note))
            self._check_overlap(old, new)
            self._fetch_new(size, new.size, first, progress)
        except OSError as error:
            raise self._unwritten(error) from None
        return ExportReader(self._root, note)

    def keep(self, note: bytes) -> None:
        """Make `note` the mirror's checkpoint, durable: an audit of all that it covers was good. Partial files that it
        does not ask for are removed.

        Raises: Unavailable (`mirror_write_failed`).
        """
        try:
            for directory in sorted(self._touched, reverse=True):
                sync_directory(directory)
            replace_file(self._root / CHECKPOINT_PATH, note, 0o644)
            self._drop_partial(peek_checkpoint(note).size)
        except OSError as error:
            raise self._unwritten(error) from None

    def _drop_partial(self, size: int) -> None:
        """Of the directories that this fetch wrote to, else each audit would leave a bundle more."""
        asked = set(map(format_path, partial_of(size)))
        for directory in self._touched:
            for name in filter(_PARTIAL.fullmatch, list_names(directory)):
                for width in filter(_WIDTH.fullmatch, list_names(directory / name)):
                    path = directory / name / width
                    if path.relative_to(self._root).as_posix() not in asked:
                        path.unlink(missing_ok=True)
                with suppress(OSError):
                    (directory / name).rmdir()

    def _kept(self, new: Checkpoint) -> Checkpoint | None:
        note = read_bounded(self._root / CHECKPOINT_PATH, MAX_NOTE)
        if note is None:
            check_place(self._root)
            return None
        try:
            old = peek_checkpoint(note)
        except FormatError:
            raise UsageError("not_an_export", f"{self._root} is no mirror of an export") from None
        if old.origin != new.origin or old.size > new.size or (old.size == new.size and old.root != new.root):
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
            islice(bundles_of(size, old), len(done_already), None), tiles_of(size, old), self._lost(old, size)
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

    def _lost(self, old: int, size: int) -> Iterator[Tile | Bundle]:
        """What the mirror should hold of its first `old` entries and does not: it was missing, or somebody removed it.
        A partial file that a wider one follows is not asked for any more.
        """
        partial = set(partial_of(size))
        places: Iterator[Tile | Bundle] = chain(bundles_of(old), tiles_of(old))
        for place in places:
            if (place.width == WIDTH or place in partial) and not self._holds(place):
                yield place

    def _holds(self, place: Tile | Bundle) -> bool:
        for wanted in dict.fromkeys((place, replace(place, width=WIDTH))):
            try:
                status = (self._root / format_path(wanted)).lstat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            if stat.S_ISREG(status.st_mode):
                return isinstance(wanted, Bundle) or status.st_size == wanted.size
        return False

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
        place_file(path, data, 0o644, self._root)
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
        theirs, ours = (
            f"{counted(each.size, 'entry')}{of}, root {each.root.hex()[:16]},"
            for each, of in ((new, f" of {new.origin}"), (old, f" of {old.origin}" if old.origin != new.origin else ""))
        )
        other = "; if you meant to mirror another ledger, name another directory" if old.origin != new.origin else ""
        return CalyxError(
            "head_contradicted",
            f"{self._source.address} shows {theirs} which do not extend the {ours} that {self._root} holds",
            hint=f"do not sign or deploy; compare with another copy of the ledger{other}",
            remembered=old.size,
            found=new.size,
        )

    def _unwritten(self, error: OSError) -> Unavailable:
        return Unavailable("mirror_write_failed", f"cannot write the mirror in {self._root}: {error.strerror}")
