"""Genesis, and how trust, policy and fleet change: a proposal on what is in force, then a quorum of cosignatures."""

from __future__ import annotations

from keys.errors import CalyxError
from keys.principals import Role, Signer, TrustRoot, check_succession, check_trust_root, count_quorum
from keys.values import ZERO_HASH, fold_id, parse_time
from ledger.checkpoint import check_origin
from ledger.note import parse_vkey
from policies.fleet import Fleet, parse_fleet
from policies.fold.state import GovernanceKind, ProposalState, State, Vote, Withdrawal
from policies.kinds import Cosignature, FleetProposal, Genesis, PolicyProposal, TrustProposal
from policies.law.case import (
    Case,
    Change,
    check_approval_window,
    holds_now,
    refuse,
    require_role,
    trust_of,
    vote_compromised,
)
from policies.matrix import CapabilityMatrix
from policies.names import Objects

RULE = "governance"


def judge_genesis(case: Case, genesis: Genesis) -> Change:
    """Record 0 brings its trust root and policy into force by its own signature: readers pin it."""
    require_role(case, "governor")
    log_key = parse_vkey(genesis.log_key)
    check_origin(log_key.name)
    if log_key.name != genesis.origin:
        refuse("bad_genesis", "the log key is named differently from the origin", rule="genesis")
    _check_continues(genesis)
    check_trust_root(genesis.trust, log_key.public)
    digest = case.statement.digest

    def change(state: State) -> None:
        state.ledger = case.entry.leaf
        state.origin = genesis.origin
        state.log_key = genesis.log_key
        state.continues = genesis.continues
        _set_trust(state, genesis.trust, digest)
        _set_policy(state, genesis.policy, digest)

    return change


def judge_proposal(case: Case, proposal: GovernanceKind) -> Change:
    """A proposal of trust or policy by a governor, or of a fleet by an operator, on what is in force now."""
    kind = case.statement.kind
    require_role(case, _role_for(kind))
    if proposal.base != _base(case.state, kind):
        refuse(
            "stale_base",
            f"the proposal is based on a {kind} that is not in force",
            rule=RULE,
            hint="propose again on what is in force now",
            entry=case.state.in_force_since(_base(case.state, kind)),
        )
    if parse_time(proposal.approve_by) < case.now:
        refuse("approval_expired", f"approval would have been possible until {proposal.approve_by}", rule="time")
    fleet = _check_content(case, proposal)
    digest = case.statement.digest

    def change(state: State) -> None:
        state.proposals[digest] = ProposalState(digest, case.seq, kind, proposal, fleet)

    return change


def check_proposal_open(state: State, proposal: ProposalState) -> None:
    """A proposal that may still be approved: not in force, and on what is in force. Raises: LawRefused."""
    kind = proposal.kind
    if proposal.decided_seq is not None:
        text = f"the {kind} is in force since entry {proposal.decided_seq}"
        refuse("already_in_force", text, rule=RULE, entry=proposal.decided_seq, hint=f"to change it: propose a {kind}")
    if proposal.proposal.base != _base(state, kind):
        since = state.in_force_since(_base(state, kind))
        text = f"another {kind} came into force in entry {since}; this proposal is void"
        refuse("stale_base", text, rule=RULE, entry=since, hint="propose again on what is in force now")


def judge_vote(case: Case, cosignature: Cosignature, proposal: ProposalState) -> Change:
    """A cosignature on a proposal; the one that completes the quorum brings it into force."""
    kind = proposal.kind
    role = _role_for(kind)
    if cosignature.role != role or cosignature.review is not None:
        refuse("wrong_role", f"a {kind} is cosigned as {role}, without a review", rule="roles")
    _require_vote(case, proposal)
    check_proposal_open(case.state, proposal)
    check_approval_window(case, proposal.proposal.approve_by, proposal.seq)
    vote = case.vote(role, None)
    standing = proposal.ballot.standing()
    earlier = next((v.seq for v in standing if v.signer.raw == vote.signer.raw), None)
    if earlier is not None:
        text = f"{vote.signer.principal} cosigned with this key already, in entry {earlier}"
        refuse("already_cosigned", text, rule=RULE, entry=earlier)
    # A cosignature that its signer withdrew before it came in does not stand, and so it completes nothing.
    decided = not proposal.ballot.withdrawn(vote) and _quorum_met(case.state, proposal, [*standing, vote])
    if decided and isinstance(proposal.proposal, TrustProposal):
        check_next_root(case.state, proposal.proposal.trust, case.seq)
    digest = proposal.digest
    counted = _counted(case.state, proposal, [*standing, vote]) if decided else ()

    def change(state: State) -> None:
        ours = state.proposals[digest]
        ours.ballot.add_vote(vote)
        if decided:
            ours.decided_seq = case.seq
            ours.counted = counted
            _bring_into_force(state, ours)

    return change


def judge_withdrawal(case: Case, proposal: ProposalState) -> Change:
    """Whoever may cosign a proposal stops their own cosignatures of it, until it is in force."""
    _require_vote(case, proposal)
    if proposal.decided_seq is not None:
        text = f"it is in force since entry {proposal.decided_seq}"
        hint = f"to change it back: propose a {proposal.kind}"
        refuse("already_in_force", text, rule="objection", entry=proposal.decided_seq, hint=hint)
    note = Withdrawal(case.seq, case.principal.id)
    digest = proposal.digest

    def change(state: State) -> None:
        state.proposals[digest].ballot.add_withdrawal(note)

    return change


