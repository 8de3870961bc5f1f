"""Two executors on one ledger, or on two copies of it: one acts, and the other is refused by ledger and machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import frozen_executor


def run(where: str, root: Path) -> dict[str, Any]:
    program = Path(frozen_executor.__file__)
    paths = os.pathsep.join([str(program.parent), *(path for path in sys.path if path)])
    result = subprocess.run(
        [sys.executable, "-B", str(program), where, str(root)],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    value: dict[str, Any] = json.loads(result.stdout)
    assert value["problems"] == []
    # Whoever has lost its turn says nothing more.
    assert value["epochs"] == sorted(value["epochs"])
    return value


def test_executor_that_was_frozen_and_wakes_up_late_is_refused_by_the_machine_and_by_the_ledger(tmp_path: Path) -> None:
    came = run("before", tmp_path / "world")
    assert "the host said fenced" in came["first"]["said"]
    assert came["first"]["said"][-1].startswith("error: fenced: epoch 2 is over")
    assert came["first"]["exit"] == 1
    assert came["second"]["exit"] == 0
    assert any("acts; waiting" in line for line in came["second"]["said"])


def test_executor_that_was_frozen_with_a_machines_lock_in_its_hand_is_ended_and_the_rollout_goes_on(
    tmp_path: Path,
) -> None:
    came = run("inside", tmp_path / "world")
    assert came["first"]["exit"] == -9
    assert came["second"]["exit"] == 0


def test_second_executor_on_a_copied_ledger_is_noticed_by_the_machines(tmp_path: Path) -> None:
    came = run("copied", tmp_path / "world")
    assert came["first"]["exit"] == 0
    assert came["second"]["exit"] == 1
    (refused,) = [line for line in came["second"]["said"] if "PREFLIGHT_FAILED" in line]
    assert "fork_detected" in refused
