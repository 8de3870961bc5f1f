"""Whose turn it is, with processes that are there and processes that are gone; the clock is handed in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from children import running

from executor.hosts.processes import status_of
from executor.process_lock import ProcessLock
from executor.rollout.turn import LOOK_S, Turn
from keys.errors import CalyxError

STALE_S = 30.0


@pytest.fixture(autouse=True)
def _no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is held stays so here, and nobody needs to look again a moment later."""
    monkeypatch.setattr("executor.process_lock.LOOK_S", 0)


class Time:
    """Seconds that grow while somebody waits. `meanwhile`: what happens then, by how often it was waited."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waited = 0
        self.meanwhile: Callable[[int], None] = lambda _: None
        self.stop_after = 1_000

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        self.waited += 1
        self.meanwhile(self.waited)
        return self.waited >= self.stop_after


@pytest.fixture
def time_() -> Time:
    return Time()


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for another executor."""
    with running(["sleep", "120"]) as process:
        yield process


def turn(root: Path, time_: Time, said: list[str] | None = None, who: str = "cp20") -> Turn:
    said = [] if said is None else said
    return Turn(root / "run", who, said.append, monotonic=time_, stale_s=STALE_S)


def act_as(root: Path, process: subprocess.Popen[bytes]) -> ProcessLock:
    """Let a process be the one that acts; whoever gives the lock back lets it end."""
    status = status_of(process.pid)
    assert status is not None
    lock = ProcessLock(root / "run" / "executor.lock", "an executor")
    lock.acquire()
    (root / "run" / "executor.beat").write_text(f"cp20 {process.pid} {status.started}".ljust(127) + "\n")
    return lock


@pytest.fixture
def acting(tmp_path: Path, other: subprocess.Popen[bytes]) -> Iterator[None]:
    """The other one acts."""
    lock = act_as(tmp_path, other)
    yield
    lock.release()


def touch(root: Path, ns: int) -> None:
    os.utime(root / "run" / "executor.beat", ns=(ns, ns))


def test_second_executor_is_refused_and_gets_its_turn_when_the_first_is_done(tmp_path: Path, time_: Time) -> None:
    first, second = turn(tmp_path, time_), turn(tmp_path, time_)
    first.take()
    with pytest.raises(CalyxError) as refused:
        second.take()
    assert refused.value.code == "already_running"
    first.release()
    second.take()


@pytest.mark.usefixtures("acting")
def test_standby_waits_visibly_and_as_long_as_the_other_shows_life(
    tmp_path: Path, time_: Time, other: subprocess.Popen[bytes]
) -> None:
    time_.meanwhile = lambda waited: touch(tmp_path, waited)
    time_.stop_after = 500
    said: list[str] = []
    assert not turn(tmp_path, time_, said).wait(time_.wait)
    assert time_.now > 100 + 5 * STALE_S
    assert said == [f"standby: cp20 (process {other.pid}) acts; waiting"]
    assert other.poll() is None


def test_standby_takes_over_at_once_when_the_other_is_gone(
    tmp_path: Path, time_: Time, other: subprocess.Popen[bytes]
) -> None:
    lock = act_as(tmp_path, other)

    def end(waited: int) -> None:
        if waited == 3:
            other.kill()
            other.wait()
            lock.release()

    time_.meanwhile = end
    assert turn(tmp_path, time_).wait(time_.wait)
    assert time_.waited == 3


def test_standby_ends_one_that_shows_no_life_and_takes_over(
    tmp_path: Path, time_: Time, other: subprocess.Popen[bytes]
) -> None:
    lock = act_as(tmp_path, other)
    held = [lock]

    def lose(waited: int) -> None:
        # The kernel gives a lock back when its holder ends; here the holder is played.
        if other.poll() is not None and held:
            held.pop().release()

    time_.meanwhile = lose
    said: list[str] = []
    assert turn(tmp_path, time_, said).wait(time_.wait)
    # It was its parent that waited for it, so its exit code is not known here.
    assert not Path(f"/proc/{other.pid}").exists()
    assert 100 + STALE_S <= time_.now <= 100 + STALE_S + 2
    assert any("taking over" in line for line in said)
    for each in held:
        each.release()


@pytest.mark.usefixtures("acting")
def test_standby_that_was_frozen_itself_does_not_take_its_own_sleep_for_the_others(
    tmp_path: Path, time_: Time, other: subprocess.Popen[bytes]
) -> None:
    def sleep(waited: int) -> None:
        if waited == 2:
            time_.now += 10 * STALE_S

    time_.meanwhile = sleep
    time_.stop_after = 20
    assert not turn(tmp_path, time_).wait(time_.wait)
    assert other.poll() is None


@pytest.mark.usefixtures("acting")
def test_process_that_has_the_pid_of_one_long_gone_is_not_ended(
    tmp_path: Path, time_: Time, other: subprocess.Popen[bytes]
) -> None:
    (tmp_path / "run" / "executor.beat").write_text(f"cp20 {other.pid} 1".ljust(127) + "\n")
    said: list[str] = []
    assert turn(tmp_path, time_, said).wait(time_.wait)
    assert other.poll() is None
    assert any("cannot be ended" in line for line in said)


def test_lock_of_one_that_was_passed_over_is_taken_once_it_is_free(
    tmp_path: Path, time_: Time, other: subprocess.Popen[bytes]
) -> None:
    lock = act_as(tmp_path, other)
    (tmp_path / "run" / "executor.beat").write_text(f"cp20 {other.pid} 1".ljust(127) + "\n")
    acting = turn(tmp_path, time_)
    assert acting.wait(time_.wait)
    lock.release()
    time_.now += 5
    acting.beat()
    with pytest.raises(CalyxError, match="runs already"):
        turn(tmp_path, time_).take()


def test_free_lock_is_not_taken_while_another_acts_without_it(
    tmp_path: Path, time_: Time, other: subprocess.Popen[bytes]
) -> None:
    act_as(tmp_path, other).release()
    with pytest.raises(CalyxError, match=f"process {other.pid}"):
        turn(tmp_path, time_).take()


@pytest.mark.parametrize("left", [b"", b"\xff" * 128, b"cp20 x y", b"cp20 1", b" " * 128])
def test_damaged_beat_keeps_nobody_out(tmp_path: Path, time_: Time, left: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "executor.beat").write_bytes(left)
    turn(tmp_path, time_).take()


def test_beat_changes_as_long_as_the_loop_comes_round(tmp_path: Path, time_: Time) -> None:
    acting = turn(tmp_path, time_)
    acting.take()
    file, beats = tmp_path / "run" / "executor.beat", 0
    for _ in range(20):
        # The system's own time stamps may be too coarse to tell two beats of this loop apart.
        os.utime(file, (1, 1))
        time_.now += LOOK_S
        acting.beat()
        beats += file.stat().st_mtime != 1
    assert 9 <= beats <= 11
