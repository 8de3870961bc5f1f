"""The row of auditing again: what is new behind entries that were audited before."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench_measure import Row, Spread

from ledger.sqlite.store import SqliteStore
from policies.auditing.again import audit_home
from policies.auditing.report import Report
from policies.fold.scratch import Scratch
from policies.fold.snapshots import Snapshots

if TYPE_CHECKING:
    from bench_big import Big, Ledgers

NEW: Final = 256
"""Entries that are new."""
_NOW: Final = 1_800_000_000


@dataclass
class Again:
    """Seconds of `calyx audit --new`: when nothing is new, when one entry is, and when `NEW` are. `whole`: seconds
    of the whole audit before, and of how many entries; all by one process. `size`: bytes of the snapshot.
    """

    whole: tuple[float, int] = (0.0, 0)
    size: int = 0
    nothing: list[float] = field(default_factory=list)
    one: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)

    @property
    def per_entry(self) -> list[float]:
        """Seconds of each new entry, what one alone costs taken off."""
        return [(many - one) / (NEW - 1) for one, many in zip(self.one, self.many, strict=True)]


def audit_again(big: Big, runs: int, jobs: int = 1) -> Again:
    """Audit a ledger whole, with so many processes, then what is new in it, `runs` times; what is said meanwhile stays
    in it.
    """
    found = Again()
    keep = big.directory / "audits"
    seconds, report = _audit(big, keep, jobs, new=False)
    found.whole = seconds, report.size
    for _ in range(runs):
        for count, taken in ((0, found.nothing), (1, found.one), (NEW, found.many)):
            with SqliteStore.open(big.path) as store:
                if count:
                    store.append(store.head(), big.factory.more(count), big.factory.log_key.sign)
            seconds, report = _audit(big, keep, 1, new=True)
            if report.size - report.first != count:
                raise RuntimeError("an audit of what is new did not go on from the one before")
            taken.append(seconds)
    found.size = next((keep / "cache").iterdir()).stat().st_size
    return found


def audit_again_row(ledgers: Ledgers, entries: int, runs: int) -> Row:
    """What only the new entries cost an auditor who audited the rest."""
    found = audit_again(ledgers.of(entries), runs)
    whole = found.whole[0] / found.whole[1]
    return Row(
        "audit-again",
        f"audit --new of {NEW} entries behind {entries} that were audited before: cost of each",
        "us/entry",
        Spread.of([each * 1e6 for each in found.per_entry]),
        Spread.of([whole * 1e6]),
        "us an entry, by a whole audit of the same process",
        Spread.of([each / whole for each in found.per_entry]),
        note="one process; what one new entry alone costs is taken off, and stands in the detail",
        detail=detail(found),
    )


def detail(found: Again) -> dict[str, object]:
    """What is the same however much is new."""
    return {
        "nothing_new_ms": Spread.of([each * 1e3 for each in found.nothing]).to_json(),
        "one_new_ms": Spread.of([each * 1e3 for each in found.one]).to_json(),
        "us_per_new_entry": Spread.of([each * 1e6 for each in found.per_entry]).to_json(),
        "snapshot_mib": found.size / 2**20,
        "snapshot_bytes_per_entry": found.size / found.whole[1],
    }


def _audit(big: Big, keep: Path, jobs: int, *, new: bool) -> tuple[float, Report]:
    start = time.perf_counter()
    with SqliteStore.open(big.path, read_only=True) as store, Scratch(keep / "scratch") as scratch:
        snapshots = Snapshots(keep / "memory", keep / "cache", str(big.path), scratch)
        report, before = audit_home(
            store, big.factory.objects, snapshots, remembered=None, now=_NOW, new=new, jobs=jobs, scratch=scratch
        )
    if not report.ok or new != (before is not None):
        raise RuntimeError("an audit of a ledger that should be lawful did not go as it should")
    return time.perf_counter() - start, report
