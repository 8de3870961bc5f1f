"""Sending: one short-lived process for each message and address, with a time limit that holds whatever it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from executor.notify import sender
from executor.notify.addresses import Address

SEND_S: Final = 20
"""Seconds after which a delivery that did not end is ended."""
DELIVERED: Final = "delivered"
_OUTCOMES: Final = {
    sender.DELIVERED: DELIVERED,
    sender.REFUSED: "refused",
    sender.BAD_ADDRESS: "bad_address",
    sender.NO_APPRISE: "apprise_missing",
}


@dataclass(frozen=True, slots=True)
class Letter:
    """What is sent. `kind`: `info`, `success`, `warning` or `failure`."""

    title: str
    body: str
    kind: str


class Sending(Protocol):
    """One message on its way to one address."""

    def poll(self) -> str | None:
        """None while it is under way; then `delivered`, or a code that says why not."""
        ...

    def end(self) -> None:
        """Let it go on no longer."""
        ...


Post: TypeAlias = Callable[[Address, Letter], Sending]
"""Begins to send. Never waits, never raises."""


def _environment() -> dict[str, str]:
    """What a sender needs of ours: no way to a person's ssh-agent, and nothing of the home."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SSH_", "CALYX_", "GIT_"))}


class SenderProcess:
    """A `Sending` in a process of its own (`executor.notify.sender`). `limit_s`: seconds that it may take."""

    def __init__(self, address: Address, letter: Letter, limit_s: int = SEND_S) -> None:
        self._until: Final = time.monotonic() + limit_s
        self._child: subprocess.Popen[bytes] | None = None
        self._outcome: str | None = None
        request = {
            "url": address.url,
            "title": letter.title,
            "body": letter.body,
            "kind": letter.kind,
            "seconds": limit_s + 1,
        }
        try:
            # By its path and with -P: nothing is imported from wherever this process happens to be.
            self._child = subprocess.Popen(
                [sys.executable, "-P", sender.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env=_environment(),
            )
        except OSError:
            self._outcome = "not_started"
            return
        pipe = self._child.stdin
        if pipe is not None:
            # It fits into the pipe, so writing waits for nobody; whoever died already reads nothing.
            with suppress(OSError):
                pipe.write(json.dumps(request).encode())
            with suppress(OSError):
                pipe.close()

    def poll(self) -> str | None:
        """How it ended, once it did."""
        if self._outcome is None and self._child is not None:
            code = self._child.poll()
            if code is not None:
                self._outcome = _OUTCOMES.get(code, "sender_failed")
            elif time.monotonic() >= self._until:
                self.end()
                self._outcome = "timed_out"
        return self._outcome

    def end(self) -> None:
        """Kill it, and what it started."""
        if self._child is not None and self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
