"""Auditing a home again: whole, or what is new since this user's last audit of it that found nothing.

    whole       every entry from the first on; what it says depends on nothing that was kept
    new         the state of the last good audit, if it can be believed (`policies.fold.snapshots`), then what follows

Both end with a snapshot when nothing is wrong. When a whole audit finds something in the entries of the one that is
kept, there is none any more. The one of a whole audit says from when on entries may have been changed unseen: nothing
but a whole audit reads old records again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from keys.errors import CalyxError, Unavailable
from keys.values import format_time
from ledger.remembered import HeadContradicted, Remembered
from ledger.store import Reader
from policies.auditing.audit import audit
from policies.auditing.objects import AuditObjects
from policies.auditing.report import Progress, Report
from policies.fold.code import fingerprint_code
from policies.fold.scratch import IN_MEMORY, Scratch
from policies.fold.snapshot import Folded, SnapshotUnusable
from policies.fold.snapshots import Kept, Snapshots

_OLD: Final = "what was changed in them or their objects since is not looked at; run without --new for that"


@dataclass(frozen=True, slots=True)
class Before:
    """Entries that were audited before and not now: the first `entries` of the ledger, of which the newest whole audit
    looked at `whole`, at `whole_at` (as in `keys.values`).
    """

    entries: int
    whole: int
    whole_at: str

    @property
    def text(self) -> str:
        """One line for a person."""
        when = f"on {self.whole_at}" if self.whole == self.entries else f"the first {self.whole} on {self.whole_at}"
        return f"entries 0 to {self.entries - 1} were audited before, {when}; {_OLD}"


def audit_home(
    reader: Reader,
    objects: AuditObjects,
    snapshots: Snapshots,
    *,
    remembered: Remembered | None,
    now: int,
    new: bool = False,
    progress: Progress | None = None,
    store_path: Path | None = None,
    jobs: int = 1,
    scratch: Scratch = IN_MEMORY,
) -> tuple[Report, Before | None]:
    """Audit a home, and keep the snapshot for the next `new` when nothing is wrong. What was left out, None for
    nothing.

    `remembered`, `progress`, `store_path`, `jobs`, `scratch`: as in `policies.auditing.audit.audit`. `now`: seconds
    since 1970. `new`: go on from the snapshot; where that cannot be, the report's first note says why, and the audit is
    whole.

    Raises: as `policies.auditing.audit.audit`.
    """
    # Before another version can be put in the place of the source files.
    fingerprint_code()
    kept, why = _find(reader, snapshots, remembered) if new else (None, None)
    if kept is not None or isinstance(why, HeadContradicted):
        # What the last audit saw counts as what any reader saw; the audit compares it with what is there.
        remembered = _higher(remembered, snapshots)
    before = None if kept is None else Before(kept.note.size, kept.note.whole, kept.note.whole_at)
    report = audit(
        reader,
        objects,
        remembered=remembered,
        progress=progress,
        store_path=store_path,
        jobs=jobs,
        scratch=scratch,
        start=None if kept is None else kept.folded,
        keep=_keeper(snapshots, before, format_time(now)),
    )
    said = [] if why is None else [f"a whole audit, because {why.message}"]
    said += _drop_false(snapshots, report) if before is None else [before.text]
    return replace(report, notes=[*said, *report.notes]), before


def _drop_false(snapshots: Snapshots, report: Report) -> list[str]:
    """Let no `new` say that all is well over entries that were audited before and were just found wrong; what to know
    where it still will.
    """
    note = snapshots.note()
    if note is None or not any(each.entry is not None and each.entry < note.size for each in report.findings):
        return []
    left = snapshots.drop()
    return [] if left is None else [f"do not believe audit --new, it goes on from an earlier audit: remove {left}"]


def _find(reader: Reader, snapshots: Snapshots, remembered: Remembered | None) -> tuple[Kept | None, CalyxError | None]:
    note = snapshots.note()
    try:
        if note is not None and remembered is not None and remembered.ledger != note.ledger:
            raise SnapshotUnusable("the snapshot is of another ledger than the one that is remembered of this home")
        return snapshots.load(reader), None
    except CalyxError as error:
        # Also when a record cannot be read: the audit says which.
        return None, error


def _higher(remembered: Remembered | None, snapshots: Snapshots) -> Remembered | None:
    note = snapshots.note()
    if note is None or (remembered is not None and remembered.size >= note.size):
        return remembered
    return note.remembered


def _keeper(snapshots: Snapshots, before: Before | None, at: str) -> Callable[[Folded], str | None]:
    def keep(folded: Folded) -> str | None:
        size = folded.chain.head.size
        if before is not None and before.entries == size:
            return None
        whole, whole_at = (size, at) if before is None else (before.whole, before.whole_at)
        try:
            snapshots.save(folded, whole, whole_at)
        except Unavailable as error:
            return f"nothing is kept for a later audit --new: {error.message}"
        return None

    return keep
