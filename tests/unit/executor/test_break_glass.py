"""Attacks on break-glass: two humans in place of a human and an agent, for minutes, with a review owed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from authenticator import TOUCHED, VERIFIED, Token
from fleetsim import Simulation
from governing import principal, propose_policy, propose_trust, revoke, withdraw
from refusal import refused
from station import PEOPLE, Station, matrix, new_station

from executor.agents.review import Report, Reviewer
from keys.errors import Exit
from keys.openssh import fingerprint, format_public, new_private_key
from keys.openssh_public import parse_blob
from policies.kinds import ABSENT
from policies.law.two_key import VerifiedLease, check_two_key
from policies.submitter import Draft

Lease = tuple[str, str]
CLAUSE = {"enabled": True, "max_validity_s": 900, "review_within_s": 3600, "user_verification": False}
WEB = [f"web-{n:02}" for n in range(1, 21)]
APPROVE = {"role": "approver", "review": None}


class TokenSigner:
    """A person who signs with a token. `flags`: what it says it saw of its user."""

    def __init__(self, name: str, token: Token, flags: int) -> None:
        self.principal = name
        self.token = token
        self.flags = flags

    @property
    def keyid(self) -> str:
        return fingerprint(parse_blob(self.token.blob))

    def sign(self, pae: bytes, namespace: str) -> bytes:
        return self.token.sign(namespace, pae, flags=self.flags)


def glass(**changes: Any) -> dict[str, Any]:
    return matrix(break_glass={**CLAUSE, **changes})


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path, policy=glass())


def emergency(station: Station, name: str = "LEASE-20260105-090000", **changes: Any) -> Lease:
    window = {"execute_by": station.after(900), "approve_by": station.after(900)}
    return station.propose(name, **{"rule": "break_glass", "reason": "the site is down", **window, **changes})


def both(station: Station, lease: Lease) -> None:
    for voter in ("ada", "ben"):
        station.vote(voter, lease, "approver")


def check(station: Station, lease: Lease) -> VerifiedLease:
    return check_two_key(station.state, lease[1], station.clock.now)


def claimed(station: Station, name: str = "LEASE-20260105-090000", **changes: Any) -> Lease:
    """A break-glass lease, claimed and aborted, so that its target is free."""
    lease = emergency(station, name, **changes)
    both(station, lease)
    if station.state.term is None:
        station.take_term()
    station.claim(lease)
    station.event("cp20", lease, "ABORTED", cause="test", text="")
    return lease


def review(station: Station, who: str, lease: Lease, verdict: str) -> None:
    role = station.people[who][2][0]
    station.say(who, "review", {"role": role, "verdict": verdict, "summary": "", "findings": None}, lease)


def two_key(station: Station, name: str = "LEASE-20260105-100000") -> Lease:
    lease = station.propose(name)
    station.approve(lease)
    return lease


# The two humans.


def test_two_humans_count(station: Station) -> None:
    lease = emergency(station)
    both(station, lease)
    assert [vote.signer.principal for vote in check(station, lease).counted] == ["ada", "ben"]


def test_same_human_twice(station: Station) -> None:
    lease = emergency(station)
    station.vote("ada", lease, "approver")
    with refused("already_cosigned"):
        station.vote("ada", lease, "approver")
    withdraw(station, "ada", lease)
    station.vote("ada", lease, "approver")
    with refused("quorum_unmet", step=5, missing="human"):
        check(station, lease)


def test_one_human_with_two_keys(tmp_path: Path) -> None:
    station = Station(tmp_path, policy=glass())
    second = new_private_key(station.random)
    root = station.trust()
    principal(root, "ada")["keys"].append({"key": format_public(second.public), "user_verification": False})
    station.trust = lambda **_: root  # type: ignore[method-assign]  # this station's genesis has one key more
    station.genesis()
    station.enact_fleet()
    lease = emergency(station)
    station.vote("ada", lease, "approver")
    station.append(station.sign("ada", Draft("cosignature", APPROVE, lease), signer=station.signer("ada", second)))
    with refused("quorum_unmet", step=5, missing="human"):
        check(station, lease)


def test_two_humans_of_the_same_custodian(tmp_path: Path) -> None:
    people = {**PEOPLE, "ben": ("human", "ada", ["approver"])}
    station = new_station(tmp_path, policy=glass(), people=people)
    lease = emergency(station)
    both(station, lease)
    with refused("quorum_unmet", step=6):
        check(station, lease)


def test_proposer_among_the_two(tmp_path: Path) -> None:
    people = {**PEOPLE, "ada": ("human", "ada", ["approver", "governor", "operator", "proposer"])}
    station = new_station(tmp_path, policy=glass(), people=people)
    station.say("ada", "intent", {"id": "INT-20260105-001", "target": "web", "what": "", "why": ""})
    fields = station.lease_fields("LEASE-20260105-090000", "INT-20260105-001")
    window = {"execute_by": station.after(900), "approve_by": station.after(900)}
    receipt = station.say("ada", "lease", {**fields, **window, "rule": "break_glass", "reason": "down"})
    lease = ("LEASE-20260105-090000", receipt.digest)
    both(station, lease)
    with refused("quorum_unmet", step=6):
        check(station, lease)


def test_custodian_of_the_proposer_among_the_two(tmp_path: Path) -> None:
    station = new_station(tmp_path, policy=glass(), people={**PEOPLE, "cbo": ("overseer", "ben", ["proposer"])})
    lease = emergency(station)
    both(station, lease)
    with refused("quorum_unmet", step=6):
        check(station, lease)


def test_agent_as_the_second(station: Station) -> None:
    lease = emergency(station)
    station.vote("ada", lease, "approver")
    station.review("cp14", lease)
    station.review("cp18", lease)
    with refused("quorum_unmet", step=5, missing="human"):
        check(station, lease)


def test_governor_who_is_no_approver_as_the_second(tmp_path: Path) -> None:
    people = {**PEOPLE, "ben": ("human", "ben", ["governor", "operator"])}
    station = new_station(tmp_path, policy=glass(), people=people)
    lease = emergency(station)
    with refused("role_missing"):
        station.vote("ben", lease, "approver")


def test_one_of_the_two_withdrew(station: Station) -> None:
    lease = emergency(station)
    both(station, lease)
    withdraw(station, "ben", lease)
    with refused("quorum_unmet", step=5):
        check(station, lease)


def test_one_of_the_two_was_compromised_before_the_claim(tmp_path: Path) -> None:
    station = new_station(tmp_path, policy=glass())
    lease = emergency(station)
    both(station, lease)
    position = station.state.leases[lease[1]].ballot.votes[0].seq
    revoke(station, "ada", position)
    with refused("quorum_unmet", step=5):
        check(station, lease)


# Reason, validity, policy.


@pytest.mark.parametrize("reason", [None, ""])
def test_no_reason(station: Station, reason: str | None) -> None:
    with refused("reason_missing"):
        emergency(station, reason=reason)


def test_valid_for_longer_than_the_policy_allows(station: Station) -> None:
    lease = emergency(station, execute_by=station.after(901))
    both(station, lease)
    with refused("break_glass_too_long", step=2):
        check(station, lease)


def test_claim_after_execute_by(station: Station) -> None:
    lease = emergency(station)
    both(station, lease)
    station.take_term()
    station.clock.tick(900)
    check(station, lease)
    fields = station.claim_fields(lease)
    station.clock.tick()
    with refused("lease_expired", step=3):
        station.say("cp20", "claim", fields, lease)


@pytest.mark.parametrize("change", [{"break_glass": {**CLAUSE, "enabled": False}}, {"enabled": False}])
def test_policy_switched_off_meanwhile(station: Station, change: dict[str, Any]) -> None:
    lease = emergency(station)
    both(station, lease)
    check(station, lease)
    proposal = propose_policy(station, **change)
    station.vote("ada", ("policy", proposal.digest), "governor")
    with refused("stale_policy", step=2):
        check(station, lease)
    # And a lease made after it is no better.
    later = emergency(station, "LEASE-20260105-091000")
    both(station, later)
    with refused("break_glass_disabled" if "break_glass" in change else "capability_disabled", step=2):
        check(station, later)


# User verification.


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Station, Token]:
    """A station in which ada signs with a token, of which the root asks user verification."""
    token = Token()
    station = Station(tmp_path, policy=glass(user_verification=True))
    root = station.trust()
    principal(root, "ada")["keys"] = [{"key": format_public(parse_blob(token.blob)), "user_verification": True}]
    governors = station.thresholds
    assert governors == (1, 1)
    station.trust = lambda **changes: {**root, **changes}  # type: ignore[method-assign]  # ada has only her token
    signer = station.signer
    station.signer = (  # type: ignore[method-assign]  # whoever is ada signs with it
        lambda name, key=None: TokenSigner("ada", token, TOUCHED | VERIFIED) if name == "ada" else signer(name, key)  # type: ignore[assignment,return-value]
    )
    station.genesis()
    station.enact_fleet()
    return station, token


def ask_verification(station: Station, asked: bool) -> None:
    """A root that asks, or no longer asks, user verification of ada's token, in force by ben's vote."""
    root = station.trust()
    principal(root, "ada")["keys"][0]["user_verification"] = asked
    proposal = propose_trust(station, root, who="ben")
    station.vote("ben", ("trust", proposal.digest), "governor")
    assert station.state.trust_digest == proposal.digest


def test_token_that_verified_its_user(tokens: tuple[Station, Token]) -> None:
    station, _ = tokens
    lease = emergency(station)
    both(station, lease)
    assert len(check(station, lease).counted) == 2


def test_token_that_was_only_touched(tokens: tuple[Station, Token]) -> None:
    station, token = tokens
    lease = emergency(station)
    touched: Any = TokenSigner("ada", token, TOUCHED)
    with refused("user_unverified"):
        station.append(station.sign("ada", Draft("cosignature", APPROVE, lease), signer=touched))


def test_no_user_verification(tmp_path: Path) -> None:
    station = new_station(tmp_path, policy=glass(user_verification=True))
    lease = emergency(station)
    both(station, lease)
    with refused("quorum_unmet", step=5, missing="user_verification"):
        check(station, lease)


@pytest.mark.parametrize("flags", [TOUCHED, TOUCHED | VERIFIED])
def test_verification_asked_for_only_after_the_cosignature(tokens: tuple[Station, Token], flags: int) -> None:
    station, token = tokens
    ask_verification(station, False)
    lease = emergency(station)
    touched: Any = TokenSigner("ada", token, flags)
    station.append(station.sign("ada", Draft("cosignature", APPROVE, lease), signer=touched))
    station.vote("ben", lease, "approver")
    ask_verification(station, True)
    with refused("quorum_unmet", step=5, missing="user_verification"):
        check(station, lease)
    # Taken back and given again, it was asked for and seen.
    withdraw(station, "ada", lease)
    station.vote("ada", lease, "approver")
    check(station, lease)


def test_verification_no_longer_asked_for_at_the_claim(tokens: tuple[Station, Token]) -> None:
    station, _ = tokens
    lease = emergency(station)
    both(station, lease)
    check(station, lease)
    ask_verification(station, False)
    with refused("quorum_unmet", step=5, missing="user_verification"):
        check(station, lease)


def test_verified_vote_that_cannot_be_one_of_the_two(tmp_path: Path) -> None:
    """The token's holder shares the proposer's custodian: two others agree, and neither verified."""
    token = Token()
    people = {**PEOPLE, "eve": ("human", "cbo", ["approver"])}
    station = Station(tmp_path, policy=glass(user_verification=True), people=people)
    root = station.trust()
    principal(root, "eve")["keys"] = [{"key": format_public(parse_blob(token.blob)), "user_verification": True}]
    station.trust = lambda **changes: {**root, **changes}  # type: ignore[method-assign]  # eve has only her token
    station.genesis()
    station.enact_fleet()
    lease = emergency(station)
    both(station, lease)
    eve: Any = TokenSigner("eve", token, TOUCHED | VERIFIED)
    station.append(station.sign("eve", Draft("cosignature", APPROVE, lease), signer=eve))
    with refused("quorum_unmet", step=6):
        check(station, lease)


# The review that is owed.


def test_overdue_review_blocks_two_key_claims_and_no_emergency(station: Station) -> None:
    first = claimed(station)
    assert station.state.owed_reviews == {first[1]: station.clock.now + 3600}
    station.clock.tick(3600)
    lease = two_key(station)
    check(station, lease)
    station.clock.tick()
    with refused("review_overdue", step=8):
        check(station, lease)
    second = emergency(station, "LEASE-20260105-110000")
    both(station, second)
    check(station, second)


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_late_review_unblocks_whatever_it_finds(station: Station, verdict: str) -> None:
    first = claimed(station)
    station.clock.tick(4000)
    lease = two_key(station)
    with refused("review_overdue", step=8):
        check(station, lease)
    review(station, "cp18", first, verdict)
    check(station, lease)
    with refused("lease_consumed"):
        review(station, "cp14", first, "pass")


def test_one_review_pays_for_its_own_lease_only(station: Station) -> None:
    first, second = claimed(station), claimed(station, "LEASE-20260105-090001")
    station.clock.tick(4000)
    lease = two_key(station)
    review(station, "cp14", first, "pass")
    with refused("review_overdue", step=8):
        check(station, lease)
    review(station, "cp14", second, "pass")
    check(station, lease)


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_review_before_the_claim_is_the_review(station: Station, verdict: str) -> None:
    lease = emergency(station)
    review(station, "cp14", lease, verdict)
    both(station, lease)
    station.take_term()
    station.claim(lease)
    assert station.state.owed_reviews == {}


def test_review_by_a_key_that_was_replaced_before_the_claim_pays_nothing(station: Station) -> None:
    lease = emergency(station)
    review(station, "cp14", lease, "pass")
    both(station, lease)
    root = station.trust()
    fresh = new_private_key(station.random)
    principal(root, "cp14")["keys"] = [{"key": format_public(fresh.public), "user_verification": False}]
    proposal = propose_trust(station, root)
    station.vote("ada", ("trust", proposal.digest), "governor")
    station.keys["cp14"] = fresh
    station.take_term()
    station.claim(lease)
    assert list(station.state.owed_reviews) == [lease[1]]
    # The same agent says it again with the key that it has now; else the only agent could never pay.
    review(station, "cp14", lease, "pass")
    assert station.state.owed_reviews == {}


def test_reviewer_without_its_role_cannot_pay(station: Station) -> None:
    lease = claimed(station)
    with refused("role_missing"):
        station.say("cp18", "review", {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}, lease)
    with refused("role_missing"):
        station.say("ada", "review", {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}, lease)
    assert list(station.state.owed_reviews) == [lease[1]]


# Agents and executor.


class Content:
    def inspect(self, *_: Any) -> Report:
        return Report("looked at", ())


def reviewer(station: Station, who: str = "cp14") -> Reviewer:
    return Reviewer(
        "sentinel",
        Content(),
        station.registrar,
        station.signer(who),
        station.objects,
        monotonic=lambda: 0.0,
        log=lambda _: None,
    )


def test_agent_reviews_an_emergency_and_does_not_cosign_it(station: Station) -> None:
    lease = emergency(station)
    for _ in range(2):
        reviewer(station).act(station.state)
    state = station.state.leases[lease[1]]
    assert list(state.reviews) == ["cp14"]
    assert state.ballot.votes == []


def test_agent_that_starts_late_pays_what_is_owed(station: Station) -> None:
    lease = claimed(station)
    station.clock.tick(10_000)
    reviewer(station).act(station.state)
    assert list(station.state.leases[lease[1]].reviews) == ["cp14"]
    assert station.state.owed_reviews == {}


def test_executor_deploys_an_emergency_like_any_other_lease(tmp_path: Path) -> None:
    scene = Simulation(new_station(tmp_path, policy=glass()))
    changes = [{"before": ABSENT, "after": scene.station.put_tree("v2").sha256, "instances": WEB}]
    lease = emergency(scene.station, changes=changes)
    both(scene.station, lease)
    assert scene.run() is Exit.DONE
    deployment = scene.station.state.deployments[lease[1]]
    assert deployment.phase == "COMPLETED"
    assert all(a < b for a, b in pairwise(deployment.counted))
    assert list(scene.station.state.owed_reviews) == [lease[1]]
