"""What a judge of one kind sees: the state before, the entry, its typed predicate and its verified signer."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeAlias

from msgspec import Struct

from keys.errors import LawRefused
from keys.principals import Holder, Principal, Role, TrustRoot
from keys.values import parse_time
from keys.words import counted
from ledger.chain import Entry
from ledger.statement import Statement
from policies.fold.deployment import Deployment
from policies.fold.state import LeaseState, ProposalState, SignerRef, State, Vote
from policies.kinds import AnyPredicate
from policies.matrix import CapabilityMatrix
from policies.names import Objects

Change: TypeAlias = Callable[[State], None]
"""What a lawful entry does to the state. Judges read the state and return this; only then is anything changed."""
Effect: TypeAlias = Callable[[Deployment], None]
"""What a lawful event does to its deployment."""


class Case(Struct, frozen=True, gc=False):
    """One entry before its judge. `seq`: position of the entry. `now`: the record's time, seconds since 1970. `holder`:
    who signs, as enrolled at this position.
    """

    state: State
    seq: int
    now: int
    entry: Entry
    statement: Statement
    predicate: AnyPredicate
    holder: Holder
    objects: Objects

    @property
    def principal(self) -> Principal:
        """Who signs."""
        return self.holder.principal

    @property
    def signer(self) -> SignerRef:
        """Who signs, as the state keeps it."""
        principal, entry, enrolled = self.holder
        return SignerRef(principal.id, principal.kind, enrolled.keyid, entry.public.raw.hex(), principal.custodian)

    @property
    def trust(self) -> TrustRoot:
        """The trust root in force."""
        return trust_of(self.state)

    @property
    def policy(self) -> CapabilityMatrix:
        """The policy in force."""
        return policy_of(self.state)

    def vote(self, role: str, review: str | None) -> Vote:
        """This entry as a vote."""
        return Vote(
            seq=self.seq,
            digest=self.statement.digest,
            leaf=self.entry.leaf,
            signer=self.signer,
            role=role,
            review=review,
            head_size=self.statement.head.size,
            made_at=self.statement.made_at,
            time=self.now,
            user_verified=self.holder.entry.user_verification,
        )


def refuse(code: str, message: str, *, rule: str, hint: str = "", **fields: str | int | None) -> NoReturn:
    """Refuse the entry. Raises: LawRefused."""
    raise LawRefused(code, message, rule=rule, hint=hint, **fields)


def trust_of(state: State) -> TrustRoot:
    """The trust root in force. Raises: LawRefused before genesis."""
    if state.trust is None:
        refuse("no_genesis", "the ledger has no genesis", rule="genesis")
    return state.trust


def policy_of(state: State) -> CapabilityMatrix:
    """The policy in force. Raises: LawRefused before genesis."""
    if state.policy is None:
        refuse("no_genesis", "the ledger has no genesis", rule="genesis")
    return state.policy


def require_role(case: Case, *roles: Role) -> Role:
    """The first of `roles` that the signer holds now. Raises: LawRefused (`role_missing`)."""
    for role in roles:
        if role in case.principal.roles:
            return role
    refuse(
        "role_missing",
        f"{case.principal.id} does not hold the role {' or '.join(roles)} at entry {case.seq}",
        rule="roles",
        principal=case.principal.id,
    )


def require_kind(case: Case, kind: str) -> None:
    """Require the signer's principal kind. Raises: LawRefused (`wrong_kind`)."""
    if case.holder.enrolled.kind != kind:
        refuse(
            "wrong_kind",
            f"{case.principal.id} is {case.principal.kind}, and this is said by {kind} only",
            rule="roles",
            principal=case.principal.id,
        )


def compromised_from(trust: TrustRoot, raw: str) -> int | None:
    """Position from which a raw key (hex) is revoked for compromise, or None."""
    return next((item.position for item in trust.compromised if item.public.raw.hex() == raw), None)


def vote_compromised(trust: TrustRoot, vote: Vote) -> bool:
    """Whether a vote was given at or after the position from which its key is revoked for compromise."""
    position = compromised_from(trust, vote.signer.raw)
    return position is not None and vote.seq >= position


def holds_now(trust: TrustRoot, signer: SignerRef, role: str) -> bool:
    """Whether the principal still holds that key and that role."""
    holder = trust.find_raw(signer.raw)
    return holder is not None and holder.principal.id == signer.principal and role in holder.principal.roles


def subject_lease(case: Case) -> LeaseState:
    """The lease that the statement is about. Raises: LawRefused (`unknown_subject`)."""
    lease = case.state.leases.get(case.statement.subject_digest)
    if lease is None:
        refuse("unknown_subject", "the statement is about no lease of this ledger", rule="subject")
    check_subject(case, lease.lease.id, lease.seq)
    return lease


def subject_proposal(case: Case) -> LeaseState | ProposalState:
    """The lease or proposal that the statement is about. Raises: LawRefused (`unknown_subject`)."""
    proposal = case.state.proposals.get(case.statement.subject_digest)
    if proposal is None:
        return subject_lease(case)
    check_subject(case, proposal.kind, proposal.seq)
    return proposal


def check_subject(case: Case, name: str, seq: int) -> None:
    """The subject's name is right, and the signer had seen the subject. Raises: LawRefused."""
    if case.statement.subject_name != name:
        refuse("unknown_subject", f"the subject's digest belongs to {name}, not to that name", rule="subject")
    if case.statement.head.size <= seq:
        refuse(
            "head_too_old",
            f"the signer's head of {counted(case.statement.head.size, 'entry')} does not hold the subject, entry {seq}",
            rule="heads",
            entry=seq,
            hint="read the ledger to its end, then sign",
        )


def check_approval_window(case: Case, approve_by: str, seq: int, step: int | None = None) -> None:
    """Approval of what entry `seq` asks is possible until `approve_by`, by the signer's time and by the record's.
    `step`: of the two-key rule, for a lease.

    Raises: LawRefused (`approval_expired`).
    """
    if max(case.now, case.statement.made_at) > parse_time(approve_by):
        text = f"approval was possible until {approve_by}"
        refuse("approval_expired", text, rule="time", step=step, entry=seq, hint="propose again")
