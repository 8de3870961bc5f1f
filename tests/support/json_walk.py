"""Every command of `calyx` that takes `--json`, run on two homes, and what each printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console import Console
from governing import propose_policy, revoke, withdraw
from instances import write_files
from station import Station, new_station
from terms import GATES, matrix

from executor.command_line import COMMANDS, load_command

Printed = dict[str, list[Any]]
"""Command -> the JSON values that it printed, in one run or several."""


def commands_with_json() -> set[str]:
    """The words of every command that has the option `--json`."""
    return {words for word, command in COMMANDS.items() for words in _with_json(word, load_command(command))}


def _with_json(words: str, command: Any) -> Iterator[str]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _with_json(f"{words} {name}", inner)
    if any("--json" in option.opts for option in command.params):
        yield words


class Walk:
    """One walk: a home that a person fills with `calyx`, and one that holds a rollout, a revoked key and a question."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.console = Console(root, monkeypatch)
        self.root = root
        self.printed: Printed = {}
        monkeypatch.setenv("XDG_STATE_HOME", str(root / "state"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))

    def say(self, words: str, *arguments: str, ends: tuple[int, ...] = (0,)) -> Any:
        """Run a command with `--json`; the first value that it printed."""
        said = self.console.run(*words.split(), *arguments, "--json")
        assert said.code in ends, f"calyx {words} {arguments}: {said.code} {said.err}{said.out}"
        values = [json.loads(line) for line in said.out.splitlines()]
        self.printed.setdefault(words, []).extend(values)
        return values[0]

    def person(self) -> None:
        """What a person does on a home of their own."""
        console, root = self.console, self.root
        console.begin()
        lease = console.propose()
        self.say("inbox")
        console.done("approve", lease, "--yes")
        content = write_files(root / "next", {"app.py": "2\n"})
        self.say("propose", "web", "--dir", str(content))
        self.say("lease issue", "--onto", lease, "--dir", str(write_files(root / "third", {"app.py": "3\n"})))
        console.done("policy", "propose", "--allow", "web=docs/", "--yes")
        for kind in ("trust", "policy", "fleet"):
            self.say(f"{kind} show")
            self.say(f"{kind} history")
        self.say("policy diff")
        self.say("trust diff", "0", "0")
        self.say("fleet diff", "1", "1")
        self.say("inbox")
        self.say("executor prune", "--dry-run")
        self.say("keys show", "--all")
        self.say("keys show", str(console.home / "keys" / "ada.key.pub"))
        self.say("notify status")
        self.say("ledger fsck")
        self.say("ledger backup", str(root / "backup"))
        console.done("policy", "propose", "--deactivate", "--approve", "--yes")
        console.done("policy", "propose", "--activate", "--approve", "--yes")
        self.say("lease rebase", lease)
        self.say("status")

    def rollout(self) -> None:
        """What is read of rollouts, one that completed, and one that a gate broke."""
        station = new_station(self.root / "station", policy=matrix(gates=GATES))
        self.console.clock.now = station.clock.now
        good, bad, asked = self._deploy(station)
        self.console.monkeypatch.setenv("CALYX_HOME", str(station.root))
        self.console.clock.now = station.clock.now
        for name in (good, bad, asked):
            self.say("show", name)
            self.say("lease show", name)
            self.say("check", name, ends=(1,))
            self.say("watch", name, "--once", ends=(0, 3))
        self.say("status")
        for name in ("ada", "ben"):
            self.say("inbox", "--as", name)
        self.say("lease list")
        question = self.say("message list")[0]
        self.say("message show", question["digest"])
        intent = self.say("intent list")[0]
        self.say("intent show", intent["intent_id"])
        self.say("audit")
        self.say("audit", "--new")
        self.say("ledger log", "--limit", "1000")
        kept, grown = self.root / "kept.txt", self.root / "grown.proof"
        checkpoint = self.say("ledger checkpoint")
        kept.write_text(checkpoint["checkpoint"], "utf-8")
        self.say("ledger proof", "--consistency", str(checkpoint["size"]), "--out", str(grown))
        self.say("ledger proof", "3", "--out", str(self.root / "3"))
        key = self.say("ledger proof", "3")["log_key"]
        self.say("ledger proof", "--check", str(self.root / "3"), "--key", key)
        self.say("ledger proof", "--check", str(grown), "--key", key, "--old", str(kept))
        self.say("ledger export", str(self.root / "export"))
        self.say("ledger export", str(self.root / "kit"), "--kit", good)
        self.say("svf export", str(self.root / "svf"))
        said = self.console.done("svf", "tail", "-n", "1000")
        self.printed["svf tail"] = [json.loads(line) for line in said.splitlines()]
        self.say("policy history")
        self.say("trust history")
        policy = self.root / "terms.json"
        policy.write_text(json.dumps(matrix(gates=GATES)), "utf-8")
        self.say("policy simulate", str(policy), "--lease", bad, ends=(0, 1))

    def _deploy(self, station: Station) -> tuple[str, str, str]:
        """A completed rollout, one that was halted and taken back, and a lease that break-glass asks for."""
        good = station.propose("LEASE-20260105-090000")
        station.begin(good)
        station.complete(good)
        revoke(station, "ada", station.state.leases[good[1]].ballot.votes[0].seq)
        bad = station.propose("LEASE-20260105-100000")
        station.begin(bad)
        station.deploy_tier(bad, 5)
        station.sample(bad, 5, 1, error_rate="50")
        verdict = station.verdict(bad, 5, 1, "breach")
        station.command("ada", bad, "pause")
        station.event("cp20", bad, "HALTED", cause="breach", gate="error_rate", evidence=verdict.digest, text="50")
        asked = station.propose("LEASE-20260105-110000")
        station.vote("ben", asked, "approver")
        withdraw(station, "ben", asked)
        station.event("cp20", asked, "PREFLIGHT_FAILED", code="no_space", instance=None, text="the disk is full")
        propose_policy(station)
        question = {"type": "question", "to": "ben", "text": "why?", "reply_to": None}
        asked_in = station.say("cp14", "message", question)
        answer = {"type": "answer", "to": "cp14", "text": "why not?", "reply_to": asked_in.digest}
        station.say("ada", "message", answer)
        return good[0], bad[0], asked[0]
