"""The service that the demo deploys: answers requests, counts them, and in one version fails every third.

GET /              200 and the version, or 500
GET /health        200 and the version
GET /counters      {"requests": N, "errors": N, "version": V} since the process began; only / counts
"""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = Path("VERSION").read_text(encoding="utf-8").strip()
FAIL_EVERY = 0

lock = threading.Lock()
counts = {"requests": 0, "errors": 0}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Answer a GET."""
        if self.path == "/health":
            self.answer(200, VERSION)
        elif self.path == "/counters":
            with lock:
                self.answer(200, json.dumps({**counts, "version": VERSION}))
        elif self.path == "/":
            with lock:
                counts["requests"] += 1
                failed = bool(FAIL_EVERY) and counts["requests"] % FAIL_EVERY == 0
                counts["errors"] += failed
            self.answer(500 if failed else 200, "broken" if failed else f"hello from version {VERSION}")
        else:
            self.answer(404, "no such page")

    def answer(self, status: int, text: str) -> None:
        """Send a short text."""
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the demo measures, it does not log."""


class Server(ThreadingHTTPServer):
    """Takes its address at once, also right after the process before it."""

    daemon_threads = True
    allow_reuse_address = True


if __name__ == "__main__":
    Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
