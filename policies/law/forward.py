"""Whether a deployment may take a step forward now: its window, the policy, its votes, orders and health."""

from __future__ import annotations

from keys.values import parse_time
from policies.fold.deployment import Deployment
from policies.fold.state import State
from policies.law.case import refuse, vote_compromised


def check_forward(state: State, deployment: Deployment, now: int) -> None:
    """A deployment may take a step forward now. Raises: LawRefused that says what forbids it."""
    lease = deployment.lease
    if now > parse_time(lease.complete_by):
        refuse("complete_by_passed", f"steps forward were possible until {lease.complete_by}", rule="forward")
    policy = state.policy
    if policy is None or not policy.deployment_enabled() or lease.target not in policy.deploy_production.targets:
        since = state.in_force_since(state.policy_digest)
        text = f"the policy in force since entry {since} does not enable this deployment"
        refuse("capability_disabled", text, rule="forward", entry=since)
    tainted = tainted_votes(state, deployment)
    if tainted:
        text = f"the counted cosignature in entry {tainted[0]} was made with a key revoked as compromised"
        refuse("tainted", text, rule="forward", entry=tainted[0])
    for order in (deployment.abort_order, deployment.rollback_order):
        if order is not None:
            text = f"{order.by} ordered {order.verb} in entry {order.seq}"
            refuse("stopped", text, rule="forward", entry=order.seq)
    bad = deployment.bad_verdict
    if bad is not None:
        refuse(
            "health_refused",
            f"the tier {bad.tier} % was judged {bad.verdict} in entry {bad.seq}",
            rule="health",
            entry=bad.seq,
            gate=bad.gate,
        )
    if deployment.pause_order is not None:
        order = deployment.pause_order
        text = f"{order.by} ordered a pause in entry {order.seq}"
        refuse("paused", text, rule="forward", entry=order.seq, hint="calyx resume")


def tainted_votes(state: State, deployment: Deployment) -> list[int]:
    """Seqs of counted cosignatures whose key was revoked for compromise from there on, or before."""
    trust = state.trust
    if trust is None or not trust.compromised:
        return []
    votes = state.leases[deployment.lease_digest].ballot.votes
    return [v.seq for v in votes if v.seq in deployment.counted and vote_compromised(trust, v)]
