"""Checking a ledger below its records, and rebuilding what follows from them.

Derived, and rebuilt: leaves, tree nodes, frontier, head, SQLite's own pages and indexes, the log folded in.
Signed, and only ever given back byte for byte, from a copy, when it is proved: records and the checkpoint.

A rebuilt ledger is put in place only when every record of the checkpoint is there and proved, and never when it would
be shorter than what is remembered, signed or held. Else the damaged one stays as it is, and what is lost is named. No
key is read: nothing is signed anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from keys.errors import CalyxError, Unavailable
from keys.words import counted
from ledger.record import Record
from ledger.remembered import Remembered
from ledger.repair.assemble import HERE, Assembly, Evidence, Signed
from ledger.repair.replace import alone, put_in_place, workshop
from ledger.repair.source import LEDGER, FileSource, NoSource, Source, copy_file, open_damaged, open_source
from ledger.sqlite.check import Finding, Progress, check_store
from ledger.sqlite.file import check_beside
from ledger.sqlite.store import SqliteStore

MAX_RUNS: Final = 1_000
"""Places that are named; damage everywhere takes no more memory than that."""
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Damage:
    """Something of the ledger's store that is not as it was written. `entry`: the first entry that it concerns. `left`:
    it is still so, after a repair as well.
    """

    code: str
    entry: int | None
    message: str
    left: bool = True


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found. `size`: entries of the ledger that are proved, and `repaired` says that they are in place anew;
    then the damaged ledger is in the directory `kept`.
    """

    damage: list[Damage]
    size: int
    repaired: bool = False
    kept: Path | None = None

    @property
    def whole(self) -> bool:
        """Nothing is wrong, or nothing any more."""
        return not any(each.left for each in self.damage)


def check_ledger(path: Path, *, remembered: Remembered | None, progress: Progress | None = None) -> Checked:
    """Check a ledger file, which others may go on using. `progress`: called with entries looked at, and of all, from
    the first to the last each time that they are.

    Raises: Unavailable (`ledger_missing`, `ledger_unreadable`); CalyxError (`head_contradicted`).
    """
    if not path.exists():
        with Evidence([NoSource()], remembered) as evidence:
            return _examine(evidence, [], path)[0]
    try:
        with TemporaryDirectory(prefix="calyx-") as work, ExitStack() as opened:
            found, source = _read(path, Path(work), progress)
            if isinstance(source, FileSource):
                opened.enter_context(closing(source))
            return _examine(opened.enter_context(Evidence([source], remembered, progress)), found, path)[0]
    except OSError as error:
        raise Unavailable(
            "ledger_unreadable", f"cannot check {path}: {error.strerror}", hint="look at the disk, and that of TMPDIR"
        ) from None


def repair_ledger(
    path: Path, *, remembered: Remembered | None, copy: Path | None, progress: Progress | None = None
) -> Checked:
    """Check a ledger that nobody else has open, and put a rebuilt one in its place when it is damaged and nothing
    signed is lost. `copy`: an export, a backup or another home of the same ledger, which may give back what is proved.

    Raises: Unavailable (`ledger_busy`, `ledger_unreadable`, `repair_failed`); UsageError (`not_a_source`); CalyxError
    (`head_contradicted`).
    """
    path = path.resolve()
    check_beside(path)
    try:
        with alone(path) as held, workshop(path.parent) as work, ExitStack() as opened:
            aside = copy_file(path, work / "aside")
            scratch = copy_file(path, work / "scratch")
            found = _check_store(scratch, progress) if scratch.exists() else []
            found = [replace(each, message=each.message.replace(str(scratch), str(path))) for each in found]
            source = open_damaged(scratch) if scratch.exists() else NoSource()
            others = [] if copy is None else [open_source(copy, work)]
            for each in (source, *others):
                if isinstance(each, FileSource):
                    opened.enter_context(closing(each))
            evidence = opened.enter_context(Evidence([source, *others], remembered, progress))
            checked, assembly = _examine(evidence, found, path)
            if not checked.damage or assembly is None:
                return checked
            new = _build(work / "new", assembly.records([source, *others]), assembly.signed)
            kept = put_in_place(new, path, aside.parent, held)
    except (OSError, sqlite3.Error, Unavailable) as error:
        if isinstance(error, Unavailable) and error.code != "ledger_write_failed":
            raise
        raise Unavailable(
            "repair_failed", f"cannot repair {path}: {error}", hint="look at the disk; the ledger is as it was"
        ) from None
    mended = [Damage(each.code, each.entry, each.message, left=False) for each in checked.damage]
    return Checked(mended, checked.size, repaired=True, kept=kept)


