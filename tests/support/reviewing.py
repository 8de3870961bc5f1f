"""Leases over real trees: what a reviewer opens, made from dictionaries of files."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from station import Station, new_station

from executor.logbook import Log
from executor.trees.scan import ingest
from executor.trees.tree import Tree, changed_paths
from keys.canonical import parse_json
from ledger.objects import ObjectRef
from policies.fold.state import LeaseState

Files = Mapping[str, bytes]

OLD: Files = {"app.py": b"print('one')\n", "VERSION": b"1\n", "static/logo.svg": b"<svg/>\n"}
NEW: Files = {"app.py": b"print('two')\n", "VERSION": b"2\n", "static/logo.svg": b"<svg/>\n"}


@dataclass
class Bench:
    """A station, its trees, and what its agents logged."""

    root: Path
    station: Station = field(init=False)
    lines: list[str] = field(default_factory=list)
    ticks: float = 0.0

    def __post_init__(self) -> None:
        self.station = new_station(self.root / "station")
        self._numbers = itertools.count(1)

    @property
    def log(self) -> Log:
        """Keeps what is logged."""
        return self.lines.append

    def monotonic(self) -> float:
        """A clock that moves only when `ticks` is set."""
        return self.ticks

    def tree(self, files: Files, links: Mapping[str, str] | None = None) -> Tree:
        """A tree of these files, kept as objects."""
        folder = self.root / f"tree-{next(self._numbers)}"
        folder.mkdir()
        for path, content in files.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        for path, target in (links or {}).items():
            (folder / path).symlink_to(target)
        return ingest(folder, self.station.objects, ())

    def terms(self, before: Tree | None, after: Tree, artifact: tuple[str, ObjectRef] | None = None) -> dict[str, Any]:
        """What a lease says of a change of the whole target, when it says it truly."""
        kind, ref = artifact or ("directory", after.ref)
        names = [f"web-{n:02}" for n in range(1, 21)]
        return {
            "artifact": {"type": kind, **ref.to_json()},
            "changes": [{"before": before.digest if before else "absent", "after": after.digest, "instances": names}],
            "paths": list(changed_paths(before, after)),
        }

    def propose(self, old: Files | None = OLD, new: Files = NEW, **changes: Any) -> tuple[str, str]:
        """A lease that leads from these files to those."""
        terms = self.terms(None if old is None else self.tree(old), self.tree(new))
        return self.station.propose(f"LEASE-20260105-{next(self._numbers):06}", **{**terms, **changes})

    def lease(self, subject: tuple[str, str]) -> LeaseState:
        """The fold's view of a lease."""
        return self.station.state.leases[subject[1]]

    def votes(self, subject: tuple[str, str]) -> list[tuple[str, str]]:
        """Who cosigned, in which role."""
        return [(vote.signer.principal, vote.role) for vote in self.lease(subject).ballot.votes]

    def report(self, subject: tuple[str, str], agent: str) -> Any:
        """The report that an agent's review names."""
        findings = self.lease(subject).reviews[agent].review.findings
        assert findings is not None
        return parse_json(self.station.objects.get(findings))

    def codes(self, subject: tuple[str, str], agent: str) -> list[str]:
        """The codes of a report's findings."""
        return [finding["code"] for finding in self.report(subject, agent)["findings"]]
