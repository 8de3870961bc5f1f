"""Terms and claims: which executor acts, and the one moment when a lease becomes a deployment."""

from __future__ import annotations

from keys.errors import LawRefused
from keys.words import counted
from policies.fold.deployment import Deployment
from policies.fold.state import State, TermState
from policies.kinds import Claim, Term
from policies.law.case import Case, Change, check_subject, refuse, require_kind, subject_lease
from policies.law.registers import close_lease
from policies.law.two_key import VerifiedLease, check_two_key, has_good_review
from policies.names import open_names, same_list

RULE = "claim"


def judge_term(case: Case, term: Term) -> Change:
    """An executor takes over: the next epoch, said with the whole ledger in view."""
    require_kind(case, "executor")
    _require_whole_head(case)
    last = 0 if case.state.term is None else case.state.term.epoch
    if term.epoch != last + 1:
        newest = None if case.state.term is None else case.state.term.seq
        refuse("wrong_epoch", f"the next epoch is {last + 1}, not {term.epoch}", rule="epoch", entry=newest)
    note = TermState(case.seq, term.epoch, case.principal.id, case.entry.leaf)

    def change(state: State) -> None:
        state.term = note

    return change


def judge_claim(case: Case, claim: Claim) -> Change:
    """The two-key rule holds here and now, and the claim says exactly what it counted and where it begins."""
    require_kind(case, "executor")
    lease = subject_lease(case)
    _require_whole_head(case)
    check_epoch(case, claim.epoch)
    verified = check_two_key(case.state, lease.digest, case.now)
    counted = (verified.counted[0].seq, verified.counted[1].seq)
    if claim.counted != counted:
        refuse("wrong_count", f"the entries that count are {counted[0]} and {counted[1]}", rule=RULE)
    for vote in verified.counted:
        check_subject(case, lease.lease.id, vote.seq)
    _check_cohorts(claim, verified)
    _check_seen(case, claim, lease.before)
    owed_by = None
    if lease.lease.rule == "break_glass" and not has_good_review(case.trust, lease):
        owed_by = case.now + case.policy.deploy_production.break_glass.review_within_s
    deployment = Deployment(
        lease_digest=lease.digest,
        lease_seq=lease.seq,
        lease=lease.lease,
        claim_seq=case.seq,
        counted=counted,
        cohorts=verified.cohorts,
        tier_of={name: tier for tier, names in verified.cohorts.items() for name in names},
        before=lease.before,
        after=lease.after,
        state_leaf=case.entry.leaf,
        state_seq=case.seq,
    )

    def change(state: State) -> None:
        state.leases[deployment.lease_digest].claim_seq = case.seq
        state.deployments[deployment.lease_digest] = deployment
        state.live[deployment.lease.target] = deployment.lease_digest
        close_lease(state, deployment.lease_digest)
        # An order to roll back what ended before is void now: the target has moved on.
        for digest in state.rollback_orders.pop(deployment.lease.target, ()):
            state.deployments[digest].rollback_order = None
        if owed_by is not None:
            state.owed_reviews[deployment.lease_digest] = owed_by

    return change


def check_epoch(case: Case, epoch: int | None) -> None:
    """The entry carries the newest term's epoch, and that term is the signer's. Raises: LawRefused (`fenced`)."""
    term = case.state.term
    if term is None or epoch != term.epoch or case.principal.id != term.by:
        newest = "no term was said" if term is None else f"the newest is {term.epoch}, of {term.by}"
        text = f"the epoch {epoch} of {case.principal.id} is not in force: {newest}"
        refuse("fenced", text, rule="epoch", entry=None if term is None else term.seq)


def _require_whole_head(case: Case) -> None:
    if case.statement.head.size != case.seq:
        raise LawRefused(
            "head_moved",
            f"the statement was made on {counted(case.statement.head.size, 'entry')}, and there are {case.seq}",
            rule="heads",
            hint="read on and say it again",
        )


def _check_cohorts(claim: Claim, verified: VerifiedLease) -> None:
    stated = {cohort.tier: cohort.instances for cohort in claim.cohorts}
    if len(stated) != len(claim.cohorts) or list(stated) != list(verified.cohorts):
        refuse(
            "wrong_cohorts", "the claim's tiers are not those that the lease and the cosignatures give", rule="cohort"
        )
    for tier, names in verified.cohorts.items():
        if not same_list(stated[tier], names):
            refuse("wrong_cohorts", f"the instances of the tier {tier} % are others", rule="cohort")


def _check_seen(case: Case, claim: Claim, before: dict[str, str]) -> None:
    seen: dict[str, str] = {}
    for group in claim.seen:
        for name in open_names(group.instances, case.objects):
            if name in seen:
                refuse("bad_claim", f"instance {name} was seen twice", rule=RULE)
            seen[name] = group.tree
    if seen != before:
        odd = min(name for name in seen.keys() | before.keys() if seen.get(name) != before.get(name))
        refuse("base_moved", f"instance {odd} was not on the tree that the lease starts from", rule=RULE, instance=odd)
