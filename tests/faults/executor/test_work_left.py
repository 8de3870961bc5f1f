"""A real executor and a real agent, killed while they work out a patch: their next start leaves none of its trees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from children import running
from console import Console
from executor_checks import problems_at_the_end
from executor_world import World

from policies.fold.deployment import Phase

LIMIT_S = 90
PATCH = "diff --git a/new b/new\nnew file mode 100644\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+x\n"


class SlowGit:
    """A program `git` that says its process id and then does nothing; it outlives the one that started it."""

    def __init__(self, root: Path) -> None:
        self._said = root / "git.pid"
        program = root / "bin" / "git"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho $$ > {self._said}.new\nmv {self._said}.new {self._said}\nexec sleep 300\n")
        program.chmod(0o755)
        temporary = root / "tmp"
        temporary.mkdir()
        self.temporary = temporary
        self.environment = {
            **os.environ,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "TMPDIR": str(temporary),
        }

    def runs(self) -> bool:
        """Whether somebody waits for it."""
        return self._said.exists()

    def end(self) -> None:
        with suppress(FileNotFoundError, psutil.Error):
            psutil.Process(int(self._said.read_text())).kill()


@pytest.fixture
def git(tmp_path: Path) -> Iterator[SlowGit]:
    made = SlowGit(tmp_path)
    yield made
    made.end()


def command(home: Path, *words: str) -> list[str]:
    return [sys.executable, "-B", "-m", "executor", *words, "--home", str(home)]


@contextmanager
def killed(words: list[str], git: SlowGit, wait: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
    """Start it, and kill it as soon as git runs for it."""
    with running(words, env=git.environment, stdout=subprocess.DEVNULL) as process:
        wait(lambda: git.runs() or process.poll() is not None)
        assert (git.runs(), process.poll()) == (True, None)
    yield


def files_in(place: Path) -> list[str]:
    return [path.name for path in place.rglob("*") if path.is_file()]


def test_executor_killed_in_a_claim_leaves_trees_and_its_next_start_none(tmp_path: Path, git: SlowGit) -> None:
    world = World(tmp_path / "world", "rollout", command=True)
    place = world.home / "run" / "work" / "cp20"
    try:
        world.open()
        with killed(command(world.home, "executor", "run"), git, lambda until: world.play(until, LIMIT_S)):
            assert {"app.py", "VERSION"} <= set(files_in(place))
        world.station.store.close()
        # The git that it started lives on meanwhile, in a directory that goes away.
        assert world.run("off", 0).exit == 0
        assert list(place.iterdir()) == []
        assert list(git.temporary.iterdir()) == []
        assert list(problems_at_the_end(world, {Phase.COMPLETED})) == []
    finally:
        world.end_services()


def test_agent_killed_in_a_review_leaves_a_tree_and_its_next_start_none(
    tmp_path: Path, git: SlowGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(tmp_path, monkeypatch, live=True)
    console.begin(instances=1, targets={"web": {"paths": ["new"]}})
    (tmp_path / "patch").write_text(PATCH)
    console.done("propose", "web", "--patch", str(tmp_path / "patch"))
    place = console.home / "run" / "work" / "cp14"

    def wait(until: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not until() and time.monotonic() < end:
            time.sleep(0.05)  # another process

    with killed(command(console.home, "agent", "run", "cp14"), git, wait):
        assert files_in(place)
    with running(command(console.home, "agent", "run", "cp14"), stdout=subprocess.DEVNULL) as process:
        (lease,) = console.state().leases.values()
        wait(lambda: "cp14" in console.state().leases[lease.digest].reviews)
        assert console.state().leases[lease.digest].reviews["cp14"].review.verdict == "pass"
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    assert list(place.iterdir()) == []
    assert list(git.temporary.iterdir()) == []
