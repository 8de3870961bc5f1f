"""Approving and objecting: what is shown, whether it may still be said, and the draft of it."""

from __future__ import annotations

from typing import Literal

from executor.render.bounds import SHORT, Bounds
from executor.render.statement import read_statement, render_lease, render_proposal
from executor.render.text import Rendering
from keys.errors import LawRefused, Unavailable
from keys.principals import TrustRoot
from keys.values import parse_time
from keys.words import counted
from ledger.objects import ObjectStore
from ledger.store import Reader
from policies.fold.state import LeaseState, ProposalState, State
from policies.kinds import TrustProposal
from policies.law.case import holds_now
from policies.law.governance import check_proposal_open, quorum_progress
from policies.law.lease_terms import check_in_force
from policies.law.leases import check_lease_open
from policies.law.two_key import examine_lease
from policies.submitter import Draft


def name_of(subject: LeaseState | ProposalState) -> str:
    """The name under which statements are about a lease or proposal."""
    return subject.lease.id if isinstance(subject, LeaseState) else subject.kind


def render_subject(
    state: State,
    subject: LeaseState | ProposalState,
    reader: Reader,
    objects: ObjectStore,
    now: int,
    bounds: Bounds = SHORT,
) -> Rendering:
    """A lease or proposal, from the bytes of its entry. `now`: seconds since 1970."""
    statement = read_statement(reader, subject.seq, subject.digest)
    if isinstance(subject, LeaseState):
        return render_lease(state, subject, statement, objects, now, bounds)
    return render_proposal(state, subject, statement, bounds)


def summarise(subject: LeaseState | ProposalState) -> list[str]:
    """A lease or proposal in two lines, for what is not an approval: it is not escaped."""
    if isinstance(subject, ProposalState):
        asked = subject.proposal
        return [
            f"Proposal of {subject.kind} {subject.digest[:12]}, asked by {asked.by} in entry {subject.seq}",
            f"  {asked.reason}",
        ]
    lease = subject.lease
    paths, instances = counted(len(subject.paths), "changed path"), counted(len(subject.after), "instance")
    return [
        f"{lease.id} on {lease.target}, asked by {lease.by} in entry {subject.seq}",
        f"  {paths}, {instances}, approval until {lease.approve_by}",
    ]


def find_said(state: State, digest: str) -> LeaseState | ProposalState | None:
    """The lease or proposal with this statement digest."""
    return state.leases.get(digest) or state.proposals.get(digest)


def check_open(state: State, subject: LeaseState | ProposalState, now: int) -> None:
    """Spare a person the signing of what cannot count: decided already, on terms not in force, or too late.

    Raises: LawRefused, with the entry that is in the way.
    """
    if isinstance(subject, LeaseState):
        check_lease_open(subject)
        check_in_force(state, subject)
    else:
        check_proposal_open(state, subject)
    approve_by = subject.lease.approve_by if isinstance(subject, LeaseState) else subject.proposal.approve_by
    if now > parse_time(approve_by):
        raise LawRefused(
            "approval_expired",
            f"approval was possible until {approve_by}",
            rule="time",
            step=3 if isinstance(subject, LeaseState) else None,
            entry=subject.seq,
            hint="propose again",
        )


def check_shown(state: State, rendering: Rendering) -> None:
    """Where the policy in force asks that a person looks, there is something to look at: whoever keeps a single object
    back keeps the whole difference from being shown.

    Raises: Unavailable (`not_shown`).
    """
    if rendering.unseen and state.policy is not None and state.policy.deploy_production.look:
        raise Unavailable(
            "not_shown",
            f"the policy asks that a person looks, and what changes cannot be shown: {rendering.unseen}",
            hint="have whoever proposed it bring the objects; calyx show has the rest",
        )


