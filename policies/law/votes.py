"""Which cosignatures of a lease count now, which two count together, and why each of the others does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from keys.openssh_public import HARDWARE
from keys.principals import TrustRoot
from keys.values import fold_id, parse_time
from policies.fold.state import LeaseState, SignerRef, State, Vote
from policies.law.case import holds_now, policy_of, trust_of, vote_compromised


@dataclass(frozen=True, slots=True)
class Ignored:
    """Why a cosignature does not count; `seq`: the entry that is in the way, its own where no other is."""

    code: str
    text: str
    seq: int


class Weighed(NamedTuple):
    """A lease's cosignatures, weighed. `good`: those that count, by seq. `ignored`: why each of the others does not."""

    good: list[Vote]
    ignored: list[Ignored]


def weigh_votes(state: State, lease: LeaseState) -> Weighed:
    """Every cosignature of a lease, weighed now."""
    weighed = [(vote, weigh_vote(state, lease, vote)) for vote in lease.ballot.votes]
    return Weighed(
        [vote for vote, ignored in weighed if ignored is None], [why for _, why in weighed if why is not None]
    )


def weigh_vote(state: State, lease: LeaseState, vote: Vote) -> Ignored | None:
    """Why a cosignature of a lease does not count now, or None where it does."""
    trust = trust_of(state)
    if lease.ballot.withdrawn(vote):
        seq = lease.ballot.withdrawn_in(vote)
        return Ignored("withdrawn", f"{_whose(vote)} was withdrawn in entry {seq}", seq)
    if max(vote.made_at, vote.time) > parse_time(lease.lease.approve_by):
        return Ignored("approval_expired", f"{_whose(vote)} came after {lease.lease.approve_by}", vote.seq)
    if vote_compromised(trust, vote):
        seq = state.in_force_since(state.trust_digest)
        return Ignored("key_compromised", f"{_whose(vote)} was made with a key revoked as compromised", seq)
    if not holds_now(trust, vote.signer, vote.role):
        seq = state.in_force_since(state.trust_digest)
        text = f"{_whose(vote)}: the signer no longer holds that key and the role {vote.role}"
        return Ignored("role_missing", text, seq)
    return None


def best_pair(state: State, lease: LeaseState, good: Sequence[Vote]) -> tuple[Vote, Vote] | None:
    """Of all pairs of `good` that count together, the one with the lowest last seq, then the lowest first."""
    return min(_pairs(state, lease, good), key=lambda pair: (pair[1].seq, pair[0].seq), default=None)


def verifies_user(trust: TrustRoot, vote: Vote) -> bool:
    """Whether a vote is by a token that verified its user: the root asked that of the key when the vote was verified,
    and asks it now. A signature from before the root asked was never checked for it.
    """
    holder = trust.find_raw(vote.signer.raw)
    if holder is None or holder.entry.public.type != HARDWARE:
        return False
    return vote.user_verified and holder.entry.user_verification


def _whose(vote: Vote) -> str:
    return f"{vote.signer.principal}'s in entry {vote.seq}"


def _pairs(state: State, lease: LeaseState, votes: Sequence[Vote]) -> Iterator[tuple[Vote, Vote]]:
    trust = trust_of(state)
    for first, second in combinations(votes, 2):
        roles = {first.role, second.role}
        if lease.lease.rule == "break_glass":
            if roles != {"approver"}:
                continue
            clause = policy_of(state).deploy_production.break_glass
            if clause.user_verification and not (verifies_user(trust, first) or verifies_user(trust, second)):
                continue
        elif "approver" not in roles or not roles & {"sentinel", "validator"}:
            continue
        if _independent(trust, first.signer, second.signer, lease.proposer):
            yield first, second


def _independent(trust: TrustRoot, *signers: SignerRef) -> bool:
    for a, b in combinations(signers, 2):
        same_custodian = _custodian(trust, a) == _custodian(trust, b) or a.custodian == b.custodian
        # A root that spells an id anew makes nobody another principal.
        same_principal = fold_id(a.principal) == fold_id(b.principal)
        if same_principal or a.raw == b.raw or same_custodian:
            return False
    return True


def _custodian(trust: TrustRoot, signer: SignerRef) -> str:
    principal = trust.find_spelled(signer.principal)
    return signer.custodian if principal is None else principal.custodian
