"""A web hook on this machine that takes what apprise sends to `json://` addresses, and answers as a test says."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

MAX_BODY = 64 * 1024
HOLD_S = 120.0


@dataclass
class Hook:
    """Serves on 127.0.0.1 while it is a context. `answers`: status codes of the next requests, then 200. `held`: paths
    whose requests get no answer until `release`.
    """

    answers: list[int] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._released = threading.Event()
        self._arrived = threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            timeout = HOLD_S

            def do_POST(self) -> None:
                size = min(int(self.headers.get("content-length", 0)), MAX_BODY)
                status = hook.take(self.path, json.loads(self.rfile.read(size)))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def take(self, path: str, message: dict[str, Any]) -> int:
        """Take a message in; the status that answers it."""
        with self._arrived:
            status = self.answers.pop(0) if self.answers else 200
            self.got.append((path, message))
            self._arrived.notify_all()
        if path in self.held:
            self._released.wait(HOLD_S)
        return status

    def address(self, path: str = "/hook", user: str = "") -> str:
        """The apprise address of a path here."""
        return f"json://{user}127.0.0.1:{self._server.server_address[1]}{path}"

    def wait(self, count: int, path: str | None = None, seconds: float = 60.0) -> list[dict[str, Any]]:
        """The messages to a path, once there are so many."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.messages(path)) >= count, seconds), self.got
        return self.messages(path)

    def messages(self, path: str | None = None) -> list[dict[str, Any]]:
        """The messages so far."""
        return [message for where, message in self.got if path in (None, where)]

    def titles(self, path: str | None = None) -> list[str]:
        """Their titles."""
        return [message["title"] for message in self.messages(path)]

    def ids(self, path: str | None = None) -> list[str]:
        """The ids of the notices in them."""
        return [message["message"].rsplit("Notice ", 1)[1] for message in self.messages(path)]

    def release(self) -> None:
        """Answer what is held."""
        self.held.clear()
        self._released.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)
