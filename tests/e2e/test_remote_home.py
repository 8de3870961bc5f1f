"""A person at a laptop, a home on a host: real processes, a real ssh-agent, a real sshd."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from agents import real_agent
from console import CONTENT, Console, Said
from folders import short_folder
from instances import write_files
from programs import require_program
from sshd import real_sshd, ssh_for
from station import Clock, new_station

from executor.homes.home import Home
from executor.remote.frames import DATA, MESSAGE, Channel, ConnectionLost
from keys.canonical import format_json, parse_json
from keys.openssh import PrivateKey, load_private_key, new_private_key, store_private_key
from keys.sshsig import NAMESPACE_APPROVAL
from ledger.log_key import store_log_key

CALYX = f"{shlex.quote(sys.executable)} -m executor"
PATIENCE_S = 60

DIES_ONCE = """
import os, signal, sys
from pathlib import Path
from executor.main import main
from executor.remote.messages import SaidSubmitted
from executor.remote.server import Server
say = Server._say
def die(self, said):
    marker = Path(os.environ["DIED"])
    if isinstance(said, SaidSubmitted) and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    say(self, said)
Server._say = die
main()
"""


class Laptop:
    """A person's machine, and the host of their home. The person's key lies in ~/.ssh, and nowhere on the host."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, key: PrivateKey | None = None) -> None:
        """`key`: of a person whose home is there already."""
        self.root = root
        self.monkeypatch = monkeypatch
        self.key = Path(os.environ["HOME"]) / ".ssh" / "id_ed25519"
        self.key.parent.mkdir(mode=0o700)
        store_private_key(self.key, key or new_private_key(os.urandom))
        self.host = Console(root, monkeypatch, live=True)
        if key is None:
            self.host.begin()
        self.address = f"ssh://station{self.host.home}"
        monkeypatch.setenv("CALYX_SSH", str(self.shim()))
        monkeypatch.setenv("CALYX_REMOTE_COMMAND", CALYX)

    def host_environment(self) -> dict[str, str]:
        """What tells the host's person from the laptop's: other remembered heads."""
        return {"HOME": str(self.root), "XDG_STATE_HOME": str(self.root / "host-state")}

    def shim(self) -> Path:
        """An ssh that runs the command on this machine, as a host's shell would."""
        path = self.root / "ssh"
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.host_environment().items())
        path.write_text(f'#!/bin/sh\nfor last; do :; done\n{exports}unset CALYX_HOME\neval "exec $last"\n', "utf-8")
        path.chmod(0o700)
        return path

    def run(self, *words: str, typed: str = "") -> Said:
        return self.host.run("--home", self.address, *words, typed=typed)

    def done(self, *words: str, typed: str = "") -> str:
        return self.host.done("--home", self.address, *words, typed=typed)

    def refused(self, *words: str, code: str, ends: int, typed: str = "") -> Said:
        return self.host.refused("--home", self.address, *words, code=code, ends=ends, typed=typed)


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Laptop:
    return Laptop(tmp_path, monkeypatch)


def test_person_does_everything_from_the_laptop(laptop: Laptop) -> None:
    lease = laptop.host.propose()
    assert lease in laptop.done("inbox")
    assert "print('one')" in laptop.done("show", lease)
    said = laptop.done("approve", lease, typed="y\n")
    assert "print('one')" in said
    assert f"Approved: entry {laptop.host.size() - 1}" in said
    assert laptop.run("check", lease).code == 1
    status = laptop.done("status")
    assert laptop.address in status and "not seen from another machine" in status
    assert laptop.done("inbox").strip() == "Nothing waits for you."
    assert "Withdrawn: entry" in laptop.done("withdraw", lease, "--yes")
    assert "Denied: entry" in laptop.done("deny", lease, "--reason", "no", "--yes")
    assert "ok: " in laptop.done("audit")
    entries = json.loads(laptop.done("ledger", "log", "--json"))
    assert [entry["kind"] for entry in entries[-3:]] == ["cosignature", "objection", "objection"]
    assert laptop.done("ledger", "checkpoint").split("\n")[1] == str(laptop.host.size())
    assert "ada" in laptop.done("keys", "show", "--all")
    assert "web-2" in laptop.done("fleet", "show")
    found = laptop.host.state().find_lease(lease)
    assert found is not None and found.denied is not None


