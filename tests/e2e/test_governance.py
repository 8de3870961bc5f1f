"""Governing with stock tools: keys made by `ssh-keygen`, proposals and approvals signed off line with it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from console import CONTENT, Console
from instances import write_files
from programs import require_program
from refusal import refused

from executor.homes.home import Home
from keys.openssh import fingerprint, load_private_key
from keys.signer import FileSigner, Signer
from keys.sshsig import NAMESPACE_APPROVAL, NAMESPACE_STATEMENT
from policies.fold.state import LeaseState
from policies.law.two_key import examine_lease
from policies.submitter import Draft, Submitter

AGENTS = (("cp14", "sentinel"), ("cp18", "validator"))
SSH_KEYGEN = require_program("ssh-keygen")


@dataclass
class Board:
    """A ledger with the packaged policy, and a folder with the keys of people who never come near it."""

    console: Console
    safe: Path

    def make_key(self, name: str) -> Path:
        """A new key in the safe; its public half."""
        run([SSH_KEYGEN, "-q", "-t", "ed25519", "-N", "", "-C", f"{name} at home", "-f", str(self.safe / name)])
        return self.safe / f"{name}.pub"

    def keyid(self, name: str) -> str:
        return fingerprint(load_private_key(self.safe / name).public)

    def propose(self, key: str, *what: str) -> str:
        """Prepare a proposal, sign it with ssh-keygen, bring it back; its digest."""
        directory = self.console.root / f"proposal-{self.console.size()}"
        self.console.done(*what, "--prepare", str(directory))
        self.sign(directory, key, NAMESPACE_STATEMENT)
        self.console.done("attach", str(directory))
        proposals = self.console.state().proposals
        return max(proposals, key=lambda digest: proposals[digest].seq)

    def approve(self, key: str, subject: str, *who: str) -> str:
        """Prepare an approval, sign it with ssh-keygen, bring it back; what that said."""
        directory = self.console.root / f"approval-{self.console.size()}"
        self.console.done("approve", subject, *who, "--prepare", str(directory))
        self.sign(directory, key, NAMESPACE_APPROVAL)
        return self.console.done("attach", str(directory))

    def sign(self, directory: Path, key: str, namespace: str) -> None:
        run([SSH_KEYGEN, "-Y", "sign", "-n", namespace, "-f", str(self.safe / key), str(directory / "to-sign")])


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    console = Console(tmp_path, monkeypatch)
    safe = tmp_path / "safe"
    safe.mkdir()
    board = Board(console, safe)
    recovery = board.make_key("recovery")
    board.make_key("ada")
    key = str(safe / "ada")
    console.done("init", "--human", "ada", "--key", key, "--recovery-key", str(recovery))
    return board


def test_owner_who_lost_their_key_comes_back_by_the_recovery_key(board: Board) -> None:
    """The story of a stolen laptop: the key is gone, and whoever has it may use it until it is revoked."""
    console = board.console
    stolen = board.keyid("ada")
    lost = (board.safe / "ada").rename(board.safe / "thief")
    public = board.make_key("ada-2")
    size = console.size()
    change = ("--add-key", f"ada={public}", "--compromised", f"{stolen}@{size}", "--reason", "the laptop is gone")
    digest = board.propose("recovery", "trust", "propose", *change, "--as", "recovery")
    shown = console.done("trust", "diff", digest)
    assert f"ada: gets the key {board.keyid('ada-2')}" in shown
    assert f"revokes {stolen} as compromised from entry {size} on" in shown
    assert "it is in force" in board.approve("recovery", digest, "--as", "recovery")
    trust = console.state().trust
    assert trust is not None
    ada = trust.find_principal("ada")
    assert ada is not None
    assert [fingerprint(entry.public) for entry in ada.keys] == [board.keyid("ada-2")]
    # The thief proposes and approves nothing more, whatever they call themselves.
    fleet = str(console.write_fleet())
    for who in ("ada", "recovery"):
        console.refused(
            "fleet", "propose", fleet, "--key", str(lost), "--as", who, "--yes", code="key_not_enrolled", ends=1
        )
    # Ada operates and approves with the new one.
    digest = board.propose("ada-2", "fleet", "propose", fleet)
    assert "it is in force" in board.approve("ada-2", digest)
    audit = console.run("audit")
    assert audit.code == 0, audit.out
    history = console.done("trust", "history")
    assert f"cosigned  entry {size + 1}, recovery, {board.keyid('recovery')}" in history
    assert "the laptop is gone" in history


def test_thief_who_signed_in_the_meantime_is_undone_up_to_what_is_in_force(board: Board) -> None:
    console = board.console
    first = board.propose("ada", "fleet", "propose", str(console.write_fleet(1)))
    board.approve("ada", first)
    # Stolen from here on: the thief brings a fleet into force, and cosigns nothing else in time.
    position = console.size()
    second = board.propose("ada", "fleet", "propose", str(console.write_fleet(3)))
    board.approve("ada", second)
    public = board.make_key("ada-2")
    change = ("--add-key", f"ada={public}", "--compromised", f"{board.keyid('ada')}@{position}")
    digest = board.propose("recovery", "trust", "propose", *change, "--as", "recovery")
    board.approve("recovery", digest, "--as", "recovery")
    state = console.state()
    assert state.fleet_digest == second
    notes = console.run("audit").out
    assert f"tainted: the fleet in force from entry {state.proposals[second].decided_seq}" in notes
    assert f"tainted: the fleet in force from entry {state.proposals[first].decided_seq}" not in notes
    # Back to the fleet from before the theft, by its entry.
    path = console.root / "again.yaml"
    path.write_text(console.done("fleet", "show", first, "--yaml"))
    digest = board.propose("ada-2", "fleet", "propose", str(path))
    board.approve("ada-2", digest)
    assert console.state().fleet == state.proposals[first].fleet


def test_nothing_is_deployed_before_the_capability_is_activated(board: Board) -> None:
    console = board.console
    board.approve("ada", board.propose("ada", "fleet", "propose", str(console.write_fleet(1))))
    source = write_files(console.root / "content", CONTENT)
    ask = ("propose", "web", "--dir", str(source))
    said = console.refused(*ask, code="capability_disabled", ends=1)
    assert "step 2" in said.err
    assert "rule two_key" in said.err
    # A proposer that does not look first: the lease is in the ledger, and no executor can claim it.
    with console.monkeypatch.context() as careless:
        careless.setattr("executor.proposals.propose.check_terms", lambda *_: None)
        early = console.propose()
    # Nobody is let to waste a signature on it; one that was made elsewhere changes nothing.
    console.refused("approve", early, "--prepare", str(console.root / "waste"), code="capability_disabled", ends=1)
    with machine(console, "cbo") as (registrar, _):
        ada = FileSigner("ada", "human", load_private_key(board.safe / "ada"))
        vote = Draft("cosignature", {"role": "approver", "review": None}, (early, examined(console, early).digest))
        registrar.submit(ada, vote)
    for name, role in AGENTS:
        review(console, early, name, role)
    assert failed_steps(console, early) == {2: "capability_disabled"}
    with refused("capability_disabled", step=2, rule="two_key"):
        claim(console, early)
    console.refused("policy", "propose", "--activate", "--yes", code="no_target", ends=1)
    change = ("--activate", "--allow", "web=app.py", "--allow", "web=VERSION", "--reason", "we begin")
    shown = console.run("policy", "propose", *change, typed="n\n").out
    assert "+deploy_production/enabled: true" in shown
    assert '+phases/3/status: "implemented"' in shown
    assert f"{early} becomes void" in shown
    digest = board.propose("ada", "policy", "propose", *change)
    console.refused(*ask, code="capability_disabled", ends=1)
    assert "it is in force" in board.approve("ada", digest)
    assert "deployment is on" in console.done("status")
    assert failed_steps(console, early) == {2: "stale_policy"}
    with refused("stale_policy", step=2):
        claim(console, early)
    lease = console.propose()
    board.approve("ada", lease)
    for name, role in AGENTS:
        review(console, lease, name, role)
    assert failed_steps(console, lease) == {}
    assert console.run("check", lease).code == 0
    with refused("wrong_count"):
        claim(console, lease)  # the rule holds, and this executor cannot count
    # And off again: the lease that was ready is void.
    board.approve("ada", board.propose("ada", "policy", "propose", "--deactivate"))
    assert failed_steps(console, lease) == {2: "stale_policy"}


@contextmanager
def machine(console: Console, name: str) -> Iterator[tuple[Submitter, Signer]]:
    """A registrar on the home, and a machine's signer."""
    with Home(console.home) as home:
        registrar = home.open_registrar(console.clock)
        yield registrar, home.load_signer(name, registrar.sync())


