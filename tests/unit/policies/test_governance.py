"""Attacks on what is in force: genesis, and proposals of trust, policy and fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from governing import principal, propose_policy, propose_trust, withdraw
from refusal import refused
from station import PEOPLE, Station, fleet, matrix, new_station

from keys.openssh import format_public, new_private_key
from keys.values import ZERO_HASH
from ledger.objects import ObjectRef
from policies.fleet import Fleet
from policies.law.governance import quorum_progress
from policies.matrix import CapabilityMatrix
from policies.submitter import Draft


@pytest.fixture
def station(tmp_path: Path) -> Station:
    """Two governors and two operators are needed."""
    station = Station(tmp_path, thresholds=(2, 2))
    station.genesis()
    station.enact_fleet(voters=("ada", "ben"))
    return station


def test_one_signature_is_no_quorum(station: Station) -> None:
    before = station.state.policy_digest
    proposal = propose_policy(station)
    station.vote("ada", ("policy", proposal.digest), "governor")
    assert station.state.policy_digest == before
    assert quorum_progress(station.state, station.state.proposals[proposal.digest]) == [("governors in force", 1, 2)]
    station.vote("ben", ("policy", proposal.digest), "governor")
    assert station.state.policy_digest == proposal.digest


def test_proposing_is_not_cosigning(station: Station) -> None:
    proposal = propose_policy(station)
    station.vote("ben", ("policy", proposal.digest), "governor")
    assert station.state.policy_digest != proposal.digest


def test_governor_counted_twice(station: Station) -> None:
    proposal = propose_policy(station)
    station.vote("ada", ("policy", proposal.digest), "governor")
    with refused("already_cosigned"):
        station.vote("ada", ("policy", proposal.digest), "governor")
    assert station.state.policy_digest != proposal.digest


def test_governor_counted_twice_with_a_second_key(tmp_path: Path) -> None:
    station = Station(tmp_path, thresholds=(2, 2))
    second = new_private_key(station.random)
    root = station.trust()
    principal(root, "ada")["keys"].append({"key": format_public(second.public), "user_verification": False})
    station.trust = lambda **_: root  # type: ignore[method-assign]  # this station's genesis has one key more
    station.genesis()
    proposal = propose_policy(station)
    subject = ("policy", proposal.digest)
    station.vote("ada", subject, "governor")
    vote = Draft("cosignature", {"role": "governor", "review": None}, subject)
    station.append(station.sign("ada", vote, signer=station.signer("ada", second)))
    assert station.state.policy_digest != proposal.digest


def test_two_governors_under_one_custodian(tmp_path: Path) -> None:
    people = {**PEOPLE, "cat": ("human", "ada", ["governor"])}
    station = Station(tmp_path, thresholds=(2, 1), people=people)
    station.genesis()
    proposal = propose_policy(station)
    station.vote("ada", ("policy", proposal.digest), "governor")
    station.vote("cat", ("policy", proposal.digest), "governor")
    assert station.state.policy_digest != proposal.digest
    station.vote("ben", ("policy", proposal.digest), "governor")
    assert station.state.policy_digest == proposal.digest


@pytest.mark.parametrize("who", ["cbo", "cp14", "cp20"])
def test_machine_proposes_or_cosigns_a_policy(station: Station, who: str) -> None:
    with refused("role_missing"):
        propose_trust(station, station.trust(), who=who)
    proposal = propose_policy(station)
    with refused("role_missing"):
        station.vote(who, ("policy", proposal.digest), "governor")


@pytest.mark.parametrize("role", ["operator", "approver", "sentinel"])
def test_role_swap(station: Station, role: str) -> None:
    proposal = propose_policy(station)
    with refused("wrong_role"):
        station.vote("ada", ("policy", proposal.digest), role)


def test_half_signed_policy_completed_after_another_came_into_force(station: Station) -> None:
    old = propose_policy(station, bake_s=1)
    station.vote("ada", ("policy", old.digest), "governor")
    new = propose_policy(station, bake_s=120)
    for voter in ("ada", "ben"):
        station.vote(voter, ("policy", new.digest), "governor")
    with refused("stale_base"):
        station.vote("ben", ("policy", old.digest), "governor")
    assert station.state.policy_digest == new.digest


def test_proposal_on_what_is_not_in_force(station: Station) -> None:
    policy = CapabilityMatrix.from_json(matrix()).to_json()
    for base in (ZERO_HASH, station.state.fleet_digest):
        with refused("stale_base"):
            station.say(
                "ada", "policy", {"base": base, "reason": "a test", "approve_by": station.after(60), "policy": policy}
            )


def test_policy_in_force_cosigned_again(station: Station) -> None:
    proposal = propose_policy(station)
    for voter in ("ada", "ben"):
        station.vote(voter, ("policy", proposal.digest), "governor")
    with refused("already_in_force"):
        station.vote("ada", ("policy", proposal.digest), "governor")
    with refused("already_in_force"):
        withdraw(station, "ada", ("policy", proposal.digest))


def test_withdrawn_cosignature_completes_no_quorum(station: Station) -> None:
    proposal = propose_policy(station)
    subject = ("policy", proposal.digest)
    station.vote("ada", subject, "governor")
    withdraw(station, "ada", subject)
    station.vote("ben", subject, "governor")
    assert station.state.policy_digest != proposal.digest
    station.vote("ada", subject, "governor")
    assert station.state.policy_digest == proposal.digest


def test_leaked_cosignature_appended_after_its_withdrawal(station: Station) -> None:
    proposal = propose_policy(station)
    subject = ("policy", proposal.digest)
    leaked = station.sign("ada", Draft("cosignature", {"role": "governor", "review": None}, subject))
    withdraw(station, "ada", subject)
    station.vote("ben", subject, "governor")
    station.append(leaked)
    assert station.state.policy_digest != proposal.digest
    assert [vote.signer.principal for vote in station.state.proposals[proposal.digest].ballot.standing()] == ["ben"]


def test_withdrawal_stops_nobody_else(station: Station) -> None:
    proposal = propose_policy(station)
    subject = ("policy", proposal.digest)
    station.vote("ada", subject, "governor")
    withdraw(station, "ben", subject)
    with refused("role_missing"):
        withdraw(station, "cbo", subject)
    station.vote("ben", subject, "governor")
    assert station.state.policy_digest == proposal.digest


def test_denial_of_a_policy(station: Station) -> None:
    proposal = propose_policy(station)
    with refused("wrong_subject"):
        withdraw(station, "ada", ("policy", proposal.digest), "deny")


def test_cosignature_after_approve_by(station: Station) -> None:
    proposal = propose_policy(station)
    station.clock.tick(3600)
    station.vote("ada", ("policy", proposal.digest), "governor")
    early = station.sign("ben", Draft("cosignature", {"role": "governor", "review": None}, ("policy", proposal.digest)))
    station.clock.tick()
    with refused("approval_expired"):
        station.vote("ben", ("policy", proposal.digest), "governor")
    # Signed in time and appended late is late: the record's time counts too.
    with refused("approval_expired"):
        station.append(early)


def test_proposal_that_nobody_could_approve_any_more(station: Station) -> None:
    policy = CapabilityMatrix.from_json(matrix()).to_json()
    fields = {
        "base": station.state.policy_digest,
        "reason": "a test",
        "approve_by": station.after(-1),
        "policy": policy,
    }
    with refused("approval_expired"):
        station.say("ada", "policy", fields)


def test_fleet_body_that_is_not_there(station: Station) -> None:
    ref = ObjectRef(sha256="ab" * 32, size=10)
    fields = {
        "base": station.state.fleet_digest,
        "reason": "a test",
        "approve_by": station.after(60),
        "fleet": ref.to_json(),
    }
    with refused("object_missing"):
        station.say("ada", "fleet", fields)


def test_fleet_body_that_leaves_a_field_to_its_default(station: Station) -> None:
    ref = station.objects.put(b'{"targets":{}}')
    fields = {
        "base": station.state.fleet_digest,
        "reason": "a test",
        "approve_by": station.after(60),
        "fleet": ref.to_json(),
    }
    station.say("ada", "fleet", fields)
    short = Fleet.from_json(fleet()).canonical().replace(b'"address":"local",', b"", 1)
    with refused("not_canonical"):
        station.say("ada", "fleet", {**fields, "fleet": station.objects.put(short).to_json()})


def test_policy_that_leaves_out_a_field(station: Station) -> None:
    policy = CapabilityMatrix.from_json(matrix()).to_json()
    assert isinstance(policy, dict)
    terms = policy["deploy_production"]
    assert isinstance(terms, dict)
    del terms["look"]
    fields = {
        "base": station.state.policy_digest,
        "reason": "a test",
        "approve_by": station.after(60),
        "policy": policy,
    }
    with refused("bad_format"):
        station.say("ada", "policy", fields)


def test_policy_is_one_operators_business(tmp_path: Path) -> None:
    people = {**PEOPLE, "ops": ("human", "ops", ["operator"])}
    station = Station(tmp_path, people=people)
    station.genesis()
    policy = CapabilityMatrix.from_json(matrix()).to_json()
    fields = {
        "base": station.state.policy_digest,
        "reason": "a test",
        "approve_by": station.after(60),
        "policy": policy,
    }
    with refused("role_missing"):
        station.say("ops", "policy", fields)
    ref = station.objects.put(Fleet.from_json(fleet()).canonical())
    station.say(
        "ops", "fleet", {"base": ZERO_HASH, "reason": "a test", "approve_by": station.after(60), "fleet": ref.to_json()}
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"origin": "station.example/other-00000000"}, "bad_genesis"),
        ({"origin": "no-suffix"}, "bad_genesis"),
        ({"log_key": "nonsense"}, "bad_format"),
    ],
)
def test_genesis_that_contradicts_its_log_key(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    station = Station(tmp_path)
    fields = {
        "origin": station.log_key.origin,
        "log_key": str(station.log_key.vkey),
        "trust": station.trust(),
        "policy": CapabilityMatrix.from_json(station.policy).to_json(),
        "continues": None,
        **changes,
    }
    with refused(code):
        station.registrar.create(station.signer("ada"), Draft("genesis", fields))
    assert station.store.head().size == 0


OLD = "ab" * 32


@pytest.mark.parametrize(
    "head",
    [
        {"size": 0, "hash": ZERO_HASH},
        {"size": 0, "hash": OLD},
        {"size": 5, "hash": ZERO_HASH},
        {"size": 1, "hash": "cd" * 32},
        {"size": 2, "hash": OLD},
    ],
)
def test_genesis_that_continues_no_possible_head(tmp_path: Path, head: dict[str, Any]) -> None:
    station = Station(tmp_path)
    with refused("bad_genesis"):
        station.genesis(continues={"ledger": OLD, "head": head})
    assert station.store.head().size == 0


@pytest.mark.parametrize("head", [{"size": 1, "hash": OLD}, {"size": 2, "hash": "cd" * 32}])
def test_state_says_what_the_ledger_continues(tmp_path: Path, head: dict[str, Any]) -> None:
    station = Station(tmp_path)
    station.genesis(continues={"ledger": OLD, "head": head})
    continues = station.state.continues
    assert continues is not None
    assert continues.to_json() == {"ledger": OLD, "head": head}


def test_genesis_by_someone_who_is_no_governor(tmp_path: Path) -> None:
    station = Station(tmp_path)
    fields = {
        "origin": station.log_key.origin,
        "log_key": str(station.log_key.vkey),
        "trust": station.trust(),
        "policy": CapabilityMatrix.from_json(station.policy).to_json(),
        "continues": None,
    }
    with refused("role_missing"):
        station.registrar.create(station.signer("cp14"), Draft("genesis", fields))


def test_second_genesis_of_a_ledger_that_has_one(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    with refused("ledger_exists"):
        station.genesis()


def test_log_key_of_another_ledger(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    station, other = new_station(tmp_path), new_station(tmp_path / "other", seed=2)
    station.log_key = other.log_key
    with refused("wrong_log_key"):
        station.new_registrar().submit(
            station.signer("ada"), Draft("message", {"type": "question", "to": None, "reply_to": None, "text": "?"})
        )
