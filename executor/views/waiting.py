"""What waits for a person: approvals, votes, deployments that go on only at their word, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from executor.escape import shorten
from executor.signing.approval import waits_for
from executor.views.messages import list_messages
from keys.errors import LawRefused
from keys.principals import Principal
from keys.values import fold_id, format_time
from policies.fold.deployment import Deployment, Phase
from policies.fold.state import Ballot, LeaseState, State
from policies.kinds import TrustProposal
from policies.law.commands import check_rollback
from policies.law.health import check_health
from policies.law.two_key import examine_lease

ORDERING: Final = frozenset({"approver", "operator"})
"""Roles whose holders give orders to deployments."""
MAX_REASON: Final = 200
"""Characters of a reason that a list shows; `calyx show` has all of it."""
TERMS: Final = 2
"""The step of the two-key rule that looks at policy, fleet and terms; where it fails it never holds again."""
_READY_BUT: Final = frozenset({5, 6})
"""Steps of the two-key rule that an approver's key can settle."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing that waits. `name`: a lease's id, or the first digits of `digest`, which is that of its statement.
    `since`: when it began to wait, seconds since 1970. `until`: UTC text, or None. `command`: what answers it.
    `urgent`: break-glass, or a review of it that is overdue.
    """

    kind: str
    name: str
    digest: str
    text: str
    since: int
    until: str | None
    command: str
    urgent: bool = False


def list_waiting(state: State, principal: str, now: int) -> list[Waiting]:
    """What waits for one human at a time: overdue reviews, then break-glass, then the longest wait first. `now`:
    seconds since 1970.
    """
    person = find_principal(state, principal)
    if person is None:
        return []
    if state.trust is None or state.trust.find_principal(principal) is None:
        return sorted(_proposals(state, person, now, f" --as {person.id}"), key=lambda item: (item.since, item.name))
    found = [*_leases(state, person, now), *_proposals(state, person, now), *_questions(state, person)]
    if not ORDERING.isdisjoint(person.roles):
        found += _orders(state, now)
        found += _not_ready(state, now)
    if person.roles:
        found += owed_reviews(state, now)
    return sorted(found, key=lambda item: (not _overdue(item, now), not item.urgent, item.since, item.name))


def find_principal(state: State, principal: str) -> Principal | None:
    """A principal of the trust root in force, else of one that is proposed: whom it enrols may have to approve it."""
    known = None if state.trust is None else state.trust.find_principal(principal)
    if known is not None:
        return known
    for proposal in state.proposals.values():
        said = proposal.proposal
        if isinstance(said, TrustProposal) and proposal.decided_seq is None and said.base == state.trust_digest:
            found = said.trust.find_principal(principal)
            if found is not None:
                return found
    return None


def owed_reviews(state: State, now: int) -> list[Waiting]:
    """The reviews that claimed break-glass leases owe, the first due first; those overdue stop every other claim."""
    found = []
    for digest, due in sorted(state.owed_reviews.items(), key=lambda item: item[1]):
        lease, deployment = state.leases[digest], state.deployments[digest]
        late = due < now
        found.append(
            Waiting(
                "review",
                lease.lease.id,
                digest,
                f"BREAK-GLASS: its review is overdue since {format_time(due)}, and no other lease can be claimed"
                if late
                else "BREAK-GLASS: its review is owed, so that other leases can be claimed on",
                state.history.time(deployment.claim_seq),
                format_time(due),
                "calyx agent run cp14",
                urgent=late,
            )
        )
    return found


def awaited_order(deployment: Deployment) -> tuple[str, str] | None:
    """The command that a deployment waits for, and why; None when it goes on by itself."""
    lease, phase = deployment.lease, deployment.phase
    if phase is Phase.HALTED and deployment.halted_cause == "tainted" and deployment.rollback_order is None:
        return "rollback", "halted, because a key that it counted on is compromised"
    if phase is Phase.ROLLBACK_FAILED and deployment.rollback_order is None:
        return "rollback", "its rollback failed; a person must look"
    if deployment.abort_order is not None or deployment.rollback_order is not None:
        return None
    if phase is Phase.CLAIMED and lease.start == "command" and deployment.start_order is None:
        return "start", "claimed, waits for its start"
    if phase is Phase.PAUSED and deployment.pause_order is not None:
        return "resume", f"paused by {deployment.pause_order.by}"
    if phase is Phase.BAKING and _waits_for_promotion(deployment):
        return "promote", f"tier {deployment.tier} % passed and waits to be promoted"
    return None


def goes_back_after(deployment: Deployment) -> str:
    """Until when a deployment may go forward, UTC text: after that it ends, or is taken back, without a word."""
    return deployment.lease.complete_by if deployment.started else deployment.lease.execute_by


def _leases(state: State, person: Principal, now: int) -> Iterator[Waiting]:
    for lease in _open_leases(state):
        if (
            waits_for(state, lease, person.id, now)
            and not _took_back(lease.ballot, person)
            and _key_helps(state, lease, person, now)
        ):
            glass = lease.lease.rule == "break_glass"
            yield Waiting(
                "lease",
                lease.lease.id,
                lease.digest,
                f"BREAK-GLASS change of {lease.lease.target}, asked by {lease.proposer.principal}: "
                + shorten(lease.lease.reason or "", MAX_REASON)
                if glass
                else f"change of {lease.lease.target}, asked by {lease.proposer.principal}: "
                + shorten(state.intents[fold_id(lease.lease.intent)].why, MAX_REASON),
                lease.time,
                lease.lease.approve_by,
                f"calyx approve {lease.lease.id}",
                urgent=glass,
            )


def _proposals(state: State, person: Principal, now: int, named: str = "") -> Iterator[Waiting]:
    """`named`: how a command is told who the person is, where it cannot find that in the trust root in force."""
    for digest, proposal in state.proposals.items():
        if waits_for(state, proposal, person.id, now) and not _took_back(proposal.ballot, person):
            # Who cosigned and is asked again has another key in the proposed root, which must agree as well.
            again = any(vote.signer.principal == person.id for vote in proposal.ballot.standing())
            yield Waiting(
                proposal.kind,
                digest[:12],
                digest,
                f"proposal of {proposal.kind} by {proposal.proposal.by}"
                + (", which needs your key in the root that it proposes" if again else ""),
                state.history.time(proposal.seq),
                proposal.proposal.approve_by,
                f"calyx approve {digest[:12]}{named}" + (" --key FILE" if again else ""),
            )


def _took_back(ballot: Ballot, person: Principal) -> bool:
    """Whether a person withdrew, and did not approve again: that is an answer, and nothing waits for another."""
    me = fold_id(person.id)
    withdrawn = max((one.seq for one in ballot.withdrawals if fold_id(one.principal) == me), default=-1)
    approved = max((vote.seq for vote in ballot.votes if fold_id(vote.signer.principal) == me), default=-1)
    return withdrawn > approved


def _key_helps(state: State, lease: LeaseState, person: Principal, now: int) -> bool:
    """Whether this person's key brings a lease nearer to its claim."""
    if fold_id(lease.proposer.principal) == fold_id(person.id) or lease.proposer.custodian == person.custodian:
        return False
    lacking = [step for step in examine_lease(state, lease.digest, now) if not step.ok]
    failed = [step for step in lacking if step.number in _READY_BUT]
    if not failed or failed[0].missing == "agent" or any(step.number == TERMS for step in lacking):
        return False
    if failed[0].missing == "user_verification":
        return any(entry.user_verification for entry in person.keys)
    return True


