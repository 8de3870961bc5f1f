from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from executor.hosts.host import Running
from executor.metrics.counters import CounterSource
from executor.metrics.http import MAX_BODY
from executor.metrics.measure import Place, Reading
from policies.fleet import Counters, Instance, Metrics

PATIENCE_S = 60.0


class Service:
    """A service that serves `body` with `status`; with `drip` it sends one byte and then nothing more."""

    def __init__(self, port: int = 0) -> None:
        self.body = b'{"requests":0,"errors":0}'
        self.status = 200
        self.drip = False
        self.location: str | None = None
        self.asked = 0
        self.heard: str | None = None
        self._release = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE_S

            def do_GET(self) -> None:
                service.asked += 1
                service.heard = self.headers["Authorization"]
                self.send_response(service.status)
                self.send_header("Content-Length", str(len(service.body)))
                if service.location:
                    self.send_header("Location", service.location)
                self.end_headers()
                if service.drip:
                    self.wfile.write(service.body[:1])
                    self.wfile.flush()
                    service._release.wait(PATIENCE_S)
                else:
                    self.wfile.write(service.body)

            def log_request(self, code: object = "-", size: object = "-") -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def count(self, requests: object, errors: object) -> None:
        self.body = f'{{"requests":{requests},"errors":{errors}}}'.encode()

    def place(self, process: Running | None = None, who: str = "") -> Place:
        counters = Counters(url=f"http://{who}127.0.0.1:{self.port}/metrics")
        return Place(Instance(name="a", root="/srv/a", metrics=Metrics(counters=counters)), process)

    def stop(self) -> None:
        self._release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    one = Service()
    yield one
    one.stop()


@pytest.fixture
def source() -> CounterSource:
    return CounterSource(PATIENCE_S)


def read(source: CounterSource, place: Place) -> Reading:
    return source.read([place])["a"]


def running(started: int) -> Running:
    return Running(pid=100, started=started, boot="b", tree="0" * 64)


def test_window_counts_what_was_added_since_the_last_reading(service: Service, source: CounterSource) -> None:
    service.count(1000, 50)
    assert read(source, service.place()).values == {}
    service.count(1100, 55)
    assert read(source, service.place()).values == {"requests": Decimal(100), "errors": Decimal(5)}
    assert read(source, service.place()).values == {"requests": Decimal(0), "errors": Decimal(0)}


def test_refused_connection_is_a_missing_value_and_not_zero(service: Service, source: CounterSource) -> None:
    place = service.place()
    service.count(10, 0)
    read(source, place)
    service.stop()
    refused = read(source, place)
    assert refused.values == {}
    assert refused.notes == ("counters: ConnectError",)


def test_restart_seen_by_counters_that_went_down(source: CounterSource) -> None:
    first = Service()
    first.count(500, 5)
    read(source, first.place())
    first.stop()
    second = Service(first.port)
    try:
        second.count(20, 0)
        restarted = read(source, second.place())
        assert restarted.values == {}
        assert restarted.notes == ("counters: the service was restarted",)
        second.count(30, 1)
        assert read(source, second.place()).values == {"requests": Decimal(10), "errors": Decimal(1)}
    finally:
        second.stop()


def test_restart_seen_by_another_process_though_counters_are_higher(service: Service, source: CounterSource) -> None:
    service.count(10, 0)
    read(source, service.place(running(1)))
    service.count(900, 900)
    assert read(source, service.place(running(2))).values == {}


def test_window_with_a_failure_in_it_has_no_value(service: Service, source: CounterSource) -> None:
    read(source, service.place())
    service.status = 500
    assert read(source, service.place()).notes == ("counters: the answer has status 500",)
    service.status = 200
    service.count(100, 0)
    assert read(source, service.place()).values == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[1,2]",
        b'{"requests":1}',
        b'{"requests":"1","errors":0}',
        b'{"requests":true,"errors":0}',
        b'{"requests":1.0,"errors":0}',
        b'{"requests":-1,"errors":0}',
        b'{"requests":9007199254740992,"errors":0}',
        b'{"requests":5,"errors":0,"errors":5}',
        b'{"requests":' + b"9" * 5000 + b',"errors":0}',
        b"[" * 60_000,
        b'{"requests":1,"errors":0}' + b" " * MAX_BODY,
    ],
)
def test_hostile_document_is_a_missing_value(service: Service, source: CounterSource, body: bytes) -> None:
    read(source, service.place())
    service.body = body
    answer = read(source, service.place())
    assert answer.values == {}
    assert answer.notes[0].startswith("counters: ")


def test_more_errors_than_requests_is_no_value(service: Service, source: CounterSource) -> None:
    read(source, service.place())
    service.count(1, 2)
    assert read(source, service.place()).values == {}


def test_answer_that_drips_is_given_up(service: Service) -> None:
    service.drip = True
    assert read(CounterSource(0.2), service.place()).notes == ("counters: no answer in time",)


def test_redirect_is_not_followed(service: Service, source: CounterSource) -> None:
    service.status, service.location = 302, "/elsewhere"
    assert read(source, service.place()).notes == ("counters: the answer has status 302",)
    assert service.asked == 1


def test_redirect_that_the_library_stumbles_over_is_a_missing_value(service: Service, source: CounterSource) -> None:
    service.status, service.location = 302, "http://xn--a/"
    reading = read(source, service.place())
    assert reading.values == {}
    assert reading.notes[0].startswith("counters: ")


def test_proxy_of_the_environment_is_not_asked(
    service: Service, source: CounterSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert read(source, service.place()).notes == ("counters: this is the first reading",)


def test_password_in_a_signed_address_is_not_sent(service: Service, source: CounterSource) -> None:
    source.read([service.place(who="ada:secret@")])
    assert (service.asked, service.heard) == (1, None)


def test_instance_without_counters_has_no_value(source: CounterSource) -> None:
    assert read(source, Place(Instance(name="a", root="/srv/a"), None)).values == {}
