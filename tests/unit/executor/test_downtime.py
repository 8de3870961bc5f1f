"""Time in which nobody looked: an executor that was down, was frozen, or whose clock jumped, extends a bake."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleetsim import Simulation
from station import Station, fleet, matrix, new_station, tree_digest

from executor.metrics.gates import silence_limit
from executor.rollout.decide import Observations, Say, decide
from executor.trees.tree import make_tree
from keys.errors import Exit
from policies.fold.deployment import Deployment, Phase

HOUR = 3_600
BAKE_S, INTERVAL_S = 60, 15
NEEDED = BAKE_S // INTERVAL_S


class Scene(Simulation):
    """A simulation in the bake of its first tier, with one of four samples taken. `jump_at`: samples after which the
    clock jumps once, by an hour. `taken`: each sample's tier and time.
    """

    lease: tuple[str, str]
    jump_at: int | None = None
    taken: list[tuple[int, int]]

    def wait(self, seconds: float) -> bool:
        if seconds and self.jump_at is not None and len(self.taken) == self.jump_at:
            self.jump_at = None
            self.station.clock.tick(HOUR)
        return super().wait(seconds)

    def say_sample(self, subject: tuple[str, str], tier: int, n: int) -> None:
        self.taken.append((tier, self.station.clock.now))
        super().say_sample(subject, tier, n)

    def times(self, tier: int) -> list[int]:
        return [at for of, at in self.taken if of == tier]

    @property
    def deployment(self) -> Deployment:
        return self.station.state.deployments[self.lease[1]]


def begin(root: Path) -> Scene:
    station = Station(root, policy=matrix(tiers=[50, 100], bake_s=BAKE_S, interval_s=INTERVAL_S))
    station.genesis()
    station.enact_fleet(fleet(2))
    scene = Scene(station)
    scene.taken = []
    old, new = tree_digest("v1"), make_tree([], ())
    assert station.state.fleet is not None
    for instance in station.state.fleet.targets["web"].instances:
        place = scene.hosts.place(instance)
        place.current = place.serving = old
        place.releases.add(old)
    station.objects.put(new.manifest)
    scene.lease = station.propose(
        artifact={"type": "directory", "sha256": new.digest, "size": len(new.manifest)},
        changes=[{"before": old, "after": new.digest, "instances": ["web-01", "web-02"]}],
    )
    station.approve(scene.lease)
    executor = scene.executor()
    executor._take_over()
    while scene.lease[1] not in station.state.deployments or not scene.deployment.samples:
        if not executor._round():
            scene.wait(1)
    return scene


def test_bake_goes_on_where_it_was_after_an_hour_in_which_everything_was_down(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    scene.station.clock.tick(HOUR)
    executor = scene.executor("cp20b")
    executor._take_over()
    while scene.deployment.tier == 50 and scene.deployment.live:
        if not executor._round():
            scene.wait(1)
    # Not one sample less than without the hour, nor one sooner after the one before: it was no healthy time.
    times = scene.times(50)
    assert len(times) == NEEDED
    assert scene.station.clock.now >= times[0] + HOUR + (NEEDED - 2) * INTERVAL_S
    assert scene.run("cp20b") is Exit.DONE


def test_clock_that_jumps_ahead_ends_no_bake_and_halts_nothing(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    scene.jump_at = 2
    assert scene.run("cp20b") is Exit.DONE
    times = scene.times(50)
    assert times[-1] - times[0] > HOUR
    assert len(times) == NEEDED


def test_monitor_that_stays_silent_after_the_downtime_is_missing_data(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    scene.station.clock.tick(HOUR)
    scene.silent = True
    came_back = scene.station.clock.now
    assert scene.run("cp20b") is Exit.ROLLED_BACK
    assert scene.deployment.halted_cause == "missing"
    # It was waited for as long as at any other time.
    assert 60 + 2 * INTERVAL_S <= scene.station.clock.now - came_back <= 60 + 2 * INTERVAL_S + 30


def test_clock_that_keeps_jumping_does_not_hide_a_silent_monitor_for_ever(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    scene.silent = True
    executor = scene.executor("cp20b")
    executor._take_over()
    while scene.deployment.phase is Phase.BAKING:
        executor._round()
        scene.station.clock.tick(HOUR)
    # No step forward is lawful after `complete_by`, whoever listens.
    assert scene.deployment.halted_cause == "complete_by_passed"


@pytest.mark.parametrize("until", [Phase.PROMOTED, Phase.DEPLOYING, Phase.PAUSED])
def test_monitor_that_falls_silent_while_the_next_tier_comes_is_missing_data(tmp_path: Path, until: Phase) -> None:
    """What runs the new tree is watched until the next tier bakes. Nobody brings it to more when nobody watches."""
    station = new_station(tmp_path)
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.bake(lease, 5)
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    if until is not Phase.PROMOTED:
        station.event("cp20", lease, "TIER_INTENT", tier=25)
    if until is Phase.PAUSED:
        station.command("ada", lease, "pause")
        order = station.state.deployments[lease[1]].pause_order
        assert order is not None
        station.event("cp20", lease, "PAUSED", command=order.digest, cause="command", text="")
    deployment = station.state.deployments[lease[1]]
    assert deployment.phase is until
    limit = silence_limit(deployment.lease.gates, deployment.lease.interval_s)
    spoken, now = station.state.history.time(station.state.size - 1), station.clock.now
    assert spoken == now
    for silent_s, halts in ((limit, False), (limit + 1, True)):
        action = decide(station.state, deployment, Observations(), now + silent_s)
        said = action.detail if isinstance(action, Say) else {}
        assert (said.get("type") == "HALTED" and said["cause"] == "missing") is halts
    # Who did not listen cannot tell.
    action = decide(station.state, deployment, Observations(listening_since=now + limit), now + limit + 1)
    assert not isinstance(action, Say) or action.detail["type"] != "HALTED"
