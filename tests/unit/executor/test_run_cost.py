"""What a round costs does not grow with the instances that are done: a rollout is linear in its instances."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest
from fleetsim import Simulation
from station import Station, fleet, matrix, tree_digest

from executor.rollout.decide import Action, Observations, Restore, decide
from executor.rollout.preflight import instances_of
from executor.trees.tree import make_tree
from keys.errors import Exit
from policies.fold.deployment import Deployment, Phase
from policies.fold.state import State

OLD = tree_digest("v1")


class Watched(tuple[str, ...]):
    """Names that count how often one of them is looked at."""

    looked_at = 0

    def __iter__(self) -> Iterator[str]:
        for name in super().__iter__():
            Watched.looked_at += 1
            yield name


class Drip(futures.Executor):
    """Effects come to their end one at a time, when a test says so."""

    waiting: list[tuple[futures.Future[Any], Any]]

    def __init__(self, workers: int) -> None:
        del workers
        self.waiting = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()
        self.waiting.append((future, lambda: fn(*args, **kwargs)))
        return future

    def drip(self) -> None:
        if self.waiting:
            future, effect = self.waiting.pop(0)
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(effect())
                except Exception as error:  # noqa: BLE001  # as a thread's future does
                    future.set_exception(error)


def begin(root: Path, count: int, at_once: int) -> tuple[Simulation, tuple[str, str]]:
    """A lease under both keys for that many instances."""
    station = Station(root, policy=matrix(tiers=[100], bake_s=2, interval_s=1))
    station.genesis()
    body = fleet(count)
    body["targets"]["web"]["max_unavailable"] = at_once
    station.enact_fleet(body)
    simulation = Simulation(station)
    assert station.state.fleet is not None
    names = []
    for instance in station.state.fleet.targets["web"].instances:
        place = simulation.hosts.place(instance)
        place.current = place.serving = OLD
        place.releases.add(OLD)
        names.append(instance.name)
    new = make_tree([], ())
    station.objects.put(new.manifest)
    lease = station.propose(
        artifact={"type": "directory", "sha256": new.digest, "size": len(new.manifest)},
        changes=[{"before": OLD, "after": new.digest, "instances": names}],
    )
    station.approve(lease)
    return simulation, lease


@pytest.mark.parametrize("at_once", [1, 7])
def test_each_instance_is_looked_at_a_few_times_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    count = 40
    simulation, lease = begin(tmp_path, count, at_once)
    opened: list[str] = []

    def counted(*arguments: Any) -> Any:
        opened.append("")
        return instances_of(*arguments)

    monkeypatch.setattr("executor.rollout.bookkeeping.instances_of", counted)
    monkeypatch.setattr(Watched, "looked_at", 0)
    running = simulation.executor()
    running._take_over()
    while True:
        acted = running._round()
        deployment = running._registrar.state.deployments.get(lease[1])
        if deployment is not None:
            for tier, names in deployment.cohorts.items():
                if not isinstance(names, Watched):
                    deployment.cohorts[tier] = Watched(names)
            if not deployment.live:
                break
        if not acted:
            simulation.wait(1)
    assert deployment.phase is Phase.COMPLETED
    assert Watched.looked_at <= 5 * count
    assert len(opened) == 1


def test_results_of_a_way_back_are_taken_without_deciding_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 12
    simulation, lease = begin(tmp_path, count, count)
    pools: list[Drip] = []

    def pool(workers: int) -> Drip:
        pools.append(Drip(workers))
        return pools[-1]

    simulation.pools = pool
    ways_back: list[Restore] = []

    def counted(state: State, deployment: Deployment, seen: Observations, now: int) -> Action:
        action = decide(state, deployment, seen, now)
        if isinstance(action, Restore):
            ways_back.append(action)
        return action

    monkeypatch.setattr("executor.rollout.run.decide", counted)
    running = simulation.executor()

    def wait(seconds: float) -> bool:
        deployment = simulation.station.state.deployments.get(lease[1])
        if seconds:
            if deployment is not None and deployment.phase is Phase.BAKING and not deployment.commands:
                simulation.station.command("ada", lease, "abort")
            for each in pools:
                each.drip()
        return simulation.wait(seconds)

    running._wait = wait
    assert running.run(until_idle=True) is Exit.ROLLED_BACK
    assert [len(each.instances) for each in ways_back] == [count]
    assert {place.current for place in simulation.hosts.places.values()} == {OLD}


def test_decision_is_the_same_whatever_was_kept_of_the_tier(tmp_path: Path) -> None:
    simulation, lease = begin(tmp_path, 9, 4)
    station = simulation.station
    station.take_term()
    station.claim(lease)
    station.baseline(lease)
    station.event("cp20", lease, "STARTED")
    station.event("cp20", lease, "TIER_INTENT", tier=100)
    deployment = station.state.deployments[lease[1]]
    names = deployment.cohorts[100]
    for gone in range(len(names)):
        kept = [name for name in names if name not in deployment.applied]
        now = station.clock.now
        whole = decide(station.state, deployment, Observations(), now)
        assert decide(station.state, deployment, Observations(ahead=kept), now) == whole
        # Not the first one first: someone else may have applied them in another order.
        name = kept[-1] if gone % 2 else kept[0]
        station.event("cp20", lease, "INSTANCE_APPLIED", tier=100, instance=name, tree=deployment.after[name])
        deployment = station.state.deployments[lease[1]]
