"""A person who signs with stock `ssh-keygen` on another machine, and everything wrong that can come back from there."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from console import Console, Said
from programs import require_program

from executor.signing.offline import MAX_TO_SIGN
from keys.sshsig import MAX_ARMOR, NAMESPACE_APPROVAL, NAMESPACE_STATEMENT
from policies.fold.state import LeaseState

SSH_KEYGEN = require_program("ssh-keygen")


@dataclass
class Desk:
    """A ledger on one machine, and ada's laptop: a folder that the first never sees again, with her only key."""

    console: Console
    laptop: Path

    @property
    def root(self) -> Path:
        return self.console.root

    def prepare(self, *what: str, name: str = "for-ada") -> Path:
        """Prepare something for signing elsewhere, and carry it to the laptop."""
        directory = self.root / name
        self.console.done(*what, "--prepare", str(directory))
        return directory

    def sign(self, directory: Path, namespace: str = NAMESPACE_APPROVAL, key: str = "id_ed25519") -> None:
        """What the README in the directory says, typed."""
        run([SSH_KEYGEN, "-Y", "sign", "-n", namespace, "-f", str(self.laptop / key), "to-sign"], directory)

    def refused(self, directory: Path, code: str, ends: int = 1) -> Said:
        """Attach, which must be refused."""
        return self.console.refused("attach", str(directory), code=code, ends=ends)

    def lease(self, name: str) -> LeaseState:
        lease = self.console.state().find_lease(name)
        assert lease is not None
        return lease

    def voters(self, name: str) -> list[str]:
        """Whose approvals of a lease stand."""
        return [vote.signer.principal for vote in self.lease(name).ballot.standing()]


def run(command: list[str], directory: Path) -> None:
    subprocess.run(command, cwd=directory, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)


def make_key(path: Path) -> None:
    run([SSH_KEYGEN, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], path.parent)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    console = Console(tmp_path, monkeypatch)
    before = tmp_path / "ssh"
    before.mkdir()
    make_key(before / "id_ed25519")
    make_key(before / "stranger")
    policy = str(console.write_policy(look=True))
    key = str(before / "id_ed25519")
    console.done("init", "--human", "ada", "--key", key, "--no-recovery", "--policy", policy)
    laptop = before.rename(tmp_path / "laptop")
    desk = Desk(console, laptop)
    # No command from here on can read her key: also the first fleet comes into force from the laptop.
    proposal = desk.prepare("fleet", "propose", str(console.write_fleet()), name="fleet")
    desk.sign(proposal, NAMESPACE_STATEMENT)
    console.done("attach", str(proposal))
    digest = next(iter(console.state().proposals))
    approval = desk.prepare("approve", digest[:12], name="fleet-approval")
    desk.sign(approval)
    assert "it is in force" in console.done("attach", str(approval))
    return desk


def test_lease_is_approved_with_ssh_keygen_alone(desk: Desk) -> None:
    lease = desk.console.propose({"app.py": "print('two')\n"}, "--why", "caf\u00e9 \x1b[2J\u202e")
    directory = desk.prepare("approve", lease)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert sorted(path.name for path in directory.iterdir()) == ["README.txt", "rendering.txt", "to-sign"]
    rendering, readme = (directory / "rendering.txt").read_bytes(), (directory / "README.txt").read_bytes()
    assert rendering.isascii()
    assert set(rendering) <= set(range(0x20, 0x7F)) | {0x0A}
    for text in (b"+print('two')", b"caf<U+00E9> <U+001B>[2J<U+202E>", b"You sign", desk.lease(lease).digest.encode()):
        assert text in rendering
    assert f"ssh-keygen -Y sign -n {NAMESPACE_APPROVAL} -f YOUR_KEY to-sign".encode() in readme
    assert desk.lease(lease).lease.approve_by.encode() in readme
    desk.sign(directory)
    desk.console.clock.tick(600)
    said = desk.console.done("approve", "--attach", str(directory))
    assert f"Approved: entry {desk.console.size() - 1}" in said
    assert lease in said
    assert desk.voters(lease) == ["ada"]
    size = desk.console.size()
    assert f"This is in the ledger already: entry {size - 1}" in desk.console.done("attach", str(directory))
    assert desk.console.size() == size