def _read(path: Path, work: Path, progress: Progress | None) -> tuple[list[Finding], Source]:
    """What does not agree in a file that others may write to, and what can be read of it."""
    found: list[Finding] | None = None
    for _ in range(_TRIES):
        before = _stamp(path)
        seen = _check_store(path, progress)
        # Whoever appends meanwhile moves what is compared; damage stays where it is.
        found = seen if found is None or _stamp(path) == before else [each for each in found if each in seen]
        if not found or _stamp(path) == before:
            break
    found = found or []
    with suppress(sqlite3.Error):
        return found, FileSource.open(path)
    return found, open_damaged(copy_file(path, work / "scratch"))


def _stamp(path: Path) -> list[tuple[int, int]]:
    places = [each for each in (path, path.with_name(path.name + "-wal")) if each.exists()]
    return [(each.stat().st_size, each.stat().st_mtime_ns) for each in places]


def _check_store(path: Path, progress: Progress | None) -> list[Finding]:
    try:
        return check_store(path, progress)
    except Unavailable:
        raise
    except CalyxError as error:
        return [Finding("page", error.message)]


def _examine(evidence: Evidence, found: list[Finding], path: Path) -> tuple[Checked, Assembly | None]:
    """What is wrong, and the whole ledger where one can be built without leaving anything out."""
    evidence.check_stranger()
    local, remembered = evidence.signed[HERE], evidence.remembered
    held = local.checkpoint.size if local is not None else evidence.held
    least = max(held, 0 if remembered is None else remembered.size)
    assembly = _best(evidence, least)
    damage = list(_damage(evidence, assembly, least, path))
    named = {each.entry for each in damage if each.entry is not None}
    damage += [
        Damage("store_damaged", each.entry, f"the ledger file ({each.where}): {each.message}")
        for each in found
        if each.entry is None or each.entry not in named
    ]
    damage.sort(key=lambda each: -1 if each.entry is None else each.entry)
    if assembly is None or not assembly.whole or assembly.size < least:
        return Checked(damage, 0), None
    return Checked(damage, assembly.size), assembly


def _best(evidence: Evidence, least: int) -> Assembly | None:
    """The longest whole assembly that leaves out nothing; else the one that lacks least."""
    found: list[Assembly] = []
    signed = {each.checkpoint.size: each for each in evidence.signed if each is not None}
    for size in sorted(signed, reverse=True):
        if size < least and found:
            break
        found.append(evidence.assemble(signed[size]))
        if found[-1].whole and size >= least:
            return found[-1]
    return max(found, key=lambda each: (each.proved, -each.lost), default=None)


def _damage(evidence: Evidence, assembly: Assembly | None, least: int, path: Path) -> Iterator[Damage]:
    local, remembered = evidence.signed[HERE], evidence.remembered
    if not path.exists():
        yield Damage("ledger_missing", None, f"there is no ledger at {path}")
    elif not evidence.ledger:
        yield Damage("entry_lost", 0, "entry 0 cannot be read, so nothing says which key signs for this log")
    elif local is None:
        yield Damage("checkpoint_lost", None, "the signed checkpoint is not there, or not as the log signed it")
    if remembered is not None and local is not None and local.checkpoint.size < remembered.size:
        size = local.checkpoint.size
        yield Damage("head_contradicted", None, f"{remembered.head} are remembered, and there are {size}: it was cut")
    if assembly is None:
        return
    if assembly.size < least:
        yield Damage(
            "unproved", None, f"no signed checkpoint covers all of the {counted(least, 'entry')} that there were"
        )
    runs = assembly.changed()
    for run in islice(runs, MAX_RUNS):
        what = "" if run.first == run.last else f"entries {run.first} to {run.last}: "
        way = "they can come back from an export, a backup or another home" if run.lost else "the copy has them, proved"
        yield Damage("entry_lost", run.first, f"{what}what was appended is not in the ledger; {way}")
    for run in runs:
        yield Damage("entry_lost", run.first, "from here on entries are lost in more places than are listed")
        break
    if not assembly.proved:
        yield Damage("unproved", None, "too much is lost to prove what is left against the signed root")


def _build(directory: Path, records: Iterator[Record], signed: Signed) -> Path:
    """A new ledger file of proved records under their own checkpoint, whole and checked."""
    directory.mkdir(mode=0o700)
    path = directory / LEDGER

    def sign(size: int, root: bytes) -> bytes:
        if (size, root) != (signed.checkpoint.size, signed.checkpoint.root):
            raise CalyxError("ledger_corrupt", "the rebuilt ledger does not have the signed root")
        return signed.note

    with SqliteStore.create(path) as store, store.writer(sign) as writer:
        for record in records:
            writer.append(record)
    if check_store(path):
        raise CalyxError("ledger_corrupt", "the rebuilt ledger is not whole", hint="look at the disk")
    return path
