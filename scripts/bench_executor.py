"""The executor's rows: the flip, the way back of one and of many, and what a person waits for."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from bench_measure import CHECKOUT, Row, Spread, missing, ssh_agent, timed, warmed
from ledger_factory import Factory

from executor.homes.home import Home
from executor.homes.settings import Settings
from executor.hosts.host import Fence, Plan
from executor.hosts.local_host import LocalHost
from executor.rollout.effects import Step, apply_instance, restore_instance
from executor.rollout.work import WORKERS
from executor.trees.scan import ingest
from executor.trees.tree import Tree
from ledger.log_key import store_log_key
from ledger.objects import DirectoryObjects
from policies.fleet import Instance, Probe, Process
from policies.kinds import ABSENT, Artifact

FENCE: Final = Fence(ledger="a" * 64, epoch=1, leaf="b" * 64)
WAITING: Final = 6
"""Entries of a ledger whose last one is a lease that nobody has approved."""
_SERVICE: Final = """
import http.server, os, signal
signal.alarm(600)  # whatever becomes of the one who measures
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = open("version", "rb").read()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
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
        self.host.stage(self.instance, Plan(before=before, after=tree.digest, artifact=_artifact(tree)))
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


class Fleet:
    """Services on this machine, each an instance with a process of its own that answers with its version."""

    def __init__(self, root: Path, count: int) -> None:
        objects = DirectoryObjects(root / "objects")
        self.host = LocalHost(objects)
        one, two = (
            ingest(_write_service(root / version, version), objects, ()) for version in ("version-1", "version-2")
        )
        ports = enumerate(_free_ports(count))
        self._steps = [_step(root / f"srv-{number}", f"web-{number:02}", port, one, two) for number, port in ports]
        self._first = [replace(step, before=ABSENT, after=one.digest, artifact=_artifact(one)) for step in self._steps]

    def __enter__(self) -> Self:
        try:
            self._all(apply_instance, self._first)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for step in self._steps:
            self.host.stop(step.instance, FENCE)

    def there_and_back(self) -> float:
        """Bring all to the second version, uncounted; seconds until the last is back on the first."""
        self._all(apply_instance, self._steps)
        return timed(lambda: self._all(restore_instance, self._steps))

    def _all(self, effect: Callable[[LocalHost, Step, Fence], object], steps: Sequence[Step]) -> None:
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda step: effect(self.host, step, FENCE), steps))


def restore_row(root: Path, count: int, runs: int) -> Row:
    """The way back of a whole fleet, as the executor's workers go it."""
    with Fleet(root / "restore", count) as fleet:
        seconds = [fleet.there_and_back() for _ in range(runs)]
    return Row(
        "restore",
        f"last of {count} instances restored: old release read, flip, process restarted, probed",
        "s",
        Spread.of(seconds),
        bars=(5.0, 2.0),
        over=False,
        note="from when the executor's workers begin; the entries from HALTED on are not in it (append-one)",
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
    with ssh_agent() as socket:
        environment["SSH_AUTH_SOCK"] = socket
        subprocess.run(["ssh-add", "-q", str(ada)], env=environment, check=True, capture_output=True)
        for number in range(runs + 1):
            home = place / f"home-{number}"
            shutil.copytree(place / "home", home)
            inbox = json.loads(_run(environment, "-m", "executor", "inbox", "--json", "--home", str(home)))
            lease = next(item["lease_id"] for item in inbox if item["kind"] == "lease")
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


def _artifact(tree: Tree) -> Artifact:
    return Artifact(type="directory", sha256=tree.digest, size=len(tree.manifest))


def _free_ports(count: int) -> list[int]:
    # All held at once, so that no two are the same.
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _step(root: Path, name: str, port: int, one: Tree, two: Tree) -> Step:
    process = Process(argv=(sys.executable, "serve.py"), env={"PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"})
    url = f"http://127.0.0.1:{port}/"
    instance = Instance(name=name, root=str(root), process=process, probe=Probe(url=url, timeout_s=30))
    return Step(instance, one.digest, two.digest, _artifact(two))


def _write_service(directory: Path, version: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "serve.py").write_text(_SERVICE, encoding="utf-8")
    (directory / "version").write_text(version, encoding="utf-8")
    return directory


def _write(directory: Path, files: int, version: str) -> Path:
    for number in range(files):
        path = directory / f"{number // 100:03}" / f"{number:05}.py"
        if not number % 100:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"VERSION = {version!r}\nNUMBER = {number}\n" + "# text\n" * 200, encoding="utf-8")
    return directory