def test_nothing_needs_the_key_and_nothing_is_said_by_preparing(desk: Desk) -> None:
    lease, before = desk.console.propose(), desk.console.size()
    desk.console.refused(
        "approve", lease, "--prepare", str(desk.root / "x"), "--as", "ben", code="unknown_principal", ends=1
    )
    desk.console.refused(
        "approve", lease, "--prepare", str(desk.root / "x"), "--as", "cp14", code="not_a_human", ends=1
    )
    assert not (desk.root / "x").exists()
    desk.prepare("approve", lease)
    assert desk.console.size() == before


def test_denial_and_orders_are_prepared_in_their_own_namespace(desk: Desk) -> None:
    lease = desk.console.propose()
    directory = desk.prepare("deny", lease, "--reason", "not today")
    assert NAMESPACE_STATEMENT in (directory / "README.txt").read_text()
    desk.sign(directory, NAMESPACE_APPROVAL)
    said = desk.refused(directory, "wrong_namespace")
    assert f"ssh-keygen -Y sign -n {NAMESPACE_STATEMENT}" in said.err
    (directory / "to-sign.sig").unlink()
    desk.sign(directory, NAMESPACE_STATEMENT)
    desk.console.done("attach", str(directory))
    denied = desk.lease(lease).denied
    assert denied is not None
    assert denied.principal == "ada"


def test_answer_is_prepared_with_the_question(desk: Desk) -> None:
    asked = desk.prepare("message", "ask", "May it move?", "--to", "ada", name="question")
    desk.sign(asked, NAMESPACE_STATEMENT)
    desk.console.done("attach", str(asked))
    (question,) = desk.console.run("inbox", "--json").json
    answered = desk.prepare(*question["command"].split()[1:], "After noon", name="answer")
    rendering = (answered / "rendering.txt").read_text("ascii")
    assert rendering.index("  May it move?\n") < rendering.index("After noon")
    desk.sign(answered, NAMESPACE_STATEMENT)
    desk.console.done("attach", str(answered))
    assert desk.console.run("inbox", "--json").json == []


@pytest.mark.parametrize("namespace", ["git", "file", NAMESPACE_STATEMENT])
def test_signature_in_another_namespace_is_refused(desk: Desk, namespace: str) -> None:
    directory = desk.prepare("approve", desk.console.propose())
    desk.sign(directory, namespace)
    assert f"-n {NAMESPACE_APPROVAL}" in desk.refused(directory, "wrong_namespace").err


def test_signature_of_another_key_is_refused(desk: Desk) -> None:
    directory = desk.prepare("approve", desk.console.propose())
    desk.sign(directory, key="stranger")
    assert "is not enrolled for ada" in desk.refused(directory, "unknown_key").err


def test_directory_that_nobody_signed_says_how(desk: Desk) -> None:
    directory = desk.prepare("approve", desk.console.propose())
    assert "ssh-keygen -Y sign" in desk.refused(directory, "not_signed", 5).err
    desk.refused(desk.root / "nowhere", "not_prepared", 2)


def flip_digit(data: bytes) -> bytes:
    """Another `made_at`: still a statement of the right form, so only its signature tells."""
    at = data.index(b'"made_at":"') + len(b'"made_at":"2026-01-05T09:00:0')
    return data[:at] + (b"8" if data[at : at + 1] != b"8" else b"9") + data[at + 1 :]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (flip_digit, "bad_signature"),
        (lambda data: data[:-1], "bad_format"),
        (lambda data: data + b"\n", "bad_format"),
        (lambda data: data.replace(b"DSSEv1", b"DSSEv2"), "bad_format"),
        (lambda data: b"\n" + data, "bad_format"),
        (lambda data: data.replace(b" ", b"  ", 1), "bad_format"),
        (lambda data: b"", "bad_format"),
        (lambda data: data + b" " * MAX_TO_SIGN, "too_large"),
    ],
)
def test_statement_that_was_edited_after_signing_is_refused(
    desk: Desk, change: Callable[[bytes], bytes], code: str
) -> None:
    directory = desk.prepare("approve", desk.console.propose())
    desk.sign(directory)
    path = directory / "to-sign"
    path.write_bytes(change(path.read_bytes()))
    desk.refused(directory, code)


