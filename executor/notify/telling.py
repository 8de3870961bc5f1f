"""The words of each notice: what an entry says to people, in lines without markup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from executor.notify.wording import quoted
from keys.values import fold_id
from keys.words import counted
from ledger.statement import Statement
from policies import event_kinds as events
from policies.event_kinds import Event
from policies.fold.state import LeaseState, State
from policies.kinds import (
    AnyPredicate,
    Claim,
    Cosignature,
    FleetProposal,
    Lease,
    Objection,
    PolicyProposal,
    Review,
    TrustProposal,
)
from policies.names import same_list

WARNINGS: Final = 5
"""Warnings that a notice spells out."""
SHORT: Final = 200
LONG: Final = 500
"""Characters of what somebody wrote."""


@dataclass(frozen=True, slots=True)
class Told:
    """A notice without its place. `event`: one of `policies.notices.NOTICES`. `lease`: its lease's id, or None."""

    event: str
    title: str
    lines: tuple[str, ...]
    lease: str | None


def tell(state: State, seq: int, statement: Statement, predicate: AnyPredicate) -> list[Told]:
    """What the entry `seq` tells, once it is part of `state`."""
    if isinstance(predicate, Lease):
        return [_lease(state, predicate)]
    if isinstance(predicate, TrustProposal | PolicyProposal | FleetProposal):
        return [_proposal(statement, predicate)]
    lease = state.leases.get(statement.subject_digest)
    if isinstance(predicate, Cosignature):
        return _cosigned(state, seq, statement, predicate, lease)
    if isinstance(predicate, Objection):
        return [_objection(statement, predicate, lease)]
    if lease is None:
        return []
    if isinstance(predicate, Review):
        return _reviewed(predicate, lease)
    if isinstance(predicate, Claim):
        return [_claimed(state, predicate, lease)]
    if isinstance(predicate, Event):
        return _event(state, predicate.detail, lease)
    return []


def _lease(state: State, lease: Lease) -> Told:
    intent = state.intents[fold_id(lease.intent)]
    count = len(state.leases[state.ids[fold_id(lease.id)]].before)
    what = (
        f"{lease.by} asks to change {lease.target} on {counted(count, 'instance')}.",
        f"What: {quoted(intent.what, SHORT)}",
        f"Why: {quoted(intent.why, SHORT)}",
    )
    until = f"Approve until {lease.approve_by}. Look first: calyx show {lease.id}"
    if lease.rule == "break_glass":
        reason = f"It is an emergency for two humans and no agent. Reason: {quoted(lease.reason or '', LONG)}"
        return Told("BREAK_GLASS_PROPOSED", f"{lease.id} on {lease.target}", (*what, reason, until), lease.id)
    return Told("LEASE_PROPOSED", f"{lease.id} on {lease.target}", (*what, until), lease.id)


def _proposal(statement: Statement, proposal: TrustProposal | PolicyProposal | FleetProposal) -> Told:
    kind, name = statement.kind, statement.digest[:12]
    lines = (
        f"{proposal.by} proposes another {kind}: {quoted(proposal.reason, SHORT)}",
        f"Vote until {proposal.approve_by}. Look first: calyx show {name}",
    )
    return Told(f"{kind.upper()}_PROPOSED", f"another {kind} is proposed", lines, None)


def _cosigned(
    state: State, seq: int, statement: Statement, cosignature: Cosignature, lease: LeaseState | None
) -> list[Told]:
    if lease is not None:
        name = lease.lease.id
        text = f"{cosignature.by} approved {name} on {lease.lease.target} as {cosignature.role}."
        return [Told("COSIGNED", f"{name} was approved", (text, f"What it lacks: calyx check {name}"), name)]
    digest = statement.subject_digest
    proposal = state.proposals[digest]
    text = f"{cosignature.by} approved the proposed {proposal.kind} {digest[:12]} as {cosignature.role}."
    told = [Told("COSIGNED", f"a proposed {proposal.kind} was approved", (text,), None)]
    if proposal.decided_seq == seq:
        why = f"The {proposal.kind} {digest[:12]} is in force: {quoted(proposal.proposal.reason, SHORT)}"
        told.append(Told(f"{proposal.kind.upper()}_IN_FORCE", f"another {proposal.kind} is in force", (why,), None))
    return told


def _objection(statement: Statement, objection: Objection, lease: LeaseState | None) -> Told:
    name = f"the proposed {statement.subject_name} {statement.subject_digest[:12]}" if lease is None else lease.lease.id
    own = None if lease is None else name
    why = quoted(objection.reason, SHORT)
    if objection.verb == "deny":
        return Told("DENIED", f"{name} was denied", (f"{objection.by} denied {name} for good: {why}",), own)
    text = f"{objection.by} took back every approval of {name} so far: {why}"
    return Told("WITHDRAWN", f"an approval of {name} was withdrawn", (text,), own)


