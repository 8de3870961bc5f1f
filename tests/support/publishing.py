"""A web server for a directory, on this machine only, that misbehaves as it is told to."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from station import new_station

from policies.auditing.export import export_ledger

PATIENCE_S = 60

Fault = Callable[["Handler", bytes | None], bool]
"""Answers a request in its own way and says so, or leaves it to the server. Takes the file's content, None for none."""


@dataclass
class Publisher:
    """What is published where, and who asked for what."""

    root: Path
    address: str = ""
    fault: Fault | None = None
    asked: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    """Serves plain files below `publisher.root`."""

    publisher: Publisher
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        """Answer with the file, or as the fault wants it."""
        name = self.path.removeprefix("/log/")
        self.publisher.asked.append(name)
        path = self.publisher.root / name
        data = path.read_bytes() if path.is_file() else None
        if self.publisher.fault is not None and self.publisher.fault(self, data):
            return
        self.answer(200 if data is not None else 404, data or b"")

    def answer(self, status: int, data: bytes, **headers: str) -> None:
        """A whole answer; headers are spelt with underscores."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def export_in_two_steps(root: Path) -> Path:
    """The export of a deployment, of which older partial files lie beside the newest. The station is beside it."""
    station, out = new_station(root / "station"), root / "log"
    lease = station.propose()
    export_ledger(station.store, station.objects, out, remembered=None)
    station.begin(lease)
    station.complete(lease)
    export_ledger(station.store, station.objects, out, remembered=None)
    return out


@contextmanager
def published(root: Path) -> Iterator[Publisher]:
    """Publish a directory for as long as the context lasts."""
    publisher = Publisher(root)
    handler = type("Bound", (Handler,), {"publisher": publisher})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    publisher.address = f"http://127.0.0.1:{server.server_address[1]}/log"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield publisher
    finally:
        publisher.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def flood(handler: Handler, _data: bytes | None) -> bool:
    """Never stop sending."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while not handler.publisher.closing.is_set():
            handler.wfile.write(bytes(65_536))
    except OSError:
        pass
    return True


def hang(handler: Handler, _data: bytes | None) -> bool:
    """Say nothing until the server ends."""
    handler.publisher.closing.wait(PATIENCE_S)
    return True


def drip(handler: Handler, _data: bytes | None) -> bool:
    """A byte now and then."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while not handler.publisher.closing.wait(0.05):
            handler.wfile.write(b"x")
    except OSError:
        pass
    return True


def drip_head(handler: Handler, data: bytes | None) -> bool:
    """The right answer, but for a header that takes ten seconds; says so when somebody waited for all of it."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
        for _ in range(200):
            if handler.publisher.closing.wait(0.05):
                break
            handler.wfile.write(b"x")
        handler.publisher.asked.append("and waited")
        handler.wfile.write(b"\r\ncontent-length: %d\r\n\r\n" % len(data or b"") + (data or b""))
    except OSError:
        pass
    return True


def cut(handler: Handler, data: bytes | None) -> bool:
    """Promise more than is sent."""
    handler.send_response(200)
    handler.send_header("content-length", str(len(data or b"") + 10))
    handler.end_headers()
    handler.wfile.write(data or b"")
    return True


def redirect(handler: Handler, _data: bytes | None) -> bool:
    """Send the reader elsewhere."""
    handler.answer(302, b"", location="http://127.0.0.1:9/elsewhere")
    return True


def fail(handler: Handler, _data: bytes | None) -> bool:
    """Be out of order."""
    handler.answer(503, b"later")
    return True


def bomb(handler: Handler, _data: bytes | None) -> bool:
    """A small answer that becomes a large one."""
    handler.answer(200, gzip.compress(bytes(64 * 1024 * 1024)), content_encoding="gzip")
    return True


def nested(handler: Handler, data: bytes | None) -> bool:
    """Packed twice."""
    handler.answer(200, gzip.compress(gzip.compress(data or b"")), content_encoding="gzip, gzip")
    return True


def packed(handler: Handler, data: bytes | None) -> bool:
    """Packed without being asked, which the specification allows for bundles."""
    if data is None:
        return False
    handler.answer(200, gzip.compress(data), content_encoding="gzip")
    return True


def noise(handler: Handler, _data: bytes | None) -> bool:
    """Bytes that mean nothing."""
    handler.answer(200, b"\x00\xff" * 50)
    return True
