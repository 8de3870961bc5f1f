"""A whole station in memory and a temporary folder: principals with keys, a policy, a fleet, and a registrar each.

The clock stands still until a test moves it. Every statement goes through the real registrar and law.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from terms import GATES, PEOPLE, START, fleet, matrix

from keys.canonical import format_json
from keys.openssh import PrivateKey, format_public, new_private_key
from keys.principals import Kind
from keys.signer import FileSigner, Signer
from keys.values import ZERO_HASH, format_time
from ledger.envelope import Envelope, pae
from ledger.log_key import LogKey
from ledger.memory import HeadMemory
from ledger.objects import DirectoryObjects, ObjectRef
from ledger.record import make_record
from ledger.sqlite.store import SqliteStore
from ledger.statement import make_statement
from ledger.verified import namespace_of
from policies.fleet import Fleet
from policies.fold.state import State
from policies.law.two_key import check_two_key
from policies.matrix import CapabilityMatrix
from policies.names import store_list
from policies.pin import Pin
from policies.registrar import Registrar, Reserve
from policies.submitter import Draft, Receipt


@dataclass
class Clock:
    """A clock that moves only when told to."""

    now: int = START

    def __call__(self) -> int:
        """The time, seconds since 1970."""
        return self.now

    def tick(self, seconds: int = 1) -> None:
        """Move on."""
        self.now += seconds


@dataclass
class Station:
    """A ledger in a folder, with every principal's key at hand (tests play all parts)."""

    root: Path
    seed: int = 1
    policy: dict[str, Any] = field(default_factory=matrix)
    people: dict[str, tuple[Kind, str, list[str]]] = field(default_factory=lambda: dict(PEOPLE))
    thresholds: tuple[int, int] = (1, 1)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        # Seeded, so that a failure repeats; these keys guard nothing.
        self.root.mkdir(parents=True, exist_ok=True)
        self.random = random.Random(self.seed).randbytes
        self.keys: dict[str, PrivateKey] = {name: new_private_key(self.random) for name in self.people}
        self.log_key = LogKey.generate("station.example/calyx", self.random)
        self.objects = DirectoryObjects(self.root / "objects")
        self.store = SqliteStore.create(self.root / "ledger.db")
        self.memory = HeadMemory(self.root / "memory")
        self.registrar = self.new_registrar()

    def new_registrar(self, reserve: Reserve | None = None) -> Registrar:
        """Another process's registrar on the same ledger."""
        pin = Pin(self.memory, str(self.root))
        return Registrar(
            self.store, self.objects, self.log_key, pin, clock=self.clock, random=self.random, reserve=reserve
        )

    def signer(self, name: str, key: PrivateKey | None = None) -> FileSigner:
        """The signer of a principal."""
        kind = self.people[name][0] if name in self.people else "human"
        return FileSigner(name, kind, key or self.keys[name])

    def trust(self, **changes: Any) -> dict[str, Any]:
        """The trust root as JSON material."""
        principals = [
            {
                "id": name,
                "kind": kind,
                "custodian": custodian,
                "roles": sorted(roles),
                "keys": [{"key": format_public(self.keys[name].public), "user_verification": False}],
            }
            for name, (kind, custodian, roles) in self.people.items()
        ]
        root = {
            "law": 1,
            "principals": principals,
            "thresholds": {"governors": self.thresholds[0], "operators": self.thresholds[1]},
            "expires": "2030-01-01T00:00:00Z",
            "compromised": [],
        }
        return {**root, **changes}

    @property
    def state(self) -> State:
        """The state after everything so far."""
        return self.registrar.sync()

    def say(self, who: str, kind: str, fields: dict[str, Any], subject: tuple[str, str] | None = None) -> Receipt:
        """Submit a statement."""
        return self.registrar.submit(self.signer(who), Draft(kind, fields, subject))

    def genesis(self, continues: dict[str, Any] | None = None) -> Receipt:
        """Record 0."""
        fields = {
            "origin": self.log_key.origin,
            "log_key": str(self.log_key.vkey),
            "trust": self.trust(),
            "policy": CapabilityMatrix.from_json(self.policy).to_json(),
            "continues": continues,
        }
        return self.registrar.create(self.signer("ada"), Draft("genesis", fields))

    def enact_fleet(self, body: dict[str, Any] | None = None, voters: tuple[str, ...] = ("ada",)) -> Receipt:
        """Propose a fleet and cosign it."""
        ref = self.objects.put(Fleet.from_json(body or fleet()).canonical())
        proposal = self.say(
            "ada",
            "fleet",
            {
                "base": self.state.fleet_digest,
                "reason": "a test",
                "approve_by": self.after(3600),
                "fleet": ref.to_json(),
            },
        )
        for voter in voters:
            self.vote(voter, ("fleet", proposal.digest), "operator")
        return proposal

    def vote(self, who: str, subject: tuple[str, str], role: str, review: str | None = None) -> Receipt:
        """Cosign."""
        return self.say(who, "cosignature", {"role": role, "review": review}, subject)

    def after(self, seconds: int) -> str:
        """A time that far from now."""
        return format_time(self.clock.now + seconds)

    def propose(self, name: str = "LEASE-20260105-090000", **changes: Any) -> tuple[str, str]:
        """An intent and a lease over all instances of `web`; gives the lease's subject (id, digest)."""
        intent = f"INT-{name.removeprefix('LEASE-')}"
        self.say("cbo", "intent", {"id": intent, "target": "web", "what": "a new version", "why": "a test"})
        receipt = self.say("cbo", "lease", {**self.lease_fields(name, intent), **changes})
        return name, receipt.digest

    def lease_fields(self, name: str, intent: str) -> dict[str, Any]:
        """A lease predicate that fits the policy and fleet in force."""
        state = self.state
        assert state.fleet is not None
        assert state.policy is not None
        terms = state.policy.deploy_production
        names = [instance.name for instance in state.fleet.targets["web"].instances]
        after = self.put_tree("v2")
        self.put_tree("v1")
        return {
            "id": name,
            "intent": intent,
            "capability": "deploy_production",
            "target": "web",
            "fleet": state.fleet_digest,
            "policy": state.policy_digest,
            "rule": "two_key",
            "artifact": {"type": "directory", "sha256": after.sha256, "size": after.size},
            "changes": [
                {
                    "before": tree_digest("v1"),
                    "after": after.sha256,
                    "instances": self.listed(names),
                }
            ],
            "paths": ["app.py"],
            "not_before": self.after(0),
            "approve_by": self.after(3600),
            "execute_by": self.after(7200),
            "complete_by": self.after(36_000),
            "tiers": list(terms.tiers),
            "bake_s": terms.bake_s,
            "interval_s": terms.interval_s,
            "gates": [gate.to_json() for gate in terms.gates],
            "start": terms.start,
            "promotion": terms.promotion,
            "hooks": {"drain": None, "undrain": None},
            "reason": None,
        }

    def listed(self, names: Sequence[str], share: int = 1) -> Any:
        """Names as JSON material: inline, or as an object where they are many."""
        stored = store_list(names, self.objects, share)
        return list(stored) if isinstance(stored, tuple) else stored.to_json()

    def put_tree(self, label: str) -> ObjectRef:
        """Keep the manifest and the file of the tree that `tree_digest` names."""
        self.objects.put(label.encode())
        return self.objects.put(_manifest(label))

    def sign(self, who: str, draft: Draft, *, signer: Signer | None = None, **common: Any) -> Envelope:
        """A signed statement that was not submitted. `common`: what it says of `by`, `ledger`, `head`, `nonce` or
        `made_at` in place of the truth. `signer`: whoever signs it instead.
        """
        statement = self.registrar.draft_statement(who, draft, machine=self.people[who][0] != "human")
        statement = make_statement(draft.kind, {**statement.predicate, **common}, draft.subject)
        signer = signer or self.signer(who)
        return Envelope(statement.body, signer.keyid, signer.sign(pae(statement.body), namespace_of(draft.kind)))

    def append(self, envelope: Envelope) -> Receipt:
        """Submit what was signed elsewhere."""
        self.registrar.sync()
        return self.registrar.append([envelope])[0]

    def force(self, envelope: Envelope) -> int:
        """Write a record past the registrar, with a checkpoint that covers it; its seq."""
        head = self.store.head()
        record = make_record(head.size, head.hash, self.clock.now, envelope)
        self.store.append(head, [record], self.log_key.sign)
        return head.size

    def review(self, who: str, lease: tuple[str, str], verdict: str = "pass") -> Receipt:
        """An agent's review, and its cosignature when it passes."""
        role = self.people[who][2][0]
        fields = {"role": role, "verdict": verdict, "summary": "looked at", "findings": None}
        receipt = self.say(who, "review", fields, lease)
        if verdict == "pass":
            return self.vote(who, lease, role, receipt.digest)
        return receipt

    def approve(self, lease: tuple[str, str], human: str = "ada", agent: str = "cp14") -> None:
        """Both keys."""
        self.vote(human, lease, "approver")
        self.review(agent, lease)

    def take_term(self, who: str = "cp20") -> Receipt:
        """The executor's takeover."""
        term = self.state.term
        return self.say(who, "term", {"epoch": 1 if term is None else term.epoch + 1, "reason": "start"})

    def claim_fields(self, lease: tuple[str, str]) -> dict[str, Any]:
        """What a correct claim says now."""
        state = self.state
        verified = check_two_key(state, lease[1], self.clock.now)
        trees: dict[str, list[str]] = {}
        for instance, tree in verified.lease.before.items():
            trees.setdefault(tree, []).append(instance)
        return {
            "type": "VERIFIED_2KEY",
            "epoch": state.term.epoch if state.term else 0,
            "counted": [vote.seq for vote in verified.counted],
            "cohorts": [{"tier": tier, "instances": self.listed(names)} for tier, names in verified.cohorts.items()],
            "seen": [{"tree": tree, "instances": self.listed(names)} for tree, names in trees.items()],
            "reverse": None,
        }

    def claim(self, lease: tuple[str, str], who: str = "cp20", **changes: Any) -> Receipt:
        """Claim a lease."""
        return self.say(who, "claim", {**self.claim_fields(lease), **changes}, lease)

    def event(self, who: str, lease: tuple[str, str], type_: str, **detail: Any) -> Receipt:
        """An event; the executor's carry the epoch in force."""
        term = self.state.term
        epoch = term.epoch if term is not None and self.people[who][0] == "executor" else None
        return self.say(who, "event", {"epoch": epoch, "detail": {"type": type_, **detail}}, lease)

    def command(self, who: str, lease: tuple[str, str], verb: str, **changes: Any) -> Receipt:
        """A person's order, bound to the state where it must be."""
        bound = verb in {"start", "resume", "promote"}
        deployment = self.state.deployments[lease[1]]
        fields = {
            "verb": verb,
            "expires_at": self.after(600),
            "state": deployment.state_leaf if bound else None,
            "tier": deployment.tier if verb == "promote" else None,
            "skip_bake": False,
            "reason": "a test",
            **changes,
        }
        return self.say(who, "command", fields, lease)

    def deploy_tier(self, lease: tuple[str, str], tier: int) -> None:
        """TIER_INTENT to BAKE_STARTED."""
        deployment = self.state.deployments[lease[1]]
        self.event("cp20", lease, "TIER_INTENT", tier=tier)
        for name in deployment.cohorts[tier]:
            self.event("cp20", lease, "INSTANCE_APPLIED", tier=tier, instance=name, tree=deployment.after[name])
        self.event("cp20", lease, "TIER_APPLIED", tier=tier)
        self.event("cp20", lease, "BAKE_STARTED", tier=tier)

    def sample(self, lease: tuple[str, str], tier: int, n: int, **values: str | None) -> Receipt:
        """One interval on, a sample with a value for each gate."""
        deployment = self.state.deployments[lease[1]]
        self.clock.tick(deployment.lease.interval_s)
        given = {"error_rate": "0", "tes": "90", **values}
        rows = [
            {"gate": gate.name, "value": given[gate.name], "requests": None, "rest": None, "rest_requests": None}
            for gate in deployment.lease.gates
        ]
        return self.event("cp19", lease, "SAMPLE", tier=tier, n=n, values=rows, trees=[], raw=None)

    def verdict(self, lease: tuple[str, str], tier: int, n: int, verdict: str = "pass") -> Receipt:
        """The monitor's judgement."""
        return self.event("cp19", lease, "VERDICT", tier=tier, n=n, verdict=verdict, gate=None, text=verdict)

    def bake(self, lease: tuple[str, str], tier: int, samples: int = 2) -> None:
        """Watch a tier until it passes."""
        for n in range(1, samples + 1):
            self.sample(lease, tier, n)
            self.verdict(lease, tier, n)

    def baseline(self, lease: tuple[str, str]) -> Receipt:
        """Values before the first tier."""
        deployment = self.state.deployments[lease[1]]
        rows = [
            {
                "gate": gate.name,
                "value": "90" if gate.name == "tes" else "0",
                "requests": None,
                "rest": None,
                "rest_requests": None,
            }
            for gate in deployment.lease.gates
        ]
        return self.event("cp19", lease, "BASELINE", values=rows)

    def begin(self, lease: tuple[str, str]) -> None:
        """Claim to STARTED."""
        self.approve(lease)
        self.take_term()
        self.claim(lease)
        self.baseline(lease)
        self.event("cp20", lease, "STARTED")

    def complete(self, lease: tuple[str, str]) -> Receipt:
        """From after STARTED to COMPLETED."""
        tiers = self.state.deployments[lease[1]].tiers
        for tier, following in zip(tiers, (*tiers[1:], None), strict=True):
            self.deploy_tier(lease, tier)
            self.bake(lease, tier)
            if following is not None:
                self.event("cp20", lease, "CANARY_PROMOTED", tier=tier, to=following)
        return self.event("cp20", lease, "COMPLETED")


def talk(station: Station, size: int) -> None:
    """Say messages until the ledger has `size` entries."""
    fields = {"type": "question", "text": "Is anyone there?", "to": None, "reply_to": None}
    while station.store.head().size < size:
        station.say("ada", "message", fields)


def tree_digest(label: str) -> str:
    """The digest of a tree with one file, whose content is the label."""
    return sha256(_manifest(label)).hexdigest()


def _manifest(label: str) -> bytes:
    content = label.encode()
    return format_json(["calyx-tree-v1", ["app.py", "file", sha256(content).hexdigest(), len(content)]])


def new_station(root: Path, **options: Any) -> Station:
    """A station with genesis and a fleet of 20 in force."""
    station = Station(root, **options)
    station.genesis()
    station.enact_fleet()
    return station


__all__ = [
    "GATES",
    "PEOPLE",
    "START",
    "ZERO_HASH",
    "Clock",
    "Station",
    "fleet",
    "matrix",
    "new_station",
    "talk",
    "tree_digest",
]
