"""Health and figures over HTTP, for this machine alone.

    GET /health     200 and `{"role":…,"status":"ok",…}`, or 503 when the loop does not come round
    GET /metrics    Prometheus' text format; needs the extra `metrics`

It binds to a loopback address and nothing else: a figure is no secret, but an open port is a door. It answers from what
the loop left in `executor.rollout.figures`, so no question reaches the ledger or a host, and no answer waits for one.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from executor.rollout.figures import Figures
from keys.errors import Unavailable, UsageError

HUNG_S: Final = 30.0
"""Seconds without a round after which the executor counts as hung."""
_REQUEST_S: Final = 5.0
_MAX_AT_ONCE: Final = 8


def parse_listen(text: str) -> tuple[str, int]:
    """Address and port of `127.0.0.1:9464` or `[::1]:9464`; port 0 takes a free one.

    Raises: UsageError (`bad_listen`).
    """
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        number = int(port) if port.isascii() and port.isdigit() else -1
    except ValueError:
        raise _bad_listen(text) from None
    if not address.is_loopback or not 0 <= number <= 65_535:
        raise _bad_listen(text)
    return str(address), number


def _bad_listen(text: str) -> UsageError:
    return UsageError(
        "bad_listen",
        f"{text} is not an address of this machine alone with a port",
        hint="write 127.0.0.1:9464; for other machines put a proxy in front that knows who asks",
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], figures: Figures) -> None:
        self.figures = figures
        self.slots = threading.BoundedSemaphore(_MAX_AT_ONCE)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        # Who asks too often at once is turned away, so that questions never take the machine from the rollout.
        if not self.slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is nothing to talk about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_S
    server_version = "calyx"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one question."""
        if self.path == "/health":
            status, body = health(self.server.figures)
            self._answer(status, "application/json", body)
        elif self.path == "/metrics":
            try:
                from executor.rollout.exposition import CONTENT_TYPE, expose
            except ImportError:
                self._answer(501, "text/plain; charset=utf-8", b"the extra metrics is not installed\n")
                return
            self._answer(200, CONTENT_TYPE, expose(self.server.figures))
        else:
            self._answer(404, "text/plain; charset=utf-8", b"/health or /metrics\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name is http.server's
        """Questions are not logged."""


def health(figures: Figures) -> tuple[int, bytes]:
    """The HTTP status and the JSON of what the figures say about the executor's health."""
    standing, silent_s = figures.standing, figures.silent_s()
    hung = silent_s > HUNG_S
    value = {
        "size": standing.entries,
        "epoch": standing.epoch,
        "last_round_s": round(silent_s, 1),
        "live": sum(standing.deployments.values()),
        "role": standing.role,
        "status": f"the loop has not come round for {int(silent_s)} s" if hung else "ok",
    }
    return 503 if hung else 200, json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@contextmanager
def serving(address: tuple[str, int], figures: Figures) -> Iterator[int]:
    """Answer questions for as long as the context lasts; gives the port.

    Raises: Unavailable (`listen_failed`).
    """
    try:
        server = _Server(address, figures)
    except OSError as error:
        raise Unavailable(
            "listen_failed",
            f"cannot listen on {address[0]} port {address[1]}: {error.strerror or error}",
            hint="choose another port with --listen",
        ) from None
    # `shutdown` is looked for this often; it is the end that waits for it, and no question.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.5}, name="endpoint", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
