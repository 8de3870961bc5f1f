"""The station's event feed (SVF) as a fold: an entry and the state after it give the entry's lines.

A line depends on the entry and those before it alone: no clock, no configuration, no earlier line. So the feed can be
deleted and made again with the same bytes. Free text of others stands in `message_preview` alone; everything else is
an id, a digest, a number or a word of ours.

Source: docs/SVF.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from executor.svf.preview import preview
from keys.canonical import Json, format_json
from keys.values import fold_id
from ledger.chain import Entry
from ledger.statement import Statement, parse_statement
from policies import event_kinds as kinds
from policies.event_kinds import Event
from policies.fold.deployment import MONITOR_EVENTS, CommandNote, Deployment
from policies.fold.state import LeaseState, State
from policies.kinds import AnyPredicate, Claim, Cosignature, Lease, Objection, Review
from policies.law.position import parse_predicate

ACTION: Final = "deployment"
"""What the station calls everything that this feed tells of."""
MAX_LINE: Final = 8_192
"""Bytes of a line, its newline included."""

Outcome: TypeAlias = Literal["success", "stopped", "failed"]

EVENT_TYPES: Final[dict[str, tuple[Outcome, str]]] = {
    "lease_event.PROPOSED": ("success", "a change of production is asked for"),
    "lease_event.REVIEWED": ("success", "an agent's verdict on it; `stopped` where it is `fail`"),
    "lease_event.COSIGNED": ("success", "an approval; `stopped` where its signer had taken it back before it came"),
    "lease_event.WITHDRAWN": ("stopped", "a signer takes the own approvals back"),
    "lease_event.DENIED": ("stopped", "the lease is refused for good"),
    "lease_event.PREFLIGHT_FAILED": ("failed", "the executor could not take it up yet; nothing was consumed"),
    "lease_event.VERIFIED_2KEY": ("success", "both keys were there: the claim, by the rule that `rule` names"),
    "deploy_event.STARTED": ("success", "the rollout begins"),
    "deploy_event.CANARY_PROMOTED": ("success", "a tier passed; the next one follows"),
    "deploy_event.PAUSED": ("stopped", "no step forward until resumed"),
    "deploy_event.RESUMED": ("success", "steps forward go on"),
    "deploy_event.HALTED": ("stopped", "no step forward any more; what was touched goes back"),
    "deploy_event.ABORTED": ("stopped", "it ended before anything was touched"),
    "deploy_event.COMPLETED": ("success", "every instance runs the new tree"),
    "deploy_event.ROLLED_BACK": ("stopped", "what came of the deployment: every touched instance runs its old tree"),
    "rollback_event.STARTED": ("success", "the touched instances go back"),
    "rollback_event.COMPLETE": ("success", "what came of the rollback: it succeeded"),
    "rollback_event.FAILED": ("failed", "at least one instance could not be restored; a person must look"),
}
"""Type -> its outcome and its meaning. docs/SVF.md shows this table."""

_UNTOLD: Final = MONITOR_EVENTS | {"TIER_INTENT", "INSTANCE_APPLIED", "TIER_APPLIED", "BAKE_STARTED"}
"""Steps within a tier and what the monitor measures: the ledger holds them, the feed tells the turning points."""

Facts: TypeAlias = dict[str, Json]


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `seq`: the entry that it tells of. `day`: UTC day of that entry, YYYY-MM-DD. `data`: canonical JSON and
    a newline.
    """

    seq: int
    day: str
    data: bytes


@dataclass(frozen=True, slots=True)
class _Told:
    """What an entry is to the feed."""

    type: str
    text: str
    facts: Facts
    outcome: Outcome | None = None


def lines_of(entry: Entry, state: State) -> list[Line]:
    """The lines of a lawful entry, in order; most entries have none. `state`: the one right after the entry.

    A `ROLLED_BACK` has two: what came of the deployment, and what came of its rollback.
    """
    statement = parse_statement(entry.record.envelope.body)
    lease = _lease_of(statement, state)
    if lease is None or _passed_over(statement):
        return []
    return [_line(entry, statement, lease, told) for told in _tell(entry, parse_predicate(statement), lease, state)]


