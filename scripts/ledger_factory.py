"""Makes a big lawful ledger fast, for measuring: leases, reviews, cosignatures, claims, events, orders, messages.

    python scripts/ledger_factory.py DIR ENTRIES        writes DIR/ledger.db and DIR/objects

Nothing is judged while it is made: every statement is built, signed and appended, and an audit says whether the law
agrees. The keys come from a seed, so the same arguments give the same ledger; they guard nothing.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from keys.canonical import Json, format_json
from keys.openssh import PrivateKey, format_public, new_private_key
from keys.principals import Kind
from keys.signer import FileSigner
from keys.values import ZERO_HASH, format_time, parse_time
from ledger.head import EMPTY_HEAD, Head
from ledger.log_key import LogKey
from ledger.objects import DirectoryObjects, ObjectRef
from ledger.record import make_record
from ledger.sqlite.store import SqliteStore
from ledger.statement import make_statement
from ledger.store import Writer
from ledger.verified import sign_statement
from policies.fleet import Fleet
from policies.law.cohort import order_instances, plan_cohorts
from policies.matrix import CapabilityMatrix
from policies.names import list_json

Subject = tuple[str, str]
"""Name and digest of the statement that another one is about."""

BATCH: Final = 4_096
BEGINNING: Final = 4
"""Entries before the first lease."""
A_LEASE: Final = 57
"""Entries of one lease, for `INSTANCES`."""
INSTANCES: Final = 20
SAMPLES: Final = 2
START: Final = parse_time("2026-01-05T09:00:00Z")
PEOPLE: Final[dict[str, tuple[Kind, list[str]]]] = {
    "ada": ("human", ["approver", "governor", "operator"]),
    "cbo": ("overseer", ["proposer"]),
    "cp14": ("agent", ["sentinel"]),
    "cp19": ("monitor", []),
    "cp20": ("executor", []),
}
GATES: Final[list[dict[str, Any]]] = [
    {"name": "error_rate", "source": "error_rate", "against": "absolute", "breach": "above", "limit": "10",
     "absolute": None, "for_s": 0, "min_samples": 1, "missing_s": 60, "min_requests": 1},
    {"name": "tes", "source": "tes", "against": "baseline", "breach": "below", "limit": "5",
     "absolute": "70", "for_s": 0, "min_samples": 1, "missing_s": 60, "min_requests": 0},
]  # fmt: skip
TERMS: Final[dict[str, Any]] = {
    "enabled": True,
    "targets": {"web": {"paths": ["app.py"]}},
    "tiers": [5, 25, 100],
    "bake_s": 15 * SAMPLES,
    "interval_s": 15,
    "retention_s": 7 * 86_400,
    "start": "auto",
    "promotion": "auto",
    "skip_bake": False,
    "look": False,
    "reviews": ["sentinel"],
    "gates": GATES,
    "hooks": {},
    "break_glass": {"enabled": True, "max_validity_s": 900, "review_within_s": 86_400, "user_verification": False},
    "notify": {},
}
_PHASES: Final = {"0": ("reflect", "intent"), "1": ("review", "propose"), "2": ("sandbox", "test"),
                  "3": ("deploy", "deploy_production")}  # fmt: skip


@dataclass
class Factory:
    """Everything that one ledger is made with. `root`: where it will lie. `instances`: of its one target, which are
    below `where`.
    """

    root: Path
    seed: int = 1
    instances: int = INSTANCES
    where: str = "/srv"
    head: Head = EMPTY_HEAD
    now: int = START
    ledger: str = ZERO_HASH
    policy: str = ""
    fleet: str = ""
    leases: int = 0
    writer: Writer | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed).randbytes  # noqa: S311  # the same ledger again
        self.private: dict[str, PrivateKey] = {name: new_private_key(self.random) for name in PEOPLE}
        self.signers = {name: FileSigner(name, kind, self.private[name]) for name, (kind, _) in PEOPLE.items()}
        self.log_key = LogKey.generate("station.example/calyx", self.random)
        self.objects = DirectoryObjects(self.root / "objects")
        self.trees = [self._put_tree(f"v{number}") for number in range(8)]
        self.names = [f"web-{number:02}" for number in range(1, self.instances + 1)]

    def fill(self, entries: int) -> Path:
        """Make the ledger, of exactly `entries` entries, and give its path. The last lease may be unfinished."""
        path = self.root / "ledger.db"
        steps = self._story()
        with SqliteStore.create(path) as store:
            while self.head.size < entries:
                with store.writer(self.log_key.sign) as writer:
                    self.writer = writer
                    for _ in range(min(BATCH, entries - self.head.size)):
                        next(steps)
        return path

    def say(self, who: str, kind: str, fields: dict[str, Any], subject: Subject | None = None) -> tuple[str, str]:
        """Sign and append one statement; its digest and its entry's leaf."""
        predicate = {
            **fields,
            "by": who,
            "head": {"hash": self.head.hash, "size": self.head.size},
            "ledger": self.ledger,
            "made_at": format_time(self.now),
            "nonce": self.random(16).hex(),
        }
        statement = make_statement(kind, predicate, subject)
        envelope = sign_statement(statement, self.signers[who])
        record = make_record(self.head.size, self.head.hash, self.now, envelope)
        if self.writer is None:
            raise RuntimeError("say is for fill")
        self.writer.append(record)
        self.head = Head(record.seq + 1, record.leaf)
        return statement.digest, record.leaf

    def _story(self) -> Iterator[None]:
        policy = CapabilityMatrix.from_json(
            {
                "version": 1,
                "phases": {
                    number: {"name": name, "status": "implemented", "capabilities": [capability]}
                    for number, (name, capability) in _PHASES.items()
                },
                "deploy_production": TERMS,
            }
        )
        genesis = {
            "origin": self.log_key.origin,
            "log_key": str(self.log_key.vkey),
            "trust": self._trust(),
            "policy": policy.to_json(),
            "continues": None,
        }
        self.policy, self.ledger = self.say("ada", "genesis", genesis)
        yield
        yield from self._enact_fleet()
        self.say("cp20", "term", {"epoch": 1, "reason": "start"})
        yield
        while True:
            yield from self._deploy()

    def _enact_fleet(self) -> Iterator[None]:
        body = Fleet.from_json(
            {
                "targets": {
                    "web": {
                        "instances": [{"name": name, "root": f"{self.where}/{name}"} for name in self.names],
                        "max_unavailable": 4,
                    }
                }
            }
        ).canonical()
        ref = self.objects.put(body)
        fields = {"base": ZERO_HASH, "reason": "first", "approve_by": self._after(3600), "fleet": ref.to_json()}
        self.fleet, _ = self.say("ada", "fleet", fields)
        yield
        self.say("ada", "cosignature", {"role": "operator", "review": None}, ("fleet", self.fleet))
        yield

    def _deploy(self) -> Iterator[None]:
        """One lease, from its intent to its completion: `A_LEASE` entries."""
        number, self.leases = self.leases, self.leases + 1
        stamp = format_time(self.now).translate({ord(c): None for c in "-:Z"}).replace("T", "-")
        name, intent = f"LEASE-{stamp}-{number % 1_000_000}", f"INT-{stamp}-{number % 1_000_000}"
        before, after = self.trees[number % 8], self.trees[(number + 1) % 8]
        self.say("cbo", "intent", {"id": intent, "target": "web", "what": "a new version", "why": "it is better"})
        yield
        digest, _ = self.say("cbo", "lease", self._lease(name, intent, before, after))
        lease = (name, digest)
        yield
        self.say("ada", "message", {"type": "question", "to": "cbo", "reply_to": None, "text": "Is it tested?"})
        yield
        counted = [self.head.size]
        self.say("ada", "cosignature", {"role": "approver", "review": None}, lease)
        yield
        fields = {"role": "sentinel", "verdict": "pass", "summary": "all paths are allowed", "findings": None}
        review, _ = self.say("cp14", "review", fields, lease)
        yield
        counted.append(self.head.size)
        _, last = self.say("cp14", "cosignature", {"role": "sentinel", "review": review}, lease)
        yield
        cohorts = plan_cohorts(TERMS["tiers"], order_instances(digest, last, self.names, ()))
        claim = {
            "type": "VERIFIED_2KEY",
            "epoch": 1,
            "counted": counted,
            "cohorts": [{"tier": tier, "instances": self._list(names)} for tier, names in cohorts.items()],
            "seen": [{"tree": before.sha256, "instances": self._list(self.names)}],
            "reverse": None,
        }
        self.say("cp20", "claim", claim, lease)
        yield
        self._event("cp19", lease, "BASELINE", values=_values())
        yield
        self._event("cp20", lease, "STARTED")
        yield
        for tier, names in cohorts.items():
            yield from self._roll_out(lease, tier, names, after.sha256)
            following = next((later for later in cohorts if later > tier), None)
            if following is None:
                self._event("cp20", lease, "COMPLETED")
            else:
                self._event("cp20", lease, "CANARY_PROMOTED", tier=tier, to=following)
            yield
            if tier == 25:
                yield from self._pause(lease)
        self._tick(60)

    def _roll_out(self, lease: Subject, tier: int, names: tuple[str, ...], tree: str) -> Iterator[None]:
        self._event("cp20", lease, "TIER_INTENT", tier=tier)
        yield
        for instance in names:
            self._event("cp20", lease, "INSTANCE_APPLIED", tier=tier, instance=instance, tree=tree)
            yield
        self._event("cp20", lease, "TIER_APPLIED", tier=tier)
        yield
        self._event("cp20", lease, "BAKE_STARTED", tier=tier)
        yield
        trees = [{"tree": tree, "instances": self._list(names)}]
        for n in range(1, SAMPLES + 1):
            self._tick(TERMS["interval_s"])
            self._event("cp19", lease, "SAMPLE", tier=tier, n=n, values=_values(), trees=trees, raw=None)
            yield
            self._event("cp19", lease, "VERDICT", tier=tier, n=n, verdict="pass", gate=None, text="all gates pass")
            yield

    def _pause(self, lease: Subject) -> Iterator[None]:
        order, _ = self._command(lease, "pause", None)
        yield
        _, leaf = self._event("cp20", lease, "PAUSED", command=order, cause="ordered", text="ada ordered it")
        yield
        order, _ = self._command(lease, "resume", leaf)
        yield
        self._event("cp20", lease, "RESUMED", command=order)
        yield

    def _command(self, lease: Subject, verb: str, state: str | None) -> tuple[str, str]:
        fields = {"verb": verb, "expires_at": self._after(600), "state": state, "tier": None, "skip_bake": False,
                  "reason": "a closer look"}  # fmt: skip
        return self.say("ada", "command", fields, lease)

    def _event(self, who: str, lease: Subject, type_: str, **detail: Any) -> tuple[str, str]:
        self._tick(1)
        epoch = 1 if who == "cp20" else None
        return self.say(who, "event", {"epoch": epoch, "detail": {"type": type_, **detail}}, lease)

    def _lease(self, name: str, intent: str, before: ObjectRef, after: ObjectRef) -> dict[str, Any]:
        return {
            "id": name,
            "intent": intent,
            "capability": "deploy_production",
            "target": "web",
            "fleet": self.fleet,
            "policy": self.policy,
            "rule": "two_key",
            "artifact": {"type": "directory", "sha256": after.sha256, "size": after.size},
            "changes": [{"before": before.sha256, "after": after.sha256, "instances": self._list(self.names)}],
            "paths": ["app.py"],
            "not_before": self._after(0),
            "approve_by": self._after(3600),
            "execute_by": self._after(7200),
            "complete_by": self._after(36_000 + self.instances),
            "tiers": TERMS["tiers"],
            "bake_s": TERMS["bake_s"],
            "interval_s": TERMS["interval_s"],
            "gates": GATES,
            "start": "auto",
            "promotion": "auto",
            "hooks": {"drain": None, "undrain": None},
            "reason": None,
        }

    def _trust(self) -> dict[str, Any]:
        principals = [
            {
                "id": name,
                "kind": kind,
                "custodian": name,
                "roles": sorted(roles),
                "keys": [{"key": format_public(self.private[name].public), "user_verification": False}],
            }
            for name, (kind, roles) in PEOPLE.items()
        ]
        return {
            "law": 1,
            "principals": principals,
            "thresholds": {"governors": 1, "operators": 1},
            "expires": "2100-01-01T00:00:00Z",
            "compromised": [],
        }

    def _put_tree(self, label: str) -> ObjectRef:
        content = self.objects.put(label.encode())
        return self.objects.put(format_json(["calyx-tree-v1", ["app.py", "file", content.sha256, content.size]]))

    def _list(self, names: Sequence[str]) -> Json:
        return list_json(names, self.objects)

    def _tick(self, seconds: int) -> None:
        self.now += seconds

    def _after(self, seconds: int) -> str:
        return format_time(self.now + seconds)


def make_ledger(root: Path, entries: int, seed: int = 1) -> Path:
    """A lawful ledger of exactly `entries` entries in the new directory `root`: `ledger.db`, whose path this gives, and
    `objects`.
    """
    root.mkdir(parents=True, exist_ok=True)
    return Factory(root, seed).fill(entries)


def _values() -> list[dict[str, Any]]:
    return [
        {"gate": "error_rate", "value": "0.25", "requests": 1200, "rest": None, "rest_requests": None},
        {"gate": "tes", "value": "91.5", "requests": None, "rest": None, "rest_requests": None},
    ]


def main() -> int:
    """Make one."""
    parser = argparse.ArgumentParser(description="Makes a big lawful ledger for measuring.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("entries", type=int)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.stdout.write(f"{make_ledger(options.directory, options.entries, options.seed)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
