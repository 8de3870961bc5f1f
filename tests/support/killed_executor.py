"""A program for fault tests: a real executor, with its registrar, ledger, objects and machine, under `faults.c`.

    LD_PRELOAD=faults.so python killed_executor.py SCENARIO FAULT ROOT FIRST STEP [command]

It forks an executor for each point: FIRST, FIRST + STEP, and so on, until one comes to its end without reaching its
point. Each begins from the same copy of the home and the machine. Another executor follows, without faults, and goes on
to the end. One JSON line is printed for each, and before them one with the points of a run without faults.

With `command` each executor is `calyx executor run`, by this machine's clock, with its threads.

    rollout    a lease under both keys, two instances, one of them with a service
    breach     the same; the monitor sees a breach on the first tier
    rollback   that lease was completed, and a person ordered the rollback

    kill       SIGKILL before the point          tear       the same, and half of a write was done
    eio        the call fails with EIO           enospc     from there on, what takes space fails with ENOSPC

"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from executor_checks import problems_at_once, problems_at_the_end, trees_left
from executor_world import KINDS, World

from executor.hosts import local_host
from policies.fold.deployment import Phase

MAX_POINTS: Final = 5_000
ENDS: Final = {"rollout": Phase.COMPLETED, "breach": Phase.ROLLED_BACK, "rollback": Phase.ROLLED_BACK}


def count_points(world: World) -> dict[str, Any]:
    """A run without faults: points in all, of each kind, and until each event."""
    world.restore()
    done = world.run("count", 0)
    kinds = next(text for _, text in done.said if text.startswith("kinds ")).split()[1:]
    phases: dict[str, int] = {}
    for before, text in done.said:
        words = text.split()
        if words[0].startswith("LEASE-") and "(entry" in text:
            phases[" ".join(words[1:-2])] = before
    return {
        "points": done.said[-1][0],
        "kinds": dict(zip(KINDS, map(int, kinds), strict=True)),
        "phases": phases,
        "problems": list(problems_at_the_end(world, {ENDS[world.scenario]})),
    }


def faults(world: World, fault: str, first: int, step: int) -> Iterator[dict[str, Any]]:
    """A fault at each point in turn, until a run does not come to its point."""
    # A disk that fails may turn a rollout back, or end it before it began; a kill changes nothing.
    allowed = {ENDS[world.scenario]} | (set() if fault in {"kill", "tear"} else {Phase.ROLLED_BACK})
    for point in range(first, MAX_POINTS, step):
        world.restore()
        done = world.run(fault, point)
        problems = [text for _, text in done.said if text.startswith("defect: ")]
        problems += problems_at_once(world, done)
        reached = done.killed or (bool(done.said) and done.said[-1][0] >= point)
        again = world.run("off", 0)
        problems += [text for _, text in again.said if text.startswith(("defect: ", "error: "))]
        problems += problems_at_the_end(world, allowed, clean=fault in {"kill", "tear"})
        problems += trees_left(world)
        yield {
            "point": point,
            "reached": reached,
            "killed": done.killed,
            "exit": done.exit,
            "error": done.error,
            "last": done.said[-1][1] if done.said else "",
            "again": again.exit,
            "problems": problems,
        }
        if not reached:
            return


def main(scenario: str, fault: str, root: Path, first: int, step: int, *, command: bool) -> None:
    # A service without a probe counts as started once it lived for a moment; here it may be a short one.
    local_host._GRACE_S = 0.01  # type: ignore[misc]
    root.mkdir(parents=True, exist_ok=True)
    world = World(root, scenario, command=command)
    world.keep_clock()
    try:
        if not command:
            print(json.dumps(count_points(world)), flush=True)  # noqa: T201 - its output is its result
        for line in faults(world, fault, first, step):
            print(json.dumps(line), flush=True)  # noqa: T201 - as above
    finally:
        with suppress(OSError):
            world.end_services()


if __name__ == "__main__":
    main(
        sys.argv[1],
        sys.argv[2],
        Path(sys.argv[3]),
        int(sys.argv[4]),
        int(sys.argv[5]),
        command="command" in sys.argv[6:],
    )
