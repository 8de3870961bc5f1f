"""What is told of a key that was revoked as compromised: each counted cosignature from then on, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from forging import CAST, key_line, trust
from governing import propose_policy, revoke
from reject_stories import STORIES
from station import Station, new_station

from keys.principals import TrustRoot
from policies.law.taint import Taint, find_tainted

Lease = tuple[str, str]


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def root_of(station: Station) -> TrustRoot:
    assert station.state.trust is not None
    return station.state.trust


def deploy(station: Station, number: int, human: str = "ada") -> tuple[Lease, int]:
    """A deployment that runs, and the entry of its person's cosignature."""
    lease = station.propose(f"LEASE-20260105-{number:06}")
    vote = station.vote(human, lease, "approver")
    station.review("cp14", lease)
    station.take_term()
    station.claim(lease)
    station.baseline(lease)
    station.event("cp20", lease, "STARTED")
    return lease, vote.seq


def claim_of(station: Station, lease: Lease) -> int:
    return station.state.deployments[lease[1]].claim_seq


def of_lease(station: Station, lease: Lease, entry: int, keyid: str, *, live: bool) -> Taint:
    return Taint("deployment", lease[0], lease[1], entry, keyid, claim_of(station, lease), live)


def test_everything_that_counted_the_key_is_told_in_the_order_of_what_counted_it(station: Station) -> None:
    keyid = station.signer("ada").keyid
    ended, first = deploy(station, 1)
    station.complete(ended)
    policy = propose_policy(station)
    station.vote("ada", ("policy", policy.digest), "governor")
    running, second = deploy(station, 2)
    revoke(station, "ada", 1)
    state = station.state
    found = find_tainted(state, root_of(station))
    decided = {each.kind: each for each in state.proposals.values()}
    expected = [
        of_lease(station, ended, first, keyid, live=False),
        of_lease(station, running, second, keyid, live=True),
        *(
            Taint(kind, kind, each.digest, vote.seq, keyid, each.decided_seq or 0, live=False)
            for kind, each in decided.items()
            for vote in each.ballot.votes
            if vote.signer.keyid == keyid and vote.seq in each.counted
        ),
    ]
    assert {taint.kind for taint in expected} >= {"deployment", "fleet", "policy"}
    assert found == sorted(expected, key=lambda taint: taint.counted_at)
    assert [taint.kind for taint in found][:4] == ["fleet", "deployment", "policy", "deployment"]


def test_cosignature_before_the_theft_or_by_another_key_is_no_taint(station: Station) -> None:
    before, _ = deploy(station, 1)
    station.complete(before)
    others, _ = deploy(station, 2, human="ben")
    station.complete(others)
    position = station.state.size
    after, entry = deploy(station, 3)
    keyid = station.signer("ada").keyid
    revoke(station, "ada", position)
    tainted = [taint for taint in find_tainted(station.state, root_of(station)) if taint.kind == "deployment"]
    assert tainted == [of_lease(station, after, entry, keyid, live=True)]


def test_cosignature_that_nothing_counted_is_no_taint(station: Station) -> None:
    lease = station.propose()
    station.vote("ben", lease, "approver")
    station.review("cp14", lease)
    station.vote("ada", lease, "approver")
    station.take_term()
    station.claim(lease)
    unclaimed = station.propose("LEASE-20260105-090001")
    station.vote("ada", unclaimed, "approver")
    position = station.state.leases[lease[1]].ballot.votes[-1].seq
    revoke(station, "ada", position)
    state = station.state
    assert [vote.signer.principal for vote in state.leases[lease[1]].ballot.votes] == ["ben", "cp14", "ada"]
    assert find_tainted(state, root_of(station)) == []


def test_cosignature_that_was_withdrawn_before_the_quorum_is_no_taint() -> None:
    forge = STORIES["main"]().moments["genesis"].fork()
    subject = forge.say("ada", "fleet", forge.proposal("fleet", forge.fleet_object()))
    forge.vote("eve", subject, "operator")
    forge.say("eve", "objection", {"verb": "withdraw", "reason": ""}, subject)
    forge.vote("ben", subject, "operator")
    forge.vote("ada", subject, "operator")
    proposal = forge.state.proposals[subject[1]]
    assert [vote.signer.principal for vote in proposal.ballot.votes] == ["eve", "ben", "ada"]
    for name, entry in (("eve", None), ("ben", 4), ("ada", 5)):
        others = [each for each in CAST if each != name]
        revoked = TrustRoot.from_json(trust(*others, compromised=[{"key": key_line(name), "position": 0}]))
        told = [(taint.entry, taint.counted_at) for taint in find_tainted(forge.state, revoked)]
        assert told == ([] if entry is None else [(entry, 5)])


def test_what_is_told_names_both_entries() -> None:
    fields = ("digest", 5, "SHA256:key", 7, True)
    revoked = "by a key that was revoked as compromised"
    assert Taint("deployment", "LEASE-1", *fields).text == f"LEASE-1, claimed in entry 7 counted entry 5, {revoked}"
    assert Taint("fleet", "fleet", *fields).text == f"the fleet in force from entry 7 counted entry 5, {revoked}"
