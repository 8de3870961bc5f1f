"""Intents and leases, and what is said about a lease before its claim: reviews, cosignatures, objections."""

from __future__ import annotations

import re

from keys.values import fold_id, parse_time
from policies.fold.state import LeaseState, MessageNote, ProposalState, ReviewNote, State, Withdrawal
from policies.kinds import Cosignature, Intent, Lease, Message, Objection, Review
from policies.law.case import (
    Case,
    Change,
    check_approval_window,
    check_subject,
    refuse,
    require_role,
    subject_lease,
    subject_proposal,
)
from policies.law.governance import judge_vote, judge_withdrawal
from policies.law.registers import close_lease, open_lease
from policies.names import open_names, open_paths

RULE = "lease"
INTENT_ID = re.compile(r"INT-[0-9]{8}-[0-9]{3,6}(-[0-9]{1,6})?", re.ASCII)
LEASE_ID = re.compile(r"LEASE-[0-9]{8}-[0-9]{6}(-[0-9]{1,6})?", re.ASCII)
CAPABILITY = "deploy_production"


def judge_intent(case: Case, intent: Intent) -> Change:
    """A proposer says what is to change, and why."""
    require_role(case, "proposer")
    _check_new_id(case, intent.id, INTENT_ID, "INT-YYYYMMDD-NNN")
    digest = case.statement.digest

    def change(state: State) -> None:
        state.ids[fold_id(intent.id)] = digest
        state.intents[fold_id(intent.id)] = intent

    return change


def judge_lease(case: Case, lease: Lease) -> Change:
    """A proposer asks to change production, on the policy and fleet in force."""
    require_role(case, "proposer")
    _check_new_id(case, lease.id, LEASE_ID, "LEASE-YYYYMMDD-HHMMSS")
    intent = case.state.intents.get(fold_id(lease.intent))
    if intent is None:
        refuse("unknown_intent", f"the lease names the intent {lease.intent}, which is not in the ledger", rule=RULE)
    if intent.target != lease.target:
        text = f"the intent is about {intent.target}, the lease about {lease.target}"
        refuse("wrong_target", text, rule=RULE, entry=case.state.id_seq(lease.intent))
    if lease.capability != CAPABILITY:
        refuse("unknown_capability", f"there is no capability {lease.capability}", rule=RULE)
    if lease.policy != case.state.policy_digest:
        since = case.state.in_force_since(case.state.policy_digest)
        text = f"the lease names a policy that is not in force: another is since entry {since}"
        refuse("stale_policy", text, rule=RULE, hint="propose again", entry=since)
    if lease.fleet != case.state.fleet_digest:
        since = case.state.in_force_since(case.state.fleet_digest)
        text = f"the lease names a fleet that is not in force: another is since entry {since}"
        refuse("stale_fleet", text, rule=RULE, hint="propose again", entry=since)
    _check_windows(case, lease)
    _check_terms(lease)
    before, after = _resolve_changes(case, lease)
    paths = open_paths(lease.paths, case.objects)
    gates = case.policy.deploy_production.gates
    # Nearly every lease has the policy's gates; one copy of them is enough for all.
    kept = lease.model_copy(update={"gates": gates}) if lease.gates == gates else lease
    digest, execute_by = case.statement.digest, parse_time(lease.execute_by)

    def change(state: State) -> None:
        state.ids[fold_id(lease.id)] = digest
        state.leases[digest] = LeaseState(digest, case.seq, case.now, kept, case.signer, before, after, paths)
        open_lease(state, digest, execute_by, case.now)

    return change


def judge_review(case: Case, review: Review) -> Change:
    """An agent's one verdict on a lease, before its claim. After it only the review that break-glass owes: then no
    earlier one counted, so an agent that lost its key since may say it again with the new one.
    """
    require_role(case, review.role)
    lease = subject_lease(case)
    owed = lease.digest in case.state.owed_reviews
    earlier = _own_review(case, lease)
    if earlier is not None and not owed:
        text = f"{case.principal.id} reviewed this lease in entry {earlier.seq}"
        refuse("already_reviewed", text, rule="review", entry=earlier.seq)
    if lease.claim_seq is not None and not owed:
        _refuse_claimed(lease)
    note = ReviewNote(case.seq, case.statement.digest, case.signer, review)
    digest = lease.digest

    def change(state: State) -> None:
        state.leases[digest].reviews[note.signer.principal] = note
        state.owed_reviews.pop(digest, None)

    return change


