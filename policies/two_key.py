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

`break_glass` replaces 5 and 9 by two human approvers and the terms of the policy's emergency clause. An agent's review is
owed instead: where none with a good key is there at the claim, the first one after it settles that, whatever it finds.
Signatures were verified, and windows of approval enforced, when the entries were judged; steps 1, 3 and 4 look again at
what can have changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass
from itertools import combinations
from typing import Final, NoReturn

from keys.errors import CalyxError, LawRefused
from keys.openssh_public import HARDWARE
from keys.principals import TrustRoot
from keys.values import format_time, parse_time
from policies.cohort import CANARY_LABEL, order_instances, plan_cohorts
from policies.law.case import holds_now, policy_of, trust_of, vote_compromised
from policies.matrix import DeployProduction, paths_outside
from policies.places import find_neighbour
from policies.state import LeaseState, SignerRef, State, Vote

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
    lease = _find(state, digest)
    return [_examine(number, step, state, lease, now) for number, step in _STEPS.items()]


def check_two_key(state: State, digest: str, now: int) -> VerifiedLease:
    """Prove that a lease carries both keys and may be claimed at `now`.

    Raises: LawRefused with the failed step in `step`; `unknown_lease`.
    """
    lease = _find(state, digest)
    for step in _STEPS.values():
        step(state, lease, now)
    pair = _best_pair(state, lease)
    if pair is None:
        _fail(6, "quorum_unmet", "no two cosignatures count together")
    return VerifiedLease(lease, pair, cohorts_for(state, lease, pair[1].leaf), now, _MADE_HERE)


def cohorts_for(state: State, lease: LeaseState, last_leaf: str) -> dict[int, tuple[str, ...]]:
    """Tier -> the instances it adds, for the lease's own fleet and the leaf of the last counted cosignature."""
    target = state.fleets[lease.lease.fleet].targets[lease.lease.target]
    pinned = {i.name for i in target.instances if i.labels.get(CANARY_LABEL) == "true"}
    ordered = order_instances(lease.digest, last_leaf, lease.after, pinned)
    return plan_cohorts(lease.lease.tiers, ordered)


def _find(state: State, digest: str) -> LeaseState:
    lease = state.leases.get(digest)
    if lease is None:
        raise LawRefused("unknown_lease", "there is no such lease in this ledger", rule="two_key", hint="calyx inbox")
    return lease


def _examine(
    number: int, step: Callable[[State, LeaseState, int], str], state: State, lease: LeaseState, now: int
) -> StepResult:
    try:
        text = step(state, lease, now)
    except CalyxError as error:
        missing = error.fields.get("missing")
        return StepResult(
            number, TITLES[number], False, error.code, error.message, missing if isinstance(missing, str) else None
        )
    return StepResult(number, TITLES[number], True, "ok", text)


def _fail(step: int, code: str, message: str, hint: str = "", **fields: str | int | None) -> NoReturn:
    raise LawRefused(code, message, rule="two_key", hint=hint, step=step, **fields)


def _step_1(state: State, lease: LeaseState, now: int) -> str:
    # The law judged the lease and its proposer's role at its entry; what it judged does not change.
    del state, now
    return f"entry {lease.seq}, proposed by {lease.proposer.principal}"


def _step_2(state: State, lease: LeaseState, now: int) -> str:
    del now
    if lease.lease.policy != state.policy_digest:
        _fail(2, "stale_policy", "another policy came into force after the lease was made", "propose again")
    if lease.lease.fleet != state.fleet_digest:
        _fail(2, "stale_fleet", "another fleet came into force after the lease was made", "propose again")
    policy = policy_of(state)
    if not policy.deployment_enabled():
        _fail(2, "capability_disabled", "the policy in force does not enable deploy_production")
    terms = policy.deploy_production
    rule = terms.targets.get(lease.lease.target)
    if rule is None:
        _fail(2, "target_not_allowed", f"the policy does not allow deployments to {lease.lease.target}")
    for path in paths_outside(lease.paths, rule.paths):
        _fail(2, "path_not_allowed", f"the policy does not allow a change of {path}")
    _check_terms(state, lease, terms)
    return f"target {lease.lease.target}, {len(lease.paths)} changed paths, all allowed"


