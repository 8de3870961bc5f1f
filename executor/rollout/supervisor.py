"""Telling whoever supervises this process how it is: systemd's notifications, as one datagram each.

Nothing is said where NOTIFY_SOCKET is not set, and nothing that fails here matters to the run.

Source: sd_notify(3), systemd.service(5) on `Type=notify` and `WatchdogSec=`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
ALIVE: Final = "WATCHDOG=1"
_MAX_STATUS: Final = 200


class Supervisor:
    """Whoever started this process, if it wants to know. `environment`: read once. `monotonic`: seconds that only
    grow.
    """

    def __init__(self, environment: Mapping[str, str], monotonic: Callable[[], float]) -> None:
        self._monotonic: Final = monotonic
        name = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is abstract: its first byte is zero.
        self._address: Final = "\0" + name[1:] if name.startswith("@") else name
        mine = environment.get("WATCHDOG_PID") in (None, str(os.getpid()))
        usec = environment.get("WATCHDOG_USEC", "")
        within_s = int(usec) / 1e6 if mine and usec.isascii() and usec.isdigit() else 0.0
        # Twice in the time that is given, and more often where a round takes long.
        self._every_s: Final = within_s / 2
        self._said_at: float | None = None

    def ready(self, status: str) -> None:
        """The process has begun its work."""
        self._send(READY, _status(status))

    def stopping(self) -> None:
        """The process is about to end."""
        self._send(STOPPING)

    def status(self, status: str) -> None:
        """One line for a person."""
        self._send(_status(status))

    def alive(self) -> None:
        """The loop came round. Said as often as the watchdog needs to hear it."""
        now = self._monotonic()
        if self._every_s and (self._said_at is None or now - self._said_at >= self._every_s):
            self._said_at = now
            self._send(ALIVE)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto("\n".join(lines).encode(), self._address)


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())[:_MAX_STATUS]
