"""What a change of trust, policy or fleet would bring, before anybody signs it: refusals, warnings, consequences.

A refusal is what the law would refuse, or what could never help. A warning is what a governor may want and should know:
it can be undone by another proposal, unless it says otherwise. A consequence is what happens to leases, proposals and
deployments at the moment when the change comes into force.

Everything here is plain text from the ledger: escape it before it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from executor.proposals.governance import GovernedKind, Value, list_needs, value_in_force
from keys.errors import LawRefused, Refused
from keys.openssh_public import HARDWARE
from keys.principals import Principal, Role, TrustRoot
from keys.values import parse_time
from keys.words import counted
from policies.fleet import Fleet
from policies.fold.state import LeaseState, ProposalState, State, Vote
from policies.law.case import holds_now, vote_compromised
from policies.law.governance import check_next_root
from policies.law.taint import find_tainted
from policies.matrix import CapabilityMatrix, DeployProduction

EXPIRY_WARNING_S: Final = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a change brings. `warnings`: what is dangerous about it. `consequences`: what it does at once."""

    warnings: tuple[str, ...]
    consequences: tuple[str, ...]


def check_change(state: State, kind: GovernedKind, value: Value, now: int) -> Outlook:
    """Prove that a change could come into force now, and say what it would bring. `now`: seconds since 1970.

    Raises: LawRefused (`bad_trust_root`), as the law would; Refused (`no_change`, `already_expired`).
    """
    if value == value_in_force(state, kind):
        raise Refused("no_change", f"this {kind} is in force already")
    if isinstance(value, TrustRoot):
        check_next_root(state, value, state.size)
        if parse_time(value.expires) <= now:
            raise Refused(
                "already_expired",
                f"the proposed root expires at {value.expires}, so no lease could ever be claimed under it",
                hint="calyx trust propose --renew 365d",
            )
        warnings = (*warn_root(state, value, now), *_warn_about_policy(value, state.policy))
        return Outlook(warnings, tuple(_after_trust(state, value, now)))
    if isinstance(value, CapabilityMatrix):
        warnings = (*_warn_policy(state, value),)
        return Outlook(warnings, (*_void_leases(state, now, "policy"), *_after_policy(state, value)))
    return Outlook(tuple(_warn_fleet(state, value)), tuple(_void_leases(state, now, "fleet")))


def check_person(state: State, kind: GovernedKind, principal: str) -> None:
    """Spare a person the signing of a proposal that the law would refuse them. Raises: LawRefused (`role_missing`)."""
    need = list_needs(state, kind, None)[0]
    if principal not in need.members:
        raise LawRefused(
            "role_missing",
            f"{principal} does not hold the role {'operator' if kind == 'fleet' else 'governor'}, and only such "
            f"propose a {kind}: {', '.join(need.members)}",
            rule="roles",
            hint="name one of them with --as",
        )


