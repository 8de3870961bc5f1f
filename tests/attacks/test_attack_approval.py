"""Attacks on what was approved and by whom: swapped roles and leases, withheld and replayed approvals, lost rights."""

from __future__ import annotations

from pathlib import Path

import pytest
from assault import Lease, appended, approval, approved, claim_of, enact, judged, repelled
from governing import propose_policy, revoke
from station import PEOPLE, Station, new_station

from keys.openssh import new_private_key
from ledger.envelope import Envelope
from ledger.record import parse_record
from ledger.statement import make_statement, parse_statement
from policies.submitter import Draft

ANOTHER = "LEASE-20260105-090001"


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def test_honest_claim_is_lawful(station: Station) -> None:
    """What the claims below differ from."""
    appended(station, claim_of(station, approved(station)))


@pytest.mark.parametrize(
    ("who", "role", "code"),
    [
        ("cp14", "approver", "role_missing"),
        ("cp14", "validator", "role_missing"),
        ("ada", "sentinel", "role_missing"),
        ("ada", "validator", "role_missing"),
        ("ada", "governor", "wrong_role"),
        ("ada", "operator", "wrong_role"),
        ("cbo", "approver", "role_missing"),
        ("cp19", "sentinel", "role_missing"),
        ("cp20", "approver", "role_missing"),
    ],
)
def test_role_swap_on_a_lease(station: Station, who: str, role: str, code: str) -> None:
    lease = station.propose()
    station.review("cp14", lease)
    repelled(station, station.sign(who, approval(lease, role)), code, rule="roles")


def test_role_swap_in_the_review_that_a_cosignature_names(station: Station) -> None:
    lease = station.propose()
    review = {"role": "validator", "verdict": "pass", "summary": "", "findings": None}
    repelled(station, station.sign("cp14", Draft("review", review, lease)), "role_missing", rule="roles")
    theirs = station.say("cp18", "review", review, lease)
    vote = approval(lease, "sentinel", theirs.digest)
    repelled(station, station.sign("cp14", vote), "wrong_review", rule="review")


@pytest.mark.parametrize("loser", ["ada", "cp14"])
def test_role_lost_between_approval_and_claim(station: Station, loser: str) -> None:
    lease = approved(station)
    kind, custodian, roles = station.people[loser]
    station.people[loser] = (kind, custodian, [role for role in roles if role not in {"approver", "sentinel"}])
    enact(station, "ada")
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=5)


@pytest.mark.parametrize("loser", ["ada", "cp14"])
def test_key_replaced_between_approval_and_claim(station: Station, loser: str) -> None:
    lease = approved(station)
    station.keys[loser] = new_private_key(station.random)
    enact(station, "ben")
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=5)


def test_principal_removed_between_approval_and_claim(station: Station) -> None:
    lease = approved(station)
    del station.people["cp14"]
    enact(station, "ada")
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=5)


def test_key_compromised_between_approval_and_claim(station: Station) -> None:
    lease = approved(station)
    revoke(station, "ada", station.state.leases[lease[1]].seq)
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=5)


def two_leases(station: Station) -> tuple[Lease, Lease]:
    """One with both keys, and one that only the agent passed."""
    first, second = station.propose(), station.propose(ANOTHER)
    station.approve(first)
    station.review("cp14", second)
    station.take_term()
    return first, second


def test_lease_a_approved_and_lease_b_presented_to_the_claim(station: Station) -> None:
    first, second = two_leases(station)
    counted = [vote.seq for vote in station.state.leases[first[1]].ballot.votes]
    repelled(station, claim_of(station, second, *counted), "quorum_unmet", rule="two_key", step=5)
    # Nor does the name of the approved one help, or its name in other letters.
    for name in (first[0], second[0].lower()):
        fields = parse_statement(claim_of(station, second, *counted).body).predicate
        del fields["by"], fields["ledger"], fields["head"], fields["nonce"], fields["made_at"]
        envelope = station.sign("cp20", Draft("claim", fields, (name, second[1])))
        repelled(station, envelope, "unknown_subject", rule="subject")


def test_lease_a_approved_and_the_subject_swapped_in_its_cosignature(station: Station) -> None:
    first, second = two_leases(station)
    seq = station.state.leases[first[1]].ballot.votes[0].seq
    vote = next(station.store.read(seq, seq + 1))
    body = parse_statement(_envelope(vote).body)
    swapped = make_statement("cosignature", body.predicate, second)
    envelope = _envelope(vote)
    repelled(station, Envelope(swapped.body, envelope.keyid, envelope.sig), "bad_signature")


def _envelope(record: bytes) -> Envelope:
    return parse_record(record).envelope


def test_lease_a_approved_under_the_name_of_lease_b(station: Station) -> None:
    """Names are for people; were a wrong one lawful, a person would read the one and sign the other."""
    first, second = two_leases(station)
    for subject in ((first[0], second[1]), (second[0].lower(), second[1])):
        repelled(station, station.sign("ben", approval(subject)), "unknown_subject", rule="subject")


