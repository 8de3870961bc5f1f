"""Attacks by sending it again, or later, or elsewhere: replays, forks, and approvals for what is over."""

from __future__ import annotations

from pathlib import Path

import pytest
from assault import QUESTION, Forced, approval, approved, claim_of, objection, repelled, signed
from governing import principal
from refusal import refused
from station import Station, new_station

from keys.canonical import format_json, parse_json
from keys.openssh import format_public, new_private_key
from ledger.envelope import Envelope, pae
from ledger.verified import namespace_of
from policies.submitter import Draft


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def test_replay_of_a_statement_is_the_entry_that_it_made(station: Station) -> None:
    lease = station.propose()
    vote = station.sign("ada", approval(lease))
    first, size = station.append(vote), station.state.size
    assert station.append(vote) == first
    assert station.state.size == size
    # Whoever writes it a second time by hand is refused by all who read.
    with Forced.after(station, vote) as forced:
        assert forced.audit()["findings"][0]["seq"] == size
        forced.stops_every_reader("unlawful_entry", cause="repeated")


def test_replay_of_a_statement_under_another_signature(tmp_path: Path) -> None:
    """The digest is the statement's alone: another key's signature over the same bytes makes no second entry."""
    station = Station(tmp_path)
    second = new_private_key(station.random)
    trust = station.trust()
    principal(trust, "ada")["keys"].append({"key": format_public(second.public), "user_verification": False})
    station.trust = lambda **_: trust  # type: ignore[method-assign]  # this station's genesis has one key more
    station.genesis()
    station.enact_fleet()
    lease = station.propose()
    vote = station.sign("ada", approval(lease))
    first = station.append(vote)
    signer = station.signer("ada", second)
    again = Envelope(vote.body, signer.keyid, signer.sign(pae(vote.body), namespace_of("cosignature")))
    size = station.state.size
    assert station.append(again) == first
    assert station.state.size == size
    with Forced.after(station, again) as forced:
        forced.stops_every_reader("unlawful_entry", cause="repeated")


def test_replay_with_the_nonce_left_out(station: Station) -> None:
    lease = station.propose()
    value = parse_json(station.sign("ada", approval(lease)).body)
    assert isinstance(value, dict)
    predicate = value["predicate"]
    assert isinstance(predicate, dict)
    del predicate["nonce"]
    repelled(station, signed(station, "ada", format_json(value), "cosignature"), "bad_format")


def test_head_naming_a_fork(station: Station) -> None:
    lease = station.propose()
    head = station.registrar.head
    for size, leaf in (
        (head.size, "ab" * 32),
        (head.size - 1, head.hash),
        (head.size + 1, head.hash),
        (2**53 - 1, head.hash),
    ):
        vote = station.sign("ada", approval(lease), head={"size": size, "hash": leaf})
        repelled(station, vote, "head_contradicted", rule="heads")


def test_approval_of_a_lease_that_its_signer_had_not_seen(station: Station) -> None:
    lease = station.propose()
    seq = station.state.leases[lease[1]].seq
    head = {"size": seq, "hash": station.state.history.leaf(seq - 1)}
    repelled(station, station.sign("ada", approval(lease), head=head), "head_too_old", rule="heads")


def test_objection_after_the_claim_says_what_helps(station: Station) -> None:
    lease = approved(station)
    station.append(claim_of(station, lease))
    for verb in ("withdraw", "deny"):
        protest = station.sign("ada", objection(lease, verb))
        with refused("lease_consumed", rule="claim"):
            station.append(protest)
        repelled(station, protest, "lease_consumed")


def test_second_claim_of_a_lease(station: Station) -> None:
    lease = approved(station)
    votes = [vote.seq for vote in station.state.leases[lease[1]].ballot.votes]
    station.append(claim_of(station, lease))
    repelled(station, claim_of(station, lease, *votes), "lease_consumed", rule="two_key", step=8)
    station.event("cp20", lease, "ABORTED", cause="test", text="")
    repelled(station, claim_of(station, lease, *votes), "lease_consumed", rule="two_key", step=8)


@pytest.mark.parametrize("kind", ["claim", "term"])
def test_claim_or_term_on_an_older_head(station: Station, kind: str) -> None:
    """Whoever claims has seen every entry: what came in between may be the no."""
    lease = approved(station)
    if kind == "claim":
        envelope = claim_of(station, lease)
    else:
        envelope = station.sign("cp20b", Draft("term", {"epoch": 2, "reason": "mine"}))
    station.append(station.sign("ben", QUESTION))
    repelled(station, envelope, "head_moved", rule="heads")
