"""What a deployment's executor, monitor and people would say next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from duel_leases import Leases
from duel_moves import Draft
from forging import Subject, after

from keys.values import parse_time
from policies.fold.deployment import MOVES, Deployment, Phase

Doing: TypeAlias = Callable[[], Draft | None]
MONITORED = {"BASELINE", "SAMPLE", "VERDICT"}


class Course(Leases):
    """Everyone, with those of deployments."""

    def deployment(self) -> Deployment | None:
        """One that lives, or one of those that ended last."""
        state = self.state
        live = [state.deployments[digest] for digest in state.live.values()]
        every = list(state.deployments.values())
        return self.pick(*live * 3, *every[-3:]) if every else None

    def lead(self, d: Deployment) -> Draft | None:
        """What takes a deployment on."""
        stopped = d.abort_order is not None or d.rollback_order is not None
        if self.chance(0.05):
            return self.anything((self.event, self.command, self.observe))
        if stopped and d.phase not in {Phase.HALTED, Phase.ROLLING_BACK}:
            return self.tell("HALTED" if d.started else "ABORTED", d)
        leading = {
            Phase.CLAIMED: self._begin,
            Phase.DEPLOYING: self._deploy,
            Phase.PROMOTED: self._deploy,
            Phase.BAKING: self._bake,
            Phase.PAUSED: self._go_on,
            Phase.HALTED: self._turn,
            Phase.ROLLING_BACK: self._go_back,
        }
        return leading[d.phase](d)

    def _begin(self, d: Deployment) -> Draft:
        if d.baseline is None and self.chance(0.8):
            return self.watch("BASELINE", d)
        if d.lease.start == "command" and d.start_order is None:
            return self.order("start", d)
        return self.tell("STARTED", d)

    def _deploy(self, d: Deployment) -> Draft:
        if d.baseline is None and d.tier == 0 and self.chance(0.8):
            return self.watch("BASELINE", d)
        if d.phase is Phase.PROMOTED or d.tier == 0:
            return self.tell("TIER_INTENT", d)
        if d.tier_applied:
            return self.tell("BAKE_STARTED", d)
        return self.tell("TIER_APPLIED" if d.intended <= d.applied else "INSTANCE_APPLIED", d)

    def _go_on(self, d: Deployment) -> Draft:
        if d.pause_order is not None and self.chance(0.8):
            return self.order("resume", d)
        return self.tell(self.pick("RESUMED", "RESUMED", "RESUMED", "HALTED" if d.started else "ABORTED"), d)

    def _turn(self, d: Deployment) -> Draft:
        if d.halted_cause == "tainted" and d.rollback_order is None:
            return self.order("rollback", d)
        return self.tell("ROLLBACK_STARTED", d)

    def _go_back(self, d: Deployment) -> Draft:
        if self.chance(0.1):
            return self.tell("ROLLBACK_FAILED", d)
        return self.tell("ROLLED_BACK" if d.intended <= d.restored else "INSTANCE_RESTORED", d)

    def _bake(self, d: Deployment) -> Draft | None:
        newest = d.samples[-1].n if d.samples else 0
        if self.chance(0.04):
            return self.tell("HALTED", d)
        if d.whole < d.samples_needed and not (d.promote_order and d.promote_order.skip_bake and self.chance(0.6)):
            return self.watch("SAMPLE", d)
        if d.verdict is None or d.verdict.tier != d.tier or d.verdict.n != newest or d.verdict.verdict != "pass":
            return self.watch("VERDICT", d)
        if d.lease.promotion == "manual" and not d.last_tier and d.promote_order is None:
            return self.order("promote", d)
        return self.tell("COMPLETED" if d.last_tier else "CANARY_PROMOTED", d)

    def event(self) -> Draft | None:
        d = self.deployment()
        if d is None:
            return None
        possible = sorted({event for (at, event) in MOVES if at is d.phase})
        every = sorted({event for (_, event) in MOVES})
        type_ = self.pick(*possible * 3, *every)
        return self.watch(type_, d) if type_ in MONITORED else self.tell(type_, d)

    def observe(self) -> Draft | None:
        d = self.deployment()
        return None if d is None else self.watch(self.pick("BASELINE", "SAMPLE", "SAMPLE", "VERDICT", "VERDICT"), d)

    def command(self) -> Draft | None:
        d = self.deployment()
        if d is None:
            return None
        return self.order(
            self.pick("start", "pause", "resume", "promote", "promote", "abort", "rollback", "rollback"), d
        )

    def _told(self, type_: str, subject: Subject, who: str | None = None, **detail: Any) -> Draft:
        term = self.state.term
        epoch = None if term is None or who is not None else term.epoch
        by = who or (term.by if term is not None else "cp20")
        return Draft(by, "event", {"epoch": epoch, "detail": {"type": type_, **detail}}, subject)

    def tell(self, type_: str, d: Deployment) -> Draft:
        """An event of the executor, or SANITY."""
        subject = (d.lease.id, d.lease_digest)
        if type_ == "SANITY":
            who = self.pick(*self.people("validator"))
            return self._told(type_, subject, who, verdict="pass", report=None, text="")
        return self._told(type_, subject, **self._members(type_, d))

    def _members(self, type_: str, d: Deployment) -> dict[str, Any]:
        tier, following = d.tier or d.tiers[0], d.next_tier or 100
        text = {"cause": self.pick("test", "test", "tainted"), "text": ""}
        left = sorted(d.intended - d.applied) or sorted(d.before)
        back = sorted(d.intended - d.restored)
        name, instance = (back or ["web-01"])[0], left[0]
        orders = {
            verb: [note.digest for note in d.commands if note.verb == verb] for verb in ("pause", "resume", "rollback")
        }
        evidence = [note.digest for note in (d.verdict, d.bad_verdict) if note] + [note.digest for note in d.commands]
        restored = {"instance": name, "tree": d.before.get(name, "absent"), "rebuilt": False, "warning": None}
        members: dict[str, dict[str, Any]] = {
            "TIER_INTENT": {"tier": following},
            "INSTANCE_APPLIED": {
                "tier": d.tier_of.get(instance, tier),
                "instance": instance,
                "tree": d.after[instance],
            },
            "TIER_APPLIED": {"tier": tier},
            "BAKE_STARTED": {"tier": tier},
            "CANARY_PROMOTED": {"tier": tier, "to": following},
            "PAUSED": {"command": self.pick(None, *orders["pause"]), **text},
            "RESUMED": {"command": self.pick(None, *orders["resume"])},
            "HALTED": {"gate": None, "evidence": self.pick(None, *evidence), **text},
            "ROLLBACK_STARTED": {"cause": "test", "command": self.pick(None, *orders["rollback"])},
            "INSTANCE_RESTORED": restored,
            "ROLLBACK_FAILED": {"instances": back, "text": ""},
            "ABORTED": text,
        }
        return members.get(type_, {})

    def watch(self, type_: str, d: Deployment) -> Draft:
        """An event of the monitor."""
        value = self.pick("0", "0", "0", "0", "0", None)
        rows = [
            {"gate": gate.name, "value": value, "requests": None, "rest": None, "rest_requests": None}
            for gate in d.lease.gates
        ]
        tier, newest = d.watched_tier or d.tier or d.tiers[0], d.samples[-1].n if d.samples else 0
        detail: dict[str, Any] = {"values": None if {*d.before.values()} == {"absent"} else rows}
        if type_ == "SAMPLE":
            detail = {"tier": tier, "n": newest + 1, "values": rows, "trees": [], "raw": None}
            if d.bake_started_at is not None and self.chance(0.95):
                due = d.bake_started_at + (newest + 1) * d.lease.interval_s - 1
                self.duel.forge.now = max(self.duel.forge.now, due)
        elif type_ == "VERDICT":
            verdict = self.pick(*["pass"] * 14, "breach", "abort", "missing", "inconclusive")
            detail = {"tier": tier, "n": newest, "verdict": verdict, "gate": None, "text": ""}
        return self._told(type_, (d.lease.id, d.lease_digest), self.pick(*self.of_kind("monitor")), **detail)

    def order(self, verb: str, d: Deployment) -> Draft:
        """A person's command."""
        bound = verb in {"start", "resume", "promote"}
        fields = {
            "verb": verb,
            "expires_at": after(self.duel.forge.now, self.pick(60, 60, 600, 0)),
            "state": d.state_leaf if bound else None,
            "tier": (d.tier or 5) if verb == "promote" else None,
            "skip_bake": verb == "promote" and self.chance(0.3),
            "reason": "",
        }
        return Draft(
            self.pick(*(self.people("approver") + self.people("operator"))),
            "command",
            fields,
            (d.lease.id, d.lease_digest),
        )

    def preflight(self) -> Draft | None:
        lease = self.a_lease()
        if lease is None:
            return None
        return self._told("PREFLIGHT_FAILED", (lease.lease.id, lease.digest), code="disk", instance=None, text="")

    def next(self) -> Draft | None:
        """Something to say."""
        state = self.state
        if not self.duel.forge.records:
            return self.genesis()
        if state.fleet is None:
            return self._on_proposals(("fleet",)) if self.chance(0.9) else self.anything()
        if state.term is None and self.chance(0.5):
            return self.term()
        roll = self.random.random()
        if roll < self.unrest or (self._undecided() and roll < self.unrest + 0.15):
            return self._on_proposals(("trust", "policy", "fleet"))
        if roll > 0.94:
            return self.anything()
        if roll > 0.86 and state.deployments:
            return self.anything((self.event, self.command, self.command, self.observe))
        if state.live and self.chance(0.85):
            return self.lead(state.deployments[self.pick(*state.live.values())])
        return self.on_lease()

    def _undecided(self) -> bool:
        newest = list(self.state.proposals.values())[-1]
        return bool(newest.decided_seq is None and parse_time(newest.proposal.approve_by) >= self.duel.forge.now)

    def anything(self, doings: Sequence[Doing] = ()) -> Draft | None:
        """One of these, or anything at all."""
        every: tuple[Doing, ...] = (
            *(self.message, self.term, self.intent, self.lease, self.on_lease, self.claim, self.event, self.event),
            *(self.observe, self.command, self.command, self.objection, self.review, self.cosign, self.preflight),
        )
        return self.random.choice(doings or every)()
