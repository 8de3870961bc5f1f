"""The station's own command lines, run as their users run them: processes on a real home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from claims import claim_fields
from console import Console, Said

from executor.homes.home import Home
from policies.submitter import Draft

CHECKOUT = Path(__file__).parents[2]
SCRIPTS = (
    "cp14_two_key_verifier",
    "phase3_human_cli",
    "phase3_auto_check",
    "phase3_canary_orchestrator",
    "phase3_rollback_manager",
)


@dataclass
class Station:
    """A home with ada's key, and the scripts."""

    console: Console

    def run(self, script: str, *arguments: str, home: Path | None = None, typed: str = "") -> Said:
        environment = {**os.environ, "COLUMNS": "200"}
        environment.pop("CALYX_HOME", None)
        place = () if home is None else ("--home", str(home))
        done = subprocess.run(
            [sys.executable, str(CHECKOUT / "scripts" / f"{script}.py"), *arguments, *place],
            cwd=self.console.root,
            env=environment,
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    def here(self, script: str, *arguments: str, typed: str = "") -> Said:
        return self.run(script, *arguments, home=self.console.home, typed=typed)


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Station:
    console = Console(tmp_path, monkeypatch, live=True)
    console.begin()
    return Station(console)


def test_person_signs_and_the_verifier_says_what_is_missing(station: Station) -> None:
    assert station.here("phase3_auto_check").code == 0
    lease = station.console.propose()
    waits = station.here("phase3_auto_check")
    assert waits.code == 1
    assert lease in waits.out
    (item,) = json.loads(station.here("phase3_auto_check", "--json").out)
    assert item["lease_id"] == lease

    before = station.console.size()
    declined = station.here("phase3_human_cli", "sign-lease", "--lease", lease, typed="n\n")
    assert (declined.code, station.console.size()) == (1, before)
    signed = station.here("phase3_human_cli", "sign-lease", "--lease", lease, "--yes")
    assert signed.code == 0, signed.err
    assert f"Approved: entry {before}" in signed.out
    assert station.here("phase3_auto_check").code == 0

    said = station.here("cp14_two_key_verifier", "--lease", lease)
    assert said.code == 1
    assert "quorum_unmet" in said.out
    steps = json.loads(station.here("cp14_two_key_verifier", "--lease", lease, "--json").out)["steps"]
    assert [step["step"] for step in steps] == list(range(1, 10))
    assert [step["step"] for step in steps if not step["ok"]] == [5, 6, 9]
    (row,) = json.loads(station.here("phase3_human_cli", "list-leases", "--json").out)
    assert (row["lease_id"], row["cosigners"]) == (lease, ["ada"])
    assert lease in station.here("phase3_human_cli", "list-leases").out


def bake(console: Console, lease: str, *, wait_to_start: bool = False) -> None:
    """Both keys, the claim and the first tier, said with the machines' own keys; no instance is touched."""
    console.done("approve", lease, "--yes")
    with Home(console.home) as home:
        registrar = home.open_registrar()
        subject = (lease, registrar.sync().leases[registrar.state.ids[lease.lower()]].digest)

        def say(who: str, kind: str, fields: dict[str, Any], about: tuple[str, str] | None = subject) -> str:
            return registrar.submit(home.load_signer(who, registrar.state), Draft(kind, fields, about)).digest

        def event(who: str, type_: str, **detail: Any) -> None:
            say(who, "event", {"epoch": 1 if who == "cp20" else None, "detail": {"type": type_, **detail}})

        review = {"role": "sentinel", "verdict": "pass", "summary": "looked at", "findings": None}
        say("cp14", "cosignature", {"role": "sentinel", "review": say("cp14", "review", review)})
        say("cp20", "term", {"epoch": 1, "reason": "a test"}, None)
        votes = registrar.state.leases[subject[1]].ballot.votes
        say("cp20", "claim", claim_fields(registrar.state, subject, *(vote.seq for vote in votes)))
        if wait_to_start:
            return
        deployment = registrar.state.deployments[subject[1]]
        event("cp20", "STARTED")
        event("cp19", "BASELINE", values=None)
        tier = deployment.tiers[0]
        event("cp20", "TIER_INTENT", tier=tier)
        for name in deployment.cohorts[tier]:
            event("cp20", "INSTANCE_APPLIED", tier=tier, instance=name, tree=deployment.after[name])
        event("cp20", "TIER_APPLIED", tier=tier)
        event("cp20", "BAKE_STARTED", tier=tier)


def test_person_promotes_pauses_and_rolls_back(station: Station) -> None:
    console = station.console
    lease = console.propose()
    early = station.here("phase3_human_cli", "pause-rollout", "--lease", lease, "--reason", "too early")
    assert early.code == 1
    assert "error: not_claimed: " in early.err

    bake(console, lease)
    order = ("--reason", "a good reason", "--as", "ada")
    for word, verb, *yes in (
        ("approve-next-tier", "promote", "--yes"),
        ("pause-rollout", "pause"),
        ("force-rollback", "rollback"),
    ):
        said = station.here("phase3_human_cli", word, "--lease", lease, *order, *yes)
        assert said.code == 0, said.err
        assert f"{verb} of {lease}: entry {console.size() - 1}; " in said.out
        (deployment,) = console.state().deployments.values()
        note = deployment.commands[-1]
        assert (note.verb, note.by, note.reason) == (verb, "ada", "a good reason")


def said_last(console: Console) -> tuple[str, str, str]:
    """The newest order of the only deployment."""
    (deployment,) = console.state().deployments.values()
    note = deployment.commands[-1]
    return note.verb, note.by, note.reason


def test_orchestrator_starts(station: Station) -> None:
    lease = station.console.propose(None, "--manual-start")
    bake(station.console, lease, wait_to_start=True)
    (asked,) = station.console.state().leases.values()
    intent = asked.lease.intent
    order = ("--lease", lease, "--intent", intent.lower(), "--start", "--reason", "go", "--yes")
    said = station.here("phase3_canary_orchestrator", *order)
    assert said.code == 0, said.err
    assert said_last(station.console) == ("start", "ada", "go")


def test_orchestrator_goes_on_to_the_tier_that_follows_and_no_other_and_back(station: Station) -> None:
    console = station.console
    lease = console.propose()
    bake(console, lease)
    (deployment,) = console.state().deployments.values()
    intent = deployment.lease.intent
    ours = ("--lease", lease, "--intent", intent)
    before = console.size()
    for order, code, ends in (
        (("--lease", lease, "--intent", "INT-20260105-999", "--rollback"), "wrong_intent", 1),
        (("--lease", "LEASE-20990101-000000", "--intent", intent, "--rollback"), "unknown_lease", 1),
        ((*ours, "--promote", str(deployment.tier), "--yes"), "wrong_tier", 1),
        ((*ours, "--start", "--yes"), "bad_command", 1),
    ):
        said = station.here("phase3_canary_orchestrator", *order)
        assert (said.code, f"error: {code}: " in said.err) == (ends, True), said.err
    assert console.size() == before
    assert station.here("phase3_canary_orchestrator", *ours, "--promote", "100", "--reason", "on", "--yes").code == 0
    assert said_last(console) == ("promote", "ada", "on")
    assert station.here("phase3_canary_orchestrator", *ours, "--rollback", "--reason", "no").code == 0
    assert said_last(console) == ("rollback", "ada", "no")


def test_rollback_manager_takes_back_what_runs_and_drafts_nothing_for_it(station: Station) -> None:
    console = station.console
    lease = console.propose()
    bake(console, lease)
    said = station.here("phase3_rollback_manager", "--lease", lease, "--rollback", "--revert")
    assert (said.code, "error: not_superseded: " in said.err) == (1, True)
    assert station.here("phase3_rollback_manager", "--lease", lease, "--rollback", "--reason", "no").code == 0
    assert said_last(console) == ("rollback", "ada", "no")
    # Said twice it is in the ledger twice, and means the same.
    assert station.here("phase3_rollback_manager", "--lease", lease, "--rollback", "--reason", "again").code == 0


def test_key_is_passed_on(station: Station, tmp_path: Path) -> None:
    lease = station.console.propose()
    stranger = tmp_path / "stranger"
    station.console.done("keys", "new", str(stranger), "--no-passphrase")
    said = station.here(
        "phase3_human_cli", "sign-lease", "--lease", lease, "--yes", "--as", "ada", "--key", str(stranger)
    )
    assert said.code == 1
    assert "error: key_not_enrolled: " in said.err


def test_machine_may_not_be_the_person(station: Station) -> None:
    lease = station.console.propose()
    said = station.here("phase3_human_cli", "sign-lease", "--lease", lease, "--yes", "--as", "cp14")
    assert (said.code, "not_a_human" in said.err) == (1, True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_says_what_it_does(station: Station, script: str) -> None:
    said = station.run(script, "--help")
    assert said.code == 0
    assert "calyx" in said.out


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("cp14_two_key_verifier", ("--lease", "LEASE-20260105-090000")),
        ("phase3_human_cli", ("list-leases",)),
        ("phase3_auto_check", ()),
        ("phase3_canary_orchestrator", ("--lease", "LEASE-20260105-090000", "--intent", "INT-20260105-001", "--start")),
        ("phase3_rollback_manager", ("--lease", "LEASE-20260105-090000", "--rollback")),
    ],
)
def test_no_ledger_is_told_from_a_refusal(
    station: Station, tmp_path: Path, script: str, arguments: tuple[str, ...]
) -> None:
    said = station.run(script, *arguments, home=tmp_path / "nothing")
    assert (said.code, said.err.startswith("error: ledger_missing: ")) == (5, True)


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("cp14_two_key_verifier", ()),
        ("phase3_canary_orchestrator", ("--lease", "LEASE-20990101-000000")),
        ("phase3_canary_orchestrator", ("--lease", "LEASE-20990101-000000", "--start", "--rollback")),
        ("phase3_canary_orchestrator", ("--lease", "LEASE-20990101-000000", "--promote", "x")),
        ("phase3_rollback_manager", ("--lease", "LEASE-20990101-000000")),
        ("phase3_rollback_manager", ("--rollback",)),
        ("phase3_human_cli", ()),
        ("phase3_human_cli", ("pause-rollout",)),
        ("phase3_human_cli", ("list-leases", "--yes")),
    ],
    ids=str,
)
def test_wrong_usage_signs_nothing(station: Station, script: str, arguments: tuple[str, ...]) -> None:
    before = station.console.size()
    assert station.here(script, *arguments).code == 2
    assert station.console.size() == before


@pytest.mark.parametrize("name", ["LEASE-20990101-000000", "--help", "--yes"])
def test_name_that_no_lease_has_is_refused_and_signs_nothing(station: Station, name: str) -> None:
    before = station.console.size()
    for script, words in (("cp14_two_key_verifier", ()), ("phase3_human_cli", ("sign-lease",))):
        said = station.here(script, *words, f"--lease={name}")
        assert (said.code, "error: unknown_" in said.err) == (1, True)
    assert station.console.size() == before


def test_ledger_that_was_cut_does_not_look_like_something_that_waits(station: Station) -> None:
    ledger = station.console.home / "ledger.db"
    before = ledger.read_bytes()
    station.console.propose()
    ledger.write_bytes(before)
    said = station.here("phase3_auto_check")
    assert (said.code, said.err.startswith("error: head_contradicted: ")) == (5, True)


def test_home_of_the_environment_is_used(station: Station) -> None:
    lease = station.console.propose()
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "scripts" / "phase3_auto_check.py")],
        env={**os.environ, "CALYX_HOME": str(station.console.home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, lease in done.stdout) == (1, True)
