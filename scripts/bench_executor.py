"""The executor's rows, as far as they need no rollout: the flip, the way back, and what a person waits for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench_measure import CHECKOUT, Row, Spread, missing, ssh_agent, timed, warmed
from ledger_factory import Factory

from executor.home import Home, Settings
from executor.host import Fence, Plan
from executor.local_host import LocalHost
from executor.scan import ingest
from executor.tree import Tree
from ledger.log_key import store_log_key
from ledger.objects import DirectoryObjects
from policies.fleet import Instance
from policies.kinds import ABSENT, Artifact

FENCE: Final = Fence(ledger="a" * 64, epoch=1, leaf="b" * 64)
WAITING: Final = 6
"""Entries of a ledger whose last one is a lease that nobody has approved."""
_BYTECODE: Final = "bytecode is kept in a place of its own and was warmed by a run before"


class Site:
    """One instance on this machine that serves one of two trees of `files` files; no process runs in it."""

    def __init__(self, root: Path, files: int) -> None:
        objects = DirectoryObjects(root / "objects")
        self.host = LocalHost(objects)
        self.instance = Instance(name="web-1", root=str(root / "srv"))
        self.trees = [ingest(_write(root / name, files, name), objects, ()) for name in ("one", "two")]
        self._serve(ABSENT, self.trees[0])
        self._serve(self.trees[0].digest, self.trees[1])

    def back(self, *, scrub: bool) -> float:
        """Seconds of a flip to the tree that is not served, after reading every file of it where `scrub` says so."""
        served, other = self.trees[1].digest, self.trees[0].digest
        self.trees.reverse()
        start = time.perf_counter()
        if scrub:
            self.host.scrub(self.instance, other)
        self.host.flip(self.instance, served, other, FENCE)
        return time.perf_counter() - start

    def _serve(self, before: str, tree: Tree) -> None:
        artifact = Artifact(type="directory", sha256=tree.digest, size=len(tree.manifest))
        self.host.stage(self.instance, Plan(before=before, after=tree.digest, artifact=artifact))
        self.host.flip(self.instance, before, tree.digest, FENCE)


def flip_row(root: Path, runs: int) -> Row:
    """The flip alone: fence, lock, rename, sync."""
    site = Site(root / "flip", 10)
    seconds = [site.back(scrub=False) * 1e3 for _ in range(runs)]
    return Row(
        "flip",
        "flip of one instance, durable, fenced",
        "ms",
        Spread.of(seconds),
        bars=(5.0,),
        over=False,
        note="the median is held to the bar",
    )


def flip_back_row(root: Path, files: int, runs: int) -> Row:
    """The way back: every byte of the old release is read, then the flip."""
    site = Site(root / "back", files)
    seconds = sorted(site.back(scrub=True) for _ in range(runs))
    worst = seconds[min(runs - 1, -(-99 * runs // 100) - 1)]
    return Row(
        "flip-back",
        f"flip back with scrub of {files} files, p99 of {runs}",
        "s",
        Spread(worst, seconds[0], seconds[-1], runs),
        bars=(1.0, 0.5),
        over=False,
        note="p99 stands in the place of the median; the files were in the page cache",
        detail={"median": seconds[len(seconds) // 2], "files": files},
    )


def help_row(root: Path, runs: int) -> Row:
    """The start of the command line, in turn with the start of Python alone."""
    environment = warmed(root / "help")
    ours, bare = [], []
    _run(environment, "-m", "executor", "--help")
    for _ in range(runs):
        ours.append(timed(lambda: _run(environment, "-m", "executor", "--help")))
        bare.append(timed(lambda: _run(environment, "-c", "pass")))
    return Row(
        "help",
        "calyx --help",
        "s",
        Spread.of(ours),
        Spread.of(bare),
        "s for Python to start and end",
        bars=(0.4, 0.25),
        over=False,
        note=_BYTECODE,
    )


def approve_row(root: Path, runs: int) -> Row:
    """An approval as a person gives it: the ledger judged, the change rendered, signed by the agent, appended."""
    absent = missing("ssh-agent", "ssh-add")
    what = "calyx approve, the key in a real ssh-agent, durable"
    if absent:
        return Row("approve", what, "s", None, note=absent)
    place = root / "approve"
    place.mkdir()
    ada = _make_home(place / "home")
    environment = warmed(place)
    seconds = []
    with ssh_agent(place) as socket:
        environment["SSH_AUTH_SOCK"] = socket
        subprocess.run(["ssh-add", "-q", str(ada)], env=environment, check=True, capture_output=True)
        for number in range(runs + 1):
            home = place / f"home-{number}"
            shutil.copytree(place / "home", home)
            inbox = _run(environment, "-m", "executor", "inbox", "--home", str(home))
            lease = next(word for word in inbox.split() if word.startswith("LEASE-"))
            arguments = ("-m", "executor", "approve", lease, "--yes", "--home", str(home))
            seconds.append(timed(lambda: _run(environment, *arguments)))  # noqa: B023  # called at once
    return Row(
        "approve",
        what,
        "s",
        Spread.of(seconds[1:]),
        note=f"a ledger of {WAITING} entries, --yes; {_BYTECODE}",
    )


def _make_home(root: Path) -> Path:
    """A home whose lease waits for ada; gives the file with her key."""
    factory = Factory(root, now=int(time.time()))
    factory.fill(WAITING)
    home = Home(root)
    home.make()
    store_log_key(home.log_key, factory.log_key)
    home.store_settings(Settings(version=1, me="ada", keys={}))
    path = root.parent / "ada"
    path.touch(0o600)
    path.write_bytes(factory.private["ada"].format())
    return path


def _run(environment: Mapping[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"calyx {' '.join(arguments[2:])} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def _write(directory: Path, files: int, version: str) -> Path:
    for number in range(files):
        path = directory / f"{number // 100:03}" / f"{number:05}.py"
        if not number % 100:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"VERSION = {version!r}\nNUMBER = {number}\n" + "# text\n" * 200, encoding="utf-8")
    return directory
