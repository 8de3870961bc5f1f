"""What docs/SECURITY.md says of a sole governor is so: what one can do, and what a second one prevents."""

from __future__ import annotations

from pathlib import Path

import pytest
from station import PEOPLE, Station

from keys.errors import SignatureRefused
from keys.openssh import new_private_key
from keys.principals import Kind
from policies.law.two_key import check_two_key

THIEVES: dict[str, tuple[Kind, str, list[str]]] = {
    "mallory-agent": ("agent", "mallory-agent", ["sentinel"]),
    "mallory-proposer": ("overseer", "mallory-proposer", ["proposer"]),
}


def steal_adas_key(station: Station) -> None:
    """With ada's key alone: propose a trust root with an agent and a proposer of the thief's, and cosign it."""
    station.genesis()
    station.enact_fleet()
    station.people = {**station.people, **THIEVES}
    station.keys |= {name: new_private_key(station.random) for name in THIEVES}
    fields = {
        "base": station.state.trust_digest,
        "reason": "a test",
        "approve_by": station.after(60),
        "trust": station.trust(),
    }
    proposal = station.say("ada", "trust", fields)
    station.vote("ada", ("trust", proposal.digest), "governor")


def propose_as_the_thief(station: Station) -> tuple[str, str]:
    intent = {"id": "INT-20260105-001", "target": "web", "what": "a change", "why": "greed"}
    station.say("mallory-proposer", "intent", intent)
    fields = station.lease_fields("LEASE-20260105-090000", "INT-20260105-001")
    return "LEASE-20260105-090000", station.say("mallory-proposer", "lease", fields).digest


def test_sole_governors_stolen_key_brings_both_keys_as_the_document_warns(tmp_path: Path) -> None:
    station = Station(tmp_path, people={name: PEOPLE[name] for name in ("ada", "cbo", "cp14", "cp20")})
    steal_adas_key(station)
    lease = propose_as_the_thief(station)
    station.review("mallory-agent", lease)
    station.vote("ada", lease, "approver")
    verified = check_two_key(station.state, lease[1], station.clock.now)
    assert {vote.signer.principal for vote in verified.counted} == {"ada", "mallory-agent"}


def test_two_governors_threshold_stops_one_stolen_governors_key(tmp_path: Path) -> None:
    station = Station(tmp_path, thresholds=(2, 1))
    steal_adas_key(station)
    with pytest.raises(SignatureRefused) as refused:
        propose_as_the_thief(station)
    assert refused.value.code == "unknown_key"
