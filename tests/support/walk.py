"""A random walk over the law: statements that are nearly right, judged one after another without a store.

What is said is what the state suggests, and now and then bent: a walk reaches deep and is refused on its way.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any

from memory_objects import MemoryObjects
from terms import PEOPLE, START, fleet, matrix

from keys.errors import CalyxError
from keys.openssh import PrivateKey, format_public, new_private_key
from keys.signer import FileSigner
from keys.values import ZERO_HASH, format_time
from ledger.chain import Entry
from ledger.head import EMPTY_HEAD, Head
from ledger.log_key import LogKey
from ledger.record import make_record
from ledger.statement import make_statement
from ledger.verified import sign_statement
from policies.fleet import Fleet
from policies.fold.deployment import MOVES, Deployment, Phase
from policies.fold.state import LeaseState, State
from policies.law.step import enact, judge
from policies.law.two_key import check_two_key
from policies.matrix import CapabilityMatrix

Subject = tuple[str, str]


@dataclass
class Walk:
    """A ledger in memory. `refusals`: code -> how often; `entries`: those that were lawful."""

    random: Random
    state: State = field(default_factory=State)
    entries: list[Entry] = field(default_factory=list)
    objects: MemoryObjects = field(default_factory=MemoryObjects)
    refusals: dict[str, int] = field(default_factory=dict)
    now: int = START
    head: Head = EMPTY_HEAD
    nonce: int = 0
    number: int = 0
    count: int = 4

    def __post_init__(self) -> None:
        # The keys are the same in every walk: only what is said differs.
        source = Random(1).randbytes
        self.keys: dict[str, PrivateKey] = {name: new_private_key(source) for name in PEOPLE}
        self.log_key = LogKey.generate("station.example/walk", source)
        self.trust = {
            "law": 1,
            "principals": [
                {
                    "id": name,
                    "kind": kind,
                    "custodian": custodian,
                    "roles": sorted(roles),
                    "keys": [{"key": format_public(self.keys[name].public), "user_verification": False}],
                }
                for name, (kind, custodian, roles) in PEOPLE.items()
            ],
            "thresholds": {"governors": 1, "operators": 1},
            "expires": "2030-01-01T00:00:00Z",
            "compromised": [],
        }
        self.policy = CapabilityMatrix.from_json(matrix(skip_bake=True, bake_s=15)).to_json()
        self.fleet = self.objects.put(Fleet.from_json(fleet(self.count)).canonical())

    def begin(self) -> None:
        """Genesis, and a fleet in force."""
        origin, log_key = self.log_key.origin, str(self.log_key.vkey)
        fields = {"origin": origin, "log_key": log_key, "trust": self.trust, "policy": self.policy, "continues": None}
        assert self.say("ada", "genesis", fields) is not None
        assert self.propose_change("fleet") is not None
        assert self.vote_on_change("ada") is not None

    def say(self, who: str, kind: str, fields: dict[str, Any], subject: Subject | None = None) -> str | None:
        """Judge a statement; its digest when it is lawful, and then it is enacted. Judging changes nothing."""
        self.nonce += 1
        predicate = {
            **fields,
            "by": who,
            "ledger": self.state.ledger if self.entries else ZERO_HASH,
            "head": {"size": self.head.size, "hash": self.head.hash},
            "nonce": f"{self.nonce:032x}",
            "made_at": format_time(self.now),
        }
        before = deepcopy(self.state)
        try:
            statement = make_statement(kind, predicate, subject)
            envelope = sign_statement(statement, FileSigner(who, PEOPLE[who][0], self.keys[who]))
            record = make_record(self.head.size, self.head.hash, self.now, envelope)
            entry = Entry(record.seq, record, record.leaf)
            change, verified = judge(self.state, entry, self.objects)
        except CalyxError as refusal:
            assert self.state == before, f"refusing ({refusal}) changed the state"
            self.refusals[refusal.code] = self.refusals.get(refusal.code, 0) + 1
            return None
        assert self.state == before, "judging changed the state"
        self.state = enact(self.state, entry, change, verified)
        self.entries.append(entry)
        self.head = Head(entry.seq + 1, entry.leaf)
        return statement.digest

    def step(self) -> None:
        """Say one thing: mostly what leads on, else anything."""
        if self.random.random() < 0.6:
            self._lead_on()
            return
        self.now += self.random.choice((0, 0, 0, 1, 15))
        doings = [self._lease, self._speak_of_lease, self._claim, self._order, self._term, self._change]
        self.random.choice([*doings, *[self._event] * 4, *[self._observe] * 2])()

    def _lead_on(self) -> None:
        digest = self.state.live.get("web")
        if self.state.term is None:
            self._term()
        elif digest is None:
            self.random.choice((self._lease, self._claim))()
        else:
            deployment = self.state.deployments[digest]
            accident = {Phase.BAKING: "HALTED", Phase.ROLLING_BACK: "ROLLBACK_FAILED"}.get(deployment.phase)
            if accident is not None and self.random.random() < 0.1:
                self._tell(accident, deployment)
            self._lead(deployment)

    def _lead(self, deployment: Deployment) -> None:
        applied = deployment.intended <= deployment.applied
        stopped = deployment.abort_order is not None or deployment.rollback_order is not None
        match deployment.phase:
            case phase if stopped and phase not in {Phase.HALTED, Phase.ROLLING_BACK}:
                self._tell("HALTED" if deployment.started else "ABORTED", deployment)
            case Phase.CLAIMED | Phase.DEPLOYING if deployment.baseline is None:
                self._observe()
            case Phase.CLAIMED:
                if deployment.lease.start == "command" and deployment.start_order is None:
                    self._command("start", deployment)
                self._tell("STARTED", deployment)
            case Phase.DEPLOYING if deployment.tier_applied:
                self._tell("BAKE_STARTED", deployment)
            case Phase.DEPLOYING if deployment.tier:
                self._tell("TIER_APPLIED" if applied else "INSTANCE_APPLIED", deployment)
            case Phase.DEPLOYING | Phase.PROMOTED:
                self._tell("TIER_INTENT", deployment)
            case Phase.BAKING:
                self.now += 15
                self._observe(1.0)
                self._observe(0.0)
                if deployment.lease.promotion == "manual":
                    self._command("promote", deployment)
                self._tell("COMPLETED" if deployment.last_tier else "CANARY_PROMOTED", deployment)
            case Phase.PAUSED:
                if deployment.pause_order is not None:
                    self._command("resume", deployment)
                self._tell("RESUMED", deployment)
            case Phase.HALTED:
                if deployment.halted_cause == "tainted":
                    self._command("rollback", deployment)
                self._tell("ROLLBACK_STARTED", deployment)
            case _:
                back = deployment.intended <= deployment.restored
                self._tell("ROLLED_BACK" if back else "INSTANCE_RESTORED", deployment)

    def _pick(self, *names: str) -> str:
        return self.random.choice(names) if self.random.random() < 0.9 else self.random.choice(sorted(PEOPLE))

    def _lease(self) -> None:
        if len(self.state.leases) - len(self.state.deployments) > 2:
            return
        self.number += 1
        intent, name = f"INT-20260105-{self.number:03}", f"LEASE-20260105-{self.number:06}"
        self.say(self._pick("cbo"), "intent", {"id": intent, "target": "web", "what": "", "why": ""})
        names = [f"web-{n:02}" for n in range(1, self.count + 1)]
        after = sha256(bytes([self.random.randrange(4)])).hexdigest()
        terms = self.state.policies[self.state.policy_digest].deploy_production
        glass = self.random.random() < 0.2
        fields: dict[str, Any] = {
            "id": name,
            "intent": intent,
            "capability": "deploy_production",
            "target": "web",
            "fleet": self.state.fleet_digest,
            "policy": self.state.policy_digest,
            "rule": "break_glass" if glass else "two_key",
            "artifact": {"type": "directory", "sha256": after, "size": 9},
            "changes": [{"before": self.random.choice(("absent", "ab" * 32)), "after": after, "instances": names}],
            "paths": ["app.py"],
            "not_before": format_time(self.now),
            "approve_by": format_time(self.now + 600),
            "execute_by": format_time(self.now + 900),
            "complete_by": format_time(self.now + 3600),
            "tiers": [5, 25, 100],
            "bake_s": terms.bake_s,
            "interval_s": 15,
            "gates": [gate.to_json() for gate in terms.gates],
            "start": self.random.choice(("auto", "auto", "command")),
            "promotion": self.random.choice(("auto", "manual")),
            "hooks": {"drain": None, "undrain": None},
            "reason": "a test",
        }
        digest = self.say("cbo", "lease", fields)
        if digest is not None and self.random.random() < 0.7:
            self._approve((name, digest), ("ada", "ben") if glass else ("ada",))

    def _approve(self, subject: Subject, people: tuple[str, ...]) -> None:
        for name in people:
            self.say(name, "cosignature", {"role": "approver", "review": None}, subject)
        fields = {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}
        review = self.say("cp14", "review", fields, subject)
        self.say("cp14", "cosignature", {"role": "sentinel", "review": review}, subject)

    def _any_lease(self) -> LeaseState | None:
        found = list(self.state.leases.values())[-3:]
        return self.random.choice(found) if found else None

    def _speak_of_lease(self) -> None:
        lease = self._any_lease()
        if lease is None:
            return
        subject = (lease.lease.id, lease.digest)
        what = self.random.random()
        agent = self.random.choice(("cp14", "cp18"))
        role = PEOPLE[agent][2][0]
        if what < 0.4:
            self.say(self._pick("ada", "ben"), "cosignature", {"role": "approver", "review": None}, subject)
        elif what < 0.65:
            verdict = self.random.choice(("pass", "pass", "pass", "fail"))
            fields = {"role": role, "verdict": verdict, "summary": "", "findings": None}
            self.say(agent, "review", fields, subject)
        elif what < 0.95:
            note = lease.reviews.get(agent)
            fields = {"role": role, "review": None if note is None else note.digest}
            self.say(agent, "cosignature", fields, subject)
        else:
            verb = self.random.choice(("withdraw", "withdraw", "deny"))
            self.say(self._pick("ada", "ben", "cp14"), "objection", {"verb": verb, "reason": ""}, subject)

    def _term(self) -> None:
        if self.state.term is None or self.random.random() < 0.1:
            epoch = 1 if self.state.term is None else self.state.term.epoch + self.random.choice((1, 1, 2))
            self.say(self._pick("cp20", "cp20b"), "term", {"epoch": epoch, "reason": ""})

    def _claim(self) -> None:
        lease = self._any_lease()
        if lease is None or self.state.term is None:
            return
        try:
            verified = check_two_key(self.state, lease.digest, self.now)
        except CalyxError:
            return
        tree = next(iter(lease.before.values()))
        fields = {
            "type": "VERIFIED_2KEY",
            "epoch": self.state.term.epoch,
            "counted": [vote.seq for vote in verified.counted],
            "cohorts": [{"tier": tier, "instances": list(names)} for tier, names in verified.cohorts.items()],
            "seen": [{"tree": tree, "instances": sorted(lease.before)}],
            "reverse": None,
        }
        self.say(self._pick(self.state.term.by), "claim", fields, (lease.lease.id, lease.digest))

    def _deployment(self) -> Deployment | None:
        live = [self.state.deployments[digest] for digest in self.state.live.values()]
        ended = list(self.state.deployments.values())[-2:]
        pool = live * 4 + ended
        return self.random.choice(pool) if pool else None

    def _event(self) -> None:
        deployment = self._deployment()
        if deployment is None:
            return
        possible = sorted({event for (at, event) in MOVES if at is deployment.phase})
        # Going on is most likely, so that walks get somewhere.
        unlikely = {"HALTED", "PAUSED", "ABORTED", "SANITY", "ROLLBACK_FAILED"}
        likely = [event for event in possible if event not in unlikely]
        type_ = self.random.choice(likely * 12 + possible + ["STARTED", "COMPLETED"])
        self._tell(type_, deployment)

    def _tell(self, type_: str, deployment: Deployment) -> None:
        if self.state.term is None:
            return
        detail = {"type": type_, **self._members(type_, deployment)}
        subject = (deployment.lease.id, deployment.lease_digest)
        if type_ in {"BASELINE", "SAMPLE", "VERDICT"}:
            self._observe()
        elif type_ == "SANITY":
            self.say("cp18", "event", {"epoch": None, "detail": detail}, subject)
        else:
            who, epoch = self._pick(self.state.term.by), self.state.term.epoch
            self.say(who, "event", {"epoch": epoch, "detail": detail}, subject)

    def _members(self, type_: str, deployment: Deployment) -> dict[str, Any]:
        """The members of an executor's or validator's event, as the deployment suggests them."""
        tier = deployment.tier or deployment.tiers[0]
        text = {"cause": self.random.choice(("test", "tainted")), "text": ""}
        left = sorted(deployment.intended - deployment.applied) or sorted(deployment.before)
        back = sorted(deployment.intended - deployment.restored)
        order = deployment.rollback_order
        name = back[0] if back else "web-01"
        members: dict[str, dict[str, Any]] = {
            "TIER_INTENT": {"tier": deployment.next_tier or 100},
            "INSTANCE_APPLIED": {"tier": tier, "instance": left[0], "tree": deployment.after[left[0]]},
            "TIER_APPLIED": {"tier": tier},
            "BAKE_STARTED": {"tier": tier},
            "CANARY_PROMOTED": {"tier": tier, "to": deployment.next_tier or 100},
            "PAUSED": {"command": None, **text},
            "RESUMED": {"command": None},
            "HALTED": {"gate": None, "evidence": None, **text},
            "ROLLBACK_STARTED": {"cause": "test", "command": None if order is None else order.digest},
            "INSTANCE_RESTORED": {"instance": name, "tree": deployment.before[name], "rebuilt": False, "warning": None},
            "ROLLBACK_FAILED": {"instances": back, "text": ""},
            "ABORTED": text,
            "SANITY": {"verdict": "pass", "report": None, "text": ""},
        }
        return members.get(type_, {})

    def _observe(self, sample: float = 0.5) -> None:
        """Say what a monitor says; `sample`: how likely that is a sample and no verdict."""
        deployment = self._deployment()
        if deployment is None:
            return
        subject = (deployment.lease.id, deployment.lease_digest)
        value = self.random.choice(("0", "0", "0", "0", None))
        rows = [
            {"gate": g.name, "value": value, "requests": None, "rest": None, "rest_requests": None}
            for g in deployment.lease.gates
        ]
        tier, n = deployment.watched_tier or deployment.tier or 5, len(deployment.samples)
        detail: dict[str, Any]
        if deployment.baseline is None:
            absent = "absent" in deployment.before.values()
            detail = {"type": "BASELINE", "values": None if absent else rows}
        elif self.random.random() < sample:
            detail = {"type": "SAMPLE", "tier": tier, "n": n + 1, "values": rows, "trees": [], "raw": None}
        else:
            verdict = self.random.choice((*["pass"] * 12, "breach", "missing", "inconclusive"))
            detail = {"type": "VERDICT", "tier": tier, "n": n, "verdict": verdict, "gate": None, "text": ""}
        self.say(self._pick("cp19"), "event", {"epoch": None, "detail": detail}, subject)

    def _order(self) -> None:
        deployment = self._deployment()
        if deployment is None:
            return
        wanted = ["start", "resume", "promote", "promote"] if deployment.live else ["rollback"]
        self._command(self.random.choice([*wanted * 3, "pause", "rollback", "abort"]), deployment)

    def _command(self, verb: str, deployment: Deployment) -> None:
        bound = verb in {"start", "resume", "promote"}
        fields = {
            "verb": verb,
            "expires_at": format_time(self.now + self.random.choice((60, 60, 60, -1))),
            "state": deployment.state_leaf if bound else None,
            "tier": (deployment.tier or 5) if verb == "promote" else None,
            "skip_bake": verb == "promote" and self.random.random() < 0.5,
            "reason": "",
        }
        self.say(self._pick("ada", "ben"), "command", fields, (deployment.lease.id, deployment.lease_digest))

    def _change(self) -> None:
        if self.random.random() < 0.3:
            self.propose_change(self.random.choice(("policy", "fleet", "trust")))
        else:
            self.vote_on_change(self._pick("ada", "ben"))

    def propose_change(self, kind: str) -> str | None:
        """Propose what is in force already: only its digest changes."""
        base = {"trust": self.state.trust_digest, "policy": self.state.policy_digest, "fleet": self.state.fleet_digest}
        content: dict[str, Any] = {"trust": self.trust, "policy": self.policy, "fleet": self.fleet.to_json()}
        fields = {
            "base": base[kind],
            "reason": "a test",
            "approve_by": format_time(self.now + 600),
            kind: content[kind],
        }
        return self.say("ada", kind, fields)

    def vote_on_change(self, who: str) -> str | None:
        """Cosign the newest proposal."""
        if not self.state.proposals:
            return None
        proposal = list(self.state.proposals.values())[-1]
        role = "operator" if proposal.kind == "fleet" else "governor"
        return self.say(who, "cosignature", {"role": role, "review": None}, (proposal.kind, proposal.digest))