def check_objection(state: State, subject: LeaseState | ProposalState, verb: Literal["deny", "withdraw"]) -> None:
    """Spare a person a denial or withdrawal that changes nothing: claimed, denied, or void already.

    Raises: LawRefused, with the entry that is in the way.
    """
    if isinstance(subject, ProposalState):
        if verb == "deny":
            raise LawRefused(
                "wrong_subject", "only leases can be denied", rule="objection", hint="do not cosign the proposal"
            )
        check_proposal_open(state, subject)
        return
    deployment = state.deployments.get(subject.digest)
    if deployment is not None and not deployment.live:
        raise LawRefused(
            "lease_consumed",
            f"{subject.lease.id} was claimed in entry {subject.claim_seq}, and its deployment is {deployment.phase}",
            rule="claim",
            entry=subject.claim_seq,
            hint=f"calyx rollback {subject.lease.id}, if it completed and can still be taken back",
        )
    check_lease_open(subject)
    # By the ledger's own time: a wrong clock here must not keep anyone from saying no.
    if state.history.time(state.size - 1) > parse_time(subject.lease.execute_by):
        raise LawRefused(
            "lease_expired",
            f"{subject.lease.id} could be claimed until {subject.lease.execute_by}, and was not",
            rule="time",
            step=3,
            entry=subject.seq,
            hint="nothing is left to do about it",
        )


def draft_approval(subject: LeaseState | ProposalState, rendering: Rendering) -> Draft:
    """A human's cosignature of the lease or proposal that was shown. Raises: LawRefused (`unknown_subject`)."""
    role: Literal["approver", "operator", "governor"] = "approver"
    if isinstance(subject, ProposalState):
        role = "operator" if subject.kind == "fleet" else "governor"
    if rendering.digest != subject.digest:
        raise LawRefused("unknown_subject", "what was shown is not what would be signed", rule="subject")
    return Draft("cosignature", {"role": role, "review": None}, (name_of(subject), subject.digest))


def draft_objection(verb: Literal["deny", "withdraw"], reason: str, subject: LeaseState | ProposalState) -> Draft:
    """A denial or withdrawal."""
    return Draft("objection", {"verb": verb, "reason": reason}, (name_of(subject), subject.digest))


def still_missing(state: State, subject: LeaseState | ProposalState, now: int) -> list[str]:
    """What a lease still lacks before it can be claimed, or a proposal before it is in force; one line each."""
    if isinstance(subject, ProposalState):
        proposal = state.proposals[subject.digest]
        if proposal.decided_seq is not None:
            return []
        return [
            f"{name}: {found} of {needed}" for name, found, needed in quorum_progress(state, proposal) if found < needed
        ]
    steps = examine_lease(state, subject.digest, now)
    return [f"step {step.number}: {step.code}: {step.text}" for step in steps if not step.ok]


def waits_for(state: State, subject: LeaseState | ProposalState, principal: str, now: int) -> bool:
    """Whether a lease or proposal waits for this human's approval, and may still have it at `now`."""
    trust = state.trust
    if trust is None:
        return False
    roots = [trust]
    if isinstance(subject, LeaseState):
        open_ = subject.claim_seq is None and subject.denied is None and _in_force(state, subject)
        role, until = "approver", subject.lease.approve_by
    else:
        if isinstance(subject.proposal, TrustProposal):
            both = zip((trust, subject.proposal.trust), quorum_progress(state, subject), strict=True)
            roots = [root for root, (_, found, needed) in both if found < needed]
        base = {"trust": state.trust_digest, "policy": state.policy_digest, "fleet": state.fleet_digest}[subject.kind]
        open_ = subject.decided_seq is None and subject.proposal.base == base
        role, until = ("operator" if subject.kind == "fleet" else "governor"), subject.proposal.approve_by
    return open_ and now <= parse_time(until) and any(_lacks_vote(root, subject, principal, role) for root in roots)


def _lacks_vote(root: TrustRoot, subject: LeaseState | ProposalState, principal: str, role: str) -> bool:
    """Whether a person who holds the role in a root has no cosignature that counts there: a key that a proposed root
    no longer holds, or does not hold yet, counts for one of the two alone.
    """
    person = root.find_principal(principal)
    if person is None or role not in person.roles:
        return False
    standing = subject.ballot.standing()
    return not any(vote.signer.principal == principal and holds_now(root, vote.signer, role) for vote in standing)


def _in_force(state: State, lease: LeaseState) -> bool:
    return lease.lease.policy == state.policy_digest and lease.lease.fleet == state.fleet_digest
