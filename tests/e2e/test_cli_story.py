"""`calyx` as people and service managers run it: real processes, real keys, real services, signals and terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from console import Console
from instances import SERVICE, free_port

CHECKOUT = Path(__file__).parents[2]
PATIENCE_S = 40

# A session of its own with the terminal as its controlling one, so that ^C becomes a signal as at a desk.
AT_A_DESK = (
    "import fcntl, os, sys, termios\n"
    "os.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'executor', *sys.argv[1:]])"
)

CPU = {
    "name": "cpu",
    "source": "cpu",
    "against": "absolute",
    "breach": "above",
    "limit": "1000000",
    "absolute": None,
    "for_s": 0,
    "min_samples": 1,
    "missing_s": 30,
    "min_requests": 0,
}


@dataclass
class Shop:
    """A home, one real service, and every process that a test started."""

    console: Console
    port: int = field(default_factory=free_port)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.console.root

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start `calyx` as a process of its own."""
        command = options.pop("command", [sys.executable, "-m", "executor"])
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
        process = subprocess.Popen(
            [*command, *arguments], cwd=CHECKOUT, env=environment, text=True, **{**pipes, **options}
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, ends: int = 0) -> str:
        """Run `calyx` as a process of its own; what it printed."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == ends, f"calyx {' '.join(arguments)} ended with {process.returncode}: {err}{out}"
        assert "Traceback" not in err
        return out

    def begin(self, **terms: Any) -> None:
        """A ledger with a fleet of one service in force."""
        paths = {"web": {"paths": ["serve.py", "version"]}}
        self.console.init(**{"gates": [CPU], "tiers": [100], "bake_s": 2, "interval_s": 1, "targets": paths, **terms})
        process = {
            "argv": [sys.executable, "serve.py"],
            "env": {"PORT": str(self.port), "PYTHONDONTWRITEBYTECODE": "1"},
        }
        probe = {"url": f"http://127.0.0.1:{self.port}/", "timeout_s": 20}
        row = {"name": "web-1", "root": str(self.root / "srv"), "process": process, "probe": probe}
        fleet = self.root / "fleet.json"
        fleet.write_text(json.dumps({"targets": {"web": {"instances": [row]}}}))
        self.console.run("fleet", "propose", str(fleet), "--approve", "--yes")

    def propose(self, version: str, *more: str) -> str:
        """Propose that version of the service."""
        return self.console.propose({"serve.py": SERVICE, "version": version}, *more)

    def approve(self, lease: str) -> None:
        """Both keys, the agent's by the agent's own process."""
        agent = self.start("agent", "run", "cp14")
        self.console.done("approve", lease, "--yes")
        self.until(lambda: self.console.run("check", lease).code == 0)
        agent.terminate()
        out, err = agent.communicate(timeout=PATIENCE_S)
        assert (agent.returncode, err) == (0, ""), out

    def phase(self, lease: str) -> str:
        """The state that `calyx status` names."""
        rows = self.console.run("status", "--json").json["leases"]
        return str(next(row["state"] for row in rows if row["lease"] == lease))

    def until(self, done: Callable[[], bool]) -> None:
        """Wait for something that other processes do."""
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.05)  # other processes share these cores

    def end(self) -> None:
        """End what was started, and the service, by the process ids that they left."""
        for process in self.started:
            with process:
                if process.poll() is None:
                    process.kill()
        with suppress(OSError, ValueError, KeyError, psutil.Error):
            record = json.loads((self.root / "srv" / ".calyx" / "process.json").read_bytes())
            psutil.Process(record["pid"]).kill()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    shop = Shop(Console(tmp_path, monkeypatch, live=True))
    try:
        yield shop
    finally:
        shop.end()


def test_from_nothing_to_deployed_and_back(shop: Shop) -> None:
    shop.begin()
    lease = shop.propose("1")
    shop.approve(lease)
    log = shop.run("executor", "run", "--until-idle")
    assert "VERIFIED_2KEY" in log
    assert "COMPLETED" in log
    assert shop.phase(lease) == "COMPLETED"
    assert (shop.root / "srv" / "current" / "version").read_text() == "1"
    assert f"{lease} on web: COMPLETED at 100 %" in shop.console.done("watch", lease)
    shop.console.done("rollback", lease, "--reason", "a test")
    shop.run("executor", "run", "--until-idle", ends=3)
    assert not (shop.root / "srv" / "current").exists()
    assert shop.console.run("watch", lease).code == 3
    shop.console.refused("rollback", lease, code="nothing_to_roll_back", ends=1)
    assert shop.console.run("audit", "--full", "--json").json["ok"]


def test_orders_reach_a_running_executor_and_an_interrupt_loses_nothing(shop: Shop) -> None:
    shop.begin(start="command", bake_s=4)
    lease = shop.propose("1")
    shop.approve(lease)
    executor = shop.start("executor", "run")
    shop.until(lambda: shop.phase(lease) == "CLAIMED")
    assert [row["command"] for row in shop.console.run("inbox", "--json").json] == [f"calyx start {lease}"]
    second = shop.console.run("executor", "run")
    assert (second.code, "error: already_running: " in second.err) == (5, True)
    shop.console.done("start", lease, "--yes")
    shop.until(lambda: shop.phase(lease) == "BAKING")
    shop.console.done("pause", lease)
    shop.until(lambda: shop.phase(lease) == "PAUSED")
    assert "PAUSED" in shop.console.done("watch", lease, "--once")
    executor.send_signal(signal.SIGINT)
    out, err = executor.communicate(timeout=PATIENCE_S)
    assert executor.returncode == 130, err
    assert err.splitlines() == ["interrupted; what is under way goes on with the next calyx executor run"]
    assert "STARTED" in out
    assert shop.phase(lease) == "PAUSED"
    shop.console.done("resume", lease, "--yes")
    shop.run("executor", "run", "--until-idle")
    assert shop.phase(lease) == "COMPLETED"


def test_interrupt_at_the_question_signs_nothing(shop: Shop) -> None:
    shop.begin()
    lease = shop.propose("1")
    before = shop.console.size()
    screen, code = at_a_desk(shop, ["approve", lease], b"\x03")
    assert code == 130
    assert "interrupted" in screen
    assert "Traceback" not in screen
    assert shop.console.size() == before


def test_yes_beforehand_is_no_look_even_at_a_terminal(shop: Shop) -> None:
    shop.begin(look=True)
    digest = shop.console.run("inbox", "--json").json[0]["name"]
    before = shop.console.size()
    screen, code = at_a_desk(shop, ["approve", digest, "--yes"], b"")
    assert (code, "error: look_needed" in screen) == (2, True), screen
    assert "You sign" not in screen
    assert shop.console.size() == before
    screen, code = at_a_desk(shop, ["approve", digest], b"y\n")
    assert code == 0, screen
    assert "it is in force" in screen


def test_answer_from_a_pipe_is_no_look_even_if_a_terminal_shows_it(shop: Shop) -> None:
    shop.begin(look=True)
    digest = shop.console.run("inbox", "--json").json[0]["name"]
    before = shop.console.size()
    # A shell that feeds the answer in: the terminal shows it all, and nobody typed anything.
    feed = f"echo y | {sys.executable} -m executor approve {digest}"
    screen, code = at_a_desk(shop, [], b"", command=["sh", "-c", feed])
    assert (code, "error: look_needed" in screen) == (2, True), screen
    assert shop.console.size() == before


def test_line_that_a_terminal_would_wrap_cannot_pose_as_one_of_ours(shop: Shop) -> None:
    shop.begin()
    lease = shop.propose("1", "--why", "x" * 200 + "You sign" + "y" * 80)
    screen, _ = at_a_desk(shop, ["show", lease], b"")
    lines = screen.replace("\r", "").split("\n")
    assert all(len(line) < 80 for line in lines)
    assert any(line.startswith(" | ") for line in lines)
    assert not any(line.startswith("You sign") for line in lines)


def at_a_desk(shop: Shop, arguments: list[str], typed: bytes, command: list[str] | None = None) -> tuple[str, int]:
    """Run `calyx` on a terminal of its own; `typed` is typed at the question. What the screen showed, and the end."""
    master, slave = pty.openpty()
    try:
        ends = {"stdin": slave, "stdout": slave, "stderr": slave}
        process = shop.start(*arguments, command=command or [sys.executable, "-c", AT_A_DESK], **ends)
        os.close(slave)
        screen = b""
        # Linux answers EIO once the other side is closed.
        with suppress(OSError):
            while part := os.read(master, 65_536):
                screen += part
                if typed and screen.rstrip().endswith(b"[y/N]"):
                    os.write(master, typed)
                    typed = b""
        return re.sub(r"\x1b\[[0-9;]*m", "", screen.decode()), process.wait(PATIENCE_S)
    finally:
        os.close(master)


def test_reader_that_has_enough_ends_it_quietly(shop: Shop) -> None:
    shop.begin()
    process = shop.start("ledger", "log")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(PATIENCE_S) == 141


def test_terminal_table_shows_what_the_pipe_shows(shop: Shop) -> None:
    shop.begin()
    lease = shop.propose("1", "--why", "\x1b[2Jgone")
    screen, code = at_a_desk(shop, ["inbox"], b"")
    assert code == 0
    assert lease in screen
    screen, _ = at_a_desk(shop, ["show", lease], b"")
    assert "<U+001B>[2Jgone" in screen
    assert "\x1b" not in screen
