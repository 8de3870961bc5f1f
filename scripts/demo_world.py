"""The demo's world: a home, 20 hosts as directories, versions of a service, traffic, and the `calyx` command."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from executor.homes.home import Home
from keys.errors import CalyxError
from policies.replay import Replay

HERE = Path(__file__).resolve().parent
COUNT = 20
TARGET = "web"
LIFE_S = 1800
"""Traffic ends by itself after this."""


class DemoFailed(Exception):
    """Something went another way than the demo promises."""


class World:
    """One home and everything around it. What it starts is written down in `demo.json`, so that `--stop` finds it."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self.environment = environment
        self.notes = root / "demo.json"
        self.home = Home(root)
        self.human_key = root / "human" / "id_ed25519"
        self.ports: list[int] = []
        self.started: list[tuple[int, float]] = []

    # calyx

    def calyx(self, *arguments: str, expect: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        """Run one `calyx` command and wait for it."""
        done = subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode not in expect:
            raise DemoFailed(f"calyx {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done

    def command(self, *arguments: str) -> list[str]:
        """The command line of a `calyx` command on this home."""
        return [sys.executable, "-B", "-m", "executor", "--home", str(self.root), *arguments]

    def calyx_json(self, *arguments: str, expect: tuple[int, ...] = (0,)) -> Any:
        """Run a reading command and give what it says."""
        return json.loads(self.calyx(*arguments, "--json", expect=expect).stdout)

    def follow(self) -> Replay:
        """A reader of the ledger, for looking only. It remembers no head: the commands do."""
        return Replay(self.home.open_store(), self.home.open_objects(), None)

    @contextmanager
    def agents(self, *names: str) -> Iterator[None]:
        """Run agents, each a process of its own that opens only its own key."""
        with ExitStack() as stack:
            for name in names:
                log = stack.enter_context((self.root / f"{name}.log").open("ab"))
                command = self.command("agent", "run", name)
                process = subprocess.Popen(
                    command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
                stack.callback(end_process, process)
            yield

    # services

    def settle(self) -> None:
        """Make the directories and the fleet file; choose a free port for each service."""
        if self.home.ledger.exists():
            raise DemoFailed(f"{self.root} holds a ledger already; choose another --home")
        self.human_key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.ports = free_ports(COUNT)
        (self.root / "tes.csv").write_text("timestamp,tes\n", encoding="utf-8")
        instances = [
            {
                "name": f"web-{number:02}",
                "root": str(self.root / "hosts" / f"web-{number:02}"),
                "process": {
                    "argv": [sys.executable, "-B", "app.py"],
                    "env": {"PORT": str(port)},
                    "stop_s": 3,
                },
                "probe": {"url": f"http://127.0.0.1:{port}/health"},
                "metrics": {"counters": {"url": f"http://127.0.0.1:{port}/counters"}},
            }
            for number, port in enumerate(self.ports, start=1)
        ]
        target = {"instances": instances, "max_unavailable": 5, "tes": {"path": str(self.root / "tes.csv")}}
        (self.root / "fleet.json").write_text(json.dumps({"targets": {TARGET: target}}), encoding="utf-8")
        self.write_notes()

    def make_version(self, version: str, *, fail_every: int = 0) -> Path:
        """A directory with one version of the service."""
        directory = self.root / "versions" / version
        (directory / "static").mkdir(parents=True)
        source = (HERE / "demo_app.py").read_text(encoding="utf-8")
        (directory / "app.py").write_text(
            source.replace("FAIL_EVERY = 0", f"FAIL_EVERY = {fail_every}"), encoding="utf-8"
        )
        (directory / "VERSION").write_text(f"{version}\n", encoding="utf-8")
        (directory / "static" / "page.html").write_text(f"<h1>version {version}</h1>\n", encoding="utf-8")
        return directory

    def start_traffic(self) -> None:
        """Let requests flow to every service."""
        command = [sys.executable, "-B", str(HERE / "demo_traffic.py"), str(LIFE_S), str(self.root / "tes.csv")]
        process = subprocess.Popen(
            [*command, *map(str, self.ports)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Not the caller's either: whoever reads our output to its end must not wait for the traffic's.
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.started.append((process.pid, psutil.Process(process.pid).create_time()))
        self.write_notes()

    def serving(self) -> dict[str, str]:
        """Instance -> the version that its service answers with, for those that answer."""
        answers: dict[str, str] = {}
        with httpx.Client(timeout=2) as client:
            for number, port in enumerate(self.ports, start=1):
                try:
                    answers[f"web-{number:02}"] = client.get(f"http://127.0.0.1:{port}/health").text
                except httpx.HTTPError:
                    continue
        return answers

    # the end

    def write_notes(self) -> None:
        """Write down what must be ended."""
        notes = {"ports": self.ports, "started": self.started}
        self.notes.write_text(json.dumps(notes), encoding="utf-8")

    def read_notes(self) -> None:
        """Read what an earlier run left up."""
        try:
            notes = json.loads(self.notes.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DemoFailed(f"no demo was played in {self.root}") from None
        self.ports = [int(port) for port in notes["ports"]]
        self.started = [(int(pid), float(created)) for pid, created in notes["started"]]

    def stop(self) -> None:
        """End traffic and services, by their ids, and see that they are gone."""
        mine: list[psutil.Process] = []
        for pid, created in self.started:
            try:
                process = psutil.Process(pid)
                if process.create_time() == created:
                    mine.append(process)
            except psutil.NoSuchProcess:
                continue
        hosts = str((self.root / "hosts").resolve())
        # A service is known by where it works: in a release of one of our hosts.
        mine += [p for p in psutil.process_iter(["cwd"]) if (p.info["cwd"] or "").startswith(hosts + os.sep)]
        for process in mine:
            try:
                process.terminate()
            except psutil.NoSuchProcess:
                continue
        _, alive = psutil.wait_procs(mine, timeout=5)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=5)
        self.started = []
        self.write_notes()
        self.home.close()

    def remove(self) -> None:
        """Remove a temporary world."""
        for directory, _, _ in os.walk(self.root):
            Path(directory).chmod(0o700)
        shutil.rmtree(self.root)


def wait_for(what: str, check: Any, seconds: float = 60) -> None:
    """Wait until `check()` holds. Raises: DemoFailed after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if check():
                return
        except CalyxError as error:
            if error.code not in {"head_moved", "ledger_busy"}:
                raise
        time.sleep(0.1)
    raise DemoFailed(f"waited {seconds:.0f} s in vain for {what}")


def end_process(process: subprocess.Popen[Any]) -> None:
    """Ask a process of ours to end, then make it."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
