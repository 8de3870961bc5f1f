from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import killed_host
import killed_reload
import pytest
from instances import free_port
from programs import require_program


def run(program: str, *arguments: str) -> list[dict[str, Any]]:
    """The JSON lines that a program for fault tests prints."""
    paths = os.pathsep.join([str(Path(program).parent), *(path for path in sys.path if path)])
    result = subprocess.run(
        [sys.executable, program, *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("scenario", "points"),
    [("first", 40), ("directory", 40), ("patch", 40), ("adopt", 60), ("remove", 5), ("rebuild", 40), ("prune", 30)],
)
def test_tree_is_never_between_two_states_wherever_the_executor_is_killed(
    tmp_path: Path, scenario: str, points: int
) -> None:
    require_program("git")
    kills = run(killed_host.__file__, scenario, str(tmp_path))
    assert [kill["point"] for kill in kills] == list(range(len(kills)))
    assert all(kill["killed"] for kill in kills[:-1])
    # The last one was let through, so every point was tried; a scenario with few points would prove little.
    assert (kills[-1]["killed"], kills[-1]["status"]) == (False, 0)
    assert len(kills) > points
    assert [kill for kill in kills if kill["seen"] != "allowed" or not kill["end"] or kill["left"]] == []


def test_one_service_is_left_whenever_a_reload_is_killed(tmp_path: Path) -> None:
    delays = [str(delay) for delay in (0, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100)]
    kills = run(killed_reload.__file__, str(tmp_path), str(free_port()), *delays)
    assert len(kills) == len(delays)
    assert any(kill["killed"] for kill in kills)
    assert [kill for kill in kills if kill["services"] != 1 or not kill["recorded"]] == []
