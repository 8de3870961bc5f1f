"""What an executor keeps for itself does not grow with what it has done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fleetsim import Simulation
from station import Station, fleet, matrix, tree_digest

from executor.trees.tree import make_tree
from policies.fold.deployment import Phase

ROUNDS = 12
OLD = tree_digest("v1")


def propose(station: Station, number: int, before: str, after: str, size: int) -> tuple[str, str]:
    lease = station.propose(
        f"LEASE-20260105-{number:06}",
        artifact={"type": "directory", "sha256": after, "size": size},
        changes=[{"before": before, "after": after, "instances": ["web-01"]}],
    )
    station.approve(lease)
    return lease


def kept(executor: Any) -> dict[str, int]:
    """How much is in everything that is kept beside the fold."""
    claims, memory = executor._claims, executor._memory
    return {
        "open": len(claims._open),
        "preflights": len(claims._running),
        "not ready": len(claims._not_ready),
        "failed": len(memory.failed),
        "not restored": len(memory.unrestored),
        "handled": len(memory.handled),
        "jobs": len(executor._work._jobs),
    }


def test_months_of_deployments_good_bad_and_refused_leave_nothing_behind(tmp_path: Path) -> None:
    station = Station(tmp_path, policy=matrix(tiers=[100], bake_s=1, interval_s=1))
    station.genesis()
    station.enact_fleet(fleet(1))
    simulation = Simulation(station)
    assert station.state.fleet is not None
    (instance,) = station.state.fleet.targets["web"].instances
    place = simulation.hosts.place(instance)
    place.current = place.serving = OLD
    place.releases.add(OLD)
    new = make_tree([], ())
    station.objects.put(new.manifest)
    executor = simulation.executor()
    executor._until_idle = False
    executor._take_over()
    phases = set()
    for number in range(ROUNDS):
        # One that completes and is taken back, one that fails on the machine, and one that cannot be claimed.
        simulation.hosts.fail = {("reload", "web-01"): "host_io"} if number % 3 == 1 else {}
        before = tree_digest("elsewhere") if number % 3 == 2 else OLD
        lease = propose(station, number, before, new.digest, len(new.manifest))
        while (
            not ((deployment := station.state.deployments.get(lease[1])) and not deployment.live)
            and not station.state.leases[lease[1]].preflight
        ):
            if deployment is not None and deployment.phase is Phase.ROLLING_BACK:
                simulation.hosts.fail = {}
            if not executor._round():
                simulation.wait(1)
        if deployment is not None and deployment.phase is Phase.COMPLETED:
            station.command("ada", lease, "rollback")
            while station.state.deployments[lease[1]].phase is not Phase.ROLLED_BACK:
                executor._round()
        if deployment is None:
            station.say("ada", "objection", {"verb": "deny", "reason": "it is stale"}, lease)
        phases.add(None if deployment is None else station.state.deployments[lease[1]].phase)
        station.clock.tick(60)
    executor._round()
    assert phases == {Phase.ROLLED_BACK, None}
    assert kept(executor) == dict.fromkeys(kept(executor), 0)