def test_fleet_is_changed_from_the_laptop(laptop: Laptop) -> None:
    fleet = laptop.host.write_fleet(3)
    said = laptop.done("fleet", "propose", str(fleet), "--reason", "one more", "--approve", "--yes")
    assert "it is in force" in said
    state = laptop.host.state()
    assert state.fleet is not None and len(state.fleet.targets["web"].instances) == 3


def test_question_is_asked_and_answered_from_the_laptop(laptop: Laptop) -> None:
    laptop.done("message", "ask", "May it move?", "--to", "ada", "--yes")
    (question,) = json.loads(laptop.done("inbox", "--json"))
    said = laptop.done(*question["command"].split()[1:], typed="After noon\ny\n")
    assert said.index("  May it move?\n") < said.index("You sign")
    shown = laptop.done("message", "show", question["digest"])
    assert "  After noon\n" in shown
    assert laptop.done("inbox").strip() == "Nothing waits for you."


def test_home_is_named_by_the_environment(laptop: Laptop) -> None:
    laptop.monkeypatch.setenv("CALYX_HOME", laptop.address)
    assert laptop.address in laptop.host.done("status")


def test_orders_are_given_and_a_rollout_is_watched_from_the_laptop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = new_station(tmp_path / "home", clock=Clock(int(time.time())))
    (station.root / "keys").mkdir()
    store_log_key(station.root / "keys" / "log.key", station.log_key)
    lease = station.propose()
    station.begin(lease)
    laptop = Laptop(tmp_path, monkeypatch, station.keys["ada"])
    assert "pause of" in laptop.done("pause", lease[0], "--reason", "another team looks", typed="y\n")
    # The laptop's word has this machine's time, however long it took.
    station.clock.now = int(time.time())
    station.event("cp20", lease, "PAUSED", cause="command", command=None, text="ordered")
    assert "PAUSED" in laptop.done("watch", lease[0], "--once")
    assert "resume of" in laptop.done("resume", lease[0], typed="y\n")
    assert "rollback of" in laptop.done("rollback", lease[0], typed="y\n")
    assert station.state.deployments[lease[1]].lease.id == lease[0]
    assert [line["action"] for line in map(json.loads, laptop.done("svf", "tail").splitlines())]