def test_claim_that_counts_others_than_the_rule_does(station: Station) -> None:
    lease = approved(station)
    later = station.vote("ben", lease, "approver")
    agent = station.state.leases[lease[1]].ballot.votes[1]
    repelled(station, claim_of(station, lease, agent.seq, later.seq), "wrong_count", rule="claim")


def test_claim_with_canaries_of_its_own_choice(station: Station) -> None:
    lease = approved(station)
    honest = parse_statement(claim_of(station, lease).body).predicate["cohorts"]
    honest[0]["instances"], honest[1]["instances"][0] = [honest[1]["instances"][0]], honest[0]["instances"][0]
    repelled(station, claim_of(station, lease, cohorts=honest), "wrong_cohorts", rule="cohort")


def with_person(root: Path, **people: object) -> Station:
    return new_station(root, people={**PEOPLE, **people})


def test_proposer_approving(tmp_path: Path) -> None:
    station = with_person(tmp_path, ada=("human", "ada", ["approver", "governor", "operator", "proposer"]))
    station.say("ada", "intent", {"id": "INT-20260105-001", "target": "web", "what": "", "why": ""})
    receipt = station.say("ada", "lease", station.lease_fields(ANOTHER, "INT-20260105-001"))
    lease = (ANOTHER, receipt.digest)
    station.approve(lease)
    station.take_term()
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=6)


def test_proposer_approving_under_another_spelling_of_the_id(tmp_path: Path) -> None:
    """With a new key and a new custodian's name too, who is spelled anew is who proposed."""
    station = with_person(tmp_path, eve=("human", "eve", ["approver", "proposer"]))
    station.say("eve", "intent", {"id": "INT-20260105-001", "target": "web", "what": "", "why": ""})
    receipt = station.say("eve", "lease", station.lease_fields(ANOTHER, "INT-20260105-001"))
    lease = (ANOTHER, receipt.digest)
    del station.people["eve"]
    station.people["Eve"] = ("human", "another", ["approver", "proposer"])
    station.keys["Eve"] = new_private_key(station.random)
    enact(station, "ada")
    station.vote("Eve", lease, "approver")
    station.review("cp14", lease)
    station.take_term()
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=6)


def test_custodian_of_a_proposer_whose_id_is_spelled_anew(tmp_path: Path) -> None:
    """Who answers for the proposer now is looked up under that id in any spelling."""
    station = new_station(tmp_path)
    lease = approved(station)
    station.people["CBO"] = ("overseer", "ada", station.people.pop("cbo")[2])
    station.keys["CBO"] = station.keys["cbo"]
    enact(station, "ada")
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=6)


@pytest.mark.parametrize(
    ("people", "why"),
    [
        ({"cbo": ("overseer", "ada", ["proposer"])}, "the approver's custodian proposes"),
        ({"cbo": ("overseer", "cp14", ["proposer"])}, "the agent's custodian proposes"),
        ({"cp14": ("agent", "ada", ["sentinel"])}, "one custodian holds both keys"),
    ],
    ids=["proposer-and-approver", "proposer-and-agent", "approver-and-agent"],
)
def test_same_custodian(tmp_path: Path, people: dict[str, object], why: str) -> None:
    station = with_person(tmp_path, **people)
    lease = approved(station)
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=6)


def test_same_custodian_renamed_between_approval_and_claim(tmp_path: Path) -> None:
    """What was declared when it signed counts as well as what is declared now."""
    station = with_person(tmp_path, cp14=("agent", "ada", ["sentinel"]))
    lease = approved(station)
    station.people["cp14"] = ("agent", "cp14", ["sentinel"])
    enact(station, "ada")
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=6)


@pytest.mark.parametrize("order", [("fail", "pass"), ("pass", "fail")])
def test_fail_fail_pass_reviews_by_two_sentinels(tmp_path: Path, order: tuple[str, str]) -> None:
    """A pass does not undo a fail, whoever gives it and whichever comes first."""
    station = with_person(tmp_path, cp15=("agent", "cp15", ["sentinel"]))
    lease = station.propose()
    station.vote("ada", lease, "approver")
    for agent, verdict in zip(("cp14", "cp15"), order, strict=True):
        station.review(agent, lease, verdict)
    station.take_term()
    repelled(station, claim_of(station, lease), "review_failed", rule="two_key", step=9)


def test_fail_fail_pass_reviews_by_one_agent(station: Station) -> None:
    lease = station.propose()
    station.vote("ada", lease, "approver")
    station.review("cp18", lease)
    failed = station.review("cp14", lease, "fail")
    again = {"role": "sentinel", "verdict": "pass", "summary": "on second thoughts", "findings": None}
    for verdict in ("fail", "pass"):
        second = Draft("review", {**again, "verdict": verdict}, lease)
        repelled(station, station.sign("cp14", second), "already_reviewed", rule="review")
    repelled(station, station.sign("cp14", approval(lease, "sentinel", failed.digest)), "review_failed", rule="review")
    theirs = station.state.leases[lease[1]].reviews["cp18"].digest
    for review in (None, theirs, "ab" * 32):
        repelled(station, station.sign("cp14", approval(lease, "sentinel", review)), "wrong_review", rule="review")
    station.take_term()
    repelled(station, claim_of(station, lease), "review_failed", rule="two_key", step=9)


