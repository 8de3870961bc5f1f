"""The two-key rule: the one decision whether a lease may be claimed now, and what counted.

Nine steps, numbered as in docs/FORMAT.md. Every step is evaluated, so that a person sees all that is missing; the rule
holds when each one does.

    1  the lease is lawful and its proposer held the role
    2  its policy, fleet and rule are those in force, and it keeps the policy's terms
    3  now is in the window of execution, and each cosignature was in that of approval
    4  each counted cosignature covers this lease, its key and role are good then and now, and it was not withdrawn
    5  one human approver, and one sentinel (CP14) or validator (CP18)
    6  the two differ from each other and from the proposer in principal, raw key and custodian
    7  no denial stands
    8  the lease was not claimed, and its target has no live deployment
    9  the reviews that the policy asks for are there and pass

`break_glass` replaces 5 and 9 by two human approvers and the terms of the policy's emergency clause. An agent's review
is owed instead: where none with a good key is there at the claim, the first one after it settles that, whatever it
finds.
Signatures were verified, and windows of approval enforced, when the entries were judged; steps 1, 3 and 4 look again at
what can have changed since.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import InitVar, dataclass
from typing import Final, NamedTuple, NoReturn, TypeAlias

from keys.errors import CalyxError, LawRefused
from keys.principals import TrustRoot
from keys.values import format_time, parse_time
from keys.words import counted
from policies.fold.state import LeaseState, ReviewNote, State, Vote
from policies.law.case import holds_now, policy_of, trust_of
from policies.law.cohort import order_instances, plan_cohorts
from policies.law.lease_terms import check_in_force, fail_step
from policies.law.places import find_neighbour
from policies.law.votes import Weighed, best_pair, verifies_user, weigh_votes

_MADE_HERE: Final = object()

TITLES: Final = {
    1: "the lease is lawful, its proposer held the role",
    2: "policy, fleet and terms are those in force",
    3: "the windows of execution and approval hold",
    4: "cosignatures verify, keys and roles are good, none withdrawn",
    5: "one human approver and one sentinel or validator",
    6: "the two keys are independent of each other and of the proposer",
    7: "no denial stands",
    8: "not claimed before, target free",
    9: "the reviews asked for are there and pass",
}


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step. `code`: `ok`, or why it failed. `text`: one line for a person. `missing`: whose key step 5 misses:
    `human`, `agent`, `user_verification`; else None.
    """

    number: int
    title: str
    ok: bool
    code: str
    text: str
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class VerifiedLease:
    """A lease for which the two-key rule held at `now`. Only `check_two_key` makes one; only this can be deployed.

    `counted`: the two cosignatures, by seq. `cohorts`: tier -> the instances it adds.
    """

    lease: LeaseState
    counted: tuple[Vote, Vote]
    cohorts: dict[int, tuple[str, ...]]
    now: int
    made_here: InitVar[object] = None

    def __post_init__(self, made_here: object) -> None:
        if made_here is not _MADE_HERE:
            raise TypeError("only check_two_key makes a VerifiedLease")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a verified lease is not pickled: whoever reads the ledger checks it again")


def examine_lease(state: State, digest: str, now: int) -> list[StepResult]:
    """Every step's result for a lease at a time, in order. `now`: seconds since 1970.

    Raises: LawRefused (`unknown_lease`).
    """
    look = _look_at(state, digest, now)
    return [_examine(number, step, look) for number, step in _STEPS.items()]


def check_two_key(state: State, digest: str, now: int) -> VerifiedLease:
    """Prove that a lease carries both keys and may be claimed at `now`.

    Raises: LawRefused with the failed step in `step`; `unknown_lease`.
    """
    look = _look_at(state, digest, now)
    for step in _STEPS.values():
        step(look)
    if look.pair is None:
        fail_step(6, "quorum_unmet", "no two cosignatures count together")
    return VerifiedLease(look.lease, look.pair, cohorts_for(state, look.lease, look.pair[1].leaf), now, _MADE_HERE)


def cohorts_for(state: State, lease: LeaseState, last_leaf: str) -> dict[int, tuple[str, ...]]:
    """Tier -> the instances it adds, for the lease's own fleet and the leaf of the last counted cosignature."""
    target = state.fleets[lease.lease.fleet].targets[lease.lease.target]
    ordered = order_instances(lease.digest, last_leaf, lease.after, target.canaries)
    return plan_cohorts(lease.lease.tiers, ordered)


