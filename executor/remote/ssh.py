"""OpenSSH as the way to a server: `ssh` from PATH, an argument list, no shell on this side.

CALYX_SSH names another command line in its place, such as `ssh -F config`, as GIT_SSH_COMMAND does for git.
CALYX_REMOTE_COMMAND says how calyx is started on the host, such as `/opt/calyx/bin/calyx`; else it is `calyx`.

The host is not trusted, so nothing of this machine is lent to it: no agent, no ticket, no display, no port. What it
writes to standard error is shown as text, line by line, with its origin, and only so much of it. What ssh itself asks
(an unknown host key, a passphrase) it asks on the terminal.

Source: ssh(1), ssh_config(5).
"""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Final

from executor.remote.address import Address
from executor.remote.frames import Channel
from keys.errors import Unavailable, UsageError

SSH_VARIABLE: Final = "CALYX_SSH"
COMMAND_VARIABLE: Final = "CALYX_REMOTE_COMMAND"
MAX_LINES: Final = 100
MAX_LINE: Final = 1_000
END_S: Final = 2.0

_SSH_FAILED: Final = 255
_NOT_FOUND: Final = 127

Tell = Callable[[str], None]
"""Shows a line to the person, escaped."""


def ssh_command(address: Address, environment: Mapping[str, str], *, person: bool) -> list[str]:
    """The argument list that starts a server there. `person`: somebody can answer what ssh asks.

    Raises: UsageError (`bad_ssh_command`).
    """
    ssh = _split(SSH_VARIABLE, environment, "ssh")
    calyx = _split(COMMAND_VARIABLE, environment, "calyx")
    if calyx[0].startswith("-"):
        raise UsageError("bad_ssh_command", f"{COMMAND_VARIABLE} begins with an option", hint="name a program")
    options = ["-T", "-a", "-k", "-x", "-e", "none"]
    for option in (
        f"BatchMode={'no' if person else 'yes'}",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "RemoteCommand=none",
        "ServerAliveInterval=15",
    ):
        options += ["-o", option]
    if address.port is not None:
        options += ["-p", str(address.port)]
    remote = [*calyx, "serve", "--stdio", "--home", address.path]
    # The host's shell splits the command again.
    return [*ssh, *options, "--", address.destination, shlex.join(remote)]


class SshTransport:
    """A running `ssh`. `tell`: shows what it and the host say on standard error."""

    def __init__(self, address: Address, environment: Mapping[str, str], tell: Tell, *, person: bool) -> None:
        argv = ssh_command(address, environment, person=person)
        self._name = argv[0]
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
            )
        except OSError as error:
            raise Unavailable(
                "no_ssh", f"cannot start {argv[0]}: {error.strerror}", hint=f"install OpenSSH, or set {SSH_VARIABLE}"
            ) from None
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise RuntimeError("the pipes of ssh are missing")
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        self.channel: Channel = Channel(stdout.fileno(), stdin.fileno())
        self._listener = threading.Thread(target=_show_lines, args=(stderr, tell), daemon=True)
        self._listener.start()

    def close(self) -> str:
        """End `ssh`; how it ended, where that says what is wrong."""
        # Its end of input tells the server to end, and ssh with it.
        self._stdin.close()
        status: int | None
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            status = None
            self._process.kill()
            self._process.wait()
        self._stdout.close()
        self._listener.join(END_S)
        if not self._listener.is_alive():
            self._stderr.close()
        if status == _SSH_FAILED:
            return f"{self._name} could not connect; it says why above"
        if status == _NOT_FOUND:
            return f"the host found no calyx to run; {COMMAND_VARIABLE} says where it is"
        return "" if not status else f"what was started there ended with {status}"


def _show_lines(stream: IO[bytes], tell: Tell) -> None:
    shown = 0
    while line := stream.readline(MAX_LINE):
        if shown < MAX_LINES and line.strip():
            shown += 1
            # Whether anyone can read it does not matter to the command.
            with suppress(OSError, ValueError):
                tell(f"ssh: {line.decode('utf-8', 'replace').rstrip()}")
                if shown == MAX_LINES:
                    tell("ssh: more was said, and is not shown")


def _split(name: str, environment: Mapping[str, str], otherwise: str) -> list[str]:
    text = environment.get(name) or otherwise
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError("bad_ssh_command", f"{name} cannot be split into words: {error}") from None
    if not words:
        raise UsageError("bad_ssh_command", f"{name} is empty", hint="unset it, or name a program")
    return words
