"""Attacks on the trust root: who may change it, and what a change must never do."""

from __future__ import annotations

from pathlib import Path

import pytest
from governing import newcomer, principal, propose_policy, propose_trust, revoke, withdraw
from refusal import refused
from station import Station, new_station

from keys.openssh import format_public, new_private_key
from keys.signer import FileSigner
from keys.values import format_time, parse_time
from policies.law.governance import quorum_progress
from policies.registrar import Draft


@pytest.fixture
def station(tmp_path: Path) -> Station:
    """Two governors and two operators are needed."""
    station = Station(tmp_path, thresholds=(2, 2))
    station.genesis()
    station.enact_fleet(voters=("ada", "ben"))
    return station


def test_trust_needs_the_old_threshold_and_the_new(station: Station) -> None:
    dan = new_private_key(station.random)
    root = station.trust()
    root["principals"].append(
        {
            "id": "dan",
            "kind": "human",
            "custodian": "dan",
            "roles": ["governor"],
            "keys": [{"key": format_public(dan.public), "user_verification": False}],
        }
    )
    root["thresholds"]["governors"] = 3
    station.people["dan"] = ("human", "dan", ["governor"])
    station.keys["dan"] = dan
    proposal = propose_trust(station, root)
    subject = ("trust", proposal.digest)
    station.vote("dan", subject, "governor")
    station.vote("ada", subject, "governor")
    progress = quorum_progress(station.state, station.state.proposals[proposal.digest])
    assert progress == [("governors in force", 1, 2), ("governors proposed", 2, 3)]
    station.vote("ben", subject, "governor")
    assert station.state.trust_digest == proposal.digest


def test_key_of_the_proposed_root_counts_for_the_new_threshold_only(station: Station) -> None:
    root = newcomer(station)
    proposal = propose_trust(station, root)
    subject = ("trust", proposal.digest)
    station.vote("ada", subject, "governor")
    station.vote("dan", subject, "governor")
    assert station.state.trust_digest != proposal.digest
    station.vote("ben", subject, "governor")
    assert station.state.trust_digest == proposal.digest


def test_newcomer_signs_anything_else_before_the_root_is_in_force(station: Station) -> None:
    root = newcomer(station)
    proposal = propose_trust(station, root)
    policy = propose_policy(station)
    with refused("unknown_key"):
        station.vote("dan", ("policy", policy.digest), "governor")
    with refused("unknown_key"):
        withdraw(station, "dan", ("policy", policy.digest))
    with refused("unknown_key"):
        station.say("dan", "message", {"type": "question", "to": None, "reply_to": None, "text": "?"})
    station.vote("dan", ("trust", proposal.digest), "governor")


def test_newcomer_withdraws_what_it_cosigned(station: Station) -> None:
    root = newcomer(station)
    proposal = propose_trust(station, root)
    subject = ("trust", proposal.digest)
    for voter in ("dan", "ada"):
        station.vote(voter, subject, "governor")
    withdraw(station, "dan", subject)
    station.vote("ben", subject, "governor")
    assert station.state.trust_digest != proposal.digest
    station.vote("dan", subject, "governor")
    assert station.state.trust_digest == proposal.digest


def test_kind_changed_under_the_same_id(station: Station) -> None:
    root = station.trust()
    cbo = principal(root, "cbo")
    cbo["kind"] = "agent"
    with refused("bad_trust_root"):
        propose_trust(station, root)


def test_kind_changed_under_an_id_that_was_gone_for_a_while(station: Station) -> None:
    root = station.trust()
    root["principals"] = [each for each in root["principals"] if each["id"] != "cp20b"]
    proposal = propose_trust(station, root)
    for voter in ("ada", "ben"):
        station.vote(voter, ("trust", proposal.digest), "governor")
    back = station.trust()
    other = principal(back, "cp20b")
    other.update(
        kind="agent",
        id="CP20b",
        keys=[{"key": format_public(new_private_key(station.random).public), "user_verification": False}],
    )
    with refused("bad_trust_root"):
        propose_trust(station, back)


def test_key_reassigned_to_another_principal(station: Station) -> None:
    root = station.trust()
    ada, ben = principal(root, "ada"), principal(root, "ben")
    ada["keys"], ben["keys"] = ben["keys"], ada["keys"]
    with refused("bad_trust_root"):
        propose_trust(station, root)


def test_one_key_under_two_ids(station: Station) -> None:
    root = station.trust()
    root["principals"].append({**principal(root, "cp14"), "id": "cp15", "custodian": "cp15"})
    with refused("bad_trust_root"):
        propose_trust(station, root)


def test_root_whose_members_cannot_meet_its_thresholds(station: Station) -> None:
    root = station.trust()
    root["thresholds"]["governors"] = 3
    with refused("bad_trust_root"):
        propose_trust(station, root)


def test_machine_made_governor(station: Station) -> None:
    root = station.trust()
    principal(root, "cbo")["roles"] = ["governor", "proposer"]
    with refused("bad_trust_root"):
        propose_trust(station, root)


def test_compromise_of_a_position_that_is_still_to_come(station: Station) -> None:
    with refused("bad_trust_root"):
        revoke(station, "ada", station.state.size + 100)


def test_compromised_key_stops_counting_for_an_open_proposal(station: Station) -> None:
    proposal = propose_policy(station)
    stolen = station.vote("ada", ("policy", proposal.digest), "governor")
    revoke(station, "ada", stolen.seq)
    station.vote("ben", ("policy", proposal.digest), "governor")
    assert station.state.policy_digest != proposal.digest
    station.vote("ada", ("policy", proposal.digest), "governor")
    assert station.state.policy_digest == proposal.digest


def test_what_a_compromised_key_brought_into_force_stays(station: Station) -> None:
    proposal = propose_policy(station)
    stolen = station.vote("ada", ("policy", proposal.digest), "governor")
    station.vote("ben", ("policy", proposal.digest), "governor")
    revoke(station, "ada", stolen.seq)
    assert station.state.policy_digest == proposal.digest


def test_compromise_taken_back(station: Station) -> None:
    revoke(station, "ada", 3)
    with refused("bad_trust_root"):
        propose_trust(station, {**station.trust(), "compromised": []})


def test_compromised_key_signs_on(station: Station) -> None:
    old = station.keys["ada"]
    revoke(station, "ada", 3)
    draft = Draft("message", {"type": "question", "to": None, "reply_to": None, "text": "?"})
    with refused("unknown_key"):
        station.append(station.sign("ada", draft, signer=FileSigner("ada", "human", old)))


def test_expired_root_claims_nothing(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    expires = format_time(parse_time(station.after(600)))
    proposal = propose_trust(station, station.trust(expires=expires))
    station.vote("ada", ("trust", proposal.digest), "governor")
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    station.clock.tick(600)
    fields = station.claim_fields(lease)
    station.clock.tick()
    with refused("trust_expired", step=3):
        station.say("cp20", "claim", fields, lease)
    station.clock.tick(-1)
    station.claim(lease)
