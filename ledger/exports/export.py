"""Writing an export: a log as static files that any web server can publish.

    checkpoint             replaced last, whole
    tile/...               tiles and entry bundles, as `ledger.tiles` names them; written once, never changed
    objects/ab/cdef...     as in `ledger.objects`
    missing                only while objects are missing: the entries that name them, for the next export

What is written follows from the records and is proved by the checkpoint's signed root before the first file is written.
Files go to the disk before the checkpoint that speaks of them, so whoever reads the checkpoint finds them. A killed
export leaves files that nothing speaks of yet; the next one finds them equal to what it would write, and goes on.

Source: C2SP tlog-tiles; docs/FORMAT.md, export.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from keys.errors import CalyxError, FormatError, SignatureRefused, Unavailable, UsageError
from keys.words import are, counted
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.durable import make_directory, place_file, replace_file, sync_directory
from ledger.exports.levels import Levels
from ledger.exports.reader import read_bounded
from ledger.merkle import hash_leaf
from ledger.note import MAX_NOTE, VerifierKey
from ledger.place import check_directory, is_hidden, list_names, locked, remove_hidden
from ledger.store import Reader
from ledger.tiles import (
    CHECKPOINT_PATH,
    HEIGHT,
    MAX_BUNDLE,
    MAX_LEVEL,
    WIDTH,
    Bundle,
    Tile,
    format_bundle,
    format_path,
    format_tile,
)

OBJECTS: Final = "objects"

MISSING: Final = "missing"
MAX_WAITING: Final = 1_000
"""Entries that an export remembers as not complete. A ledger that lacks more than that is looked at as a whole."""

_NAMES: Final = frozenset({CHECKPOINT_PATH, "tile", OBJECTS, MISSING})
_PARTIAL: Final = re.compile(r"[0-9]{3}\.p", re.ASCII)
_SEQ: Final = re.compile(rb"0|[1-9][0-9]{0,15}")

Visit = Callable[[int, bytes], bool | None]
"""Called with the seq and the bytes of each entry that is exported, before its files are written. Gives True when not
all that the entry refers to could be exported: then the next export visits the entry again.
"""
Progress = Callable[[int, int], None]
"""Called with the number of entries exported, and of all that this export adds."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did. `old`, `size`: entries that were there, and that are there now. `files`: written anew.
    `forgotten`: there are too many incomplete entries for the next export to visit each of them, unless it is full.
    """

    old: int
    size: int
    files: int
    checkpoint: Checkpoint
    forgotten: bool = False


def export_log(
    reader: Reader, key: VerifierKey, root: Path, visit: Visit, *, full: bool = False, progress: Progress | None = None
) -> Exported:
    """Bring the export in the directory `root` up to the log's newest checkpoint, durable on return; it costs the new
    entries, and those that were incomplete. `key`: the log's. `full`: look at every entry, and compare every file that
    is there.

    Raises: UsageError (`not_an_export`, `not_a_directory`); CalyxError (`head_contradicted`, `export_differs`,
    `ledger_corrupt`); Unavailable (`export_busy`, `export_write_failed`; as `Reader`); what `visit` raises, and then
    the checkpoint stays the old one.
    """
    try:
        make_directory(root)
        with locked(root, "export_busy", f"another export to {root} is running"):
            return _Export(reader, key, root).run(visit, progress, full=full)
    except OSError as error:
        raise Unavailable("export_write_failed", f"cannot write the export in {root}: {error.strerror}") from None


def check_place(root: Path) -> None:
    """Prove that a directory without a checkpoint holds nothing but what an unfinished export leaves.

    Raises: UsageError (`not_an_export`).
    """
    if any(name not in _NAMES and not is_hidden(name) for name in list_names(root)):
        raise UsageError("not_an_export", f"{root} holds other files than an export", hint="name a new directory")


class _Export:
    def __init__(self, reader: Reader, key: VerifierKey, root: Path) -> None:
        self._reader = reader
        self._key = key
        self._root = root
        self._touched: set[Path] = set()
        self._files = 0
        self._incomplete: list[int] = []

    def run(self, visit: Visit, progress: Progress | None, *, full: bool) -> Exported:
        tip = self._reader.tip()
        if not tip.head.size:
            raise Unavailable("ledger_missing", "the ledger has no entry yet", hint="calyx init makes the first one")
        checkpoint = parse_checkpoint(tip.checkpoint, self._key)
        if checkpoint.size != tip.head.size:
            raise _corrupt(f"it has {counted(tip.head.size, 'entry')} and its checkpoint says {checkpoint.size}")
        before = self._published(checkpoint)
        old = 0 if full or before is None else before.size
        remove_hidden(self._root)
        check_directory(self._root, self._root / OBJECTS)
        remove_hidden(self._root / OBJECTS)
        self._prove(old, before, checkpoint)
        waiting = self._load_waiting()
        for seq in sorted(each for each in waiting if each < old):
            for data in self._reader.read(seq, seq + 1):
                self._visit(seq, data, visit)
        # Also where nothing is new: what the last export wrote of tiles that were not full is looked at again.
        self._write(old, checkpoint, visit, progress)
        self._store_waiting(waiting)
        for directory in sorted(self._touched, reverse=True):
            sync_directory(directory)
        if before is None or checkpoint.size > before.size:
            replace_file(self._root / CHECKPOINT_PATH, tip.checkpoint, 0o644)
            self._files += 1
        if before is not None:
            self._drop_partial(before.size)
        was = 0 if before is None else before.size
        return Exported(was, checkpoint.size, self._files, checkpoint, len(self._incomplete) > MAX_WAITING)

    def _visit(self, seq: int, data: bytes, visit: Visit) -> None:
        if visit(seq, data) and len(self._incomplete) <= MAX_WAITING:
            self._incomplete.append(seq)

    def _load_waiting(self) -> set[int]:
        """Entries that were incomplete. Whoever may write to the directory may have changed them; then entries are
        visited in vain, or stay incomplete, as an audit of the export says.
        """
        lines = (read_bounded(self._root / MISSING, 20 * MAX_WAITING) or b"").splitlines()
        return {int(line) for line in lines[:MAX_WAITING] if _SEQ.fullmatch(line)}

    def _store_waiting(self, before: set[int]) -> None:
        # Before the checkpoint: an entry that it covers is not visited for being new.
        left = self._incomplete[:MAX_WAITING]
        if left and set(left) != before:
            replace_file(self._root / MISSING, b"".join(b"%d\n" % seq for seq in left), 0o644)
        elif not left:
            (self._root / MISSING).unlink(missing_ok=True)

    def _write(self, old: int, checkpoint: Checkpoint, visit: Visit, progress: Progress | None) -> None:
        levels = Levels(old, self._reader)
        start = old - old % WIDTH
        records: list[bytes] = []
        for seq, data in enumerate(self._reader.read(start, checkpoint.size), start=start):
            leaf = hash_leaf(data)
            records.append(data)
            if seq < old:
                # Proved by the old root; the record must be the one that the cached leaf is of.
                if levels.rows[0][seq - start] != leaf:
                    raise _corrupt(f"entry {seq} is not the one that was exported", seq)
            else:
                self._visit(seq, data, visit)
                if progress is not None:
                    progress(seq + 1 - old, checkpoint.size - old)
                for tile, hashes in levels.append(leaf):
                    self._put(tile, format_tile(hashes))
            if len(records) == WIDTH:
                self._put(Bundle(seq // WIDTH), format_bundle(records))
                records = []
        if records:
            self._put(Bundle(checkpoint.size // WIDTH, len(records)), format_bundle(records))
        for tile, hashes in levels.partial():
            self._put(tile, format_tile(hashes))
        if levels.root() != checkpoint.root:
            raise _corrupt("its entries changed while they were exported")

    def _published(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """The checkpoint of an earlier export, which must be one of the same log and of no longer history."""
        note = read_bounded(self._root / CHECKPOINT_PATH, MAX_NOTE)
        if note is None:
            check_place(self._root)
            return None
        try:
            before = parse_checkpoint(note, self._key)
        except (FormatError, SignatureRefused) as error:
            raise UsageError(
                "not_an_export",
                f"{self._root} holds the export of another ledger, or a damaged one: {error.message}",
                hint="name a new directory",
            ) from None
        if before.size > checkpoint.size or (before.size == checkpoint.size and before.root != checkpoint.root):
            raise CalyxError(
                "head_contradicted",
                f"the export in {self._root} has {counted(before.size, 'entry')}, root {before.root.hex()[:16]}; "
                f"this ledger has {checkpoint.size}, root {checkpoint.root.hex()[:16]}",
                hint="do not sign or deploy; one of them was cut or rewritten: compare with another copy",
                exported=before.size,
                found=checkpoint.size,
            )
        return before

    def _prove(self, old: int, before: Checkpoint | None, checkpoint: Checkpoint) -> None:
        """Prove, before a file is written, that the records lead from the old checkpoint to the new one."""
        levels = Levels(old, self._reader)
        self._prove_old(levels, before)
        for data in self._reader.read(old, checkpoint.size):
            for _ in levels.append(hash_leaf(data)):
                pass
            self._prove_old(levels, before)
        if levels.size != checkpoint.size or levels.root() != checkpoint.root:
            raise _corrupt("its checkpoint does not sign its entries")

    def _prove_old(self, levels: Levels, before: Checkpoint | None) -> None:
        if before is not None and levels.size == before.size and levels.root() != before.root:
            raise CalyxError(
                "export_differs",
                f"the {counted(before.size, 'entry')} exported to {self._root} {are(before.size)} not of this ledger",
                hint="calyx audit --full says whether this ledger is whole; calyx audit --from, whether the export is",
                exported=before.size,
            )

    def _put(self, place: Tile | Bundle, data: bytes) -> None:
        name = format_path(place)
        path = self._root / name
        # An export that was killed may have left the file, and a name that is not on the disk yet.
        for depth in range(name.count("/") + 1):
            self._touched.add(path.parents[depth])
        there = read_bounded(path, MAX_BUNDLE)
        if there is not None:
            if there != data:
                raise CalyxError(
                    "export_differs",
                    f"{path} is there and has another content",
                    hint="no file is overwritten; find out who changed it, remove it, and export again with --full",
                    file=name,
                )
            return
        check_directory(self._root, path.parent)
        make_directory(path.parent)
        # Written beside the checkpoint, so that what a crash leaves lies in one place.
        place_file(path, data, 0o644, self._root)
        self._files += 1

    def _drop_partial(self, old: int) -> None:
        """Remove the partial files of tiles that were full at the export before this one: no reader of that checkpoint
        or of this one asks for them. Only directories that the last exports wrote to are looked at.
        """
        places: list[Tile | Bundle] = [Bundle(old // WIDTH)]
        places += [Tile(level, old >> HEIGHT * (level + 1)) for level in range(MAX_LEVEL) if old >> HEIGHT * level]
        for place in places:
            for near in {place.index, max(place.index - 1, 0)}:
                beside = self._root / format_path(replace(place, index=near))
                first = near - near % 1000
                for directory in list_names(beside.parent):
                    if _PARTIAL.fullmatch(directory) and first + int(directory[:3]) < place.index:
                        _remove_partial(beside.parent / directory)


def _remove_partial(directory: Path) -> None:
    for name in list_names(directory):
        if name.isascii() and name.isdigit():
            (directory / name).unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()


def _corrupt(why: str, entry: int | None = None) -> CalyxError:
    return CalyxError(
        "ledger_corrupt", f"the ledger is not whole: {why}", hint="calyx audit --full says where", entry=entry
    )
