"""What waits for a person: approvals, votes, and deployments that go on only at their word."""

from __future__ import annotations

from dataclasses import dataclass

from executor.approval import waits_for
from keys.errors import LawRefused
from policies.deployment import Deployment, Phase
from policies.law.health import check_health
from policies.state import State


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing that waits. `since`: seconds since 1970. `until`: UTC text, or None. `command`: what answers it."""

    kind: str
    name: str
    text: str
    since: int
    until: str | None
    command: str


def list_waiting(state: State, principal: str, now: int) -> list[Waiting]:
    """What waits for one human at a time, the longest first. `now`: seconds since 1970."""
    found = [
        Waiting(
            "lease",
            lease.lease.id,
            f"change of {lease.lease.target}, asked by {lease.proposer.principal}",
            lease.time,
            lease.lease.approve_by,
            f"calyx approve {lease.lease.id}",
        )
        for lease in state.leases.values()
        if waits_for(state, lease, principal, now)
    ]
    found += [
        Waiting(
            proposal.kind,
            digest[:12],
            f"proposal of {proposal.kind} by {proposal.proposal.by}",
            state.history.time(proposal.seq),
            proposal.proposal.approve_by,
            f"calyx approve {digest[:12]}",
        )
        for digest, proposal in state.proposals.items()
        if waits_for(state, proposal, principal, now)
    ]
    found += [item for each in state.deployments.values() if (item := _order(state, each)) is not None]
    return sorted(found, key=lambda item: item.since)


def awaited_order(deployment: Deployment) -> tuple[str, str] | None:
    """The command that a deployment waits for, and why; None when it goes on by itself."""
    lease = deployment.lease
    if deployment.phase is Phase.CLAIMED and lease.start == "command" and deployment.start_order is None:
        return "start", "claimed, waits for its start"
    if deployment.phase is Phase.PAUSED and deployment.pause_order is not None:
        return "resume", f"paused by {deployment.pause_order.by}"
    if deployment.phase is Phase.BAKING and _waits_for_promotion(deployment):
        return "promote", f"tier {deployment.tier} % passed and waits to be promoted"
    if deployment.phase is Phase.HALTED and deployment.halted_cause == "tainted":
        return "rollback", "halted, because a key that it counted on is compromised"
    if deployment.phase is Phase.ROLLBACK_FAILED:
        return "rollback", "its rollback failed; a person must look"
    return None


def _waits_for_promotion(deployment: Deployment) -> bool:
    order = deployment.promote_order
    given = order is not None and order.tier == deployment.tier
    if deployment.lease.promotion != "manual" or deployment.last_tier or given:
        return False
    try:
        check_health(deployment)
    except LawRefused:
        return False
    return True


def _order(state: State, deployment: Deployment) -> Waiting | None:
    awaited = awaited_order(deployment)
    if awaited is None:
        return None
    verb, text = awaited
    name = deployment.lease.id
    since = state.history.time(deployment.claim_seq) if deployment.ended_at is None else deployment.ended_at
    return Waiting("deployment", name, text, since, None, f"calyx {verb} {name}")
