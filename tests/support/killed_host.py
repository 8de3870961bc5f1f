"""A program for fault tests: it does one host operation and is killed before a chosen call that changes something.

    python killed_host.py SCENARIO ROOT

It forks once for each kill point, and prints one JSON line for each: what a reader of `current` found right after the
kill, and whether the same operation done again reached its end. Python tells an audit hook of each call that makes,
renames or removes a name; fsync, fchmod and write have no such event and are told by wrapping them. What only reads
leaves the disk as the call before it did, so it is no point of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from instances import FENCE, directory_plan, patch_plan, write_files

from executor.hosts.host import ABSENT, Host, Plan
from executor.hosts.layout import layout_of, read_current
from executor.hosts.local_host import LocalHost
from executor.hosts.releases import check_release
from executor.trees.materialise import discard
from executor.trees.patch import plan_patch
from executor.trees.scan import ingest
from executor.trees.tree import Tree
from keys.errors import CalyxError
from ledger.objects import DirectoryObjects
from policies.fleet import Instance

EVENTS: Final = frozenset(
    {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.chmod", "subprocess.Popen"}
)
EXCHANGE: Final = ("ctypes.dlsym", "renameat2")
"""The look-up right before the one call that Python has no event for."""
WRAPPED: Final = ("fsync", "write", "fchmod", "copy_file_range")
MAX_POINTS: Final = 2000

Operation = Callable[[Host], None]


class Scenario:
    """Where it begins, what is done, and which trees `current` may lead to at any time."""

    def __init__(self, name: str, root: Path) -> None:
        self.root = root
        self.objects = DirectoryObjects(root / "objects")
        self.host = LocalHost(self.objects)
        self.instance = Instance(name="web-1", root=str(root / "srv"), shared=("logs",))
        self.one = self._tree("one", {"version": "one", "bin/run*": "#!"})
        self.two = self._tree("two", {"version": "two", "bin/run*": "#!"})
        self.allowed = {self.one.digest, self.two.digest}
        self.goal = self.two.digest
        self.releases: set[str] | None = None
        self.prepare, self.operation = getattr(self, f"_{name}")()

    def _tree(self, name: str, files: dict[str, str | bytes]) -> Tree:
        return ingest(write_files(self.root / name, files), self.objects, ("logs",))

    def _deploy_one(self) -> None:
        self.host.stage(self.instance, directory_plan(self.one))
        self.host.flip(self.instance, ABSENT, self.one.digest, FENCE)

    def _go(self, plan: Plan) -> Operation:
        def operation(host: Host) -> None:
            host.stage(self.instance, plan)
            host.flip(self.instance, plan.before, plan.after, FENCE)

        return operation

    def _first(self) -> tuple[Callable[[], None], Operation]:
        self.allowed = {ABSENT, self.two.digest}
        return lambda: None, self._go(directory_plan(self.two))

    def _directory(self) -> tuple[Callable[[], None], Operation]:
        return self._deploy_one, self._go(directory_plan(self.two, self.one.digest))

    def _patch(self) -> tuple[Callable[[], None], Operation]:
        patch = b"diff --git a/new b/new\nnew file mode 100755\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+x\n"
        (self.root / "scratch").mkdir()
        after = plan_patch(self.one, self.objects, patch, self.root / "scratch", ("logs",))
        self.allowed, self.goal = {self.one.digest, after.digest}, after.digest
        return self._deploy_one, self._go(patch_plan(self.objects, patch, self.one.digest, after.digest))

    def _adopt(self) -> tuple[Callable[[], None], Operation]:
        def prepare() -> None:
            write_files(self.root / "srv/current", {"version": "one", "bin/run*": "#!"})

        return prepare, self._go(directory_plan(self.two, self.one.digest))

    def _remove(self) -> tuple[Callable[[], None], Operation]:
        self.allowed, self.goal = {self.one.digest, ABSENT}, ABSENT
        return self._deploy_one, lambda host: host.flip(self.instance, self.one.digest, ABSENT, FENCE)

    def _prune(self) -> tuple[Callable[[], None], Operation]:
        """Two releases that nothing needs beside the current one."""

        def prepare() -> None:
            self._deploy_one()
            for name in ("two", "three", "four"):
                self.host.stage(self.instance, directory_plan(self._tree(name, {"version": name, "d/e/f": name})))
            self.host.flip(self.instance, self.one.digest, self._tree("two", {}).digest, FENCE)

        self.goal = ingest(write_files(self.root / "two", {"d/e/f": "two"}), self.objects, ("logs",)).digest
        self.allowed, self.releases = {self.goal}, {self.one.digest, self.goal}
        return prepare, lambda host: host.prune(self.instance, (self.one.digest,), FENCE) and None

    def _rebuild(self) -> tuple[Callable[[], None], Operation]:
        """The current release is dirty; at every moment it is there, dirty or whole."""

        def prepare() -> None:
            self._deploy_one()
            (self.root / "srv/releases" / self.one.digest / "version").chmod(0o644)

        self.allowed, self.goal = {self.one.digest, "dirty"}, self.one.digest
        plan = Plan(before=ABSENT, after=self.one.digest, artifact=None)
        return prepare, lambda host: host.stage(self.instance, plan)

    def seen(self) -> str:
        """What a reader of `current` finds: the digest of a whole tree, `absent`, or what is wrong."""
        layout = layout_of(self.instance)
        tree = read_current(layout)
        if tree == "adoptable":
            return self.host.inspect(self.instance).tree
        if tree != ABSENT:
            try:
                check_release(layout, tree)
            except CalyxError as error:
                return "dirty" if error.code == "tree_dirty" else error.code
        return tree


def kill_at(point: int) -> None:
    """Kill this process before its `point`-th call, counted from here."""
    left = point

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **options: Any) -> Any:
            count()
            return real(*args, **options)

        return counting

    for name in WRAPPED:
        setattr(os, name, wrap(getattr(os, name)))

    def hook(event: str, values: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or event in EVENTS or (event, values[-1] if values else None) == EXCHANGE:
            count()

    sys.addaudithook(hook)


def kills(scenario: Scenario) -> Iterator[dict[str, object]]:
    """Kill at each point in turn, until the operation ends without having reached its point."""
    for point in range(MAX_POINTS):
        if (scenario.root / "srv").exists():
            discard(scenario.root / "srv")
        scenario.prepare()
        child = os.fork()
        if child == 0:
            kill_at(point)
            scenario.operation(scenario.host)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        seen = scenario.seen()
        scenario.operation(scenario.host)
        left = [path.name for path in (scenario.root / "srv/.calyx/staging").iterdir()]
        if scenario.releases is not None:
            for place in ("releases", ".calyx/manifests"):
                left += scenario.releases ^ {path.name for path in (scenario.root / "srv" / place).iterdir()}
        yield {
            "point": point,
            "killed": killed,
            "status": status,
            "seen": seen if seen not in scenario.allowed else "allowed",
            "end": scenario.seen() == scenario.goal,
            "left": left,
        }
        if not killed:
            return


if __name__ == "__main__":
    for line in kills(Scenario(sys.argv[1], Path(sys.argv[2]))):
        print(json.dumps(line), flush=True)  # noqa: T201 - its output is its result
