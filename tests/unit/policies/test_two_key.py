"""Attacks on the two-key rule and on the claim that applies it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from governing import propose_policy, propose_trust, revoke
from refusal import refused
from station import PEOPLE, Station, matrix, new_station

from keys.errors import LawRefused
from keys.openssh import format_public, new_private_key
from policies.law.two_key import VerifiedLease, check_two_key, examine_lease
from policies.submitter import Draft

Lease = tuple[str, str]


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def with_people(root: Path, **people: Any) -> Station:
    return new_station(root, people={**PEOPLE, **people})


def check(station: Station, lease: Lease) -> VerifiedLease:
    return check_two_key(station.state, lease[1], station.clock.now)


def failed_steps(station: Station, lease: Lease) -> list[int]:
    return [result.number for result in examine_lease(station.state, lease[1], station.clock.now) if not result.ok]


def test_nothing_but_the_rule_makes_a_verified_lease(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    verified = check(station, lease)
    with pytest.raises(TypeError):
        VerifiedLease(verified.lease, verified.counted, verified.cohorts, verified.now)
    with pytest.raises(TypeError):
        pickle.dumps(verified)
    with pytest.raises(TypeError):
        copy.copy(verified)


def test_only_the_human_key(station: Station) -> None:
    lease = station.propose()
    station.vote("ada", lease, "approver")
    with refused("quorum_unmet", step=5, missing="agent"):
        check(station, lease)


def test_only_agent_keys(station: Station) -> None:
    lease = station.propose()
    station.review("cp14", lease)
    station.review("cp18", lease)
    with refused("quorum_unmet", step=5, missing="human"):
        check(station, lease)


def test_two_human_keys_without_break_glass(station: Station) -> None:
    lease = station.propose()
    station.vote("ada", lease, "approver")
    station.vote("ben", lease, "approver")
    with refused("quorum_unmet", step=5, missing="agent"):
        check(station, lease)


def test_no_keys_names_every_step_that_is_missing(station: Station) -> None:
    assert failed_steps(station, station.propose()) == [5, 6, 9]


def test_human_and_agent_under_one_custodian(tmp_path: Path) -> None:
    station = with_people(tmp_path, cp14=("agent", "ada", ["sentinel"]))
    lease = station.propose()
    station.approve(lease)
    with refused("quorum_unmet", step=6):
        check(station, lease)
    station.vote("ben", lease, "approver")
    assert [vote.signer.principal for vote in check(station, lease).counted] == ["cp14", "ben"]


def test_proposer_approves_its_own_lease(tmp_path: Path) -> None:
    station = with_people(tmp_path, ada=("human", "ada", ["approver", "governor", "operator", "proposer"]))
    station.say("ada", "intent", {"id": "INT-20260105-001", "target": "web", "what": "", "why": ""})
    receipt = station.say("ada", "lease", station.lease_fields("LEASE-20260105-090000", "INT-20260105-001"))
    lease = ("LEASE-20260105-090000", receipt.digest)
    station.approve(lease)
    with refused("quorum_unmet", step=6):
        check(station, lease)
    station.vote("ben", lease, "approver")
    assert {vote.signer.principal for vote in check(station, lease).counted} == {"cp14", "ben"}


def test_proposers_custodian_approves(tmp_path: Path) -> None:
    station = with_people(tmp_path, cbo=("overseer", "ada", ["proposer"]))
    lease = station.propose()
    station.approve(lease)
    with refused("quorum_unmet", step=6):
        check(station, lease)


def test_custodian_renamed_between_approval_and_claim(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    station.people["cp14"] = ("agent", "ada", ["sentinel"])
    proposal = propose_trust(station, station.trust())
    station.vote("ada", ("trust", proposal.digest), "governor")
    with refused("quorum_unmet", step=6):
        check(station, lease)
    # Renaming one away again does not help: what was declared when it signed counts as well.
    station.people["cp14"] = ("agent", "cp14", ["sentinel"])
    proposal = propose_trust(station, station.trust())
    station.vote("ada", ("trust", proposal.digest), "governor")
    check(station, lease)


def test_earliest_pair_counts_and_others_are_ignored(station: Station) -> None:
    lease = station.propose()
    first = station.vote("ben", lease, "approver")
    second = station.vote("ada", lease, "approver")
    agent = station.review("cp14", lease)
    later = station.review("cp18", lease)
    assert [vote.seq for vote in check(station, lease).counted] == [first.seq, agent.seq]
    assert first.seq < second.seq < agent.seq < later.seq
    station.say("ben", "objection", {"verb": "withdraw", "reason": "no"}, lease)
    assert [vote.seq for vote in check(station, lease).counted] == [second.seq, agent.seq]


def test_withdrawal_before_the_claim(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    check(station, lease)
    station.say("ada", "objection", {"verb": "withdraw", "reason": "no"}, lease)
    with refused("quorum_unmet", step=5):
        check(station, lease)
    station.vote("ada", lease, "approver")
    check(station, lease)


def test_leaked_approval_appended_after_its_withdrawal(station: Station) -> None:
    lease = station.propose()
    leaked = station.sign("ada", Draft("cosignature", {"role": "approver", "review": None}, lease))
    station.review("cp14", lease)
    station.say("ada", "objection", {"verb": "withdraw", "reason": "lost the laptop"}, lease)
    station.append(leaked)
    with refused("quorum_unmet", step=5):
        check(station, lease)


def test_withdrawal_after_the_claim_points_to_rollback(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    for verb in ("withdraw", "deny"):
        with pytest.raises(LawRefused) as caught:
            station.say("ada", "objection", {"verb": verb, "reason": "too late"}, lease)
        assert caught.value.code == "lease_consumed"
        assert "rollback" in caught.value.hint
    with refused("lease_consumed"):
        station.vote("ben", lease, "approver")


def test_denial_outlives_its_signers_key(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    station.say("ben", "objection", {"verb": "deny", "reason": "no"}, lease)
    station.people.pop("ben")
    proposal = propose_trust(station, station.trust())
    station.vote("ada", ("trust", proposal.digest), "governor")
    assert station.state.trust_digest == proposal.digest
    with refused("lease_denied", step=7):
        check(station, lease)


def test_role_lost_between_approval_and_claim(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    station.people["ada"] = ("human", "ada", ["governor", "operator"])
    proposal = propose_trust(station, station.trust())
    station.vote("ada", ("trust", proposal.digest), "governor")
    with refused("quorum_unmet", step=5):
        check(station, lease)


def test_key_changed_between_approval_and_claim(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    station.keys["ada"] = new_private_key(station.random)
    proposal = propose_trust(station, station.trust(), who="ben")
    station.vote("ben", ("trust", proposal.digest), "governor")
    assert station.state.trust_digest == proposal.digest
    with refused("quorum_unmet", step=5):
        check(station, lease)
    station.vote("ada", lease, "approver")
    check(station, lease)


def test_compromised_key_stops_counting(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    revoke(station, "ada", lease_seq(station, lease))
    with refused("quorum_unmet", step=5):
        check(station, lease)


def lease_seq(station: Station, lease: Lease) -> int:
    return station.state.leases[lease[1]].seq


@pytest.mark.parametrize(("offset", "code"), [(-1, "too_early"), (0, None), (100, None), (101, "lease_expired")])
def test_window_of_execution_is_inclusive(station: Station, offset: int, code: str | None) -> None:
    begin = station.clock.now + 600
    lease = station.propose(not_before=station.after(600), execute_by=station.after(700), approve_by=station.after(700))
    station.approve(lease)
    station.take_term()
    now = begin + offset
    if code is None:
        check_two_key(station.state, lease[1], now)
        station.clock.now = now
        station.claim(lease)
    else:
        with refused(code, step=3):
            check_two_key(station.state, lease[1], now)


def test_policy_changed_after_the_lease(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    proposal = propose_policy(station)
    station.vote("ada", ("policy", proposal.digest), "governor")
    with refused("stale_policy", step=2):
        check(station, lease)


def test_fleet_changed_after_the_lease(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    station.enact_fleet()
    with refused("stale_fleet", step=2):
        check(station, lease)


TERMS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"paths": ["app.py", "etc/passwd"]}, "path_not_allowed"),
    ({}, {"paths": ["static"]}, "path_not_allowed"),
    ({}, {"paths": ["app.pyc"]}, "path_not_allowed"),
    ({}, {"gates": []}, "gates_differ"),
    ({}, {"tiers": [5, 100]}, "tiers_missing"),
    ({}, {"bake_s": 29}, "bake_too_short"),
    ({}, {"interval_s": 16}, "interval_too_long"),
    ({"start": "command"}, {"start": "auto"}, "start_differs"),
    ({"promotion": "manual"}, {"promotion": "auto"}, "promotion_differs"),
    ({}, {"hooks": {"drain": "rm", "undrain": None}}, "hook_not_allowed"),
    ({"enabled": False}, {}, "capability_disabled"),
    ({"targets": {"db": {"paths": ["app.py"]}}}, {}, "target_not_allowed"),
]


@pytest.mark.parametrize(("policy", "changes", "code"), TERMS, ids=[code for _, _, code in TERMS])
def test_lease_laxer_than_the_policy(
    tmp_path: Path, policy: dict[str, Any], changes: dict[str, Any], code: str
) -> None:
    station = new_station(tmp_path, policy=matrix(**policy))
    lease = station.propose(**changes)
    station.approve(lease)
    with refused(code, step=2):
        check(station, lease)


def test_lease_stricter_than_the_policy(station: Station) -> None:
    lease = station.propose(
        tiers=[1, 5, 25, 50, 100], bake_s=31, interval_s=1, start="command", promotion="manual", paths=["static/"]
    )
    station.approve(lease)
    check(station, lease)


def test_phase_that_is_pending(tmp_path: Path) -> None:
    policy = matrix()
    policy["phases"]["3"]["status"] = "pending"
    station = new_station(tmp_path, policy=policy)
    lease = station.propose()
    station.approve(lease)
    with refused("capability_disabled", step=2):
        check(station, lease)


@pytest.mark.parametrize("named", [{"hooks": {"drain": "rm", "undrain": None}}, {"probe": {"hook": "rm"}}])
def test_hook_of_an_instance_that_the_policy_has_not(tmp_path: Path, named: dict[str, Any]) -> None:
    station = Station(tmp_path)
    station.genesis()
    instance = {"name": "web-01", "root": "/srv/web-01", **named}
    station.enact_fleet({"targets": {"web": {"instances": [instance]}}})
    lease = station.propose()
    station.approve(lease)
    with refused("hook_not_allowed", step=2):
        check(station, lease)


def test_review_that_the_policy_asks_for_is_missing_or_fails(tmp_path: Path) -> None:
    station = new_station(tmp_path, policy=matrix(reviews=["sentinel", "validator"]))
    lease = station.propose()
    station.approve(lease)
    with refused("review_missing", step=9):
        check(station, lease)
    station.review("cp18", lease, "fail")
    with refused("review_failed", step=9):
        check(station, lease)


def test_review_by_a_key_that_is_gone_is_named(station: Station) -> None:
    # Whoever reads that nobody reviewed it waits for an agent that may not do it twice.
    lease = station.propose()
    vote = station.review("cp14", lease)
    revoke(station, "cp14", vote.seq + 1)
    nine = examine_lease(station.state, lease[1], station.clock.now)[8]
    assert nine.code == "review_missing"
    assert nine.text == f"cp14's review in entry {vote.seq - 1} counts no more: its key or its role is gone"


def test_failing_review_is_not_outvoted(tmp_path: Path) -> None:
    station = with_people(tmp_path, cp15=("agent", "cp15", ["sentinel"]))
    lease = station.propose()
    station.approve(lease)
    check(station, lease)
    station.review("cp15", lease, "fail")
    with refused("review_failed", step=9):
        check(station, lease)


def emergency(station: Station, **changes: Any) -> dict[str, Any]:
    window = {"execute_by": station.after(900), "approve_by": station.after(900)}
    return {"rule": "break_glass", "reason": "the site is down", **window, **changes}


def test_break_glass_needs_two_humans(station: Station) -> None:
    lease = station.propose(**emergency(station))
    station.vote("ada", lease, "approver")
    station.review("cp14", lease)
    with refused("quorum_unmet", step=5):
        check(station, lease)
    station.vote("ben", lease, "approver")
    assert [vote.signer.principal for vote in check(station, lease).counted] == ["ada", "ben"]


def test_break_glass_by_one_human_with_two_keys(tmp_path: Path) -> None:
    station = Station(tmp_path)
    second = new_private_key(station.random)
    root = station.trust()
    ada = next(each for each in root["principals"] if each["id"] == "ada")
    ada["keys"].append({"key": format_public(second.public), "user_verification": False})
    station.trust = lambda **_: root  # type: ignore[method-assign]  # this station's genesis has one key more
    station.genesis()
    station.enact_fleet()
    lease = station.propose(**emergency(station))
    station.vote("ada", lease, "approver")
    vote = Draft("cosignature", {"role": "approver", "review": None}, lease)
    station.append(station.sign("ada", vote, signer=station.signer("ada", second)))
    with refused("quorum_unmet", step=5):
        check(station, lease)


def test_break_glass_by_two_humans_of_one_custodian(tmp_path: Path) -> None:
    station = with_people(tmp_path, ben=("human", "ada", ["approver"]))
    lease = station.propose(**emergency(station))
    for voter in ("ada", "ben"):
        station.vote(voter, lease, "approver")
    with refused("quorum_unmet", step=6):
        check(station, lease)


def test_break_glass_beyond_its_validity(station: Station) -> None:
    lease = station.propose(**emergency(station, execute_by=station.after(901)))
    for voter in ("ada", "ben"):
        station.vote(voter, lease, "approver")
    with refused("break_glass_too_long", step=2):
        check(station, lease)


def glass(**changes: Any) -> dict[str, Any]:
    clause = {"enabled": True, "max_validity_s": 900, "review_within_s": 3600, "user_verification": False}
    return matrix(break_glass={**clause, **changes})


@pytest.mark.parametrize(
    ("clause", "code", "step"),
    [({"enabled": False}, "break_glass_disabled", 2), ({"user_verification": True}, "quorum_unmet", 5)],
)
def test_break_glass_outside_its_clause(tmp_path: Path, clause: dict[str, Any], code: str, step: int) -> None:
    station = new_station(tmp_path, policy=glass(**clause))
    lease = station.propose(**emergency(station))
    for voter in ("ada", "ben"):
        station.vote(voter, lease, "approver")
    with refused(code, step=step):
        check(station, lease)


def test_overdue_review_blocks_the_two_key_way_and_not_the_emergency(tmp_path: Path) -> None:
    station = new_station(tmp_path, policy=glass())
    first = station.propose(**emergency(station))
    for voter in ("ada", "ben"):
        station.vote(voter, first, "approver")
    station.take_term()
    station.claim(first)
    station.event("cp20", first, "ABORTED", cause="test", text="")
    station.clock.tick(3600)
    second = station.propose("LEASE-20260105-090001")
    third = station.propose("LEASE-20260105-090002", **emergency(station))
    station.approve(second)
    for voter in ("ada", "ben"):
        station.vote(voter, third, "approver")
    check(station, second)
    station.clock.tick()
    with refused("review_overdue", step=8):
        check(station, second)
    check(station, third)
    # The lease is claimed, and the review that it owes is lawful all the same; nobody else's is.
    station.say("cp14", "review", {"role": "sentinel", "verdict": "fail", "summary": "", "findings": None}, first)
    check(station, second)
    with refused("lease_consumed"):
        station.say("cp18", "review", {"role": "validator", "verdict": "pass", "summary": "", "findings": None}, first)


def test_emergency_that_was_reviewed_before_owes_no_review(tmp_path: Path) -> None:
    # One review per agent and lease: had all reviewed before the claim, nobody could pay what is owed.
    station = new_station(tmp_path, policy=glass())
    lease = station.propose(**emergency(station))
    station.review("cp14", lease)
    for voter in ("ada", "ben"):
        station.vote(voter, lease, "approver")
    station.take_term()
    station.claim(lease)
    assert not station.state.owed_reviews