def quorum_progress(state: State, proposal: ProposalState) -> list[tuple[str, int, int]]:
    """For each threshold of a proposal: its name, how many count now, how many are needed."""
    return _progress(state, proposal, proposal.ballot.standing())


def _check_continues(genesis: Genesis) -> None:
    """What can be judged without the other ledger: it had an entry, and its first leaf is its identity."""
    before = genesis.continues
    if before is None:
        return
    if before.head.size == 0 or ZERO_HASH in (before.ledger, before.head.hash):
        refuse("bad_genesis", "the ledger that it continues has no entry", rule="genesis")
    if (before.head.size == 1) != (before.head.hash == before.ledger):
        refuse("bad_genesis", "the head that it continues is not one of that ledger", rule="genesis")


def _role_for(kind: str) -> Role:
    return "operator" if kind == "fleet" else "governor"


def _base(state: State, kind: str) -> str:
    return {"trust": state.trust_digest, "policy": state.policy_digest, "fleet": state.fleet_digest}[kind]


def _roots_for_vote(state: State, proposal: ProposalState) -> list[TrustRoot]:
    roots = [trust_of(state)]
    if isinstance(proposal.proposal, TrustProposal):
        roots.append(proposal.proposal.trust)
    return roots


def _require_vote(case: Case, proposal: ProposalState) -> None:
    """The signer may cosign the proposal, with this key. Raises: LawRefused (`role_missing`)."""
    role = _role_for(proposal.kind)
    if not any(holds_now(root, case.signer, role) for root in _roots_for_vote(case.state, proposal)):
        refuse("role_missing", f"{case.principal.id} does not hold the role {role}", rule="roles")


def _quorum_met(state: State, proposal: ProposalState, votes: list[Vote]) -> bool:
    return all(found >= needed for _, found, needed in _progress(state, proposal, votes))


def _counted(state: State, proposal: ProposalState, votes: list[Vote]) -> tuple[int, ...]:
    """Seqs of the votes that hold the role in a root that asks for them, with a key that is not compromised."""
    role, roots = _role_for(proposal.kind), _roots_for_vote(state, proposal)
    return tuple(
        vote.seq
        for vote in votes
        if not vote_compromised(trust_of(state), vote) and any(holds_now(root, vote.signer, role) for root in roots)
    )


def _progress(state: State, proposal: ProposalState, votes: list[Vote]) -> list[tuple[str, int, int]]:
    old = trust_of(state)
    role = _role_for(proposal.kind)
    signers = [
        Signer(vote.signer.principal, bytes.fromhex(vote.signer.raw))
        for vote in votes
        if not vote_compromised(old, vote)
    ]
    needed = old.thresholds.operators if role == "operator" else old.thresholds.governors
    rows = [(f"{role}s in force", count_quorum(old, role, signers), needed)]
    if isinstance(proposal.proposal, TrustProposal):
        new = proposal.proposal.trust
        rows.append(("governors proposed", count_quorum(new, "governor", signers), new.thresholds.governors))
    return rows


def _check_content(case: Case, proposal: GovernanceKind) -> Fleet | None:
    if isinstance(proposal, TrustProposal):
        check_next_root(case.state, proposal.trust, case.seq)
        return None
    if isinstance(proposal, FleetProposal):
        return _read_fleet(proposal, case.objects)
    return None


def check_next_root(state: State, new: TrustRoot, seq: int) -> None:
    """A root that may follow the one in force. `seq`: of the entry that is judged. Raises: LawRefused
    (`bad_trust_root`).
    """
    check_trust_root(new, parse_vkey(state.log_key).public)
    check_succession(trust_of(state), new, state.key_owners)
    for principal in new.principals:
        kind = state.kinds.get(fold_id(principal.id), principal.kind)
        if kind != principal.kind:
            refuse(
                "bad_trust_root",
                f"{principal.id} was {kind} and cannot become {principal.kind}: its keys would sign in another way",
                rule="trust_root",
                hint="enrol a principal with another id",
            )
    if any(item.position > seq for item in new.compromised):
        refuse("bad_trust_root", "a compromise names a position that is not in the ledger yet", rule="trust_root")


def _read_fleet(proposal: FleetProposal, objects: Objects) -> Fleet:
    try:
        return parse_fleet(objects.get(proposal.fleet))
    except CalyxError as error:
        # The same code whoever reads it: an audit without the body is undecided from here on.
        refuse(error.code, f"the fleet's body: {error.message}", rule="objects", object=proposal.fleet.sha256)


def _bring_into_force(state: State, decided: ProposalState) -> None:
    proposal = decided.proposal
    if isinstance(proposal, TrustProposal):
        _set_trust(state, proposal.trust, decided.digest)
    elif isinstance(proposal, PolicyProposal):
        _set_policy(state, proposal.policy, decided.digest)
    elif decided.fleet is not None:
        state.fleet = decided.fleet
        state.fleet_digest = decided.digest
        state.fleets[decided.digest] = decided.fleet


def _set_trust(state: State, trust: TrustRoot, digest: str) -> None:
    state.trust = trust
    state.trust_digest = digest
    for principal in trust.principals:
        state.kinds[fold_id(principal.id)] = principal.kind
        for entry in principal.keys:
            state.key_owners[entry.public.raw.hex()] = principal.id


def _set_policy(state: State, policy: CapabilityMatrix, digest: str) -> None:
    state.policy = policy
    state.policy_digest = digest
    state.policies[digest] = policy