def _lease_of(statement: Statement, state: State) -> LeaseState | None:
    return state.leases.get(statement.digest if statement.kind == "lease" else statement.subject_digest)


def _passed_over(statement: Statement) -> bool:
    """Whether it is an event that the feed does not tell, seen before its type is given to it: samples are many."""
    detail = statement.predicate.get("detail")
    return isinstance(detail, dict) and detail.get("type") in _UNTOLD


def _line(entry: Entry, statement: Statement, lease: LeaseState, told: _Told) -> Line:
    outcome, _ = EVENT_TYPES[told.type]
    metadata: Facts = {
        "deployment": lease.digest,
        "digest": statement.digest,
        "event_type": told.type,
        "fleet_target": lease.lease.target,
        "intent_id": lease.lease.intent,
        "leaf": entry.leaf,
        "lease_id": lease.lease.id,
        "seq": entry.seq,
        **{name: value for name, value in told.facts.items() if value is not None},
    }
    data = format_json(
        {
            "timestamp": entry.record.time,
            "agent": statement.by,
            "action": ACTION,
            "target": lease.lease.id,
            "message_preview": preview(told.text),
            "outcome": told.outcome or outcome,
            "metadata": metadata,
        }
    )
    return Line(entry.seq, entry.record.time[:10], data + b"\n")


def _tell(entry: Entry, predicate: AnyPredicate, lease: LeaseState, state: State) -> Iterator[_Told]:
    match predicate:
        case Event():
            yield from _tell_event(predicate, lease, state)
        case Cosignature():
            yield _tell_cosignature(entry, predicate, lease)
        case Review():
            yield _tell_review(predicate)
        case Objection(verb="deny"):
            yield _Told("lease_event.DENIED", predicate.reason, {})
        case Objection():
            yield _Told("lease_event.WITHDRAWN", predicate.reason, {})
        case Claim():
            yield _tell_claim(predicate, lease)
        case Lease():
            intent = state.intents[fold_id(lease.lease.intent)]
            yield _Told("lease_event.PROPOSED", f"{lease.lease.target}: {intent.what}", {"rule": lease.lease.rule})
        case _:
            # Orders: what the executor made of one tells who gave it.
            pass


def _tell_cosignature(entry: Entry, cosignature: Cosignature, lease: LeaseState) -> _Told:
    vote = next(vote for vote in lease.ballot.votes if vote.seq == entry.seq)
    facts: Facts = {"keyid": vote.signer.keyid, "review": cosignature.review, "role": cosignature.role}
    # A cosignature that was held back over its signer's withdrawal is lawful and counts for nothing.
    if lease.ballot.withdrawn(vote):
        text = f"as {cosignature.role}, and taken back before it came: it counts for nothing"
        return _Told("lease_event.COSIGNED", text, {**facts, "withdrawn": True}, "stopped")
    return _Told("lease_event.COSIGNED", f"approved as {cosignature.role}", facts)


def _tell_review(review: Review) -> _Told:
    facts: Facts = {"role": review.role, "verdict": review.verdict}
    outcome: Outcome = "success" if review.verdict == "pass" else "stopped"
    return _Told("lease_event.REVIEWED", f"{review.verdict}: {review.summary}", facts, outcome)


def _tell_claim(claim: Claim, lease: LeaseState) -> _Told:
    votes = {vote.seq: vote for vote in lease.ballot.votes}
    counted = [votes[seq] for seq in claim.counted]
    who = " and ".join(f"{vote.signer.principal} ({vote.role})" for vote in counted)
    rule = "break-glass" if lease.lease.rule == "break_glass" else "two keys"
    facts: Facts = {
        "cosigners": [vote.signer.principal for vote in counted],
        "counted": list(claim.counted),
        "epoch": claim.epoch,
        "rule": lease.lease.rule,
    }
    return _Told("lease_event.VERIFIED_2KEY", f"{rule}: {who}", facts)


