"""The executor's watch over its monitor: one that cannot run is not started over and over."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from executor.watchman import RESTART_S, MonitorProcess


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
