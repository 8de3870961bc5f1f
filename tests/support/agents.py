"""ssh-agents for tests: the real one, and one in this process that behaves well or badly.

The one in this process encodes everything by itself, so that a mistake in the code under test is not repeated here.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from authenticator import Token
from authenticator import field as string
from folders import short_folder
from programs import require_program

from keys import ed25519
from keys.openssh import PrivateKey, store_private_key

PATIENCE_S = 60
Respond = Callable[[bytes], bytes | None]
"""The bytes that go back for a request's message, with their length; None: nothing, and the connection stays open."""


@dataclass
class RealAgent:
    """The installed ssh-agent, used through the installed ssh-add. `socket`: where it listens."""

    folder: Path
    process: subprocess.Popen[str]

    @property
    def socket(self) -> str:
        return str(self.folder / "agent")

    def add(self, key: PrivateKey, passphrase: str | None = None) -> Path:
        """Give it a key from a file, protected by a passphrase where one is named; the file, which stays."""
        path = self.folder / f"key-{len(list(self.folder.glob('*.pub')))}"
        store_private_key(path, key, None if passphrase is None else passphrase.encode())
        self.ssh_add(str(path), typed=passphrase or "")
        return path

    def lock(self) -> None:
        """Lock it: until it is unlocked it lists no key and signs nothing."""
        self.ssh_add("-x", typed="closed")

    def ssh_add(self, *arguments: str, typed: str = "") -> str:
        """Run ssh-add; `typed` is what it is told whenever it asks."""
        answer = self.folder / "askpass"
        answer.write_text(f"#!/bin/sh\nprintf '%s\\n' '{typed}'\n", "ascii")
        answer.chmod(0o700)
        environment = {
            **os.environ,
            "SSH_AUTH_SOCK": self.socket,
            "SSH_ASKPASS": str(answer),
            "SSH_ASKPASS_REQUIRE": "force",
        }
        done = subprocess.run(
            [require_program("ssh-add"), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self) -> None:
        """End it, by its process id."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)


@contextmanager
def real_agent(*options: str) -> Iterator[RealAgent]:
    """A running ssh-agent with no keys, ended at the end."""
    program = require_program("ssh-agent")
    with short_folder() as folder:
        process = subprocess.Popen(
            [program, "-D", *options, "-a", str(folder / "agent")],
            stdout=subprocess.PIPE,
            text=True,
        )
        agent = RealAgent(folder, process)
        try:
            assert process.stdout is not None
            # It says where it listens once it does.
            assert "SSH_AUTH_SOCK" in process.stdout.readline()
            yield agent
        finally:
            agent.stop()
            if process.stdout is not None:
                process.stdout.close()


def message(kind: int, contents: bytes = b"") -> bytes:
    """An agent's message with its length."""
    return string(bytes([kind]) + contents)


@dataclass(frozen=True)
class Held:
    """A key that an agent in this process holds. `sign`: the signature over the data, or None to refuse."""

    blob: bytes
    sign: Callable[[bytes], bytes | None]
    comment: bytes = b"a key"


def held_token(token: Token, sign: Callable[[bytes], bytes | None] | None = None, **options: int) -> Held:
    """A token that an agent holds; `options` are of `Token.assertion`."""
    return Held(token.blob, sign or (lambda data: token.assertion(data, **options)), b"my token")  # type: ignore[arg-type]  # mypy takes them for the bytes of `application`


def plain_blob(seed: bytes) -> bytes:
    """The public key blob of a plain key."""
    return string(b"ssh-ed25519") + string(bytes(ed25519.SigningKey(seed).public))


def plain_signature(seed: bytes, data: bytes) -> bytes:
    """The inner signature of a plain key."""
    return string(b"ssh-ed25519") + string(ed25519.sign(seed, data))


def answering(*held: Held) -> Respond:
    """What an agent with these keys answers."""

    def respond(request: bytes) -> bytes:
        if request == bytes([11]):
            rows = [string(each.blob) + string(each.comment) for each in held]
            return message(12, struct.pack(">I", len(rows)) + b"".join(rows))
        if request[0] != 13:
            return message(5)
        size = struct.unpack_from(">I", request, 1)[0]
        blob, rest = request[5 : 5 + size], request[5 + size :]
        length = struct.unpack_from(">I", rest)[0]
        assert rest[4 + length :] == bytes(4), "an Ed25519 key knows no flags"
        for each in held:
            if each.blob == blob:
                signature = each.sign(rest[4 : 4 + length])
                return message(5) if signature is None else message(14, string(signature))
        return message(5)

    return respond


@dataclass
class SoftAgent:
    """An ssh-agent in a thread of this process. `requests`: every message that it was sent."""

    socket: str
    respond: Respond
    requests: list[bytes] = field(default_factory=list)

    @property
    def signed(self) -> int:
        """How often it was asked to sign."""
        return sum(request[:1] == bytes([13]) for request in self.requests)


@contextmanager
def soft_agent(respond: Respond) -> Iterator[SoftAgent]:
    """A listening agent, gone at the end."""
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        agent = SoftAgent(str(folder / "agent"), respond)
        listener.bind(agent.socket)
        listener.listen(8)
        open_ones: list[socket.socket] = []
        thread = threading.Thread(target=_serve, args=(listener, agent, open_ones), daemon=True)
        thread.start()
        try:
            yield agent
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_S)
            for connection in open_ones:
                connection.close()
            assert not thread.is_alive()


def _serve(listener: socket.socket, agent: SoftAgent, open_ones: list[socket.socket]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.settimeout(PATIENCE_S)
        try:
            request = _read(connection, struct.unpack(">I", _read(connection, 4))[0])
            agent.requests.append(request)
            answer = agent.respond(request)
            if answer is None:
                open_ones.append(connection)
                continue
            connection.sendall(answer)
        except (OSError, EOFError):
            pass  # whoever asked has gone
        connection.close()


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def token_of(seed: int = 0x11, application: bytes = b"ssh:") -> Token:
    """A token with a key of its own."""
    return Token(bytes([seed]) * 32, application)


def fake_keygen(folder: Path, body: str) -> str:
    """A PATH with a program `ssh-keygen` of ours, in Python: `body` runs with `args` and `statement` (a Path)."""
    folder.mkdir(exist_ok=True)
    program = folder / "ssh-keygen"
    program.write_text(
        f"#!{sys.executable}\nimport sys, os, time\nfrom pathlib import Path\nargs = sys.argv[1:]\n"
        f"statement = Path(args[-1])\nsignature = Path(args[-1] + '.sig')\n{body}\n",
        "utf-8",
    )
    program.chmod(0o700)
    return f"{folder}:{os.environ['PATH']}"
