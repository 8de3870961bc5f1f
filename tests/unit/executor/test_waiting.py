"""The inbox: what waits for whom and since when, the urgent first, and nothing that was answered or is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from governing import newcomer, principal, propose_policy, propose_trust, revoke, withdraw
from station import PEOPLE, Station, matrix, new_station
from terms import fleet

from executor.views.waiting import Waiting, find_principal, list_waiting
from keys.openssh import format_public, new_private_key

Lease = tuple[str, str]


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def inbox(station: Station, who: str = "ada") -> list[Waiting]:
    return list_waiting(station.state, who, station.clock.now)


def names(station: Station, who: str = "ada") -> list[str]:
    return [item.name for item in inbox(station, who)]


def emergency(station: Station, name: str = "LEASE-20260105-095900", **changes: Any) -> Lease:
    window = {"execute_by": station.after(900), "approve_by": station.after(900)}
    return station.propose(name, **{"rule": "break_glass", "reason": "the site is down", **window, **changes})


def claimed_emergency(station: Station) -> Lease:
    lease = emergency(station)
    for voter in ("ada", "ben"):
        station.vote(voter, lease, "approver")
    station.take_term()
    station.claim(lease)
    station.event("cp20", lease, "ABORTED", cause="test", text="")
    return lease


# Leases.


def test_lease_waits_for_each_approver_since_it_was_proposed(station: Station) -> None:
    proposed = station.clock.now
    lease = station.propose()
    station.clock.tick(60)
    for who in ("ada", "ben"):
        [item] = inbox(station, who)
        assert (item.kind, item.name, item.since, item.urgent) == ("lease", lease[0], proposed, False)
        assert item.until == station.state.leases[lease[1]].lease.approve_by
        # Two leases for one target are told apart by what they are for.
        why = next(iter(station.state.intents.values())).why
        assert item.text == f"change of web, asked by cbo: {why}"
    assert inbox(station, "cp14") == []
    assert inbox(station, "nobody") == []


def test_longest_wait_comes_first(station: Station) -> None:
    first = station.propose("LEASE-20260105-090001")
    station.clock.tick()
    second = station.propose("LEASE-20260105-090000")
    assert names(station) == [first[0], second[0]]


def test_approved_withdrawn_denied_or_late_lease_does_not_wait(station: Station) -> None:
    approved, withdrawn, denied, open_ = (station.propose(f"LEASE-20260105-09000{n}") for n in range(4))
    station.vote("ada", approved, "approver")
    station.vote("ada", withdrawn, "approver")
    withdraw(station, "ada", withdrawn)
    withdraw(station, "ben", denied, "deny")
    assert names(station) == [open_[0]]
    station.clock.tick(3601)
    assert names(station) == []


def test_withdrawal_before_any_approval_is_an_answer(station: Station) -> None:
    lease = station.propose()
    withdraw(station, "ada", lease)
    assert names(station) == []
    assert names(station, "ben") == [lease[0]]


def test_lease_that_has_its_human_waits_for_the_agent_alone(station: Station) -> None:
    lease = station.propose()
    station.vote("ben", lease, "approver")
    assert names(station) == []
    withdraw(station, "ben", lease)
    assert names(station) == [lease[0]]


def test_lease_whose_keys_do_not_count_together_waits_for_another_human(tmp_path: Path) -> None:
    station = new_station(tmp_path, people={**PEOPLE, "cp14": ("agent", "ben", ["sentinel"])})
    lease = station.propose()
    station.vote("ben", lease, "approver")
    station.review("cp14", lease)
    assert names(station) == [lease[0]]


def test_approval_with_a_compromised_key_is_to_be_given_again(station: Station) -> None:
    lease = station.propose()
    vote = station.vote("ada", lease, "approver")
    assert names(station) == []
    revoke(station, "ada", vote.seq)
    assert names(station) == [lease[0]]


@pytest.mark.parametrize("thing", ["policy", "fleet"])
def test_lease_under_another_policy_or_fleet_does_not_wait(station: Station, thing: str) -> None:
    station.propose()
    if thing == "policy":
        proposal = propose_policy(station)
        station.vote("ben", ("policy", proposal.digest), "governor")
    else:
        station.enact_fleet(fleet(21), voters=("ben",))
    assert names(station) == []


def test_lease_that_does_not_keep_the_policy_s_terms_does_not_wait(station: Station) -> None:
    # Nobody's key brings it further, and an approval of it is refused.
    station.propose(tiers=[100])
    assert names(station) == []


def test_proposer_s_own_lease_does_not_wait_for_them(tmp_path: Path) -> None:
    people = {**PEOPLE, "ben": ("human", "cbo", ["approver", "governor", "operator"])}
    station = new_station(tmp_path, people=people)
    lease = station.propose()
    assert names(station, "ben") == []
    assert names(station, "ada") == [lease[0]]


def test_break_glass_is_on_top_and_says_why(station: Station) -> None:
    station.propose("LEASE-20260105-090000")
    station.clock.tick(600)
    lease = emergency(station)
    first = inbox(station)[0]
    assert (first.name, first.urgent) == (lease[0], True)
    assert first.text.endswith("BREAK-GLASS change of web, asked by cbo: the site is down")
    station.vote("ben", lease, "approver")
    assert names(station)[0] == lease[0]


def test_break_glass_that_misses_a_token_waits_for_who_has_one(tmp_path: Path) -> None:
    clause = {"enabled": True, "max_validity_s": 900, "review_within_s": 3600, "user_verification": True}
    people = {**PEOPLE, "dan": ("human", "dan", ["approver"])}
    station = new_station(tmp_path, policy=matrix(break_glass=clause), people=people)
    lease = emergency(station)
    assert names(station, "dan") == [lease[0]]
    for voter in ("ada", "ben"):
        station.vote(voter, lease, "approver")
    # Two agree, and none of them signed with a token; dan has none either.
    assert names(station, "dan") == []


# Votes.


def test_vote_on_trust_policy_and_fleet_waits_for_who_may_give_it(tmp_path: Path) -> None:
    people = {**PEOPLE, "ben": ("human", "ben", ["approver", "governor"])}
    station = new_station(tmp_path, people=people)
    policy = propose_policy(station)
    station.clock.tick()
    trust = propose_trust(station, station.trust(expires="2031-01-01T00:00:00Z"))
    station.clock.tick()
    changed = station.enact_fleet(fleet(21), voters=())
    waiting = [(item.kind, item.name) for item in inbox(station)]
    assert waiting == [
        ("policy", policy.digest[:12]),
        ("trust", trust.digest[:12]),
        ("fleet", changed.digest[:12]),
    ]
    assert [item.kind for item in inbox(station, "ben")] == ["policy", "trust"]


def test_new_key_of_someone_who_cosigned_with_the_old_one_is_waited_for(tmp_path: Path) -> None:
    station = Station(tmp_path)
    station.genesis()
    new = new_private_key(station.random)
    root = station.trust()
    principal(root, "ada")["keys"] = [{"key": format_public(new.public), "user_verification": False}]
    principal(root, "ben")["roles"] = ["approver"]
    proposal = propose_trust(station, root)
    [item] = inbox(station)
    assert (item.kind, item.command) == ("trust", f"calyx approve {proposal.digest[:12]}")
    station.vote("ada", ("trust", proposal.digest), "governor")
    [item] = inbox(station)
    assert item.command == f"calyx approve {proposal.digest[:12]} --key FILE"
    assert inbox(station, "ben") == []
    station.keys["ada"] = new
    station.vote("ada", ("trust", proposal.digest), "governor")
    assert station.state.trust_digest == proposal.digest
    assert inbox(station) == []


def test_proposal_waits_for_whom_it_would_enrol(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    lease = station.propose()
    proposal = propose_trust(station, newcomer(station))
    [item] = inbox(station, "dan")
    assert (item.kind, item.digest) == ("trust", proposal.digest)
    assert lease[0] not in names(station, "dan")
    for voter in ("ada", "ben", "dan"):
        if station.state.trust_digest != proposal.digest:
            station.vote(voter, ("trust", proposal.digest), "governor")
    assert station.state.trust_digest == proposal.digest
    # A proposal that is decided enrols nobody any more.
    assert find_principal(station.state, "eve") is None


def test_proposal_that_was_voted_withdrawn_decided_or_overtaken_does_not_wait(tmp_path: Path) -> None:
    station = Station(tmp_path, thresholds=(2, 1))
    station.genesis()
    station.enact_fleet()
    voted, withdrawn, overtaken = (propose_policy(station, bake_s=60 + n) for n in range(3))
    station.vote("ada", ("policy", voted.digest), "governor")
    station.vote("ada", ("policy", withdrawn.digest), "governor")
    withdraw(station, "ada", ("policy", withdrawn.digest))
    assert names(station) == [overtaken.digest[:12]]
    station.vote("ben", ("policy", voted.digest), "governor")
    assert names(station) == []
    assert names(station, "ben") == []


# Deployments.


def test_start_is_waited_for_since_the_claim(station: Station) -> None:
    lease = station.propose(start="command")
    station.approve(lease)
    station.take_term()
    station.clock.tick(100)
    claimed = station.clock.now
    station.claim(lease)
    station.clock.tick(50)
    [item] = inbox(station)
    assert (item.kind, item.command, item.since) == ("deployment", f"calyx start {lease[0]}", claimed)
    assert item.until == station.state.leases[lease[1]].lease.execute_by
    station.command("ben", lease, "abort")
    assert inbox(station) == []


def test_resume_is_waited_for_since_the_pause(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.clock.tick(500)
    order = station.command("ben", lease, "pause")
    station.clock.tick(7)
    paused = station.clock.now
    station.event("cp20", lease, "PAUSED", command=order.digest, cause="command", text="")
    station.clock.tick(60)
    [item] = inbox(station)
    assert (item.command, item.since) == (f"calyx resume {lease[0]}", paused)
    # A pause that nobody ends in time is over all the same, and the rollout with it.
    assert item.until == station.state.leases[lease[1]].lease.complete_by


def test_promotion_is_waited_for_since_the_tier_passed(station: Station) -> None:
    lease = station.propose(promotion="manual")
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.bake(lease, 5)
    passed = station.clock.now
    for n in (3, 4):
        station.sample(lease, 5, n)
        station.verdict(lease, 5, n)
    [item] = inbox(station)
    assert (item.command, item.since) == (f"calyx promote {lease[0]}", passed)
    assert station.clock.now > passed


def test_failed_rollback_is_waited_for_since_it_failed_until_it_is_ordered_again(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.event("cp20", lease, "HALTED", cause="breach", gate=None, evidence=None, text="")
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="breach", command=None)
    station.clock.tick(30)
    failed = station.clock.now
    touched = sorted(station.state.deployments[lease[1]].intended)
    station.event("cp20", lease, "ROLLBACK_FAILED", instances=touched, text="no answer")
    station.clock.tick(30)
    [item] = inbox(station)
    assert (item.command, item.since) == (f"calyx rollback {lease[0]}", failed)
    station.command("ben", lease, "rollback")
    assert inbox(station) == []


def test_failed_rollback_that_a_later_deployment_made_good_does_not_wait(station: Station) -> None:
    lease = station.propose("LEASE-20260105-090000")
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.event("cp20", lease, "HALTED", cause="breach", gate=None, evidence=None, text="")
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="breach", command=None)
    touched = sorted(station.state.deployments[lease[1]].intended)
    station.event("cp20", lease, "ROLLBACK_FAILED", instances=touched, text="no answer")
    later = station.propose("LEASE-20260105-090001")
    station.begin(later)
    station.complete(later)
    assert inbox(station) == []


def test_deployments_wait_for_those_who_give_orders(tmp_path: Path) -> None:
    people = {**PEOPLE, "dan": ("human", "dan", ["governor"])}
    station = new_station(tmp_path, people=people)
    lease = station.propose(start="command")
    station.approve(lease)
    station.take_term()
    station.claim(lease)
    assert names(station, "dan") == []
    assert names(station, "ben") == [lease[0]]


def test_claim_that_something_is_in_the_way_of_waits_since_the_first_failure(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    station.clock.tick(5)
    first = station.clock.now
    station.event("cp20", lease, "PREFLIGHT_FAILED", code="no_space", instance=None, text="full")
    station.clock.tick(5)
    station.event("cp20", lease, "PREFLIGHT_FAILED", code="host_down", instance=None, text="no answer")
    [item] = inbox(station)
    assert (item.kind, item.since) == ("preflight", first)
    assert item.text == "cannot be claimed: host_down: no answer"
    withdraw(station, "ada", lease)
    assert names(station) == []


# Reviews and questions.


def test_owed_review_waits_with_its_time_and_is_first_once_overdue(tmp_path: Path) -> None:
    clause = {"enabled": True, "max_validity_s": 900, "review_within_s": 3600, "user_verification": False}
    station = new_station(tmp_path, policy=matrix(break_glass=clause))
    open_ = station.propose("LEASE-20260105-080000", approve_by=station.after(7000))
    station.clock.tick(10)
    lease = claimed_emergency(station)
    claimed = station.clock.now
    due = station.after(3600)
    assert [(item.kind, item.name) for item in inbox(station)] == [("lease", open_[0]), ("review", lease[0])]
    station.clock.tick(3601)
    item = inbox(station)[0]
    assert (item.kind, item.name, item.since, item.until, item.urgent) == ("review", lease[0], claimed, due, True)
    assert item.command == "calyx agent run cp14"
    station.review("cp18", lease, "fail")
    assert names(station) == [open_[0]]


def test_question_waits_until_it_is_answered_by_whom_it_was_put_to(station: Station) -> None:
    asked = station.clock.now
    message = {"type": "question", "to": "ada", "reply_to": None, "text": "why?"}
    question = station.say("cp14", "message", message)
    station.say("cp14", "message", {**message, "to": None})
    station.say("cp14", "message", {**message, "type": "acknowledgement"})
    station.clock.tick()
    [item] = inbox(station)
    assert (item.kind, item.since) == ("question", asked)
    assert item.command == f"calyx message answer {question.digest[:12]}"
    assert inbox(station, "ben") == []
    answer = {"type": "answer", "to": "cp14", "reply_to": question.digest, "text": "so"}
    station.say("ben", "message", answer)
    assert len(inbox(station)) == 1
    station.say("ada", "message", answer)
    assert inbox(station) == []


def test_nothing_is_listed_twice(station: Station) -> None:
    root = station.trust()
    fresh = new_private_key(station.random)
    principal(root, "ada")["keys"].append({"key": format_public(fresh.public), "user_verification": False})
    propose_trust(station, root)
    station.propose()
    items = inbox(station)
    assert len({(item.kind, item.name) for item in items}) == len(items) == 2