def test_pass_of_another_lease_counted_here(station: Station) -> None:
    first, second = station.propose(), station.propose(ANOTHER)
    station.review("cp14", first)
    passed = station.state.leases[first[1]].reviews["cp14"].digest
    repelled(station, station.sign("cp14", approval(second, "sentinel", passed)), "wrong_review", rule="review")


@pytest.mark.parametrize(("seen", "counts"), [(-1, False), (0, False), (1, True)])
def test_cosignature_held_back_over_a_withdrawal(station: Station, seen: int, counts: bool) -> None:
    """A withdrawal at `seq` stops what its signer signed on a head of at most `seq` entries; one more is a new
    approval, by someone who had read the withdrawal.
    """
    lease = station.propose()
    station.review("cp14", lease)
    station.take_term()
    withdrawn = station.say("ada", "objection", {"verb": "withdraw", "reason": "lost the laptop"}, lease).seq
    size = withdrawn + seen
    head = {"size": size, "hash": station.state.history.leaf(size - 1)}
    appended(station, station.sign("ada", approval(lease), head=head))
    judged(station, claim_of(station, lease), None if counts else "quorum_unmet")


def test_cosignature_held_back_blocks_no_new_approval(station: Station) -> None:
    lease = station.propose()
    leaked = station.sign("ada", approval(lease))
    station.review("cp14", lease)
    station.say("ada", "objection", {"verb": "withdraw", "reason": "lost the laptop"}, lease)
    appended(station, leaked)
    station.vote("ada", lease, "approver")
    station.take_term()
    repelled(station, claim_of(station, lease, *[v.seq for v in station.state.leases[lease[1]].ballot.votes][:2]),
             "wrong_count", rule="claim")  # fmt: skip
    votes = station.state.leases[lease[1]].ballot.votes
    appended(station, claim_of(station, lease, votes[0].seq, votes[2].seq))


def test_stale_policy(station: Station) -> None:
    lease, old = approved(station), station.state.policy_digest
    proposal = propose_policy(station)
    station.vote("ada", ("policy", proposal.digest), "governor")
    repelled(station, claim_of(station, lease), "stale_policy", rule="two_key", step=2)
    station.say("cbo", "intent", {"id": "INT-20260105-009", "target": "web", "what": "", "why": ""})
    fields = {**station.lease_fields(ANOTHER, "INT-20260105-009"), "policy": old}
    repelled(station, station.sign("cbo", Draft("lease", fields)), "stale_policy", rule="lease")


def test_stale_fleet(station: Station) -> None:
    lease, old = approved(station), station.state.fleet_digest
    station.enact_fleet()
    repelled(station, claim_of(station, lease), "stale_fleet", rule="two_key", step=2)
    station.say("cbo", "intent", {"id": "INT-20260105-009", "target": "web", "what": "", "why": ""})
    fields = {**station.lease_fields(ANOTHER, "INT-20260105-009"), "fleet": old}
    repelled(station, station.sign("cbo", Draft("lease", fields)), "stale_fleet", rule="lease")


def test_approval_after_the_denial(station: Station) -> None:
    lease = approved(station)
    station.say("ben", "objection", {"verb": "deny", "reason": "no"}, lease)
    repelled(station, claim_of(station, lease), "lease_denied", rule="two_key", step=7)
    repelled(station, station.sign("ben", approval(lease)), "lease_denied", rule="objection")
    # Its signer cannot take it back, and neither can who removes its signer.
    station.say("ben", "objection", {"verb": "withdraw", "reason": "did I?"}, lease)
    del station.people["ben"]
    enact(station, "ada")
    repelled(station, claim_of(station, lease), "lease_denied", rule="two_key", step=7)


@pytest.mark.parametrize("again", ["pass", "another"])
def test_fail_fail_pass_reviews_under_another_spelling_of_the_id(tmp_path: Path, again: str) -> None:
    """Ids are the same ignoring case: a root that spells the agent's anew gives it no second review, and takes no
    failed one back.
    """
    station = with_person(tmp_path, cp15=("agent", "cp15", ["sentinel"]))
    lease = station.propose()
    station.vote("ada", lease, "approver")
    station.review("cp14", lease, "fail")
    station.people["CP14"] = station.people.pop("cp14")
    station.keys["CP14"] = station.keys["cp14"]
    enact(station, "ada")
    if again == "pass":
        review = {"role": "sentinel", "verdict": "pass", "summary": "on second thoughts", "findings": None}
        repelled(station, station.sign("CP14", Draft("review", review, lease)), "already_reviewed", rule="review")
        return
    station.review("cp15", lease)
    station.take_term()
    repelled(station, claim_of(station, lease), "review_failed", rule="two_key", step=9)
