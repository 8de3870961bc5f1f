"""The command is killed again and again while one good or bad version after another is deployed.

It goes on for some seconds; CALYX_KILL_LOOP_S says for how many.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from children import running
from executor_checks import trees_left
from executor_world import World

from executor.hosts.layout import layout_of, read_current
from executor.hosts.local_host import LocalHost
from ledger.sqlite.store import SqliteStore
from policies.auditing.audit import audit
from policies.fold.deployment import Phase

LOOP_S = int(os.environ.get("CALYX_KILL_LOOP_S", "12"))


class Releases:
    """Leases one after the other, each from where the one before ended; every third version is bad."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.number = 2
        self.current, self.next = (world.tree(name) for name in ("one", "two"))
        self.lease = world.lease

    def go_on(self) -> None:
        """Propose the next version when the one before has come to its end."""
        deployment = self.world.station.state.deployments.get(self.lease[1])
        if deployment is None or deployment.live:
            return
        if deployment.phase is Phase.COMPLETED:
            self.current = self.next
        self.number += 1
        self.next = self.world.tree(f"version {self.number}")
        if self.number % 3 == 0:
            self.world.simulation.bad[self.next.digest] = "breach"
        self.lease = self.world.propose(self.number, self.current, self.next)

    def play(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        """Play the others for so long, or until the executor has ended."""

        def ended() -> bool:
            self.go_on()
            return process.poll() is not None

        self.world.play(ended, seconds)


def expected(world: World) -> tuple[str, Counter[str]]:
    """The tree that the ledger says every instance runs, and how deployments ended."""
    tree, ends = "absent", Counter[str]()
    for deployment in world.station.state.deployments.values():
        ends[deployment.phase] += 1
        if deployment.phase is Phase.COMPLETED:
            (tree,) = set(deployment.after.values())
    return tree, ends


def test_killed_again_and_again_every_machine_serves_what_the_ledger_says(tmp_path: Path) -> None:
    world = World(tmp_path / "world", "rollout", command=True)
    command = [sys.executable, "-B", "-m", "executor", "executor", "run", "--home", str(world.home)]
    kills, left = 0, float(LOOP_S)
    world.open()
    world.lock.acquire()
    releases = Releases(world)
    try:
        while left > 0:
            lives_s = random.uniform(0.3, 4)
            left -= lives_s
            with running(command, stdout=subprocess.DEVNULL) as process:
                releases.play(process, lives_s)
                assert process.poll() is None, "it ended by itself"
                process.kill()
            kills += 1
        with running([*command, "--until-idle"], stdout=subprocess.DEVNULL) as process:
            world.play(lambda: process.poll() is not None, 120)
            process.kill()
        assert process.returncode in {0, 3}
        tree, ends = expected(world)
        print(f"{kills} kills, {dict(ends)}, {world.station.state.size} entries")  # noqa: T201  # for who asks with -rP
        assert not world.station.state.live
        assert set(ends) <= {Phase.COMPLETED, Phase.ROLLED_BACK}
        host = LocalHost(world.station.objects)
        for instance in world.instances:
            assert read_current(layout_of(instance)) == tree
            host.scrub(instance, tree)
            host.settle(instance, tree)
        with SqliteStore.open(world.home / "ledger.db", read_only=True) as store:
            report = audit(store, world.station.objects, remembered=None, store_path=world.home / "ledger.db")
        assert report.findings == []
        assert list(trees_left(world)) == []
    finally:
        world.lock.release()
        world.station.store.close()
        world.end_services()
