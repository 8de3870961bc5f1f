"""The way to a host: which command is run, and what its standard error may do to a terminal."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from refusal import refused

from executor.remote.address import Address, parse_address
from executor.remote.frames import DATA, MESSAGE, Channel, ConnectionLost, PeerSilent
from executor.remote.ssh import MAX_LINES, SshTransport, ssh_command
from keys.errors import Exit

HOST = parse_address("ssh://ada@station.example:2222/srv/my calyx")


def test_ssh_gets_an_argument_list() -> None:
    argv = ssh_command(HOST, {}, person=True)
    assert argv[0] == "ssh"
    assert argv[-3:] == ["--", "ada@station.example", "calyx serve --stdio --home '/srv/my calyx'"]
    assert argv[argv.index("-p") + 1] == "2222"
    assert "BatchMode=no" in argv
    assert "BatchMode=yes" in ssh_command(HOST, {}, person=False)
    assert "-p" not in ssh_command(parse_address("ssh://h/p"), {}, person=False)


def test_host_is_lent_nothing_of_this_machine() -> None:
    argv = ssh_command(HOST, {}, person=True)
    # Neither the agent, nor a ticket, nor the display, nor a terminal, nor an escape character, nor a port.
    assert {"-a", "-k", "-x", "-T", "ClearAllForwardings=yes", "PermitLocalCommand=no", "RemoteCommand=none"} <= set(
        argv
    )
    assert argv[argv.index("-e") + 1] == "none"


def test_ssh_and_calyx_are_named_by_the_environment() -> None:
    environment = {"CALYX_SSH": "/opt/ssh -F 'my config'", "CALYX_REMOTE_COMMAND": "sudo -u calyx /opt/calyx/bin/calyx"}
    argv = ssh_command(HOST, environment, person=False)
    assert argv[:3] == ["/opt/ssh", "-F", "my config"]
    assert argv[-1] == "sudo -u calyx /opt/calyx/bin/calyx serve --stdio --home '/srv/my calyx'"


def test_path_reaches_the_hosts_shell_as_one_word() -> None:
    address = Address(None, "h", None, "/srv/$(reboot);`reboot`'\"&| x")
    assert shlex.split(ssh_command(address, {}, person=False)[-1])[-1] == address.path


@pytest.mark.parametrize("text", ["'", "   ", "-oProxyCommand=reboot"])
def test_wrong_command_lines_are_refused(text: str) -> None:
    with refused("bad_ssh_command"):
        ssh_command(HOST, {"CALYX_REMOTE_COMMAND": text}, person=False)
    if not text.startswith("-"):
        with refused("bad_ssh_command"):
            ssh_command(HOST, {"CALYX_SSH": text}, person=False)


@pytest.fixture
def shim(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An environment in which ssh is a Python program of ours."""

    def make(body: str) -> dict[str, str]:
        program = tmp_path / "shim"
        program.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}\n", "utf-8")
        program.chmod(0o700)
        return {**os.environ, "CALYX_SSH": str(program)}

    return make


def test_ssh_that_is_not_there_is_named() -> None:
    with refused("no_ssh") as caught:
        SshTransport(HOST, {"CALYX_SSH": "/nowhere/ssh"}, lambda _: None, person=False)
    assert caught.value.exit_code == Exit.UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "said"),
    [(0, ""), (255, "could not connect"), (127, "found no calyx"), (3, "ended with 3")],
)
def test_status_of_ssh_says_what_is_wrong(shim: Callable[[str], dict[str, str]], status: int, said: str) -> None:
    transport = SshTransport(HOST, shim(f"sys.exit({status})"), lambda _: None, person=False)
    with pytest.raises(ConnectionLost):
        transport.channel.receive(transport.channel.begin(60))
    ended = transport.close()
    assert said in ended and bool(said) == bool(ended)


def test_lines_of_the_host_are_told_with_their_origin_and_bounded(shim: Callable[[str], dict[str, str]]) -> None:
    told: list[str] = []
    environment = shim(
        "sys.stderr.write('\\n  \\nhello\\n' + 'x' * 5000 + '\\n' + 'again\\n' * 100000); sys.stderr.flush()"
    )
    transport = SshTransport(HOST, environment, told.append, person=False)
    with pytest.raises(ConnectionLost):
        transport.channel.receive(transport.channel.begin(60))
    transport.close()
    assert told[0] == "ssh: hello"
    assert told[-1] == "ssh: more was said, and is not shown"
    assert len(told) == MAX_LINES + 1 and all(line.startswith("ssh: ") and len(line) < 1010 for line in told)


def test_ssh_that_does_not_end_is_ended(shim: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.remote.ssh.END_S", 0.1)
    transport = SshTransport(HOST, shim("time.sleep(600)"), lambda _: None, person=False)
    assert "ended with -9" in transport.close() or transport._process.returncode == -9


def test_ssh_that_reads_nothing_is_not_waited_for(shim: Callable[[str], dict[str, str]]) -> None:
    transport = SshTransport(HOST, shim("time.sleep(600)"), lambda _: None, person=False)
    patience = transport.channel.begin(0.2)
    with pytest.raises(PeerSilent):
        for _ in range(64):
            transport.channel.send(DATA, bytes(65_536), patience)
    transport._process.kill()
    transport.close()


def test_answer_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    source, sink = os.pipe()
    try:
        ticks = iter(range(10_000))
        channel = Channel(source, sink, monotonic=lambda: next(ticks) * 0.01)
        os.write(sink, MESSAGE + (60_000).to_bytes(4, "big") + bytes(10_000))
        read = os.read
        monkeypatch.setattr("executor.remote.frames.os.read", lambda descriptor, _: read(descriptor, 1))
        with pytest.raises(PeerSilent):
            channel.receive(channel.begin(5))
        # Each byte brought the end nearer than it moved it away.
        assert 400 < next(ticks) < 1_000
    finally:
        os.close(source)
        os.close(sink)
