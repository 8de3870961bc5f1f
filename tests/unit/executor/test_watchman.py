"""The executor's watch over its monitor: a process of its own, not started over and over, in nobody's way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from executor.commands.running import stopping
from executor.process_lock import ProcessLock
from executor.rollout.watchman import RESTART_S, MonitorProcess


class Dead:
    """A process that ended as soon as it began."""

    def poll(self) -> int:
        return 1


def test_monitor_that_dies_at_once_is_started_again_only_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[float] = []
    now = [100.0]

    def start(*_: Any, **__: Any) -> Dead:
        started.append(now[0])
        return Dead()

    monkeypatch.setattr(subprocess, "Popen", start)
    watchman = MonitorProcess(tmp_path, tmp_path / "cp19.lock", "cp19", monotonic=lambda: now[0])
    for _ in range(10):
        watchman.ensure()
        now[0] += RESTART_S / 10
    watchman.ensure()
    assert started == [100.0, pytest.approx(100.0 + RESTART_S)]


def test_monitor_keeps_nobody_waiting_for_its_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # There is no ledger, so it says so and ends; what matters is where it says so.
    watchman = MonitorProcess(tmp_path, tmp_path / "cp19.lock", "cp19")
    watchman.ensure()
    child = watchman._child
    assert child is not None
    child.wait(timeout=60)
    watchman.stop()
    assert "ledger_missing" in (tmp_path / "cp19.log").read_text(encoding="utf-8")
    assert capfd.readouterr() == ("", "")


def test_package_in_the_working_directory_does_not_run_as_the_monitor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impostor = tmp_path / "here" / "executor"
    impostor.mkdir(parents=True)
    (impostor / "__init__.py").touch()
    (impostor / "__main__.py").write_text("print('impostor')", encoding="utf-8")
    monkeypatch.chdir(impostor.parent)
    watchman = MonitorProcess(tmp_path, tmp_path / "cp19.lock", "cp19")
    watchman.ensure()
    child = watchman._child
    assert child is not None
    child.wait(timeout=60)
    watchman.stop()
    assert "impostor" not in (tmp_path / "cp19.log").read_text(encoding="utf-8")


def test_monitor_that_runs_already_is_left_alone(tmp_path: Path) -> None:
    with ProcessLock(tmp_path / "cp19.lock", "cp19"):
        watchman = MonitorProcess(tmp_path, tmp_path / "cp19.lock", "cp19")
        watchman.ensure()
        assert watchman._child is None


def test_monitor_does_not_outlive_an_executor_that_was_killed() -> None:
    """It would hold the lock, and go on in the version that was replaced."""
    for parent, gone in ((os.getppid(), False), (os.getpid(), True)):
        with stopping(parent) as stop:
            assert stop.wait(0) == gone
