"""`calyx` as a person uses it, in this process: a home of its own, a clock that a test moves, and what was printed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from instances import write_files
from station import Clock, matrix
from typer.testing import CliRunner

from executor.command_line import app
from executor.homes.home import Home
from keys.values import parse_time
from policies.fold.state import State

CONTENT = {"app.py": "print('one')\n", "VERSION": "1\n"}


@dataclass(frozen=True)
class Said:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value that it printed."""
        return json.loads(self.out)


@dataclass
class Console:
    """A person with a home. `root` holds the home, the instances and the files that the person writes. `live`: the
    machine's clock instead of `clock`, for tests that start other processes on the home.
    """

    root: Path
    monkeypatch: pytest.MonkeyPatch
    live: bool = False
    clock: Clock = field(default_factory=lambda: Clock(parse_time("2026-01-05T09:00:00Z")))

    def __post_init__(self) -> None:
        self.home = self.root / "home"
        self.monkeypatch.setenv("CALYX_HOME", str(self.home))
        if not self.live:
            self.monkeypatch.setattr("executor.homes.home.system_clock", self.clock)

    def run(self, *arguments: str, typed: str = "") -> Said:
        """Run `calyx` with these arguments; `typed` is what its standard input holds."""
        result = CliRunner().invoke(app, list(arguments), input=typed, catch_exceptions=False)
        return Said(result.exit_code, result.stdout, result.stderr)

    def done(self, *arguments: str, typed: str = "") -> str:
        """Run `calyx`, which must succeed; what it printed."""
        said = self.run(*arguments, typed=typed)
        assert said.code == 0, f"calyx {' '.join(arguments)} ended with {said.code}: {said.err}{said.out}"
        return said.out

    def refused(self, *arguments: str, code: str, ends: int, typed: str = "") -> Said:
        """Run `calyx`, which must refuse with this code and exit code, on one line."""
        before = self.size()
        said = self.run(*arguments, typed=typed)
        word = f'"code":"{code}"' if "--json" in arguments else f"error: {code}: "
        assert word in said.err, f"calyx {' '.join(arguments)} said {said.code}: {said.err}{said.out}"
        assert said.code == ends, said.err
        assert "Traceback" not in said.err
        assert self.size() == before, "a refused command appended something"
        return said

    def begin(self, *, instances: int = 2, **terms: Any) -> None:
        """A ledger of ada's with a fleet of `web` in force. `terms`: of the policy."""
        self.init(**terms)
        self.done("fleet", "propose", str(self.write_fleet(instances)), "--approve", "--yes")

    def init(self, **terms: Any) -> str:
        """`calyx init` with a policy that enables deployment."""
        return self.done("init", "--human", "ada", "--no-recovery", "--policy", str(self.write_policy(**terms)))

    def propose(self, files: dict[str, str] | None = None, *more: str) -> str:
        """Propose the content `files` for `web`; the lease's id."""
        source = write_files(self.root / f"content-{self.size()}", dict(CONTENT if files is None else files))
        return str(json.loads(self.done("propose", "web", "--dir", str(source), "--json", *more))["lease_id"])

    def write_policy(self, **terms: Any) -> Path:
        """A policy file."""
        path = self.root / "policy.yaml"
        path.write_text(json.dumps(matrix(**terms)), "utf-8")
        return path

    def write_fleet(self, instances: int = 2) -> Path:
        """A fleet file with `web`, whose instances have nothing deployed."""
        rows = [{"name": f"web-{n}", "root": str(self.root / "srv" / f"web-{n}")} for n in range(1, instances + 1)]
        path = self.root / "fleet.json"
        path.write_text(json.dumps({"targets": {"web": {"instances": rows}}}), "utf-8")
        return path

    def state(self) -> State:
        """The ledger's state, read as any reader does."""
        with Home(self.home) as home:
            return home.open_replay().sync()

    def size(self) -> int:
        """Entries in the ledger, 0 while there is none."""
        if not (self.home / "ledger.db").is_file():
            return 0
        try:
            with Home(self.home) as home:
                return home.open_store().head().size
        except Exception:  # a test damaged it  # noqa: BLE001
            return -1

    def fingerprint(self) -> dict[str, str]:
        """Every file below the home, by the hash of its content; the database's side files left out."""
        return {
            str(path.relative_to(self.home)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.home.rglob("*"))
            if path.is_file() and not path.name.endswith(("-wal", "-shm"))
        }