class _Look(NamedTuple):
    """What the steps look at. `votes`: the lease's cosignatures, weighed once for all steps; `pair`: the two that are
    counted.
    """

    state: State
    lease: LeaseState
    now: int
    votes: Weighed
    pair: tuple[Vote, Vote] | None


def _look_at(state: State, digest: str, now: int) -> _Look:
    lease = state.leases.get(digest)
    if lease is None:
        raise LawRefused("unknown_lease", "there is no such lease in this ledger", rule="two_key", hint="calyx inbox")
    votes = weigh_votes(state, lease)
    return _Look(state, lease, now, votes, best_pair(state, lease, votes.good))


_Step: TypeAlias = Callable[[_Look], str]


def _examine(number: int, step: _Step, look: _Look) -> StepResult:
    try:
        text = step(look)
    except CalyxError as error:
        missing = error.fields.get("missing")
        return StepResult(
            number, TITLES[number], False, error.code, error.message, missing if isinstance(missing, str) else None
        )
    return StepResult(number, TITLES[number], True, "ok", text)


def _step_1(look: _Look) -> str:
    lease = look.lease
    # The law judged the lease and its proposer's role at its entry; what it judged does not change.
    return f"entry {lease.seq}, proposed by {lease.proposer.principal}"


def _step_2(look: _Look) -> str:
    state, lease = look.state, look.lease
    check_in_force(state, lease)
    return f"target {lease.lease.target}, {counted(len(lease.paths), 'changed path')}, all allowed"


def _step_3(look: _Look) -> str:
    state, lease, now = look.state, look.lease, look.now
    if now < parse_time(lease.lease.not_before):
        fail_step(3, "too_early", f"execution is possible from {lease.lease.not_before}", "wait", entry=lease.seq)
    if now > parse_time(lease.lease.execute_by):
        text = f"execution was possible until {lease.lease.execute_by}"
        fail_step(3, "lease_expired", text, "propose again", entry=lease.seq)
    if now > parse_time(trust_of(state).expires):
        fail_step(
            3,
            "trust_expired",
            f"the trust root expired at {trust_of(state).expires}",
            "renew the trust root",
            entry=state.in_force_since(state.trust_digest),
        )
    return f"{format_time(now)} is between {lease.lease.not_before} and {lease.lease.execute_by}"


def _step_4(look: _Look) -> str:
    good, reasons = look.votes
    if not good and reasons:
        fail_step(4, reasons[0].code, reasons[0].text, entry=reasons[0].seq)
    ignored = "".join(f"; not counted: {reason.text}" for reason in reasons)
    return f"{len(good)} good{ignored}"


def _step_5(look: _Look) -> str:
    state, lease = look.state, look.lease
    good, reasons = look.votes
    people = [vote for vote in good if vote.role == "approver"]
    agents = [vote for vote in good if vote.role in {"sentinel", "validator"}]
    why = "".join(f" ({reason.text})" for reason in reasons)
    if lease.lease.rule == "break_glass":
        return _step_5_break_glass(state, people, why)
    if not people:
        fail_step(
            5, "quorum_unmet", f"no human approver's key{why}", f"calyx approve {lease.lease.id}", missing="human"
        )
    if not agents:
        fail_step(
            5,
            "quorum_unmet",
            f"no sentinel's (CP14) or validator's (CP18) key{why}",
            "calyx agent run cp14",
            missing="agent",
        )
    return ", ".join(f"{v.signer.principal} ({v.role}, entry {v.seq})" for v in (*people, *agents))


def _step_5_break_glass(state: State, people: list[Vote], why: str) -> str:
    if len({vote.signer.principal for vote in people}) < 2:
        fail_step(5, "quorum_unmet", f"break-glass needs two human approvers{why}", missing="human")
    if policy_of(state).deploy_production.break_glass.user_verification and not any(
        verifies_user(trust_of(state), vote) for vote in people
    ):
        fail_step(
            5,
            "quorum_unmet",
            f"break-glass needs one of the two to sign with a hardware key that verifies its user{why}",
            "a cosignature from before the trust root asked that of its key is withdrawn and given again",
            missing="user_verification",
        )
    return ", ".join(f"{v.signer.principal} (entry {v.seq})" for v in people)


