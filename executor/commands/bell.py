"""Waiting that a signal always ends.

Python runs the handler of a signal between two instructions of the main thread. So a handler must take no lock, for
what it interrupts may hold it; and it is due, and does not run, while the thread enters a call that waits: that call
sleeps on. The system's own handler writes into a socket at once, and who waits for that one as well misses no signal.
"""

from __future__ import annotations

import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final


class Bell:
    """Rings when a signal that has a handler is delivered. `end`: of a pair of sockets, read without waiting."""

    def __init__(self, end: socket.socket) -> None:
        self._end: Final = end

    def wait(self, seconds: float | None, *others: int) -> bool:
        """Wait until a signal was delivered, or one of `others` can be read, or for some seconds. Whether one of them
        can be read. A handler runs before this comes back, and what it raises comes out of here.
        """
        if others and sys.platform == "win32":
            # It waits for sockets alone.
            return True
        ready = select.select([self._end.fileno(), *others], [], [], seconds)[0]
        with suppress(BlockingIOError):
            self._end.recv(64)
        return not set(ready).isdisjoint(others)


@contextmanager
def hung_bell() -> Iterator[Bell]:
    """A bell, from here on. For the main thread."""
    end, rope = socket.socketpair()
    with end, rope:
        for each in (end, rope):
            each.setblocking(False)
        before = signal.set_wakeup_fd(rope.fileno(), warn_on_full_buffer=False)
        try:
            yield Bell(end)
        finally:
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