def _orders(state: State, now: int) -> Iterator[Waiting]:
    # Of those that ended, only what may be taken back can wait for a word.
    for digest in {**dict.fromkeys(state.live.values()), **dict.fromkeys(state.returnable)}:
        deployment = state.deployments[digest]
        awaited = awaited_order(deployment)
        if awaited is not None and not _superseded(state, deployment, now):
            verb, text = awaited
            name = deployment.lease.id
            glass = deployment.lease.rule == "break_glass"
            yield Waiting(
                "deployment",
                name,
                digest,
                f"BREAK-GLASS: {text}" if glass else text,
                _began_to_wait(state, deployment, verb),
                None if verb == "rollback" else goes_back_after(deployment),
                f"calyx {verb} {name}",
                urgent=glass,
            )


def _superseded(state: State, deployment: Deployment, now: int) -> bool:
    """Whether a rollback that failed is of no use any more: a later deployment changed its instances."""
    if deployment.phase is not Phase.ROLLBACK_FAILED:
        return False
    try:
        check_rollback(state, deployment, now)
    except LawRefused as refusal:
        return refusal.code == "superseded"
    return False


def _began_to_wait(state: State, deployment: Deployment, verb: str) -> int:
    claimed = state.history.time(deployment.claim_seq)
    if verb == "resume":
        return deployment.paused_at or claimed
    if verb == "promote":
        # A bake that the law let be skipped has fewer samples than it needs.
        whole = [state.history.time(one.seq) for one in deployment.samples[-1:] if one.tier == deployment.tier]
        passed = [deployment.baked_at] if deployment.baked_at is not None else whole
        return max(passed[0], deployment.resumed_at or 0) if passed else claimed
    if verb == "rollback":
        return deployment.ended_at or deployment.halted_at or claimed
    return claimed


