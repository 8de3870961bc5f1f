"""A program for fault tests: two executors on one ledger, or on two copies of it.

    python frozen_executor.py WHERE ROOT

    before     one is frozen before it has the host's lock, and cannot be ended: it wakes up when all is done by another
    inside     one is frozen with the host's lock in its hand, and is ended by the one that takes over
    copied     one works on the ledger, and then another on a copy of it that was made before

It prints one JSON object with what came of it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from executor_checks import problems_at_the_end
from executor_world import FROZEN, Child, Tell, World

from executor.hosts import local_host
from executor.hosts.host import Fence
from executor.hosts.layout import Layout
from executor.hosts.local_host import LocalHost
from executor.rollout import turn
from keys.errors import CalyxError
from ledger.memory import HeadMemory
from ledger.record import parse_record
from ledger.statement import parse_statement
from policies.fleet import Instance
from policies.fold.deployment import Phase


def freeze(tell: Tell) -> None:
    """Stop this process until somebody wakes it."""
    tell(FROZEN)
    os.kill(os.getpid(), signal.SIGSTOP)


def freeze_before_the_lock(tell: Tell) -> None:
    real = LocalHost.flip

    def flip(self: LocalHost, instance: Instance, expected: str, new: str, fence: Fence) -> None:
        freeze(tell)
        try:
            real(self, instance, expected, new, fence)
        except CalyxError as error:
            tell(f"the host said {error.code}")
            raise

    LocalHost.flip = flip  # type: ignore[method-assign]


def freeze_in_the_lock(tell: Tell) -> None:
    real = local_host.flip_locked

    def flip_locked(layout: Layout, instance: Instance, expected: str, new: str, fence: Fence) -> None:
        freeze(tell)
        real(layout, instance, expected, new, fence)

    local_host.flip_locked = flip_locked


def cannot_end_others(tell: Tell) -> None:
    del tell
    turn.end_process = lambda *_: False  # type: ignore[attr-defined]


def epochs(world: World) -> list[int]:
    """The epoch of every term and of every executor's event, in order."""
    found = []
    world.open()
    for data in world.station.store.read():
        statement = parse_statement(parse_record(data).envelope.body)
        if statement.kind in {"term", "event"} and statement.predicate["epoch"] is not None:
            found.append(int(statement.predicate["epoch"]))
    world.station.store.close()
    return found


def freeze_one(where: str, world: World) -> tuple[Child, Child]:
    first = world.begin(prepare={"before": freeze_before_the_lock, "inside": freeze_in_the_lock}[where])
    assert not world.attend(first), first.run.said
    second = world.begin(prepare=cannot_end_others if where == "before" else None, standby=True)
    assert world.attend(second), second.run.said
    if where == "before":
        os.kill(first.pid, signal.SIGCONT)
    assert world.attend(first), first.run.said
    return first, second


def copy_ledger(world: World) -> tuple[Child, Child]:
    home, memory = world.home, world.station.memory
    copy = world.live / "copy"
    shutil.copytree(home, copy)
    first = world.begin()
    assert world.attend(first)
    world.home, world.station.memory = copy, HeadMemory(world.live / "another memory")
    second = world.begin()
    assert world.attend(second)
    world.home, world.station.memory = home, memory
    return first, second


def main(where: str, root: Path) -> None:
    root.mkdir(parents=True)
    world = World(root, "rollout")
    try:
        first, second = copy_ledger(world) if where == "copied" else freeze_one(where, world)
        problems = list(problems_at_the_end(world, {Phase.COMPLETED}))
    finally:
        world.end_services()
    result = {
        "first": {"exit": first.run.exit, "said": [text for _, text in first.run.said]},
        "second": {"exit": second.run.exit, "said": [text for _, text in second.run.said]},
        "problems": problems,
        "epochs": epochs(world),
    }
    print(json.dumps(result))  # noqa: T201 - its output is its result


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