def _reviewed(review: Review, lease: LeaseState) -> list[Told]:
    if lease.lease.rule != "break_glass":
        return []
    name = lease.lease.id
    when = "before its claim" if lease.claim_seq is None else "after its claim; the review that it owed is there"
    lines = (
        f"{review.by} ({review.role}) reviewed {name} {when}.",
        f"{review.verdict}: {quoted(review.summary, SHORT)}",
    )
    return [Told("BREAK_GLASS_REVIEWED", f"the review of {name} says {review.verdict}", lines, name)]


def _claimed(state: State, claim: Claim, lease: LeaseState) -> Told:
    name, target = lease.lease.id, lease.lease.target
    votes = {vote.seq: vote for vote in lease.ballot.votes}
    counted = " and ".join(f"{votes[seq].signer.principal} ({votes[seq].role})" for seq in claim.counted)
    text = f"{claim.by} claimed {name} on {target} with the keys of {counted}."
    if lease.lease.rule != "break_glass":
        return Told("CLAIMED", f"{name} is claimed", (text,), name)
    lines = [text, f"Reason: {quoted(lease.lease.reason or '', LONG)}"]
    if lease.digest in state.owed_reviews:
        lines.append("A review is owed now; overdue, it stops every other claim: calyx agent run cp14")
    return Told("BREAK_GLASS_CLAIMED", f"{name} is claimed on {target}", tuple(lines), name)


def _event(state: State, detail: events.Detail, lease: LeaseState) -> list[Told]:
    words = _EVENTS.get(type(detail))
    if words is None:
        return []
    name, target = lease.lease.id, lease.lease.target
    title, text = words(detail)
    glass = "It is a break-glass lease. " if lease.lease.rule == "break_glass" else ""
    ours = state.deployments.get(lease.digest)
    back = ours is not None and isinstance(detail, events.RolledBack | events.RollbackFailed)
    wrong = sorted(ours.warnings.items()) if ours is not None and back else []
    warned = [f"WARNING: instance {one}: {quoted(said, SHORT)}" for one, said in wrong[:WARNINGS]]
    if len(wrong) > WARNINGS:
        warned.append(f"and {len(wrong) - WARNINGS} more such warnings")
    lines = (f"{glass}{text}", *warned, f"calyx watch {name}")
    return [Told(detail.type, f"{name} on {target}: {title}", lines, name)]


def _paused(detail: events.Paused) -> tuple[str, str]:
    return "paused", f"No step forward until calyx resume. {quoted(detail.text, SHORT)}"


def _halted(detail: events.Halted) -> tuple[str, str]:
    gate = "" if detail.gate is None else f", gate {detail.gate}"
    if detail.cause == "tainted":
        return "halted", f"A key that it counted on is compromised. It waits for a person: {quoted(detail.text, SHORT)}"
    return "halted", f"Cause {detail.cause}{gate}: {quoted(detail.text, SHORT)}. What it touched goes back."


def _aborted(detail: events.Aborted) -> tuple[str, str]:
    return "aborted", f"It ended before anything was touched. Cause {detail.cause}: {quoted(detail.text, SHORT)}"


def _failed(detail: events.RollbackFailed) -> tuple[str, str]:
    which = "no instance" if same_list(detail.instances, ()) else "some instances"
    if isinstance(detail.instances, tuple) and detail.instances:
        which = ", ".join(detail.instances[:10]) + (" and others" if len(detail.instances) > 10 else "")
    return "ROLLBACK FAILED", f"Not restored: {which}. A person must look. {quoted(detail.text, SHORT)}"


def _preflight(detail: events.PreflightFailed) -> tuple[str, str]:
    where = "" if detail.instance is None else f" on {detail.instance}"
    return "cannot be claimed", f"It carries both keys. {detail.code}{where}: {quoted(detail.text, SHORT)}"


_EVENTS: Final[dict[type, Callable[[Any], tuple[str, str]]]] = {
    events.Started: lambda _: ("started", "The rollout began."),
    events.CanaryPromoted: lambda d: (f"{d.tier} % passed", f"The tier {d.tier} % passed, and {d.to} % follows."),
    events.Paused: _paused,
    events.Resumed: lambda _: ("goes on", "The pause is over."),
    events.Halted: _halted,
    events.RollbackStarted: lambda d: ("goes back", f"Every touched instance goes back. Cause {d.cause}."),
    events.RolledBack: lambda _: ("rolled back", "Every touched instance runs its tree from before again."),
    events.RollbackFailed: _failed,
    events.Completed: lambda _: ("completed", "Every instance runs the new tree."),
    events.Aborted: _aborted,
    events.PreflightFailed: _preflight,
}
"""Each event that is a notice, in words: title and text. Others tell nothing."""