def _not_ready(state: State, now: int) -> Iterator[Waiting]:
    """Leases that carry both keys, and that the executor tries to claim again and again: something is in its way."""
    for lease in _open_leases(state):
        if lease.preflight and all(step.ok for step in examine_lease(state, lease.digest, now)):
            _, code, text = lease.preflight[-1]
            glass = lease.lease.rule == "break_glass"
            yield Waiting(
                "preflight",
                lease.lease.id,
                lease.digest,
                f"{'BREAK-GLASS: ' if glass else ''}cannot be claimed: {code}: {text}",
                state.history.time(lease.preflight[0][0]),
                lease.lease.execute_by,
                f"calyx lease rebase {lease.lease.id}" if code == "base_moved" else f"calyx check {lease.lease.id}",
                urgent=glass,
            )


def _open_leases(state: State) -> Iterator[LeaseState]:
    return (state.leases[digest] for digest in state.open_leases)


def _questions(state: State, person: Principal) -> Iterator[Waiting]:
    """Questions to this person that they did not answer. What was asked is in the entry."""
    for message in list_messages(state):
        note, digest = message.note, message.digest
        if message.standing == "open" and note.to is not None and fold_id(note.to) == fold_id(person.id):
            text = f"asked by {note.by} in entry {note.seq}"
            command = f"calyx message answer {digest[:12]}"
            yield Waiting("question", digest[:12], digest, text, state.history.time(note.seq), None, command)


def _overdue(item: Waiting, now: int) -> bool:
    return item.kind == "review" and item.until is not None and item.until < format_time(now)


def _waits_for_promotion(deployment: Deployment) -> bool:
    order = deployment.promote_order
    given = order is not None and order.tier == deployment.tier
    if deployment.lease.promotion != "manual" or deployment.last_tier or given:
        return False
    try:
        check_health(deployment)
    except LawRefused as refusal:
        return refusal.code == "not_healthy" and _passed_until_now(deployment)
    return True


def _passed_until_now(deployment: Deployment) -> bool:
    """Whether all that is new since a bake passed is a sample that nobody has judged yet: nothing changed so far."""
    verdict, newest = deployment.verdict, deployment.samples[-1] if deployment.samples else None
    if verdict is None or newest is None or verdict.tier != deployment.tier or verdict.verdict != "pass":
        return False
    return verdict.n < newest.n and deployment.whole_samples() - newest.whole >= deployment.samples_needed