def _tell_event(event: Event, lease: LeaseState, state: State) -> Iterator[_Told]:
    detail = event.detail
    if isinstance(detail, kinds.PreflightFailed):
        facts: Facts = {"code": detail.code, "epoch": event.epoch, "instance": detail.instance}
        yield _Told("lease_event.PREFLIGHT_FAILED", f"{detail.code}: {detail.text}", facts)
        return
    ours = state.deployments[lease.digest]
    common: Facts = {"epoch": event.epoch, "tier": ours.tier or None}
    match detail:
        case kinds.Started():
            yield _Told("deploy_event.STARTED", f"tiers {_percents(ours)}", common)
        case kinds.CanaryPromoted():
            text = f"tier {detail.tier} % passed, on to {detail.to} %"
            yield _Told("deploy_event.CANARY_PROMOTED", text, {**common, "to": detail.to})
        case kinds.Paused():
            order = _order(ours, detail.command)
            facts = {**common, **_by(order), "cause": detail.cause}
            yield _Told("deploy_event.PAUSED", _because(detail.cause, detail.text, order), facts)
        case kinds.Resumed():
            order = _order(ours, detail.command)
            yield _Told("deploy_event.RESUMED", _because("resumed", "", order), {**common, **_by(order)})
        case kinds.Halted():
            order = _order(ours, detail.evidence)
            facts = {**common, **_by(order), "cause": detail.cause, "gate": detail.gate, "evidence": detail.evidence}
            yield _Told("deploy_event.HALTED", _because(detail.cause, detail.text, order), facts)
        case kinds.Aborted():
            order = ours.abort_order
            facts = {**common, **_by(order), "cause": detail.cause}
            yield _Told("deploy_event.ABORTED", _because(detail.cause, detail.text, order), facts)
        case kinds.Completed():
            yield _Told("deploy_event.COMPLETED", f"instances on the new tree: {len(ours.applied)}", common)
        case kinds.RollbackStarted():
            order = _order(ours, detail.command)
            facts = {**common, **_by(order), "cause": detail.cause}
            yield _Told("rollback_event.STARTED", _because(detail.cause, "", order), facts)
        case kinds.RolledBack():
            text = f"instances restored: {len(ours.restored)}"
            facts = {**common, **_by(ours.rollback_order), "cause": ours.halted_cause, "instances": len(ours.restored)}
            yield _Told("deploy_event.ROLLED_BACK", text, facts)
            yield _Told("rollback_event.COMPLETE", text, facts)
        case kinds.RollbackFailed():
            facts = {**common, "cause": ours.halted_cause, "instances": len(ours.failed)}
            yield _Told("rollback_event.FAILED", f"instances not restored: {len(ours.failed)}; {detail.text}", facts)
        case _:
            # INSTANCE_RESTORED, and the validator's SANITY.
            pass


def _percents(deployment: Deployment) -> str:
    return ", ".join(f"{tier} %" for tier in deployment.tiers)


def _order(deployment: Deployment, digest: str | None) -> CommandNote | None:
    return next((note for note in deployment.commands if note.digest == digest), None)


def _by(order: CommandNote | None) -> Facts:
    return {} if order is None else {"command": order.digest, "ordered_by": order.by}


def _because(cause: str, text: str, order: CommandNote | None) -> str:
    if order is not None:
        return f"{order.verb} by {order.by}: {order.reason}"
    return f"{cause}: {text}" if text else cause


class Feed:
    """Collects the lines of a ledger while it is read: the observer of a `Replay`.

    Nothing is handed out while a ledger is being read: only its end proves that it is the ledger it says it is, and
    until then it may be one that contradicts the remembered head.
    """

    def __init__(self) -> None:
        self._lines: list[Line] = []

    def __call__(self, entry: Entry, state: State) -> None:
        """Take note of an entry."""
        self._lines += lines_of(entry, state)

    def take(self) -> list[Line]:
        """What was collected since the last call. Call it after a `sync` that succeeded."""
        lines, self._lines = self._lines, []
        return lines
