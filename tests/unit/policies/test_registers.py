"""What the law keeps of a long ledger because it may still matter: nothing of it goes early, and what is over goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from station import Station, fleet, matrix

from policies.fold.deployment import Deployment, Phase
from policies.fold.state import State
from policies.law.registers import (
    MANY,
    SPARE_S,
    close_lease,
    end_deployment,
    lapse,
    newest_first,
    open_lease,
    revive_deployment,
)

Lease = tuple[str, str]
RETENTION_S = 600
NAMES = ["web-01", "web-02", "web-03"]


def times(count: int, until: int = 0) -> dict[str, int]:
    """So many that are over at one time."""
    return {str(number): until for number in range(count)}


# Leases that can still be claimed.


def test_few_stay_however_long_they_are_over() -> None:
    kept = times(MANY - 1)
    lapse(kept, 10**10)
    assert len(kept) == MANY - 1


def test_many_that_are_over_for_a_day_go_and_nothing_else_does() -> None:
    assert MANY == 256
    kept: dict[str, int | None] = {**times(MANY - 3), "in time": 1, "never over": None, "later": 10**10}
    lapse(kept, SPARE_S + 1)
    assert kept == {"in time": 1, "never over": None, "later": 10**10}


def test_a_day_is_not_over_with_its_last_second() -> None:
    assert SPARE_S == 86_400
    kept = times(MANY, until=7)
    lapse(kept, 7 + SPARE_S)
    assert len(kept) == MANY
    lapse(kept, 7 + SPARE_S + 1)
    assert not kept


def test_all_are_looked_at_only_when_there_are_twice_as_many() -> None:
    """Else each entry of a busy station would look at all of them."""
    looked = [count for count in range(1, 4 * MANY + 2) if not _stay(count)]
    assert looked == [MANY, 2 * MANY, 4 * MANY]


def _stay(count: int) -> bool:
    kept = times(count)
    lapse(kept, 10**10)
    return len(kept) == count


def test_lease_is_open_until_its_time_and_lets_old_ones_go() -> None:
    state = State()
    for number in range(MANY - 1):
        open_lease(state, str(number), 5, 0)
    assert state.open_leases == times(MANY - 1, 5)
    open_lease(state, "new", 10**10, 5 + SPARE_S + 1)
    assert state.open_leases == {"new": 10**10}


def test_lease_that_lapsed_can_be_closed_all_the_same() -> None:
    state = State()
    open_lease(state, "one", 5, 0)
    open_lease(state, "other", 5, 0)
    for digest in ("one", "one", "gone long ago"):
        close_lease(state, digest)
    assert state.open_leases == {"other": 5}


def test_denied_lease_is_open_no_more(tmp_path: Path) -> None:
    station = Station(tmp_path)
    station.genesis()
    station.enact_fleet()
    lease = station.propose()
    assert list(station.state.open_leases) == [lease[1]]
    station.say("ada", "objection", {"verb": "deny", "reason": "no"}, lease)
    assert not station.state.open_leases


# Deployments that can still be taken back, and what a place was given last.


@pytest.fixture
def station(tmp_path: Path) -> Station:
    station = Station(tmp_path, policy=matrix(tiers=[100], bake_s=15, retention_s=RETENTION_S))
    station.genesis()
    station.enact_fleet(fleet(len(NAMES)))
    return station


def begin(station: Station, *names: str) -> Lease:
    """A deployment of these instances, to STARTED."""
    (group,) = station.lease_fields("LEASE-20260105-090000", "INT-1")["changes"]
    lease = station.propose(
        f"LEASE-20260105-{station.state.size:06}", changes=[{**group, "instances": list(names or NAMES)}]
    )
    station.begin(lease)
    return lease


def complete(station: Station, *names: str) -> Lease:
    lease = begin(station, *names)
    station.complete(lease)
    return lease


def start_back(station: Station, lease: Lease) -> None:
    order = station.command("ada", lease, "rollback")
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="command", command=order.digest)


def last(station: Station) -> dict[str, tuple[str, ...]]:
    """By the name of an instance, what its place was given last."""
    by_place = {(each.address, each.root): each.name for each in station.state.fleet.targets["web"].instances}  # type: ignore[union-attr]
    return {by_place[place]: digests for place, digests in station.state.completed.items()}


def test_completed_one_can_be_taken_back_for_the_retention_of_its_policy(station: Station) -> None:
    lease = complete(station)
    assert station.state.returnable == {lease[1]: station.clock.now + RETENTION_S}
    assert last(station) == dict.fromkeys(NAMES, (lease[1],))


def test_deployment_that_runs_or_was_aborted_is_not_one_to_be_taken_back(station: Station) -> None:
    lease = begin(station)
    assert (station.state.returnable, station.state.completed) == ({}, {})
    station.event("cp20", lease, "HALTED", cause="test", gate=None, evidence=None, text="")
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="test", command=None)
    station.event("cp20", lease, "ROLLED_BACK")
    assert (station.state.returnable, station.state.completed) == ({}, {})


def test_each_place_keeps_the_two_newest(station: Station) -> None:
    first, second, third = complete(station), complete(station), complete(station, *NAMES[:2])
    assert last(station) == {
        "web-01": (second[1], third[1]),
        "web-02": (second[1], third[1]),
        "web-03": (first[1], second[1]),
    }
    # A fleet of thousands keeps as many tuples as there are different ones.
    assert len({id(digests) for digests in station.state.completed.values()}) == 2


def test_what_was_there_before_is_the_newest_again_once_the_newest_is_taken_back(station: Station) -> None:
    first, second = complete(station), complete(station, *NAMES[:2])
    start_back(station, second)
    assert last(station) == dict.fromkeys(NAMES, (first[1],))
    assert station.state.returnable.keys() == {first[1]}


def test_rollback_that_failed_can_be_tried_again_without_end(station: Station) -> None:
    first, second = complete(station), complete(station, *NAMES[:2])
    start_back(station, second)
    station.event("cp20", second, "ROLLBACK_FAILED", instances=NAMES[:2], text="")
    assert station.state.returnable[second[1]] is None
    assert last(station) == dict.fromkeys(NAMES, (first[1],))
    start_back(station, second)
    assert station.state.returnable.keys() == {first[1]}
    assert last(station) == dict.fromkeys(NAMES, (first[1],))


def ended(station: Station, phase: Phase) -> tuple[State, Deployment]:
    """A state that nobody goes on from, and a deployment in it that has just come to this phase."""
    state = station.state
    (deployment,) = state.deployments.values()
    deployment.phase = phase
    deployment.intended = set(NAMES)
    return state, deployment


def test_end_of_a_deployment_lets_old_ones_go(station: Station) -> None:
    begin(station)
    state, deployment = ended(station, Phase.COMPLETED)
    state.returnable.update(times(MANY - 1))
    end_deployment(state, deployment, 10**10)
    assert state.returnable == {deployment.lease_digest: 10**10 + RETENTION_S}


@pytest.mark.parametrize("phase", [Phase.ABORTED, Phase.ROLLED_BACK, Phase.ROLLBACK_FAILED])
def test_other_ends_complete_nothing(station: Station, phase: Phase) -> None:
    begin(station)
    state, deployment = ended(station, phase)
    end_deployment(state, deployment, 7)
    assert state.returnable == ({deployment.lease_digest: None} if phase is Phase.ROLLBACK_FAILED else {})
    assert state.completed == {}


def test_place_that_nothing_completed_at_gains_nothing_by_a_way_back(station: Station) -> None:
    begin(station)
    state, deployment = ended(station, Phase.ROLLING_BACK)
    state.returnable[deployment.lease_digest] = None
    revive_deployment(state, deployment)
    assert (state.returnable, state.completed) == ({}, {})


def test_newest_comes_first() -> None:
    assert list(newest_first({"a": 1, "b": 2, "c": 3})) == [3, 2, 1]