def warn_expiry(trust: TrustRoot, now: int) -> str | None:
    """Says when a root is about to expire, or has; None while there is time."""
    left = parse_time(trust.expires) - now
    if left < 0:
        return f"the trust root expired at {trust.expires}: no lease can be claimed until it is renewed"
    if left < EXPIRY_WARNING_S:
        days = counted(left // 86_400, "day")
        return f"the trust root expires at {trust.expires}, in {days}; then no lease can be claimed"
    return None


def warn_root(state: State, new: TrustRoot, now: int) -> Iterator[str]:
    """What is dangerous about a root that the law accepts."""
    yield from _warn_thresholds(new)
    expiry = warn_expiry(new, now)
    if expiry is not None:
        yield expiry
    yield from _warn_roles(new)
    yield from _warn_custodians(new)
    old = state.trust
    if old is not None and parse_time(new.expires) < parse_time(old.expires):
        yield f"it expires earlier than the root in force, at {new.expires}"


def _warn_thresholds(new: TrustRoot) -> Iterator[str]:
    roles: tuple[tuple[Role, int], ...] = (
        ("governor", new.thresholds.governors),
        ("operator", new.thresholds.operators),
    )
    for role, needed in roles:
        custodians = {member.custodian for member in new.members(role)}
        holders = [principal.id for principal in new.principals if role in principal.roles]
        if len(custodians) == 1 and role == "governor":
            yield (
                f"{holders[0]} is the sole governor: whoever has that key can change everything, and if it is lost "
                "nobody can; only another ledger that continues this one would help"
            )
        elif role == "governor" and needed == 1:
            yield f"any one of the governors alone can change everything: {', '.join(holders)}"
        elif role == "governor" and needed == len(custodians):
            yield f"every governor is needed: if {' or '.join(holders)} is lost, nothing can be changed any more"


def _warn_roles(new: TrustRoot) -> Iterator[str]:
    have = {role for principal in new.principals for role in principal.roles}
    kinds = {principal.kind for principal in new.principals}
    if "approver" not in have:
        yield "nobody is approver: no lease can be approved"
    if "proposer" not in have:
        yield "nobody is proposer: nothing can be proposed"
    if not have & {"sentinel", "validator"}:
        yield "no agent is sentinel or validator: no two-key lease can be claimed"
    if "executor" not in kinds:
        yield "there is no executor: nothing can be deployed, and nothing rolled back"
    if "monitor" not in kinds:
        yield "there is no monitor: every rollout halts for want of data"


def _warn_custodians(new: TrustRoot) -> Iterator[str]:
    people: dict[str, Principal] = {p.custodian: p for p in new.principals if "approver" in p.roles}
    for principal in new.principals:
        approver = people.get(principal.custodian)
        if approver is not None and principal.kind != "human":
            yield (
                f"{principal.id}, a machine, and {approver.id}, an approver, have one custodian, "
                f"{principal.custodian}: their keys never count together on a lease"
            )
    spelled: dict[str, str] = {}
    for custodian in dict.fromkeys(principal.custodian for principal in new.principals):
        other = spelled.setdefault(custodian.lower(), custodian)
        if other != custodian:
            yield f"the custodians {other} and {custodian} differ in case only, and count as two"
    approvers, agents, proposers = (
        {p.custodian for p in new.principals if roles & set(p.roles)}
        for roles in ({"approver"}, {"sentinel", "validator"}, {"proposer"})
    )
    trios = ((a, b, c) for a in approvers for b in agents for c in proposers)
    if approvers and agents and proposers and not any(len(set(trio)) == 3 for trio in trios):
        yield "no approver, agent and proposer have custodians of their own: no two-key lease can ever be claimed"


def _warn_about_policy(trust: TrustRoot, policy: CapabilityMatrix | None) -> Iterator[str]:
    """What the policy asks for and the root cannot give."""
    if policy is None:
        return
    terms = policy.deploy_production
    have = {role for principal in trust.principals for role in principal.roles}
    for role in terms.reviews:
        if role not in have:
            yield f"the policy asks for a review by a {role}, and nobody is one: no two-key lease can be claimed"
    if not terms.break_glass.enabled:
        return
    approvers = [principal for principal in trust.principals if "approver" in principal.roles]
    if len({principal.custodian for principal in approvers}) < 2:
        yield "break-glass needs two approvers with custodians of their own, and they are not there"
    keys = [entry for principal in approvers for entry in principal.keys]
    if terms.break_glass.user_verification and not any(
        entry.public.type == HARDWARE and entry.user_verification for entry in keys
    ):
        yield "break-glass asks for a hardware key that verifies its user, and no approver has one"


def _warn_policy(state: State, new: CapabilityMatrix) -> Iterator[str]:
    if state.trust is not None:
        yield from _warn_about_policy(state.trust, new)
    terms = new.deploy_production
    if new.deployment_enabled() and not terms.targets:
        yield "deployment is on and no target is allowed: every lease is refused"
    if state.fleet is not None:
        unknown = sorted(set(terms.targets) - set(state.fleet.targets))
        if unknown:
            yield f"the fleet in force has no target {', '.join(unknown)}"
        missing = _missing_hooks(state.fleet, terms)
        if missing:
            yield f"the fleet names hooks that the policy would not have: {', '.join(missing)}"
    if not terms.look:
        yield "a person may approve without having been shown the change on a terminal"


def _warn_fleet(state: State, new: Value) -> Iterator[str]:
    if not isinstance(new, Fleet) or state.policy is None:
        return
    gone = sorted(set(state.policy.deploy_production.targets) - set(new.targets))
    if gone:
        yield f"the policy allows targets that the fleet would not have: {', '.join(gone)}"
    missing = _missing_hooks(new, state.policy.deploy_production)
    if missing:
        yield f"the fleet would name hooks that the policy does not have: {', '.join(missing)}"


def _missing_hooks(fleet: Fleet, terms: DeployProduction) -> list[str]:
    """Hooks for the lack of which every lease of a target is refused."""
    named = {hook for target in fleet.targets.values() for hook in target.hook_names}
    return sorted(named - terms.hooks.keys())


def _after_policy(state: State, new: CapabilityMatrix) -> Iterator[str]:
    for target, digest in state.live.items():
        if not new.deployment_enabled() or target not in new.deploy_production.targets:
            yield f"{state.leases[digest].lease.id}, which is under way on {target}, halts and is rolled back"


def _open_leases(state: State, now: int) -> Iterator[LeaseState]:
    for digest, until in state.open_leases.items():
        lease = state.leases[digest]
        if lease.lease.policy == state.policy_digest and lease.lease.fleet == state.fleet_digest and until >= now:
            yield lease


def _void_leases(state: State, now: int, kind: str) -> Iterator[str]:
    for lease in _open_leases(state, now):
        yield f"{lease.lease.id} becomes void: it names the {kind} in force now; propose it again"


def _after_trust(state: State, new: TrustRoot, now: int) -> Iterator[str]:
    old = state.trust
    if old is None:
        return
    for lease in _open_leases(state, now):
        for vote in lease.ballot.standing():
            if _counts(old, vote) and not _counts(new, vote):
                yield f"the approval of {lease.lease.id} by {vote.signer.principal} in entry {vote.seq} stops counting"
    for proposal in state.proposals.values():
        if not _is_open(state, proposal, now):
            continue
        if proposal.kind == "trust":
            yield f"the proposal of trust in entry {proposal.seq} becomes void"
            continue
        for vote in proposal.ballot.standing():
            if _counts(old, vote) and not _counts(new, vote):
                yield (
                    f"the cosignature by {vote.signer.principal} in entry {vote.seq} of the proposal of "
                    f"{proposal.kind} in entry {proposal.seq} stops counting"
                )
    before = set(find_tainted(state, old))
    for taint in find_tainted(state, new):
        if taint not in before:
            runs = "it halts, and waits for calyx rollback" if taint.live else "it stays, and is listed as tainted"
            yield f"{taint.text}: {runs}"


def _counts(trust: TrustRoot, vote: Vote) -> bool:
    return holds_now(trust, vote.signer, vote.role) and not vote_compromised(trust, vote)


def _is_open(state: State, proposal: ProposalState, now: int) -> bool:
    base = {"trust": state.trust_digest, "policy": state.policy_digest, "fleet": state.fleet_digest}[proposal.kind]
    said = proposal.proposal
    return proposal.decided_seq is None and said.base == base and parse_time(said.approve_by) >= now
