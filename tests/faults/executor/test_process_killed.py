"""A real executor is killed, and its disk fails, at calls that change files, in whole rollouts and whole ways back.

A run samples the points, others each time; with CALYX_EVERY_POINT=1 each is tried, which takes some twenty minutes.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import killed_executor
import pytest
from programs import require_program

EVERY = os.environ.get("CALYX_EVERY_POINT") == "1"
LAYER = Path(killed_executor.__file__).with_name("faults.c")


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fault layer as a shared object."""
    built = tmp_path_factory.mktemp("faults") / "faults.so"
    flags = ["-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([require_program("cc"), *flags, "-o", str(built), str(LAYER)], check=True, timeout=60)
    return built


def run(layer: Path, root: Path, scenario: str, fault: str, first: int, step: int, *more: str) -> list[dict[str, Any]]:
    program = Path(killed_executor.__file__)
    paths = os.pathsep.join([str(program.parent), *(path for path in sys.path if path)])
    command = [sys.executable, "-B", str(program), scenario, fault, str(root), str(first), str(step), *more]
    result = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": paths, "LD_PRELOAD": str(layer)},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        timeout=3_000 if EVERY else 280,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    return [json.loads(line) for line in result.stdout.splitlines()]


def sample(layer: Path, root: Path, scenario: str, fault: str, step: int) -> list[dict[str, Any]]:
    """What became of a fault at each `step`-th point."""
    first, step = (1, 1) if EVERY else (random.randint(1, step), step)
    counted, *tried = run(layer, root, scenario, fault, first, step)
    assert counted["problems"] == []
    assert [each for each in tried if each["problems"]] == []
    # The last one was let through; so the points reach from the first call to the last.
    assert [each["reached"] for each in tried] == [True] * (len(tried) - 1) + [False]
    how_many = f"{len(tried) - 1} of {counted['points']} points"
    print(scenario, fault, how_many, counted["kinds"], counted["phases"])  # noqa: T201  # for who asks with -rP
    return tried[:-1]


@pytest.mark.parametrize(
    ("scenario", "step", "least"), [("rollout", 17, 200), ("rollback", 11, 70), ("breach", 23, 150)]
)
def test_killed_before_any_call_that_changes_a_file_it_goes_on_to_the_same_end(
    tmp_path: Path, layer: Path, scenario: str, step: int, least: int
) -> None:
    tried = sample(layer, tmp_path / "world", scenario, "kill", step)
    assert all(each["killed"] for each in tried)
    assert tried[-1]["point"] > least, "the executor did less to files than was expected"


def test_killed_in_the_middle_of_a_write_it_goes_on_to_the_same_end(tmp_path: Path, layer: Path) -> None:
    tried = sample(layer, tmp_path / "world", "rollout", "tear", 31)
    assert any(each["killed"] for each in tried)


@pytest.mark.parametrize(("scenario", "fault", "step"), [
    ("rollout", "eio", 23),
    ("rollback", "eio", 23),
    ("rollout", "enospc", 37),
    ("rollback", "enospc", 31),
])  # fmt: skip
def test_disk_that_fails_ends_it_with_one_clear_line_and_it_goes_on_when_the_disk_is_mended(
    tmp_path: Path, layer: Path, scenario: str, fault: str, step: int
) -> None:
    for each in sample(layer, tmp_path / "world", scenario, fault, step):
        # It was done all the same, or taken back, or the executor ended because the ledger could not be written.
        assert (each["exit"] == 5) == bool(each["error"]), each
        assert each["exit"] in {0, 1, 3, 5}, each


def test_command_killed_at_chance_points_goes_on_to_the_same_end(tmp_path: Path, layer: Path) -> None:
    tried = run(layer, tmp_path / "world", "breach", "kill", random.randint(30, 150), 120, "command")
    assert [each for each in tried if each["problems"]] == []
    assert tried[0]["killed"]