def judge_cosignature(case: Case, cosignature: Cosignature) -> Change:
    """An approval of a lease or of a governance proposal."""
    subject = subject_proposal(case)
    if isinstance(subject, ProposalState):
        return judge_vote(case, cosignature, subject)
    role = cosignature.role
    if role not in {"approver", "sentinel", "validator"}:
        refuse("wrong_role", "a lease is cosigned as approver, sentinel or validator", rule="roles")
    require_role(case, role)
    check_lease_open(subject)
    check_approval_window(case, subject.lease.approve_by, subject.seq, step=3)
    _check_own_review(case, cosignature, subject)
    vote = case.vote(role, cosignature.review)
    standing = subject.ballot.standing()
    earlier = next((v.seq for v in standing if v.signer.raw == vote.signer.raw and v.role == role), None)
    if earlier is not None:
        text = f"{vote.signer.principal} approved this lease already, in entry {earlier}"
        hint = f"to take it back: calyx withdraw {subject.lease.id}"
        refuse("already_cosigned", text, rule="cosignature", entry=earlier, hint=hint)
    digest = subject.digest

    def change(state: State) -> None:
        state.leases[digest].ballot.add_vote(vote)

    return change


def judge_objection(case: Case, objection: Objection) -> Change:
    """`withdraw` stops the signer's own cosignatures so far; `deny` ends a lease, whoever says it later."""
    subject = subject_proposal(case)
    if isinstance(subject, ProposalState):
        if objection.verb == "deny":
            refuse("wrong_subject", "only leases can be denied; do not cosign the proposal", rule="objection")
        return judge_withdrawal(case, subject)
    note = Withdrawal(case.seq, case.principal.id)
    digest = subject.digest
    if objection.verb == "deny":
        require_role(case, "approver", "proposer")
    else:
        require_role(case, "approver", "sentinel", "validator")
    if subject.claim_seq is not None:
        _refuse_claimed(subject)
    if objection.verb == "deny":

        def deny(state: State) -> None:
            if state.leases[digest].denied is None:
                state.leases[digest].denied = note
                close_lease(state, digest)

        return deny

    def withdraw(state: State) -> None:
        state.leases[digest].ballot.add_withdrawal(note)

    return withdraw


def judge_message(case: Case, message: Message) -> Change:
    """Principals talk. An answer names a message that its signer had seen."""
    if message.reply_to is not None:
        earlier = case.state.messages.get(message.reply_to)
        if earlier is None or earlier.seq >= case.statement.head.size:
            refuse("unknown_subject", "the message replies to none that its signer had seen", rule="subject")
    if message.to is not None and case.trust.find_principal(message.to) is None:
        refuse("unknown_principal", f"there is no principal {message.to}", rule="subject")
    digest = case.statement.digest
    note = MessageNote(case.seq, case.principal.id, message.to, message.type, message.reply_to)

    def change(state: State) -> None:
        state.messages[digest] = note

    return change


def _check_new_id(case: Case, identifier: str, pattern: re.Pattern[str], form: str) -> None:
    # A person tells by its id what a thing is, so no intent is named like a lease.
    if not pattern.fullmatch(identifier):
        refuse("bad_id", f"{identifier} is not of the form {form}", rule="ids", hint="a suffix such as -2 may follow")
    if fold_id(identifier) in case.state.ids:
        refuse(
            "id_taken",
            f"{identifier} is in the ledger already",
            rule="ids",
            entry=case.state.id_seq(identifier),
            hint="use another id, such as a suffix -2",
        )


