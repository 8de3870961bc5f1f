"""`calyx executor run` as a daemon: told to stop, asked how it is, waited for, killed and frozen."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from executor_checks import problems_at_the_end
from executor_world import World

from policies.fold.deployment import Phase

LIMIT_S = 90


class Daemon:
    """One executor, and its log as programs read it."""

    def __init__(self, world: World, name: str, *options: str) -> None:
        self.world = world
        self.log = world.root / f"{name}.log"
        command = [sys.executable, "-B", "-m", "executor", "executor", "run", "--home", str(world.home)]
        command += ["--log-format", "json", "--log-file", str(self.log), "--listen", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def said(self, event: str) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if line.get("event") == event]

    def until(self, event: str) -> dict[str, Any]:
        """Play the others until the log has a line of this event."""
        self.world.play(lambda: bool(self.said(event)) or self.process.poll() is not None, LIMIT_S)
        found = self.said(event)
        if not found:
            self.process.kill()
            raise AssertionError(f"no {event}: {self.process.communicate()[1]}{self.log.read_text()}")
        return found[0]

    def ask(self, path: str) -> httpx.Response:
        port = self.until("LISTENING")["port"]
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=60, trust_env=False)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world", "rollout", command=True)
    made.open()
    made.lock.acquire()
    yield made
    made.lock.release()
    made.end_services()


@pytest.fixture
def start(world: World) -> Iterator[Callable[..., Daemon]]:
    begun: list[Daemon] = []

    def begin(name: str, *options: str) -> Daemon:
        begun.append(Daemon(world, name, *options))
        return begun[-1]

    yield begin
    for each in begun:
        if each.process.poll() is None:
            each.process.kill()
        with each.process:
            """Its end is waited for, and its output closed."""


def start_first(world: World, start: Callable[..., Daemon]) -> Daemon:
    """An executor that waits for the baseline of a rollout, until the monitor speaks."""
    world.simulation.silent = True
    first = start("first")
    first.until("STARTED")
    return first


def finish(world: World) -> None:
    """Nothing was lost and nothing was done twice."""
    world.station.store.close()
    assert list(problems_at_the_end(world, {Phase.COMPLETED})) == []


def test_told_to_stop_it_ends_between_two_effects_and_the_next_goes_on(
    world: World, start: Callable[..., Daemon]
) -> None:
    first = start("first")
    first.until("TIER_INTENT")
    health = first.ask("/health")
    assert (health.status_code, health.json()["role"], health.json()["live"]) == (200, "acting", 1)
    metrics = first.ask("/metrics").text
    assert 'calyx_events_total{type="STARTED"} 1.0' in metrics
    assert first.end() == 0
    # What was begun on a machine came to its end and was said.
    assert len(first.said("INSTANCE_APPLIED")) == 1
    second = start("second")
    second.until("COMPLETED")
    assert second.end() == 0
    assert not second.said("STARTED")
    finish(world)


def test_standby_waits_visibly_and_takes_over_when_the_first_is_killed(
    world: World, start: Callable[..., Daemon]
) -> None:
    first = start_first(world, start)
    second = start("second", "--standby")
    assert f"process {first.process.pid}" in second.until("STANDBY")["acting"]
    assert second.ask("/health").json()["role"] == "standby"
    refused = start("third")
    assert refused.process.communicate(timeout=LIMIT_S)[1].startswith("error: already_running")
    assert refused.process.returncode == 5
    world.simulation.silent = False
    first.until("TIER_INTENT")
    first.end(signal.SIGKILL)
    second.until("COMPLETED")
    assert second.ask("/health").json()["role"] == "acting"
    assert second.end() == 0
    assert (first.said("TERM")[0]["epoch"], second.said("TERM")[0]["epoch"]) == (2, 3)
    finish(world)


def test_standby_ends_one_that_is_frozen_and_takes_over(world: World, start: Callable[..., Daemon]) -> None:
    first = start_first(world, start)
    second = start("second", "--standby", "--takeover-after", "5")
    second.until("STANDBY")
    world.simulation.silent = False
    os.kill(first.process.pid, signal.SIGSTOP)
    second.until("COMPLETED")
    assert first.process.wait(timeout=LIMIT_S) == -signal.SIGKILL
    assert second.end() == 0
    assert second.said("TAKEOVER")
    finish(world)


def test_one_that_is_frozen_with_the_remembered_head_in_its_hand_stops_nobody(
    world: World, start: Callable[..., Daemon]
) -> None:
    first = start_first(world, start)
    second = start("second", "--standby", "--takeover-after", "5")
    second.until("STANDBY")
    world.simulation.silent = False
    (lock,) = (Path(os.environ["XDG_STATE_HOME"]) / "calyx" / "heads").glob("*.lock")
    with lock.open("r+b") as held:
        # As if it were in its hand; the kernel takes it back from one that is killed.
        fcntl.flock(held, fcntl.LOCK_EX)
        os.kill(first.process.pid, signal.SIGSTOP)
        command = [sys.executable, "-B", "-m", "executor", "status", "--home", str(world.home)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert (done.returncode, done.stderr.partition(": another")[0]) == (5, "error: memory_busy")
        second.until("TAKEOVER")
        assert first.process.wait(timeout=LIMIT_S) == -signal.SIGKILL
    second.until("COMPLETED")
    assert second.end() == 0
    finish(world)


def test_standby_that_is_told_to_stop_ends_and_has_said_nothing(world: World, start: Callable[..., Daemon]) -> None:
    first = start("first")
    first.until("TERM")
    second = start("second", "--standby")
    second.until("STANDBY")
    assert second.end() == 0
    assert not second.said("TERM")
    assert first.end() == 0


def test_port_that_is_not_of_this_machine_alone_is_refused(world: World) -> None:
    command = [sys.executable, "-B", "-m", "executor", "executor", "run", "--home", str(world.home)]
    done = subprocess.run(
        [*command, "--listen", "0.0.0.0:9464"], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: bad_listen")