def test_what_is_written_beside_the_statement_does_not_matter(desk: Desk) -> None:
    lease = desk.console.propose()
    directory = desk.prepare("approve", lease)
    (directory / "rendering.txt").write_text("all is well\n")
    (directory / "README.txt").unlink()
    desk.sign(directory)
    desk.console.done("attach", str(directory))
    assert desk.voters(lease) == ["ada"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text[: len(text) // 2], "bad_format"),
        (lambda text: text + "x", "bad_format"),
        (lambda text: text + text, "bad_format"),
        (lambda text: "x\n" + text, "bad_format"),
        (lambda text: "", "bad_format"),
        (lambda text: text.replace("U1NIU0lH", "U1NIU0lI"), "bad_format"),
        (lambda text: "\u00e9" + text, "bad_format"),
        (lambda text: text + " " * MAX_ARMOR, "too_large"),
    ],
)
def test_signature_file_in_odd_armor_is_refused(desk: Desk, change: Callable[[str], str], code: str) -> None:
    directory = desk.prepare("approve", desk.console.propose())
    desk.sign(directory)
    path = directory / "to-sign.sig"
    path.write_text(change(path.read_text()), "utf-8")
    desk.refused(directory, code)


@pytest.mark.parametrize("name", ["to-sign", "to-sign.sig"])
def test_links_pipes_and_folders_in_the_directory_are_not_read(desk: Desk, name: str) -> None:
    directory = desk.prepare("approve", desk.console.propose())
    desk.sign(directory)
    elsewhere = desk.root / "elsewhere"
    path = directory / name
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    desk.refused(directory, "bad_file", 1)
    path.unlink()
    os.mkfifo(path)
    desk.refused(directory, "bad_file", 1)
    path.unlink()
    path.mkdir()
    desk.refused(directory, "bad_file", 1)


def test_approval_of_one_lease_is_not_one_of_another(desk: Desk) -> None:
    first, second = desk.console.propose({"app.py": "1\n"}), desk.console.propose({"app.py": "2\n"})
    one, other = desk.prepare("approve", first, name="one"), desk.prepare("approve", second, name="other")
    desk.sign(one)
    shutil.copy(one / "to-sign.sig", other)
    desk.refused(other, "bad_signature")
    desk.console.refused("approve", second, "--attach", str(one), code="other_subject", ends=1)
    desk.console.done("approve", first, "--attach", str(one))


