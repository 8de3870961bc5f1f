"""People's keys as they are kept, at the command line: in the real ssh-agent, on tokens, in files with a passphrase.

Each wrong signature is mounted through `calyx approve`: it is refused by name, and nothing is appended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Held,
    Respond,
    answering,
    held_token,
    plain_blob,
    plain_signature,
    real_agent,
    soft_agent,
    token_of,
)
from authenticator import TOUCHED, VERIFIED, Token, to_sign
from authenticator import field as string
from children import at_a_desk
from console import Console
from sk_provider import build_provider
from station import Clock, Station

from executor.homes.home import Home
from executor.homes.settings import Settings
from keys import sshsig
from keys.openssh import PrivateKey, fingerprint, format_public, parse_blob, store_private_key
from keys.principals import TrustRoot
from ledger.log_key import store_log_key

CHECKOUT = Path(__file__).parents[2]
PATIENCE_S = 60
TOKEN = token_of()
APPROVAL = sshsig.NAMESPACE_APPROVAL


@dataclass
class Guarded(Station):
    """A station where people hold tokens beside their plain keys, and True says that a token must verify its user."""

    tokens: dict[str, list[tuple[Token, bool]]] = field(default_factory=dict)

    def trust(self, **changes: Any) -> dict[str, Any]:
        root = super().trust(**changes)
        for principal in root["principals"]:
            principal["keys"] += [
                {"key": format_public(parse_blob(token.blob)), "user_verification": verify}
                for token, verify in self.tokens.get(principal["id"], [])
            ]
        return root


@dataclass
class Desk:
    """Ada's machine: a home that holds no key of hers, and a lease that waits for her."""

    console: Console
    station: Guarded
    lease: str

    @property
    def ada(self) -> PrivateKey:
        return self.station.keys["ada"]

    def votes(self) -> list[str]:
        found = self.console.state().find_lease(self.lease)
        assert found is not None
        return [vote.signer.keyid for vote in found.ballot.votes]

    def start(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `calyx` as a process of its own, without a terminal."""
        return subprocess.run(
            [sys.executable, "-m", "executor", *arguments],
            cwd=CHECKOUT,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def approve(self, *options: str) -> str:
        """Approve in this process; what was said on standard error."""
        said = self.console.run("approve", self.lease, "--yes", *options)
        assert said.code == 0, said.err
        return said.err

    def refused(self, code: str, *options: str) -> str:
        """The approval must be refused with this code, on one line, and append nothing."""
        ends = 5 if code in {"agent_refused", "agent_silent", "agent_unavailable", "key_missing"} else None
        ends = 2 if code == "who_are_you" else ends or 1
        said = self.console.refused("approve", self.lease, "--yes", *options, code=code, ends=ends)
        return said.err


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    # The machine's clock, because some tests start processes of their own.
    return make_desk(tmp_path, monkeypatch, {"ada": [(TOKEN, False)]})


def make_desk(root: Path, monkeypatch: pytest.MonkeyPatch, tokens: dict[str, list[tuple[Token, bool]]]) -> Desk:
    station = Guarded(root / "home", clock=Clock(int(time.time())), tokens=tokens)
    station.genesis()
    station.enact_fleet()
    lease, _ = station.propose()
    home = Home(station.root)
    home.make()
    store_log_key(home.log_key, station.log_key)
    home.store_settings(Settings(version=1, me="ada", keys={}))
    return Desk(Console(root, monkeypatch, live=True), station, lease)


@contextmanager
def plugged(monkeypatch: pytest.MonkeyPatch, respond: Respond) -> Iterator[Any]:
    with soft_agent(respond) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent.socket)
        yield agent


def test_key_with_a_passphrase_in_the_real_agent_approves(desk: Desk) -> None:
    with real_agent() as agent:
        path = agent.add(desk.ada, "correct horse")
        done = desk.start("approve", desk.lease, "--yes", SSH_AUTH_SOCK=agent.socket)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"key {fingerprint(desk.ada.public)} from the ssh-agent ({path})\n"
    assert "Approved: entry" in done.stdout
    assert desk.votes() == [fingerprint(desk.ada.public)]


def test_newcomer_with_one_key_in_the_agent_need_not_say_who_they_are(desk: Desk) -> None:
    desk.console.home.joinpath("settings.json").unlink()
    with real_agent() as agent:
        agent.add(desk.station.keys["ben"])
        done = desk.start("approve", desk.lease, "--yes", SSH_AUTH_SOCK=agent.socket)
    assert done.returncode == 0, done.stderr
    assert desk.votes() == [fingerprint(desk.station.keys["ben"].public)]


def test_inbox_is_that_of_the_person_whose_key_is_in_the_agent(desk: Desk) -> None:
    desk.console.home.joinpath("settings.json").unlink()
    with real_agent() as agent:
        agent.add(desk.station.keys["ben"])
        done = desk.start("inbox", SSH_AUTH_SOCK=agent.socket)
        assert (done.returncode, desk.lease in done.stdout) == (0, True), done.stderr
        agent.add(desk.ada)
        done = desk.start("inbox", SSH_AUTH_SOCK=agent.socket)
    assert (done.returncode, "error: who_are_you: there are keys of ada and ben here" in done.stderr) == (2, True)


def test_newcomer_with_only_the_usual_file_approves(desk: Desk) -> None:
    desk.console.home.joinpath("settings.json").unlink()
    folder = Path(os.environ["HOME"]) / ".ssh"
    folder.mkdir(mode=0o700)
    store_private_key(folder / "id_ed25519", desk.ada)
    done = desk.start("approve", desk.lease, "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"key {fingerprint(desk.ada.public)} from {folder / 'id_ed25519'}\n"


def test_key_in_the_agent_needs_no_reader_of_key_files(desk: Desk) -> None:
    code = (
        "import sys\nfrom executor.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'cryptography', 'bcrypt', 'rich', 'httpx', 'ruamel', 'psutil'}\n"
        "sys.exit(repr(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    with real_agent() as agent:
        agent.add(desk.ada)
        done = subprocess.run(
            [sys.executable, "-c", code, "approve", desk.lease, "--yes"],
            cwd=CHECKOUT,
            env={**os.environ, "SSH_AUTH_SOCK": agent.socket},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "Approved" in done.stdout


def test_locked_real_agent_is_said_and_nothing_is_signed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with real_agent() as agent:
        agent.add(desk.ada)
        agent.lock()
        monkeypatch.setenv("SSH_AUTH_SOCK", agent.socket)
        said = desk.refused("key_missing")
    assert "the ssh-agent (empty, or locked)" in said


def test_agent_that_ended_is_passed_over_and_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with real_agent() as agent:
        agent.stop()
        monkeypatch.setenv("SSH_AUTH_SOCK", agent.socket)
        said = desk.refused("key_missing")
    assert "note: the ssh-agent is passed over: there is no ssh-agent at" in said


@pytest.mark.parametrize("key", ["cp14", "cp18", "cbo"])
def test_machines_key_in_a_persons_agent_is_of_no_use(desk: Desk, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    with real_agent() as agent:
        agent.add(desk.station.keys[key])
        monkeypatch.setenv("SSH_AUTH_SOCK", agent.socket)
        desk.refused("key_missing")
        said = desk.console.refused("approve", desk.lease, "--yes", "--as", key, code="not_a_human", ends=1)
    assert "from the ssh-agent" not in said.err


def test_machine_never_asks_an_agent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = desk.station.keys["cp14"]._signing.seed
    with plugged(monkeypatch, answering(Held(plain_blob(seed), lambda data: plain_signature(seed, data)))) as agent:
        said = desk.start("agent", "run", "cp14", SSH_AUTH_SOCK=agent.socket)
        assert "key_missing" in said.stderr
        assert agent.requests == []


@pytest.mark.parametrize("verify", [False, True])
def test_touched_token_approves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: bool) -> None:
    desk = make_desk(tmp_path, monkeypatch, {"ada": [(TOKEN, verify)]})
    flags = TOUCHED | VERIFIED if verify else TOUCHED
    with plugged(monkeypatch, answering(held_token(TOKEN, flags=flags))):
        said = desk.start("approve", desk.lease, "--yes")
    assert said.returncode == 0, said.stderr
    assert desk.votes() == [fingerprint(parse_blob(TOKEN.blob))]
    assert "touch your token when it blinks" in said.stderr
    assert ("verify you (PIN or fingerprint)" in said.stderr) == verify
    assert desk.console.run("audit").code == 0


@pytest.mark.parametrize(("counter", "warned"), [(8, False), (7, True), (1, True), (0, True)])
def test_token_that_counts_backwards_signs_with_a_warning(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, counter: int, warned: bool
) -> None:
    with plugged(monkeypatch, answering(held_token(TOKEN, counter=7))):
        assert "WARNING" not in desk.approve()
    fleet = str(desk.console.write_fleet(3))
    with plugged(monkeypatch, answering(held_token(TOKEN, counter=counter))):
        said = desk.console.run("fleet", "propose", fleet, "--approve", "--yes")
    assert said.code == 0, said.err
    assert (f"counts {counter} signatures, and counted 7 before" in said.err) == warned


def test_token_that_does_not_count_is_not_warned_of(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with plugged(monkeypatch, answering(held_token(TOKEN, counter=0))):
        desk.approve()
        said = desk.console.run("fleet", "propose", str(desk.console.write_fleet(3)), "--approve", "--yes")
    assert (said.code, "WARNING" in said.err) == (0, False)


def test_touch_without_verification_is_refused_where_the_root_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make_desk(tmp_path, monkeypatch, {"ada": [(TOKEN, True)]})
    with plugged(monkeypatch, answering(held_token(TOKEN))):
        desk.refused("user_unverified")


WRONG: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "no touch": ("user_absent", lambda data: TOKEN.assertion(data, flags=0)),
    "another application": ("bad_signature", lambda data: TOKEN.assertion(data, application=b"ssh:other")),
    "another message": ("bad_signature", lambda data: TOKEN.assertion(data + b"x")),
    "namespace git": ("bad_signature", lambda _: TOKEN.assertion(to_sign("git", b"x"))),
    "plain posing as token": (
        "bad_signature",
        lambda data: (
            string(b"sk-ssh-ed25519@openssh.com") + plain_signature(TOKEN.seed, data)[15:] + b"\x01\x00\x00\x00\x07"
        ),
    ),
    "plain signature": ("bad_format", lambda data: plain_signature(TOKEN.seed, data)),
    "another token": ("bad_signature", lambda data: token_of(0x33).assertion(data)),
    "refusal": ("agent_refused", lambda _: None),
    "nothing": ("bad_format", lambda _: b""),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_token_is_refused_by_name(desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    code, sign = WRONG[name]
    with plugged(monkeypatch, answering(held_token(TOKEN, sign))) as agent:
        desk.refused(code)
        assert agent.signed == 1, "nothing is signed a second time"
    assert desk.votes() == []


def test_token_posing_as_a_plain_key_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = desk.ada._signing.seed
    posing = Held(plain_blob(seed), lambda data: Token(seed).assertion(data))
    with plugged(monkeypatch, answering(posing)):
        desk.refused("bad_format")


def test_agent_that_signs_with_another_of_its_keys_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    other = desk.station.keys["ben"]._signing.seed
    lying = Held(plain_blob(desk.ada._signing.seed), lambda data: plain_signature(other, data))
    with plugged(monkeypatch, answering(lying)):
        desk.refused("bad_signature")


def test_agent_that_goes_between_list_and_signature_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    held = answering(held_token(TOKEN))
    with plugged(monkeypatch, lambda request: held(request) if request == b"\x0b" else b"") as agent:
        said = desk.refused("bad_agent_answer")
        assert agent.signed == 1
    assert "ended the connection" in said


@pytest.mark.parametrize(
    "answer", [b"", b"\x00\x00", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 1000, b"\x00\x04\x00\x00" + bytes(100), None]
)
def test_broken_agent_neither_hangs_nor_stops_a_person(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    monkeypatch.setattr("keys.agent_socket.LIST_S", 0.2)
    store_private_key(desk.console.root / "mine", desk.ada)
    with plugged(monkeypatch, lambda _: answer):
        desk.refused("key_missing")
        said = desk.approve("--key", str(desk.console.root / "mine"))
    assert "passed over" not in said, "a named file asks no agent"


def test_comment_of_an_agents_key_cannot_write_on_the_terminal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = desk.ada._signing.seed
    comment = b"x)\x1b[2J\nApproved: entry 9\x00\xe2\x80\xae"
    with plugged(monkeypatch, answering(Held(plain_blob(seed), lambda data: plain_signature(seed, data), comment))):
        said = desk.approve()
    assert len(said.splitlines()) == 1
    assert all(text in said for text in ("<U+001B>", "<U+000A>", "<U+202E>"))


def test_withdrawal_and_denial_are_signed_in_the_agent_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with real_agent() as agent:
        agent.add(desk.ada)
        monkeypatch.setenv("SSH_AUTH_SOCK", agent.socket)
        desk.approve()
        desk.console.done("withdraw", desk.lease, "--yes")
        desk.console.done("deny", desk.lease, "--reason", "not today", "--yes")
        fleet = desk.console.write_fleet(3)
        desk.console.done("fleet", "propose", str(fleet), "--approve", "--yes")
    found = desk.console.state().find_lease(desk.lease)
    assert found is not None
    assert found.denied is not None


def test_key_of_a_proposed_root_signs_from_the_agent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    eve = PrivateKey(b"\x55" * 32)
    state = desk.station.state
    assert state.trust is not None
    entry = {"key": format_public(eve.public), "user_verification": False}
    person = {"id": "eve", "kind": "human", "custodian": "eve", "roles": ["governor"], "keys": [entry]}
    root: Any = state.trust.to_json()
    proposed = TrustRoot.from_json({**root, "principals": [*root["principals"], person]})
    proposal = desk.station.say(
        "ada",
        "trust",
        {
            "base": state.trust_digest,
            "reason": "eve joins",
            "approve_by": desk.station.after(3600),
            "trust": proposed.to_json(),
        },
    )
    with real_agent() as agent:
        agent.add(eve)
        monkeypatch.setenv("SSH_AUTH_SOCK", agent.socket)
        said = desk.console.run("approve", proposal.digest[:12], "--yes", "--as", "eve")
    assert f"key {fingerprint(eve.public)} from the ssh-agent" in said.err
    assert said.code == 0, said.err


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    return Console(tmp_path, monkeypatch, live=True)


FOUNDING = ("init", "--human", "ada", "--no-recovery", "--policy")


def test_ledger_is_founded_with_a_key_that_only_the_agent_can_open(
    newcomer: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = PrivateKey(b"\x44" * 32)
    with real_agent() as agent:
        path = agent.add(key, "correct horse")
        monkeypatch.setenv("SSH_AUTH_SOCK", agent.socket)
        said = newcomer.run(*FOUNDING, str(newcomer.write_policy()), "--key", f"{path}.pub")
        assert said.code == 0, said.err
        assert f"key {fingerprint(key.public)} from the ssh-agent" in said.err
        newcomer.done("fleet", "propose", str(newcomer.write_fleet()), "--approve", "--yes")
        newcomer.done("approve", newcomer.propose(), "--yes")
    assert newcomer.run("audit").code == 0


def test_ledger_is_founded_with_a_token(newcomer: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    public = newcomer.root / "token.pub"
    public.write_text(format_public(parse_blob(TOKEN.blob)) + "\n", "ascii")
    found = ("init", "--human", "ada", "--no-recovery", "--key", str(public), "--policy", str(newcomer.write_policy()))
    with plugged(monkeypatch, answering(held_token(TOKEN, flags=0))):
        newcomer.refused(*found, code="user_absent", ends=1)
    with plugged(monkeypatch, answering(held_token(TOKEN))):
        said = newcomer.run(*found)
        assert said.code == 0, said.err
        assert "in the ssh-agent" in said.out
        newcomer.done("fleet", "propose", str(newcomer.write_fleet()), "--approve", "--yes")
    assert newcomer.run("audit").code == 0


@pytest.mark.parametrize("text", [None, "ssh-rsa AAAA\n"])
def test_ledger_is_not_founded_with_a_public_key_alone(newcomer: Console, text: str | None) -> None:
    public = newcomer.root / "mine.pub"
    public.write_text(text or format_public(PrivateKey(b"\x44" * 32).public), "ascii")
    code = "key_missing" if text is None else "bad_key_file"
    newcomer.refused(
        *FOUNDING, str(newcomer.write_policy()), "--key", str(public), code=code, ends=5 if text is None else 1
    )
    assert not newcomer.home.exists()


def token_file(desk: Desk, token: Token, flags: int = TOUCHED) -> Path:
    path = desk.console.root / "id_ed25519_sk"
    path.write_text(token.key_file(token.seed, flags=flags), "ascii")
    path.chmod(0o600)
    path.with_name("id_ed25519_sk.pub").write_text(format_public(parse_blob(token.blob)) + "\n", "ascii")
    return path


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_provider(tmp_path_factory.mktemp("provider"))


def test_token_file_signs_through_the_real_ssh_keygen(desk: Desk, provider: Path) -> None:
    path = token_file(desk, TOKEN)
    done = desk.start("approve", desk.lease, "--yes", "--key", str(path), SSH_SK_PROVIDER=str(provider))
    assert done.returncode == 0, done.stderr
    assert f"from {path}, signed by ssh-keygen" in done.stderr
    assert desk.votes() == [fingerprint(parse_blob(TOKEN.blob))]
    assert "Approved" in done.stdout


def test_untouched_token_behind_the_real_ssh_keygen_is_refused(desk: Desk, provider: Path) -> None:
    path = token_file(desk, TOKEN)
    done = desk.start(
        "approve", desk.lease, "--yes", "--key", str(path), SSH_SK_PROVIDER=str(provider), CALYX_TEST_SK_FLAGS="0"
    )
    assert (done.returncode, "error: user_absent: " in done.stderr) == (1, True), done.stderr
    assert desk.votes() == []


def test_person_at_a_terminal_gives_the_pin_to_ssh_keygen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: Path
) -> None:
    desk = make_desk(tmp_path, monkeypatch, {"ada": [(TOKEN, True)]})
    path = token_file(desk, TOKEN, TOUCHED | VERIFIED)
    monkeypatch.setenv("SSH_SK_PROVIDER", str(provider))
    screen, status = at_a_desk(
        ["approve", desk.lease, "--key", str(path)], [(b"[y/N]", b"y\n"), (b"PIN for ED25519-SK key", b"1234\n")]
    )
    assert status == 0, screen
    order = [screen.index(text) for text in (" from ", "[y/N]", "touch your token", "PIN for", "Approved: entry")]
    assert order == sorted(order)
    assert "1234" not in screen
    assert desk.votes() == [fingerprint(parse_blob(TOKEN.blob))]


def test_token_that_is_not_there_is_said(desk: Desk) -> None:
    path = token_file(desk, TOKEN)
    done = desk.start("approve", desk.lease, "--yes", "--key", str(path), SSH_SK_PROVIDER="/nonexistent/sk.so")
    assert (done.returncode, "error: keygen_failed: " in done.stderr) == (5, True), done.stderr
    assert desk.votes() == []


def test_token_in_the_real_agent_approves(desk: Desk, provider: Path) -> None:
    path = token_file(desk, TOKEN)
    with real_agent("-P", str(provider)) as agent:
        agent.ssh_add("-S", str(provider), str(path))
        done = desk.start("approve", desk.lease, "--yes", SSH_AUTH_SOCK=agent.socket)
    assert done.returncode == 0, done.stderr
    assert "from the ssh-agent" in done.stderr
    assert desk.votes() == [fingerprint(parse_blob(TOKEN.blob))]