def _check_terms(state: State, lease: LeaseState, terms: DeployProduction) -> None:
    asked = lease.lease
    if asked.gates != terms.gates:
        _fail(2, "gates_differ", "the lease's gates are not the policy's")
    missing = sorted(set(terms.tiers) - set(asked.tiers))
    if missing:
        _fail(2, "tiers_missing", f"the policy asks for the tier {missing[0]} %")
    if asked.bake_s < terms.bake_s:
        _fail(2, "bake_too_short", f"the policy asks for a bake of {terms.bake_s} s, the lease has {asked.bake_s} s")
    if asked.interval_s > terms.interval_s:
        _fail(2, "interval_too_long", f"the policy asks for a sample every {terms.interval_s} s")
    if terms.start == "command" and asked.start != "command":
        _fail(2, "start_differs", "the policy asks for a start by command")
    if terms.promotion == "manual" and asked.promotion != "manual":
        _fail(2, "promotion_differs", "the policy asks for manual promotion")
    target = state.fleets[asked.fleet].targets[asked.target]
    for hooks in (asked.hooks, *(instance.hooks for instance in target.instances)):
        for name in (hooks.drain, hooks.undrain):
            if name is not None and name not in terms.hooks:
                _fail(2, "hook_not_allowed", f"the policy has no hook {name}")
    if asked.rule == "break_glass":
        clause = terms.break_glass
        if not clause.enabled:
            _fail(2, "break_glass_disabled", "the policy does not allow break-glass")
        if parse_time(asked.execute_by) > lease.time + clause.max_validity_s:
            _fail(2, "break_glass_too_long", f"a break-glass lease is valid for {clause.max_validity_s} s at most")


def _step_3(state: State, lease: LeaseState, now: int) -> str:
    if now < parse_time(lease.lease.not_before):
        _fail(3, "too_early", f"execution is possible from {lease.lease.not_before}")
    if now > parse_time(lease.lease.execute_by):
        _fail(3, "lease_expired", f"execution was possible until {lease.lease.execute_by}", "propose again")
    if now > parse_time(trust_of(state).expires):
        _fail(3, "trust_expired", f"the trust root expired at {trust_of(state).expires}", "renew the trust root")
    return f"{format_time(now)} is between {lease.lease.not_before} and {lease.lease.execute_by}"


def _step_4(state: State, lease: LeaseState, now: int) -> str:
    del now
    good, reasons = _good_votes(state, lease)
    if not good and reasons:
        _fail(4, reasons[0][0], reasons[0][1])
    ignored = "".join(f"; not counted: {text}" for _, text in reasons)
    return f"{len(good)} good{ignored}"


def _step_5(state: State, lease: LeaseState, now: int) -> str:
    del now
    good, reasons = _good_votes(state, lease)
    people = [vote for vote in good if vote.role == "approver"]
    agents = [vote for vote in good if vote.role in {"sentinel", "validator"}]
    why = "".join(f" ({text})" for _, text in reasons)
    if lease.lease.rule == "break_glass":
        return _step_5_break_glass(state, people, why)
    if not people:
        _fail(5, "quorum_unmet", f"no human approver's key{why}", f"calyx approve {lease.lease.id}", missing="human")
    if not agents:
        _fail(
            5,
            "quorum_unmet",
            f"no sentinel's (CP14) or validator's (CP18) key{why}",
            "calyx agent run cp14",
            missing="agent",
        )
    return ", ".join(f"{v.signer.principal} ({v.role}, entry {v.seq})" for v in (*people, *agents))


def _step_5_break_glass(state: State, people: list[Vote], why: str) -> str:
    if len({vote.signer.principal for vote in people}) < 2:
        _fail(5, "quorum_unmet", f"break-glass needs two human approvers{why}", missing="human")
    if policy_of(state).deploy_production.break_glass.user_verification and not any(
        _verifies_user(trust_of(state), vote) for vote in people
    ):
        _fail(
            5,
            "quorum_unmet",
            f"break-glass needs one of the two to sign with a hardware key that verifies its user{why}",
            "a cosignature from before the trust root asked that of its key is withdrawn and given again",
            missing="user_verification",
        )
    return ", ".join(f"{v.signer.principal} (entry {v.seq})" for v in people)


def _verifies_user(trust: TrustRoot, vote: Vote) -> bool:
    """Whether a vote is by a token that verified its user: the root asked that of the key when the vote was verified,
    and asks it now. A signature from before the root asked was never checked for it.
    """
    holder = trust.find_key(vote.signer.keyid)
    if holder is None or holder.entry.public.type != HARDWARE:
        return False
    return vote.user_verified and holder.entry.user_verification


def has_good_review(trust: TrustRoot, lease: LeaseState) -> bool:
    """Whether an agent that holds its key and role now has reviewed the lease, whatever it found."""
    return any(holds_now(trust, note.signer, note.review.role) for note in lease.reviews.values())


def _step_6(state: State, lease: LeaseState, now: int) -> str:
    del now
    pair = _best_pair(state, lease)
    if pair is None:
        _fail(6, "quorum_unmet", "no two cosignatures differ in principal, key and custodian, and from the proposer")
    return f"counted: {pair[0].signer.principal} (entry {pair[0].seq}) and {pair[1].signer.principal} ({pair[1].seq})"


