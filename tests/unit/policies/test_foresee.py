"""What the law would refuse is foreseen before anyone signs: the same refusals, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from station import Station

from keys.errors import CalyxError
from policies.submitter import Draft

Said = tuple[str, str, dict[str, Any], tuple[str, str] | None]


@pytest.fixture
def station(tmp_path: Path) -> Station:
    station = Station(tmp_path)
    station.genesis()
    station.enact_fleet()
    return station


def foresee(station: Station, who: str, draft: Draft) -> None:
    station.registrar.sync()
    machine = station.people[who][0] != "human"
    statement = station.registrar.draft_statement(who, draft, machine=machine)
    station.registrar.foresee(statement, station.signer(who).keyid)


def refusals(station: Station) -> list[Said]:
    """What each of these says is refused, after ada approved the first lease and denied the second."""
    lease, denied = station.propose("LEASE-20260105-090000"), station.propose("LEASE-20260105-090001")
    station.vote("ada", lease, "approver")
    station.say("ada", "objection", {"verb": "deny", "reason": "no"}, denied)
    vote = {"role": "approver", "review": None}
    return [
        ("ada", "cosignature", vote, lease),
        ("ada", "cosignature", vote, denied),
        ("ada", "cosignature", {"role": "sentinel", "review": None}, lease),
        ("cp14", "cosignature", vote, lease),
        ("cp14", "objection", {"verb": "deny", "reason": "no"}, lease),
        ("ada", "intent", {"id": "INT-20260105-001", "target": "web", "what": "x", "why": "y"}, None),
        ("cp20", "cosignature", vote, ("LEASE-20260105-090009", "0" * 64)),
    ]


def test_what_is_foreseen_is_what_the_registrar_refuses(station: Station) -> None:
    said = refusals(station)
    size = station.state.size
    for who, kind, fields, subject in said:
        with pytest.raises(CalyxError) as foreseen:
            foresee(station, who, Draft(kind, fields, subject))
        with pytest.raises(CalyxError) as refused:
            station.say(who, kind, fields, subject)
        assert (foreseen.value.code, foreseen.value.message) == (refused.value.code, refused.value.message)
    assert station.state.size == size


def test_what_is_lawful_is_foreseen_and_changes_nothing(station: Station) -> None:
    lease = station.propose()
    before = (station.state.size, len(station.state.leases[lease[1]].ballot.votes))
    foresee(station, "ada", Draft("cosignature", {"role": "approver", "review": None}, lease))
    foresee(station, "ada", Draft("objection", {"verb": "deny", "reason": "no"}, lease))
    assert (station.state.size, len(station.state.leases[lease[1]].ballot.votes)) == before
    assert station.state.leases[lease[1]].denied is None


def test_key_of_another_person_is_foreseen_as_unknown(station: Station) -> None:
    lease = station.propose()
    statement = station.registrar.draft_statement(
        "ada", Draft("cosignature", {"role": "approver", "review": None}, lease), machine=False
    )
    with pytest.raises(CalyxError) as refused:
        station.registrar.foresee(statement, station.signer("cp14").keyid)
    assert refused.value.code == "unknown_key"
