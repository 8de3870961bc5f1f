"""A time limit for a whole HTTP exchange, also for one whose headers come byte by byte.

httpx limits each wait for bytes, and not their sum. Here a timer shuts the client's connections down when an exchange
takes too long; whoever reads from one of them then sees its end.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakSet

import httpx

Trace = Callable[[str, dict[str, Any]], None]
"""The extension `trace` of httpx: called with the name of each step, and what it gave."""


class Connections:
    """The connections of one client, used by several threads."""

    def __init__(self) -> None:
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._lock = threading.Lock()
        self._cuts = 0

    @contextmanager
    def limit(self, seconds: float) -> Iterator[tuple[Trace, threading.Event]]:
        """Give an exchange so many seconds: its `trace`, and whether they were over.

        Raises: httpx.ReadError when a connection was shut down meanwhile: an answer that ends there may be cut.
        """
        late = threading.Event()
        cuts = self._cuts
        fresh: list[socket.socket] = []

        def trace(step: str, info: dict[str, Any]) -> None:
            if step.endswith(("connect_tcp.complete", "start_tls.complete")):
                found = info["return_value"].get_extra_info("socket")
                with self._lock:
                    self._sockets.add(found)
                    # TLS takes the socket away from this object before its handshake.
                    fresh.append(found.dup() if step.endswith("connect_tcp.complete") else found)
                    if late.is_set():
                        # The time was over before there was a connection: looking up a name has no limit of ours.
                        with suppress(OSError):
                            socket.socket.shutdown(found, socket.SHUT_RDWR)

        def end() -> None:
            late.set()
            with self._lock:
                self._cuts += 1
                # Those of others as well, who try again: which of them this exchange uses is not known here.
                for each in (*fresh, *self._sockets):
                    with suppress(OSError):
                        socket.socket.shutdown(each, socket.SHUT_RDWR)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield trace, late
            if late.is_set() or self._cuts != cuts:
                raise httpx.ReadError("the connection was shut down")
        finally:
            timer.cancel()
            with self._lock:
                for each in fresh[:]:
                    if each not in self._sockets:
                        each.close()
                fresh.clear()