def test_what_is_prepared_on_the_laptop_is_attached_from_it(laptop: Laptop) -> None:
    lease = laptop.host.propose()
    folder = laptop.root / "prepared"
    laptop.done("approve", lease, "--prepare", str(folder))
    statement = next(path for path in folder.iterdir() if path.suffix not in {".txt", ".sig", ".md"})
    subprocess.run(
        [require_program("ssh-keygen"), "-q", "-Y", "sign", "-f", laptop.key, "-n", NAMESPACE_APPROVAL, statement],
        check=True,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    assert f"entry {laptop.host.size()}" in laptop.done("attach", str(folder))
    # Once more is the same entry.
    size = laptop.host.size()
    laptop.done("attach", str(folder))
    assert laptop.host.size() == size


def test_policy_is_read_and_proposed_from_the_laptop(laptop: Laptop) -> None:
    policy = laptop.host.write_policy(retention_s=1234)
    said = laptop.done("policy", "propose", str(policy), "--reason", "longer", "--approve", "--yes")
    assert "in force" in said
    state = laptop.host.state()
    assert state.policy is not None and state.policy.deploy_production.retention_s == 1234
    for words in (
        ["policy", "show"],
        ["policy", "history"],
        ["trust", "show"],
        ["trust", "history"],
        ["lease", "list"],
    ):
        laptop.done(*words)


@pytest.mark.parametrize(
    "words",
    [
        ["init", "--no-recovery", "--human", "ada"],
        ["propose", "web", "--dir", "DIR"],
        ["executor", "run", "--until-idle"],
        ["agent", "run", "cp14"],
        ["audit", "--full"],
        ["notify", "status"],
        ["serve", "--stdio"],
    ],
    ids=" ".join,
)
def test_what_needs_the_machine_is_refused(laptop: Laptop, words: list[str]) -> None:
    source = write_files(laptop.root / "source", dict(CONTENT))
    said = laptop.refused(*[str(source) if word == "DIR" else word for word in words], code="home_not_here", ends=2)
    assert said.err.count("\n") == 2 and laptop.address in said.err


@pytest.mark.parametrize("address", ["ssh://-oProxyCommand=reboot/srv", "ssh://host", "ssh://host/../x"])
def test_address_that_is_none_is_refused(laptop: Laptop, address: str) -> None:
    laptop.host.refused("--home", address, "status", code="bad_address", ends=2)


def test_host_killed_between_commit_and_answer_gives_the_entry_that_it_made(laptop: Laptop) -> None:
    lease = laptop.host.propose()
    program = laptop.root / "dies.py"
    program.write_text(DIES_ONCE, "utf-8")
    laptop.monkeypatch.setenv("CALYX_REMOTE_COMMAND", f"{shlex.quote(sys.executable)} {shlex.quote(str(program))}")
    laptop.monkeypatch.setenv("DIED", str(laptop.root / "died"))
    size = laptop.host.size()
    assert f"Approved: entry {size}" in laptop.done("approve", lease, "--yes")
    assert (laptop.root / "died").exists()
    assert laptop.host.size() == size + 1


def test_home_served_for_reading_takes_no_statement(laptop: Laptop) -> None:
    lease = laptop.host.propose()
    wrapper = laptop.root / "readonly"
    wrapper.write_text(f'#!/bin/sh\nexec {CALYX} "$@" --read-only\n', "utf-8")
    wrapper.chmod(0o700)
    laptop.monkeypatch.setenv("CALYX_REMOTE_COMMAND", str(wrapper))
    # It is asked for less, so it needs less.
    (laptop.host.home / "keys" / "log.key").rename(laptop.root / "log.key")
    assert lease in laptop.done("inbox")
    said = laptop.refused("approve", lease, "--yes", code="read_only", ends=1)
    assert "You sign" not in said.out


def test_host_whose_ledger_was_put_back_is_contradicted(laptop: Laptop) -> None:
    (laptop.root / "before.db").write_bytes((laptop.host.home / "ledger.db").read_bytes())
    lease = laptop.host.propose()
    laptop.done("status")
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (laptop.host.home / name).unlink(missing_ok=True)
    (laptop.host.home / "ledger.db").write_bytes((laptop.root / "before.db").read_bytes())
    for words in (["status"], ["approve", lease, "--yes"]):
        laptop.refused(*words, code="head_contradicted", ends=1)


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("exit 255", "connection_lost"),
        ("echo Welcome to this host; cat", "bad_answer"),
        ("kill -9 $$", "connection_lost"),
        ("cat /dev/zero", "bad_answer"),
    ],
)
def test_host_that_is_no_calyx_ends_in_one_line(laptop: Laptop, program: str, code: str) -> None:
    shim = laptop.root / "other"
    shim.write_text(f"#!/bin/sh\n{program}\n", "utf-8")
    shim.chmod(0o700)
    laptop.monkeypatch.setenv("CALYX_SSH", str(shim))
    said = laptop.refused("status", code=code, ends=5)
    assert said.err.count("error: ") == 1 and not said.out


def test_what_the_host_writes_to_the_terminal_is_shown_as_text(laptop: Laptop) -> None:
    shim = laptop.root / "noisy"
    shim.write_text(
        f"#!/bin/sh\nprintf '\\033[2JApproved: entry 9\\n' >&2\nexec {shlex.quote(str(laptop.root / 'ssh'))} \"$@\"\n",
        "utf-8",
    )
    shim.chmod(0o700)
    laptop.monkeypatch.setenv("CALYX_SSH", str(shim))
    said = laptop.run("status")
    assert said.code == 0
    assert "ssh: <U+001B>[2JApproved: entry 9\n" in said.err
    assert "\x1b" not in said.err + said.out


