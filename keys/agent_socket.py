"""The way to an ssh-agent: its Unix socket, with a limit on every wait, and every failure turned into one line.

Each message has a connection of its own. The limits hold for a whole exchange, however slowly its bytes drip: whoever
sets SSH_AUTH_SOCK cannot hang a command, only keep it from using that agent.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

from keys.errors import FormatError, Unavailable
from keys.ssh_agent import LENGTH_SIZE, SshAgent, asks_to_sign, format_frame, parse_length

LIST_S: Final = 5.0
"""Seconds for the list of keys: an agent has it in memory, and a machine may stall."""
SIGN_S: Final = 90.0
"""Seconds for a signature: a person may have to find the token and touch it."""
MAX_PATH: Final = 108
"""Bytes of a Unix socket's path."""
_CHUNK: Final = 64 * 1024


def connect_agent(
    path: str,
    *,
    list_s: float = LIST_S,
    sign_s: float = SIGN_S,
    monotonic: Callable[[], float] = time.monotonic,
) -> SshAgent:
    """The agent that listens at the socket `path`. It is reached when it is used, not before.

    `list_s`, `sign_s`: seconds that an exchange may take. What it raises while it is used: Unavailable
    (`agent_unavailable`, `agent_silent`), FormatError (`bad_agent_answer`).
    """

    def exchange(message: bytes) -> bytes:
        patience = sign_s if asks_to_sign(message) else list_s
        return _exchange(path, message, patience, monotonic)

    return SshAgent(exchange)


def _exchange(path: str, message: bytes, patience: float, monotonic: Callable[[], float]) -> bytes:
    frame = format_frame(message)
    shown = path[:MAX_PATH]
    deadline = monotonic() + patience

    def wait(connection: socket.socket) -> None:
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)

    def take(connection: socket.socket, count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            wait(connection)
            part = connection.recv(min(count, _CHUNK))
            if not part:
                raise FormatError(
                    f"the ssh-agent at {shown} ended the connection before its answer was whole",
                    code="bad_agent_answer",
                    hint="is SSH_AUTH_SOCK the socket of an ssh-agent?",
                )
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            wait(connection)
            connection.connect(path)
            wait(connection)
            connection.sendall(frame)
            # What follows the answer is never read.
            return take(connection, parse_length(take(connection, LENGTH_SIZE)))
    except TimeoutError:
        raise Unavailable(
            "agent_silent",
            f"the ssh-agent at {shown} gave no answer within {patience:g} seconds",
            hint="touch the token sooner, or see whether ssh-add -l answers; nothing was signed"
            if asks_to_sign(message)
            else "does ssh-add -l answer? Unset SSH_AUTH_SOCK to do without this agent",
        ) from None
    except (OSError, ValueError) as error:
        # ValueError: the path holds a NUL. OSError without a number: it is longer than a socket's path may be.
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Unavailable(
            "agent_unavailable",
            f"there is no ssh-agent at {shown}: {why}",
            hint="start one (ssh-agent) and add your key (ssh-add), or unset SSH_AUTH_SOCK",
        ) from None
