"""A second lease for a target that has a rollout waits, and whoever looks sees for what."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleetsim import Simulation
from station import Station, fleet, matrix, tree_digest

from executor.views.progress import describe_unclaimed
from keys.errors import Exit
from policies.fold.deployment import Phase

OLD = tree_digest("v1")


def begin(root: Path) -> tuple[Simulation, tuple[str, str], tuple[str, str]]:
    """Two leases under both keys, from the same trees, on one target."""
    station = Station(root, policy=matrix(tiers=[50, 100], bake_s=2, interval_s=1))
    station.genesis()
    station.enact_fleet(fleet(2))
    simulation = Simulation(station)
    simulation.serve(OLD)
    names = ["web-01", "web-02"]
    first, second = (simulation.ask(OLD, names, f"LEASE-20260105-09000{number}")[0] for number in (1, 2))
    return simulation, first, second


def shown(simulation: Simulation, lease: tuple[str, str]) -> tuple[str, str]:
    state = simulation.station.state
    return describe_unclaimed(state, state.leases[lease[1]], simulation.station.clock.now)


def test_lease_that_can_get_no_key_any_more_is_expired_and_says_why(tmp_path: Path) -> None:
    simulation, _, _ = begin(tmp_path)
    station = simulation.station
    until = station.after(600)
    lease = station.propose("LEASE-20260105-095959", approve_by=until)
    assert until not in shown(simulation, lease)[1]
    station.clock.tick(601)
    state, why = shown(simulation, lease)
    assert state == "expired"
    assert why == f"step 5: no human approver's key; approval was possible until {until}"


@pytest.mark.parametrize("bad", [False, True], ids=["completed", "rolled back"])
def test_lease_for_a_busy_target_waits_visibly_and_is_looked_at_again_when_the_target_is_free(
    tmp_path: Path, bad: bool
) -> None:
    simulation, first, second = begin(tmp_path)
    station = simulation.station
    if bad:
        simulation.bad[next(iter(station.state.leases[first[1]].after.values()))] = "breach"
    executor = simulation.executor()
    executor._take_over()
    while first[1] not in station.state.deployments:
        executor._round()
    (running,) = station.state.live.values()
    waits = second if running == first[1] else first
    state, why = shown(simulation, waits)
    assert state == "open"
    assert why.startswith("step 8:")
    assert station.state.deployments[running].lease.id in why
    while station.state.deployments[running].live:
        assert waits[1] not in station.state.deployments
        if not executor._round():
            simulation.wait(1)
    queued = [line for line in simulation.log if f"{waits[0]} waits: " in line]
    assert len(queued) == 1
    assert station.state.deployments[running].lease.id in queued[0]
    simulation.bad.clear()
    ended = simulation.run("cp20b")
    if bad:
        # Every instance is where the second one starts from, so it is its turn.
        assert ended is Exit.DONE
        assert station.state.deployments[waits[1]].phase is Phase.COMPLETED
        return
    # The first moved the trees away; nothing of the second is consumed, and it says why.
    assert ended is Exit.REFUSED
    assert waits[1] not in station.state.deployments
    state, why = shown(simulation, waits)
    assert state == "base_moved"
    assert why.endswith(f"calyx lease rebase {waits[0]}")
