"""What passes by itself does not end an executor, and a disk that stays full does not leave a rollout alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fleetsim import Simulation
from refusal import refused
from station import Station, fleet, matrix, tree_digest

from executor.homes.reserve import Reserve
from executor.logbook import Line
from executor.rollout.patience import LOGGED_RETRIES, RETRY_FULL_S
from executor.rollout.run import Executor
from keys.errors import Exit, Unavailable
from policies.fold.deployment import Deployment, Phase
from policies.fold.state import State

OLD = tree_digest("v1")
SIZE = 64 * 1024

Fault = Callable[[], Unavailable | None]


class Scene(Simulation):
    """A simulation with one lease under both keys."""

    lease: str

    @property
    def deployment(self) -> Deployment | None:
        return self.station.state.deployments.get(self.lease)

    @property
    def phase(self) -> Phase | None:
        return None if self.deployment is None else self.deployment.phase

    def run_with(self, fault: Fault, until: Callable[[], bool]) -> Exit:
        """Let an executor run on a ledger that `fault` gets in the way of."""
        executor: Executor = self.executor()
        sync = executor._registrar.sync

        def look() -> State:
            error = fault()
            if error is not None:
                raise error
            return sync()

        executor._registrar.sync = look  # type: ignore[method-assign]
        executor._wait = lambda seconds: self.wait(seconds) or until()
        return executor.run(until_idle=False)


def begin(root: Path, **terms: str) -> Scene:
    station = Station(root, policy=matrix(tiers=[100], bake_s=2, interval_s=1))
    station.genesis()
    station.enact_fleet(fleet(2))
    scene = Scene(station)
    scene.serve(OLD)
    (_, scene.lease), _ = scene.ask(OLD, ["web-01", "web-02"], **terms)
    return scene


def times(count: int, scene: Scene, error: Unavailable) -> Fault:
    """So often once the lease bakes."""
    left = [error] * count
    return lambda: left.pop() if left and scene.phase is Phase.BAKING else None


def unremembered(cause: str) -> Unavailable:
    return Unavailable("head_not_remembered", "not now", cause=cause)


@pytest.mark.parametrize(
    "error",
    [
        *(
            Unavailable(code, "not now")
            for code in ("ledger_busy", "memory_busy", "clock_suspect", "disk_full", "memory_full")
        ),
        unremembered("memory_full"),
    ],
    ids=str,
)
def test_what_passes_does_not_end_a_rollout(tmp_path: Path, error: Unavailable) -> None:
    scene = begin(tmp_path)
    fault = times(3, scene, error)
    assert scene.run_with(fault, lambda: scene.phase is Phase.COMPLETED) is Exit.DONE
    assert fault() is None
    told = [line for line in scene.log if isinstance(line, Line) and "not now; trying again in" in line]
    assert [line.facts for line in told] == [{"level": "warning", "code": error.code}] * LOGGED_RETRIES


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("ledger_write_failed", "the disk said so"),
        Unavailable("memory_write_failed", "the disk said so"),
        unremembered("memory_write_failed"),
    ],
    ids=str,
)
def test_disk_that_failed_ends_the_executor(tmp_path: Path, error: Unavailable) -> None:
    scene = begin(tmp_path)
    with refused(error.code):
        scene.run_with(times(1, scene, error), lambda: scene.phase is Phase.COMPLETED)


def test_full_disk_ends_a_run_that_somebody_waits_for(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    executor = scene.executor()

    def full() -> State:
        raise Unavailable("memory_full", "not now")

    executor._take_over()
    executor._registrar.sync = full  # type: ignore[method-assign]
    with refused("memory_full"):
        executor._loop(until_idle=True)


def full_while(reserve: Path, scene: Scene, phase: Phase, monkeypatch: pytest.MonkeyPatch) -> Fault:
    """No head can be remembered from a phase on while there is a reserve."""
    scene.reserve = Reserve(reserve, SIZE)
    scene.reserve.ensure()
    begun = []

    def fault() -> Unavailable | None:
        begun.extend([True] if scene.phase is phase else [])
        return Unavailable("memory_full", "not now") if begun and reserve.exists() else None

    monkeypatch.setattr(Reserve, "low", lambda _: True)
    return fault


def test_rollout_of_which_nothing_can_be_said_goes_back_with_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor would wait for room beside a version that nobody judges."""
    scene = begin(tmp_path)
    fault = full_while(tmp_path / "reserve", scene, Phase.BAKING, monkeypatch)
    assert scene.run_with(fault, lambda: scene.phase in {Phase.ROLLED_BACK, Phase.COMPLETED}) is Exit.DONE
    assert scene.deployment is not None
    assert (scene.phase, scene.deployment.halted_cause) == (Phase.ROLLED_BACK, "no_space")
    # It could have passed until the second look.
    assert sum(f"trying again in {RETRY_FULL_S} s" in line for line in scene.log) == 2


def test_full_disk_of_another_machine_or_directory_costs_no_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = begin(tmp_path)
    fault = full_while(tmp_path / "reserve", scene, Phase.BAKING, monkeypatch)
    monkeypatch.setattr(Reserve, "low", lambda _: False)
    assert scene.run_with(fault, lambda: scene.patience < 1_900) is Exit.DONE
    assert (scene.phase, (tmp_path / "reserve").exists()) == (Phase.BAKING, True)


def test_reserve_stays_where_nothing_has_to_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = begin(tmp_path, start="command")
    fault = full_while(tmp_path / "reserve", scene, Phase.CLAIMED, monkeypatch)
    assert scene.run_with(fault, lambda: scene.patience < 1_900) is Exit.DONE
    assert (scene.phase, (tmp_path / "reserve").exists()) == (Phase.CLAIMED, True)
