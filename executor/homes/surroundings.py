"""What a person's machine holds of their keys: an ssh-agent and `~/.ssh`. Looked at, never opened.

Nothing here reads the environment or prints: `look_around` is given both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keys.errors import CalyxError
from keys.openssh_private import peek_private_key
from keys.openssh_public import MAX_LINE, OpenSshKey, parse_public
from keys.regular import read_regular
from keys.words import counted

if TYPE_CHECKING:
    from keys.ssh_agent import AgentKey, SshAgent

AGENT_VARIABLE: Final = "SSH_AUTH_SOCK"
MAX_LISTED: Final = 1_000
"""Names of `~/.ssh` that are looked at."""
_USUAL: Final = ("id_ed25519", "id_ed25519_sk")


@dataclass
class Surroundings:
    """Where a person's keys may be on this machine. `folder`: `~/.ssh`. `agent`: None when the environment names none.
    `environment`: of an ssh-keygen that signs. `passphrase`: asks for a key file's. `tell`: says a line to the person.
    """

    folder: Path
    agent: SshAgent | None
    environment: Mapping[str, str]
    tell: Callable[[str], None]
    passphrase: Callable[[Path], bytes] | None = None
    _listed: list[AgentKey] | None = field(default=None, init=False)
    _silence: str = field(default="", init=False)

    def agent_keys(self) -> list[AgentKey]:
        """The agent's keys; none, and one line about it, when it does not answer. It is asked once."""
        if self._listed is None:
            self._listed = []
            try:
                self._listed = [] if self.agent is None else self.agent.list_keys()
            except CalyxError as error:
                self._silence = error.message
                self.tell(f"note: the ssh-agent is passed over: {error.message}")
        return self._listed

    def agent_state(self) -> str:
        """What the agent holds, in words for someone whose key was not in it."""
        if self.agent is None:
            return f"no ssh-agent ({AGENT_VARIABLE} is not set)"
        if self._silence:
            return "an ssh-agent that does not answer"
        count = len(self.agent_keys())
        return (
            f"the ssh-agent ({counted(count, 'Ed25519 key')}; none of them)"
            if count
            else "the ssh-agent (empty, or locked)"
        )

    def file_keys(self) -> Iterator[tuple[Path, OpenSshKey]]:
        """The private key files of `~/.ssh` and the public half that lies beside each, or in it; the usual names first.

        No secret is opened.
        """
        try:
            with os.scandir(self.folder) as entries:
                names = {entry.name for entry in islice(entries, MAX_LISTED)}
        except OSError:
            return
        beside = sorted(name.removesuffix(".pub") for name in names if name.endswith(".pub"))
        for name in dict.fromkeys((*_USUAL, *beside)):
            path = self.folder / name
            if name in names:
                key = read_public(path.with_name(f"{name}.pub")) or (peek_public(path) if name in _USUAL else None)
                if key is not None:
                    yield path, key


def look_around(
    environment: Mapping[str, str],
    home: Path,
    open_agent: Callable[[str], SshAgent],
    tell: Callable[[str], None],
    passphrase: Callable[[Path], bytes] | None = None,
) -> Surroundings:
    """The surroundings of the person whose environment and home directory these are; nothing is reached yet."""
    socket = environment.get(AGENT_VARIABLE)
    return Surroundings(home / ".ssh", open_agent(socket) if socket else None, environment, tell, passphrase)


def read_public(path: Path) -> OpenSshKey | None:
    """The key of a `.pub` file; None when there is none, or it is of no use here."""
    try:
        return parse_public(read_regular(path, MAX_LINE).decode("utf-8"))
    except (OSError, ValueError, CalyxError):
        return None


def peek_public(path: Path) -> OpenSshKey | None:
    """The public half of a private key file; None when there is none, or it is of no use here. No secret is opened."""
    try:
        return peek_private_key(path).public
    except CalyxError:
        return None
