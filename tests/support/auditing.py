"""Auditing again and again: a ledger that grows, a user's memory and cache, and how many entries were judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ledger.checkpoint import CheckpointSigner
from ledger.record import Record
from ledger.remembered import Remembered
from ledger.sqlite.store import SqliteStore
from policies.auditing import audit as audit_module
from policies.auditing.again import Before, audit_home
from policies.auditing.objects import AuditObjects
from policies.auditing.report import Report
from policies.fold.scratch import IN_MEMORY, Scratch
from policies.fold.snapshots import Snapshots

NOW = 1_800_000_000


@dataclass
class Auditor:
    """A user who audits the ledger at `path`. `root`: of what they keep."""

    root: Path
    path: Path
    objects: AuditObjects
    home: str = "/srv/home"

    def snapshots(self, scratch: Scratch = IN_MEMORY) -> Snapshots:
        """What this user keeps of the ledger."""
        return Snapshots(self.root / "memory", self.root / "cache", self.home, scratch)

    @property
    def file(self) -> Path:
        """The snapshot."""
        return next((self.root / "cache").glob("*.snapshot"))

    def audit(self, *, new: bool, remembered: Remembered | None = None, now: int = NOW) -> tuple[Report, Before | None]:
        """Audit it."""
        with SqliteStore.open(self.path, read_only=True) as store, Scratch(self.root / "scratch") as scratch:
            kept = self.snapshots(scratch)
            return audit_home(store, self.objects, kept, remembered=remembered, now=now, new=new, scratch=scratch)

    def whole(self, **options: Any) -> Report:
        """A whole audit."""
        report, before = self.audit(new=False, **options)
        assert before is None
        assert report.first == 0
        return report

    def new(self, **options: Any) -> tuple[Report, Before | None]:
        """An audit of what is new."""
        return self.audit(new=True, **options)


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The seqs of entries that an audit judges inside, those for the log's key (entry 0 of a whole one) too."""
    judged: list[int] = []
    judge: Any = audit_module.__dict__["judge"]

    def counted(state: Any, entry: Any, *rest: Any) -> Any:
        judged.append(entry.seq)
        return judge(state, entry, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(audit_module, "judge", counted)
        yield judged


def put(path: Path, records: Sequence[Record], sign: CheckpointSigner) -> None:
    """Append records, past any law, to a ledger that is made where there is none."""
    with SqliteStore.open(path) if path.exists() else SqliteStore.create(path) as store:
        store.append(store.head(), records, sign)