def test_directory_of_another_ledger_is_refused(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = desk.prepare("approve", desk.console.propose())
    desk.sign(directory)
    other = Console(tmp_path / "other", monkeypatch)
    other.root.mkdir()
    other.done(
        "init", "--human", "ada", "--key", str(desk.laptop / "id_ed25519"), "--no-recovery",
        "--policy", str(other.write_policy()), "--origin", "station.example/calyx",
    )  # fmt: skip
    said = other.refused("attach", str(directory), code="wrong_ledger", ends=1)
    assert "(rule identity)" in said.err


def test_directory_is_used_once(desk: Desk) -> None:
    lease = desk.console.propose()
    directory = desk.prepare("approve", lease)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    said = desk.console.refused("approve", lease, "--prepare", str(directory), code="already_prepared", ends=2)
    assert "this is prepared there already" in said.err
    said = desk.console.refused(
        "deny", lease, "--reason", "no", "--prepare", str(directory), code="already_prepared", ends=2
    )
    assert "something else is prepared there" in said.err
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    full = desk.root / "full"
    full.mkdir()
    (full / "mine.txt").write_text("keep")
    desk.console.refused("approve", lease, "--prepare", str(full), code="directory_not_empty", ends=2)
    assert [path.name for path in full.iterdir()] == ["mine.txt"]


def test_prepared_approval_is_worth_nothing_after_its_signer_withdrew(desk: Desk) -> None:
    lease = desk.console.propose()
    leaked = desk.prepare("approve", lease, name="leaked")
    desk.sign(leaked)
    withdrawal = desk.prepare("withdraw", lease, name="withdrawal")
    desk.sign(withdrawal, NAMESPACE_STATEMENT)
    desk.console.done("attach", str(withdrawal))
    at = desk.console.size() - 1
    said = desk.refused(leaked, "withdrawn")
    assert f"(rule objection, step 4, entry {at})" in said.err
    # Whoever holds it and appends it without asking this program gains nothing either.
    append_unasked(desk, leaked)
    assert desk.console.size() == at + 2
    assert desk.voters(lease) == []
    assert "no human approver's key" in desk.console.run("check", lease).out
    again = desk.prepare("approve", lease, name="again")
    desk.sign(again)
    desk.console.done("attach", str(again))
    assert desk.voters(lease) == ["ada"]


def append_unasked(desk: Desk, directory: Path) -> None:
    from executor.homes.home import Home
    from executor.signing.offline import join_signature, read_prepared, read_signature

    with Home(desk.console.home) as home:
        registrar = home.open_registrar()
        state = registrar.sync()
        prepared = read_prepared(directory)
        registrar.append([join_signature(state, prepared, *read_signature(directory, prepared.statement))])


def test_approval_that_comes_back_too_late_says_which_rule_and_entry(desk: Desk) -> None:
    lease = desk.console.propose(None, "--valid-for", "10m")
    directory = desk.prepare("approve", lease)
    desk.sign(directory)
    desk.console.clock.tick(601)
    said = desk.refused(directory, "approval_expired")
    assert f"(rule time, step 3, entry {desk.lease(lease).seq})" in said.err
    assert "hint: propose again" in said.err


def test_approval_that_comes_back_after_a_denial_says_where_it_was(desk: Desk) -> None:
    lease = desk.console.propose()
    approval, denial = desk.prepare("approve", lease, name="a"), desk.prepare("deny", lease, "--reason", "no", name="d")
    desk.sign(approval)
    desk.sign(denial, NAMESPACE_STATEMENT)
    desk.console.done("attach", str(denial))
    said = desk.refused(approval, "lease_denied")
    assert f"(rule objection, step 7, entry {desk.console.size() - 1})" in said.err


def test_approval_under_a_fleet_that_was_replaced_is_not_appended(desk: Desk) -> None:
    lease = desk.console.propose()
    directory = desk.prepare("approve", lease)
    desk.sign(directory)
    proposal = desk.prepare("fleet", "propose", str(desk.console.write_fleet(3)), name="fleet-2")
    desk.sign(proposal, NAMESPACE_STATEMENT)
    desk.console.done("attach", str(proposal))
    approval = desk.prepare("approve", list(desk.console.state().proposals)[-1][:12], name="fleet-2-approval")
    desk.sign(approval)
    desk.console.done("attach", str(approval))
    said = desk.refused(directory, "stale_fleet")
    assert f"(rule two_key, step 2, entry {desk.console.size() - 1})" in said.err


def test_second_approval_with_the_same_key_names_the_first(desk: Desk) -> None:
    lease = desk.console.propose()
    one, two = desk.prepare("approve", lease, name="one"), desk.prepare("approve", lease, name="two")
    desk.sign(one)
    desk.sign(two)
    desk.console.done("attach", str(one))
    said = desk.refused(two, "already_cosigned")
    assert f"entry {desk.console.size() - 1})" in said.err
