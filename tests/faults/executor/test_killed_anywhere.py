"""The executor is ended at every effect of a rollout and of a rollback, before it and after it, and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleetsim import Simulation
from station import Station, fleet, matrix, tree_digest

from executor.trees.tree import make_tree
from keys.errors import Exit
from policies.fold.deployment import Deployment, Phase

HOOK = {"argv": ["/usr/local/bin/balance"], "timeout_s": 5}
SMALL = matrix(tiers=[50, 100], bake_s=2, interval_s=1, hooks={"out": HOOK, "in": HOOK})
HOOKS = {"drain": "out", "undrain": "in"}


def begin(root: Path, *, bad: bool = False) -> tuple[Simulation, tuple[str, str]]:
    station = Station(root, policy=SMALL)
    station.genesis()
    station.enact_fleet(fleet(3, hooks=HOOKS))
    new = make_tree([], ())
    station.objects.put(new.manifest)
    simulation = Simulation(station)
    for place in station.state.fleet.targets["web"].instances if station.state.fleet else ():
        old = simulation.hosts.place(place)
        old.current = old.serving = tree_digest("v1")
        old.releases.add(old.current)
    names = ["web-01", "web-02", "web-03"]
    lease = station.propose(
        artifact={"type": "directory", "sha256": new.digest, "size": len(new.manifest)},
        changes=[{"before": tree_digest("v1"), "after": new.digest, "instances": names}],
    )
    station.approve(lease)
    if bad:
        simulation.bad[new.digest] = "breach"
    return simulation, lease


def check_end(simulation: Simulation, lease: tuple[str, str], phase: Phase) -> Deployment:
    station = simulation.station
    deployment = station.state.deployments[lease[1]]
    assert deployment.phase is phase, simulation.log[-5:]
    wanted = deployment.after if phase is Phase.COMPLETED else deployment.before
    for name, place in simulation.hosts.places.items():
        assert place.current == wanted[name]
        assert place.serving == wanted[name]
        # Each release was flipped to once: nothing is applied twice.
        assert len(place.flips) == len(set(place.flips)) <= 2
        # It is in traffic again, and was put there when it served what it ends on.
        if place.hooks:
            assert place.hooks[-1] == ("undrain", "in", wanted[name])
        assert place.hooks or not place.flips
    assert not station.state.live
    return deployment


def points(tmp_path: Path, *, bad: bool) -> int:
    simulation, lease = begin(tmp_path / "count", bad=bad)
    code = simulation.run()
    assert code is (Exit.ROLLED_BACK if bad else Exit.DONE)
    check_end(simulation, lease, Phase.ROLLED_BACK if bad else Phase.COMPLETED)
    return simulation.killer.count


@pytest.mark.parametrize("bad", [False, True], ids=["rollout", "rollback"])
def test_executor_killed_at_every_effect(tmp_path: Path, bad: bool) -> None:
    total = points(tmp_path, bad=bad)
    assert total > 10
    for after in (False, True):
        for at in range(1, total + 1):
            simulation, lease = begin(tmp_path / f"{after}-{at}", bad=bad)
            simulation.killer.at, simulation.killer.after = at, after
            died = simulation.run_until_dead()
            simulation.killer.at = None
            if died:
                simulation.run()
            check_end(simulation, lease, Phase.ROLLED_BACK if bad else Phase.COMPLETED)
            simulation.station.store.close()
