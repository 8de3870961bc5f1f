"""A shop for end-to-end tests: a home, one real service, and `calyx` as processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from console import Console
from instances import SERVICE, free_port

CHECKOUT = Path(__file__).parents[2]
PATIENCE_S = 60

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
        environment = {**os.environ, "COLUMNS": "200"}
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
        """A ledger with a fleet of one service in force; only proposed where the policy asks for a look."""
        paths = {"web": {"paths": ["serve.py", "version"]}}
        self.console.init(**{"gates": [CPU], "tiers": [100], "bake_s": 2, "interval_s": 1, "targets": paths, **terms})
        process = {
            "argv": [sys.executable, "serve.py"],
            "env": {"PORT": str(self.port), "PYTHONDONTWRITEBYTECODE": "1"},
        }
        probe = {"url": f"http://127.0.0.1:{self.port}/", "timeout_s": 60}
        row = {"name": "web-1", "root": str(self.root / "srv"), "process": process, "probe": probe}
        fleet = self.root / "fleet.json"
        fleet.write_text(json.dumps({"targets": {"web": {"instances": [row]}}}))
        # Where the policy asks for a look, nobody approves with --yes.
        approval = [] if terms.get("look") else ["--approve"]
        self.console.done("fleet", "propose", str(fleet), *approval, "--yes")

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
        return str(next(row["state"] for row in rows if row["lease_id"] == lease))

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
