"""The way to an agent: the real one answers, and no bad one can hang, flood or break whoever asks."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from agents import Held, answering, message, plain_blob, plain_signature, real_agent, soft_agent
from clocks import no_time_passes
from folders import short_folder
from refusal import refused

from keys import sshsig
from keys.agent_socket import connect_agent
from keys.openssh import PrivateKey
from keys.signer import AgentSigner, PersonKey
from keys.ssh_agent import SshAgent

KEY = PrivateKey(b"\x21" * 32)
OTHER = PrivateKey(b"\x22" * 32)
PAE = b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
SHORT_S = 0.2
PATIENCE_S = 60


def patient(path: str) -> SshAgent:
    """An agent that answers: on a host that stalls it may be late."""
    return connect_agent(path, list_s=PATIENCE_S, sign_s=PATIENCE_S)


def test_real_agent_lists_and_signs_as_the_file_does() -> None:
    with real_agent() as agent:
        assert patient(agent.socket).list_keys() == []
        agent.add(KEY, "correct horse")
        agent.add(OTHER)
        found = patient(agent.socket).list_keys()
        assert [key.key for key in found] == [KEY.public, OTHER.public]
        signer = AgentSigner(PersonKey("ada", KEY.public, False), patient(agent.socket))
        expected = sshsig.sign(KEY, sshsig.NAMESPACE_APPROVAL, PAE)
        assert signer.sign(PAE, sshsig.NAMESPACE_APPROVAL) == expected


def test_locked_real_agent_lists_nothing_and_refuses() -> None:
    with real_agent() as agent:
        agent.add(KEY)
        agent.lock()
        found = patient(agent.socket)
        assert found.list_keys() == []
        with refused("agent_refused") as refusal:
            found.sign(KEY.public, b"data")
    assert "ssh-add -X" in refusal.value.hint


def test_key_that_left_the_real_agent_is_refused() -> None:
    with real_agent() as agent:
        agent.add(KEY)
        agent.ssh_add("-D")
        with refused("agent_refused"):
            patient(agent.socket).sign(KEY.public, b"data")


def test_agent_that_ended_is_unavailable() -> None:
    with real_agent() as agent:
        agent.stop()
        with refused("agent_unavailable") as refusal:
            patient(agent.socket).list_keys()
    assert "SSH_AUTH_SOCK" in refusal.value.hint


def test_path_that_is_no_agents_socket_is_unavailable(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    for path in (tmp_path / "fifo", tmp_path / "file", tmp_path, tmp_path / "none", "/dev/tty", "", "x" * 5000, "a\0b"):
        with refused("agent_unavailable") as refusal:
            connect_agent(str(path), monotonic=no_time_passes).list_keys()
        assert len(refusal.value.message) < 300


def test_agent_that_hangs_is_given_up() -> None:
    with soft_agent(lambda _: None) as agent:
        with refused("agent_silent"):
            connect_agent(agent.socket, list_s=SHORT_S).list_keys()
        with refused("agent_silent") as refusal:
            connect_agent(agent.socket, sign_s=SHORT_S).sign(KEY.public, b"data")
    assert "nothing was signed" in refusal.value.hint


def test_agent_that_nobody_serves_is_given_up() -> None:
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "agent"))
        listener.listen(0)
        with refused("agent_silent"):
            connect_agent(str(folder / "agent"), list_s=SHORT_S).list_keys()


def test_full_queue_of_an_agent_is_unavailable() -> None:
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(folder / "agent"))
        listener.listen(0)
        waiting.connect(str(folder / "agent"))
        with refused("agent_unavailable"):
            connect_agent(str(folder / "agent"), monotonic=no_time_passes).list_keys()


def test_answer_that_drips_is_given_up_as_a_whole() -> None:
    ticks = iter(range(1000))
    with soft_agent(lambda _: message(12, bytes(200_000))) as agent, refused("agent_silent"):
        # Each look at the clock is a second later, so that every read alone would be in time.
        connect_agent(agent.socket, list_s=4.5, monotonic=lambda: float(next(ticks))).list_keys()


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x00", b"\x00\x00\x00\x05", message(12, b"\x00\x00\x00\x01")[:-1], message(12, bytes(100))[:50]],
)
def test_answer_that_is_cut_short_is_refused(answer: bytes) -> None:
    with soft_agent(lambda _: answer) as agent, refused("bad_agent_answer"):
        patient(agent.socket).list_keys()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64, bytes(64), message(99)])
def test_garbage_is_refused(answer: bytes) -> None:
    with soft_agent(lambda _: answer) as agent, refused("bad_agent_answer"):
        patient(agent.socket).list_keys()


def test_flood_is_refused_by_its_length_alone() -> None:
    flood = (512 * 1024 * 1024).to_bytes(4, "big") + bytes(8 * 1024 * 1024)
    with soft_agent(lambda _: flood) as agent, refused("bad_agent_answer"):
        patient(agent.socket).list_keys()


def test_what_follows_an_answer_is_not_read() -> None:
    respond = answering(Held(plain_blob(b"\x21" * 32), lambda data: plain_signature(b"\x21" * 32, data)))
    with soft_agent(lambda request: (respond(request) or b"") + bytes(8 * 1024 * 1024)) as agent:
        found = patient(agent.socket)
        assert [key.key for key in found.list_keys()] == [KEY.public]
        assert found.sign(KEY.public, b"data")


def test_each_message_has_its_own_connection_and_its_own_patience() -> None:
    respond = answering(Held(plain_blob(b"\x21" * 32), lambda data: plain_signature(b"\x21" * 32, data)))
    with soft_agent(respond) as agent:
        found = connect_agent(agent.socket, list_s=PATIENCE_S, sign_s=PATIENCE_S)
        found.list_keys()
        found.sign(KEY.public, b"data")
        found.list_keys()
        assert [request[0] for request in agent.requests] == [11, 13, 11]
