"""Orders that come twice, late or for nothing: none toward safety is a failure, and each is answered as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from station import Station

from executor.views.order_words import already_so, what_follows
from policies.fold.deployment import Deployment, Phase

SAFE = ("pause", "abort", "rollback")
Lease = tuple[str, str]


@pytest.fixture
def station(tmp_path: Path) -> Station:
    station = Station(tmp_path)
    station.genesis()
    station.enact_fleet()
    return station


@pytest.fixture
def lease(station: Station) -> Lease:
    """A lease on which its first tier is being applied."""
    lease = station.propose(promotion="manual", tiers=[5, 25, 100])
    station.begin(lease)
    station.deploy_tier(lease, 5)
    return lease


def found(station: Station, lease: Lease) -> Deployment:
    return station.state.deployments[lease[1]]


@pytest.mark.parametrize("verb", SAFE)
def test_order_toward_what_is_so_already_adds_nothing(station: Station, lease: Lease, verb: str) -> None:
    assert already_so(found(station, lease), verb) is None
    for phase in Phase:
        deployment = found(station, lease)
        deployment.phase, deployment.ended_seq = phase, 77
        said = already_so(deployment, verb)
        # What completed, or could not be taken back, is not where the order leads: that must be a refusal.
        assert (said is not None) == (phase in {Phase.ROLLED_BACK, Phase.ABORTED})
        assert said is None or said == f"{lease[0]} is {phase} already, since entry 77; nothing is added"


@pytest.mark.parametrize("verb", ["start", "resume", "promote"])
def test_order_that_leads_on_is_never_so_already(station: Station, lease: Lease, verb: str) -> None:
    deployment = found(station, lease)
    deployment.phase = Phase.ROLLED_BACK
    assert already_so(deployment, verb) is None


def test_second_pause_is_not_said_to_be_the_first(station: Station, lease: Lease) -> None:
    assert what_follows(found(station, lease), "pause").startswith("the executor pauses it")
    station.command("ada", lease, "pause")
    assert what_follows(found(station, lease), "pause").startswith("it stays paused")
    until = found(station, lease).lease.complete_by
    assert f"until {until}, when it goes back by itself" in what_follows(found(station, lease), "pause")


@pytest.mark.parametrize("order", ["abort", "rollback"])
def test_pause_does_not_claim_to_stop_a_way_back(station: Station, lease: Lease, order: str) -> None:
    assert "takes" in what_follows(found(station, lease), order)
    station.command("ada", lease, order)
    assert what_follows(found(station, lease), "pause") == "it is being taken back already, which a pause does not stop"
    assert {what_follows(found(station, lease), verb) for verb in ("abort", "rollback")} == {
        "it is being taken back already"
    }


def test_abort_of_what_was_halted_for_a_stolen_key_says_what_takes_it_back(station: Station, lease: Lease) -> None:
    deployment = found(station, lease)
    deployment.phase, deployment.halted_cause = Phase.HALTED, "tainted"
    for verb in ("abort", "pause"):
        assert what_follows(deployment, verb) == "it is halted already; calyx rollback takes it back"
    assert what_follows(deployment, "rollback") == "the executor takes it back"


def test_end_before_the_start_takes_nothing_back(station: Station) -> None:
    lease = station.propose(start="command")
    station.approve(lease)
    station.take_term()
    station.claim(lease)
    for verb in ("abort", "rollback"):
        assert what_follows(found(station, lease), verb) == "the executor ends it before anything is touched"
    assert what_follows(found(station, lease), "start") == "the executor starts it"
    station.command("ada", lease, "pause")
    assert what_follows(found(station, lease), "start") == "the executor starts it once it is resumed"


def test_promotion_says_where_it_leads_and_what_it_waits_for(station: Station, lease: Lease) -> None:
    deployment = found(station, lease)
    assert what_follows(deployment, "promote") == "the executor goes on to 25 % once the tier 5 % passed"
    assert what_follows(deployment, "promote", skip_bake=True) == "the executor goes on to 25 %"
    station.command("ada", lease, "pause")
    assert what_follows(deployment, "promote").endswith("once the tier 5 % passed and it is resumed")
    deployment.tier = 100
    assert what_follows(deployment, "promote").startswith("the executor completes it once ")