def _check_windows(case: Case, lease: Lease) -> None:
    not_before, approve_by = parse_time(lease.not_before), parse_time(lease.approve_by)
    execute_by, complete_by = parse_time(lease.execute_by), parse_time(lease.complete_by)
    if not (not_before <= execute_by and approve_by <= execute_by <= complete_by):
        refuse("bad_windows", "not_before and approve_by <= execute_by <= complete_by does not hold", rule=RULE)
    if execute_by < case.now:
        refuse("lease_expired", f"execution would have been possible until {lease.execute_by}", rule=RULE)


def _check_terms(lease: Lease) -> None:
    if list(lease.tiers) != sorted(set(lease.tiers)) or lease.tiers[-1] != 100:
        refuse("bad_tiers", "tiers must rise and end at 100", rule=RULE)
    if lease.rule == "break_glass" and not lease.reason:
        refuse("reason_missing", "break-glass needs a reason", rule=RULE)


def _resolve_changes(case: Case, lease: Lease) -> tuple[dict[str, str], dict[str, str]]:
    fleet = case.state.fleet
    target = None if fleet is None else fleet.targets.get(lease.target)
    if target is None:
        refuse("unknown_target", f"the fleet in force has no target {lease.target}", rule=RULE)
    known = {instance.name for instance in target.instances}
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    twice: set[str] = set()
    for tree_change in lease.changes:
        for name in open_names(tree_change.instances, case.objects):
            if name not in known:
                refuse("unknown_instance", f"{lease.target} has no instance {name}", rule=RULE)
            if name in before:
                twice.add(name)
            before[name], after[name] = tree_change.before, tree_change.after
    # That each instance is known stands before what is wrong with a change.
    if twice:
        refuse("bad_changes", f"instance {min(twice)} stands in two changes", rule=RULE)
    if not before:
        refuse("bad_changes", "the lease changes no instance", rule=RULE)
    _check_trees(lease)
    return before, after


def _check_trees(lease: Lease) -> None:
    if lease.artifact.type == "directory" and any(c.after != lease.artifact.sha256 for c in lease.changes):
        refuse("bad_changes", "a directory artifact is the tree after every change, and one differs", rule=RULE)
    pairs = [(c.before, c.after) for c in lease.changes]
    if len(set(pairs)) != len(pairs):
        refuse("bad_changes", "two groups have the same trees before and after; they are one", rule=RULE)
    if any(before == after for before, after in pairs):
        refuse("bad_changes", "a change leads from a tree to itself", rule=RULE)


def check_lease_open(lease: LeaseState) -> None:
    """A lease that may still be approved: neither claimed nor denied. Raises: LawRefused."""
    if lease.claim_seq is not None:
        _refuse_claimed(lease)
    if lease.denied is not None:
        refuse(
            "lease_denied",
            f"{lease.lease.id} was denied by {lease.denied.principal} in entry {lease.denied.seq}",
            rule="objection",
            step=7,
            entry=lease.denied.seq,
            hint="propose a new lease",
        )


def _refuse_claimed(lease: LeaseState) -> None:
    refuse(
        "lease_consumed",
        f"{lease.lease.id} was claimed in entry {lease.claim_seq}",
        rule="claim",
        step=8,
        entry=lease.claim_seq,
        hint=f"to take it back: calyx rollback {lease.lease.id}",
    )


def _own_review(case: Case, lease: LeaseState) -> ReviewNote | None:
    """The signer's review of a lease. Ids are the same ignoring case: a root that spells an agent's anew gives it no
    second review, and takes none from it.
    """
    me = fold_id(case.principal.id)
    return next((note for name, note in lease.reviews.items() if fold_id(name) == me), None)


def _check_own_review(case: Case, cosignature: Cosignature, lease: LeaseState) -> None:
    if cosignature.role == "approver":
        if cosignature.review is not None:
            refuse("wrong_review", "an approver's cosignature names no review", rule="review")
        return
    note = _own_review(case, lease)
    if note is None or note.digest != cosignature.review or note.review.role != cosignature.role:
        refuse("wrong_review", "an agent's cosignature names its own review in that role", rule="review")
    if note.review.verdict != "pass":
        text = f"{case.principal.id}'s review in entry {note.seq} did not pass"
        refuse("review_failed", text, rule="review", step=9, entry=note.seq)
    check_subject(case, lease.lease.id, note.seq)