@pytest.fixture
def server(laptop: Laptop) -> Iterator[subprocess.Popen[bytes]]:
    """`calyx serve --stdio` by itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "executor", "serve", "--stdio", "--home", str(laptop.host.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **laptop.host_environment()},
    )
    yield process
    process.kill()
    process.wait(PATIENCE_S)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()


def ask(process: subprocess.Popen[bytes], *requests: dict[str, object]) -> list[object]:
    """The messages that answer; raw bytes in between are dropped."""
    assert process.stdin is not None and process.stdout is not None
    channel = Channel(process.stdout.fileno(), process.stdin.fileno())
    answers: list[object] = []
    for request in requests:
        channel.send(MESSAGE, format_json(request), channel.begin(PATIENCE_S))  # type: ignore[arg-type]  # plain values
        channel.flush(channel.begin(PATIENCE_S))
        while (frame := channel.receive(channel.begin(PATIENCE_S))).kind == DATA:
            pass
        answers.append(parse_json(frame.payload))
    return answers


def test_server_says_frames_alone_and_ends_with_its_input(laptop: Laptop, server: subprocess.Popen[bytes]) -> None:
    hello, tip = ask(server, {"verb": "hello", "protocol": 1, "submits": True}, {"verb": "tip"})
    with Home(laptop.host.home) as home:
        store = home.open_store().tip()
    assert hello == {"ok": {"protocol": 1}}
    assert tip == {
        "ok": {"size": store.head.size, "hash": store.head.hash, "checkpoint": store.checkpoint.decode("utf-8")}
    }
    assert server.stdin is not None and server.stdout is not None and server.stderr is not None
    server.stdin.close()
    assert server.wait(PATIENCE_S) == 0
    assert server.stdout.read() == b""
    assert server.stderr.read() == b""


def test_server_logs_to_standard_error(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None and server.stdout is not None and server.stderr is not None
    server.stdin.write(b"GET / HTTP/1.1\r\n\r\n")
    server.stdin.flush()
    assert server.wait(PATIENCE_S) == 0
    channel = Channel(server.stdout.fileno(), server.stdin.fileno())
    answer = parse_json(channel.receive(channel.begin(60)).payload)
    assert isinstance(answer, dict) and "error" in answer
    with pytest.raises(ConnectionLost):
        channel.receive(channel.begin(60))
    assert server.stderr.read() == b"bad_answer: a frame of the unknown type 0x47 came\n"


def test_server_is_not_typed_to(laptop: Laptop) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "executor", "serve", "--home", str(laptop.host.home)]
    done = subprocess.run([*words, "--stdio"], stdin=theirs, capture_output=True, timeout=PATIENCE_S, check=False)
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, done.stdout) == (2, b"") and b"no_transport" in done.stderr
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (2, b"") and b"no_transport" in done.stderr


def test_approval_over_ssh_with_a_key_in_the_agent(laptop: Laptop) -> None:
    lease = laptop.host.propose()
    with short_folder() as folder, real_agent() as agent:
        # The person's key is in the agent alone; another key opens the connection.
        agent.add(load_private_key(laptop.key))
        laptop.key.unlink()
        laptop.key.with_name("id_ed25519.pub").unlink()
        client_key = folder / "client"
        store_private_key(client_key, new_private_key(os.urandom))
        environment = " ".join(f"{name}={shlex.quote(value)}" for name, value in laptop.host_environment().items())
        forced = f"env {environment} {CALYX} serve --stdio --home {shlex.quote(str(laptop.host.home))}"
        with real_sshd(folder, forced, client_key) as sshd:
            laptop.monkeypatch.setenv("CALYX_SSH", ssh_for(sshd))
            laptop.monkeypatch.setenv("SSH_AUTH_SOCK", agent.socket)
            # Whatever the laptop asks for, the key may do one thing.
            laptop.monkeypatch.setenv("CALYX_REMOTE_COMMAND", "reboot")
            said = laptop.run("approve", lease, "--yes")
            assert said.code == 0, f"{said.err}{sshd.log}"
            assert f"Approved: entry {laptop.host.size() - 1}" in said.out
            assert "from the ssh-agent" in said.err
            assert "ok: " in laptop.done("audit")
            # Another machine answers at the same address.
            (folder / "known_hosts").write_text(
                (folder / "known_hosts").read_text("ascii").split(" ")[0]
                + " "
                + client_key.with_name("client.pub").read_text("ascii"),
                "ascii",
            )
            refused = laptop.refused("status", code="connection_lost", ends=5)
            assert "could not connect" in refused.err and "ssh: " in refused.err
    vote = laptop.host.state().find_lease(lease)
    assert vote is not None and [v.signer.principal for v in vote.ballot.standing()] == ["ada"]