def has_good_review(trust: TrustRoot, lease: LeaseState) -> bool:
    """Whether an agent that holds its key and role now has reviewed the lease, whatever it found."""
    return any(holds_now(trust, note.signer, note.review.role) for note in lease.reviews.values())


def _step_6(look: _Look) -> str:
    pair = look.pair
    if pair is None:
        fail_step(
            6, "quorum_unmet", "no two cosignatures differ in principal, key and custodian, and from the proposer"
        )
    return f"counted: {pair[0].signer.principal} (entry {pair[0].seq}) and {pair[1].signer.principal} ({pair[1].seq})"


def _step_7(look: _Look) -> str:
    lease = look.lease
    if lease.denied is not None:
        fail_step(
            7,
            "lease_denied",
            f"{lease.denied.principal} denied it in entry {lease.denied.seq}",
            "propose a new lease",
            entry=lease.denied.seq,
        )
    return "none"


def _step_8(look: _Look) -> str:
    state, lease, now = look.state, look.lease, look.now
    if lease.claim_seq is not None:
        text = f"the lease was claimed in entry {lease.claim_seq}"
        fail_step(8, "lease_consumed", text, "propose a new lease", entry=lease.claim_seq)
    live = state.live.get(lease.lease.target)
    if live is not None:
        busy = state.leases[live]
        text = f"{lease.lease.target} has the live deployment {busy.lease.id}, claimed in entry {busy.claim_seq}"
        fail_step(8, "target_busy", text, entry=busy.claim_seq)
    neighbour = find_neighbour(state, lease.digest)
    if neighbour is not None:
        busy, name = state.leases[neighbour[0]], neighbour[1]
        text = f"the live deployment {busy.lease.id} of {busy.lease.target} works where {name} is"
        fail_step(8, "target_busy", text, entry=busy.claim_seq)
    if lease.lease.rule == "two_key":
        overdue = [digest for digest, due in state.owed_reviews.items() if due < now]
        if overdue:
            owed = state.leases[overdue[0]]
            text = f"the review of the break-glass lease {owed.lease.id}, claimed in entry {owed.claim_seq}, is overdue"
            fail_step(8, "review_overdue", text, "calyx agent run cp14", entry=owed.claim_seq)
    return f"{lease.lease.target} is free"


def _step_9(look: _Look) -> str:
    state, lease = look.state, look.lease
    if lease.lease.rule == "break_glass":
        return "an agent has reviewed it" if has_good_review(trust_of(state), lease) else "owed after the claim"
    wanted = policy_of(state).deploy_production.reviews
    for role in wanted:
        notes = [note for note in lease.reviews.values() if note.review.role == role]
        good = [note for note in notes if holds_now(trust_of(state), note.signer, role)]
        failed = [note for note in notes if note.review.verdict == "fail" and _key_holds(trust_of(state), note, role)]
        if failed:
            text = f"{failed[0].signer.principal} said no in entry {failed[0].seq}"
            fail_step(9, "review_failed", text, "propose again", entry=failed[0].seq)
        if notes and not good:
            whose = f"{notes[0].signer.principal}'s review in entry {notes[0].seq}"
            text = f"{whose} counts no more: its key or its role is gone"
            fail_step(9, "review_missing", text, "calyx lease rebase makes a lease that is reviewed anew")
        if not good:
            fail_step(9, "review_missing", f"no {role} has reviewed the lease")
    return ", ".join(wanted) or "none asked for"


def _key_holds(trust: TrustRoot, note: ReviewNote, role: str) -> bool:
    """Whether the key that signed a review has its role still. A key never changes hands, so another spelling of its
    holder's id takes no failed review back.
    """
    holder = trust.find_raw(note.signer.raw)
    return holder is not None and role in holder.principal.roles


_STEPS: Final[dict[int, _Step]] = {
    1: _step_1,
    2: _step_2,
    3: _step_3,
    4: _step_4,
    5: _step_5,
    6: _step_6,
    7: _step_7,
    8: _step_8,
    9: _step_9,
}