def _step_7(state: State, lease: LeaseState, now: int) -> str:
    del state, now
    if lease.denied is not None:
        _fail(
            7, "lease_denied", f"{lease.denied.principal} denied it in entry {lease.denied.seq}", "propose a new lease"
        )
    return "none"


def _step_8(state: State, lease: LeaseState, now: int) -> str:
    if lease.claim_seq is not None:
        _fail(8, "lease_consumed", f"the lease was claimed in entry {lease.claim_seq}", "propose a new lease")
    live = state.live.get(lease.lease.target)
    if live is not None:
        _fail(8, "target_busy", f"{lease.lease.target} has the live deployment {state.leases[live].lease.id}")
    neighbour = find_neighbour(state, lease.digest)
    if neighbour is not None:
        other, name = state.leases[neighbour[0]].lease, neighbour[1]
        _fail(8, "target_busy", f"the live deployment {other.id} of {other.target} works where {name} is")
    if lease.lease.rule == "two_key":
        overdue = [digest for digest, due in state.owed_reviews.items() if due < now]
        if overdue:
            owed = state.leases[overdue[0]].lease.id
            _fail(8, "review_overdue", f"the review of the break-glass lease {owed} is overdue")
    return f"{lease.lease.target} is free"


def _step_9(state: State, lease: LeaseState, now: int) -> str:
    del now
    if lease.lease.rule == "break_glass":
        return "an agent has reviewed it" if has_good_review(trust_of(state), lease) else "owed after the claim"
    wanted = policy_of(state).deploy_production.reviews
    for role in wanted:
        notes = [note for note in lease.reviews.values() if note.review.role == role]
        good = [note for note in notes if holds_now(trust_of(state), note.signer, role)]
        failed = [note for note in good if note.review.verdict == "fail"]
        if failed:
            _fail(9, "review_failed", f"{failed[0].signer.principal} said no in entry {failed[0].seq}", "propose again")
        if not good:
            _fail(9, "review_missing", f"no {role} has reviewed the lease")
    return ", ".join(wanted) or "none asked for"


_STEPS: Final[dict[int, Callable[[State, LeaseState, int], str]]] = {
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


def _good_votes(state: State, lease: LeaseState) -> tuple[list[Vote], list[tuple[str, str]]]:
    """Votes that count now, by seq, and why each of the others does not: code and text."""
    trust = trust_of(state)
    good: list[Vote] = []
    reasons: list[tuple[str, str]] = []
    for vote in lease.ballot.votes:
        who = f"{vote.signer.principal}'s in entry {vote.seq}"
        if lease.ballot.withdrawn(vote):
            reasons.append(("withdrawn", f"{who} was withdrawn"))
        elif max(vote.made_at, vote.time) > parse_time(lease.lease.approve_by):
            reasons.append(("approval_expired", f"{who} came after {lease.lease.approve_by}"))
        elif vote_compromised(trust, vote):
            reasons.append(("key_compromised", f"{who} was made with a key revoked as compromised"))
        elif not holds_now(trust, vote.signer, vote.role):
            reasons.append(("role_missing", f"{who}: the signer no longer holds that key and the role {vote.role}"))
        else:
            good.append(vote)
    return good, reasons


def _best_pair(state: State, lease: LeaseState) -> tuple[Vote, Vote] | None:
    """Of all pairs that count, the one with the lowest last seq, then the lowest first."""
    good, _ = _good_votes(state, lease)
    pairs = sorted(_pairs(state, lease, good), key=lambda pair: (pair[1].seq, pair[0].seq))
    return pairs[0] if pairs else None


def _pairs(state: State, lease: LeaseState, votes: list[Vote]) -> Iterator[tuple[Vote, Vote]]:
    trust = trust_of(state)
    for first, second in combinations(votes, 2):
        roles = {first.role, second.role}
        if lease.lease.rule == "break_glass":
            if roles != {"approver"}:
                continue
            clause = policy_of(state).deploy_production.break_glass
            if clause.user_verification and not (_verifies_user(trust, first) or _verifies_user(trust, second)):
                continue
        elif "approver" not in roles or not roles & {"sentinel", "validator"}:
            continue
        if _independent(trust, first.signer, second.signer, lease.proposer):
            yield first, second


def _independent(trust: TrustRoot, *signers: SignerRef) -> bool:
    for a, b in combinations(signers, 2):
        same_custodian = _custodian(trust, a) == _custodian(trust, b) or a.custodian == b.custodian
        if a.principal == b.principal or a.raw == b.raw or same_custodian:
            return False
    return True


def _custodian(trust: TrustRoot, signer: SignerRef) -> str:
    principal = trust.find_principal(signer.principal)
    return signer.custodian if principal is None else principal.custodian