def review(console: Console, lease: str, name: str, role: str) -> None:
    """An agent's passing review, and its key."""
    subject = (lease, examined(console, lease).digest)
    fields = {"role": role, "verdict": "pass", "summary": "looked at", "findings": None}
    with machine(console, name) as (registrar, signer):
        said = registrar.submit(signer, Draft("review", fields, subject))
        registrar.submit(signer, Draft("cosignature", {"role": role, "review": said.digest}, subject))


def claim(console: Console, lease: str) -> None:
    """What an executor that does not look would say."""
    subject = (lease, examined(console, lease).digest)
    fields = {
        "type": "VERIFIED_2KEY",
        "epoch": 1,
        "counted": [1, 2],
        "cohorts": [{"tier": 100, "instances": ["web-1"]}],
        "seen": [{"tree": "absent", "instances": ["web-1"]}],
        "reverse": None,
    }
    with machine(console, "cp20") as (registrar, signer):
        if registrar.state.term is None:
            registrar.submit(signer, Draft("term", {"epoch": 1, "reason": "a test"}))
        registrar.submit(signer, Draft("claim", fields, subject))


def examined(console: Console, lease: str) -> LeaseState:
    found = console.state().find_lease(lease)
    assert found is not None
    return found


def failed_steps(console: Console, lease: str) -> dict[int, str]:
    """The steps of the two-key rule that do not hold now, and why."""
    steps = examine_lease(console.state(), examined(console, lease).digest, console.clock.now)
    return {step.number: step.code for step in steps if not step.ok}
