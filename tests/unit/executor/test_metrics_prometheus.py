from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from programs import require_program

from executor.metrics.http import MAX_BODY
from executor.metrics.measure import Place, Reading
from executor.metrics.prometheus import PrometheusSource
from keys.errors import FormatError
from policies.fleet import Counters, Instance, Metrics, Prometheus

PATIENCE_S = 60
REQUESTS, ERRORS = 'sum(http_requests_total{job="web"})', 'sum(http_requests_total{job="web",status="500"})'


@contextmanager
def served(answer: Callable[[str], tuple[int, bytes]]) -> Iterator[str]:
    """A server on loopback whose answers to paths are `answer`'s; its address."""

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_S

        def do_GET(self) -> None:
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, "the server did not get there"
        time.sleep(0.05)


def place(url: str, name: str = "a", **queries: str) -> Place:
    asked = queries or {"requests": "requests", "errors": "errors", "cpu": "cpu", "memory": "memory"}
    return Place(
        Instance(name=name, root=f"/srv/{name}", metrics=Metrics(prometheus=Prometheus(url=url, **asked))), None
    )


def vector(*values: str) -> dict[str, Any]:
    series = [{"metric": {"n": str(n)}, "value": [1_790_000_000.5, value]} for n, value in enumerate(values)]
    return {"status": "success", "data": {"resultType": "vector", "result": series}}


class Server:
    """Answers each query with what `answers` has for it."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.paths: list[str] = []

    def answer(self, path: str) -> tuple[int, bytes]:
        self.paths.append(path)
        (query,) = parse_qs(urlsplit(path).query)["query"]
        answer = self.answers[query]
        return 200, answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def count(self, requests: str, errors: str) -> None:
        self.answers |= {"requests": vector(requests), "errors": vector(errors)}


def read(source: PrometheusSource, one: Place) -> Reading:
    return source.read([one])[one.instance.name]


@pytest.fixture
def server() -> Server:
    server = Server()
    server.count("100", "3")
    server.answers |= {"cpu": vector("12.345"), "memory": {"status": "success", "data": {"resultType": "scalar"}}}
    server.answers["memory"]["data"]["result"] = [1, "7e1"]
    return server


def test_counts_are_differences_and_gauges_are_as_they_stand(server: Server) -> None:
    source = PrometheusSource(PATIENCE_S)
    with served(server.answer) as url:
        first = read(source, place(f"{url}/"))
        assert first.values == {"cpu": Decimal("12.35"), "memory": Decimal(70)}
        assert first.notes == ("prometheus: this is the first reading",)
        server.count("1.5e3", "10")
        assert read(source, place(url)).values == {
            **first.values,
            "requests": Decimal(1400),
            "errors": Decimal(7),
        }
        server.count("20", "0")
        assert read(source, place(url)).notes == ("prometheus: the service was restarted",)
    assert all(path.startswith("/api/v1/query?query=") for path in server.paths)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (vector(), "the query gives 0 series instead of one"),
        (vector("1", "2"), "the query gives 2 series instead of one"),
        (vector("NaN"), "the query gives no finite number"),
        (vector("+Inf"), "the query gives no finite number"),
        (vector("-1"), "the number is not a percentage"),
        (vector("1e999"), "the number is not a percentage"),
        ({"status": "error", "errorType": "bad_data", "error": "no"}, "the server did not answer the query"),
        (vector("1") | {"warnings": ["a remote read failed"]}, "the server warns that its answer is not whole"),
        (
            {"status": "success", "data": {"resultType": "matrix", "result": []}},
            "the query gives neither a scalar nor a vector",
        ),
        ({"status": "success", "data": {"resultType": "scalar", "result": [1, 5]}}, "the query gives no finite number"),
        (
            {"status": "success", "data": {"resultType": "vector", "result": "x"}},
            "the query gives no series instead of one",
        ),
        (b"[]", "the answer is not a JSON object"),
        (b"{", "the answer is not JSON without duplicate keys"),
        (b" " * (MAX_BODY + 1), f"the answer is over the limit of {MAX_BODY} bytes"),
    ],
)
def test_answer_that_is_not_one_number_is_no_value(server: Server, answer: Any, why: str) -> None:
    server.answers["cpu"] = answer
    with served(server.answer) as url:
        got = read(PrometheusSource(PATIENCE_S), place(url, cpu="cpu"))
    assert got == Reading(notes=(f"prometheus: cpu: {why}",))


@pytest.mark.parametrize("count", ["0.5", "-1", "1e300"])
def test_number_that_is_no_count_opens_no_window(server: Server, count: str) -> None:
    server.count(count, "0")
    source = PrometheusSource(PATIENCE_S)
    with served(server.answer) as url:
        got = read(source, place(url, requests="requests", errors="errors"))
        assert got == Reading(notes=("prometheus: requests is not a count",))
        server.count("5", "0")
        assert read(source, place(url, requests="requests", errors="errors")).values == {}


def test_server_out_of_reach_and_one_that_refuses_have_no_value(server: Server) -> None:
    with served(lambda path: (503, b"{}")) as url:
        assert read(PrometheusSource(PATIENCE_S), place(url, cpu="cpu")).notes == (
            "prometheus: cpu: the answer has status 503",
        )
    assert read(PrometheusSource(PATIENCE_S), place(url)).notes == ("prometheus: ConnectError",)


def test_server_that_never_ends_its_answer_costs_its_own_instances_only(server: Server) -> None:
    release = threading.Event()

    def drip(path: str) -> tuple[int, bytes]:
        release.wait(2 * PATIENCE_S)
        return 200, b"{}"

    with served(drip) as slow, served(server.answer) as url:
        # Whoever answers does so in time, unless the host stalls; then it gets more of it.
        places = [place(slow, "a"), place(url, "b", cpu="cpu")]
        both = PrometheusSource(0.3).read(places)
        for limit_s in (3, PATIENCE_S):
            both = both if both["b"].values else PrometheusSource(limit_s).read(places)
        release.set()
    assert both["a"].notes == ("prometheus: no answer in time",)
    assert both["b"].values == {"cpu": Decimal("12.35")}


@pytest.mark.parametrize(
    "queries",
    [{}, {"requests": "a"}, {"errors": "a", "cpu": "b"}, {"cpu": "a\n"}, {"cpu": ""}, {"requests": "a", "errors": "b"}],
)
def test_fleet_that_asks_for_half_or_twice_is_refused(queries: dict[str, str]) -> None:
    counters = Counters(url="http://web/counters").to_json()
    body: Any = {"counters": counters, "prometheus": {"url": "http://web:9090", **queries}}
    with pytest.raises(FormatError):
        Metrics.from_json(body)


def exposition(counts: dict[str, int]) -> bytes:
    lines = [f'http_requests_total{{status="{status}"}} {count}' for status, count in counts.items()]
    return "\n".join(["# TYPE http_requests_total counter", *lines, "process_share 41.5", ""]).encode()


def answer_of(url: str, **query: str) -> httpx.Response | None:
    """What a server answers, None while it does not serve yet."""
    try:
        answer = httpx.get(url, params=query, trust_env=False, timeout=PATIENCE_S)
    except httpx.HTTPError:
        return None
    return answer if answer.status_code == 200 else None


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Starts Debian's Prometheus on loopback, scraping one address ten times a second; gives its own address."""
    program = require_program("prometheus")
    started: list[subprocess.Popen[bytes]] = []

    def start(exporter: str) -> str:
        config = {
            "global": {"scrape_interval": "100ms", "scrape_timeout": "100ms"},
            "scrape_configs": [
                {"job_name": "web", "static_configs": [{"targets": [exporter.removeprefix("http://")]}]}
            ],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        for _ in range(5):
            # Another process may take the port in between; then the server ends, and the next one is tried.
            with closing(socket.socket()) as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            options = [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path / 'data'}"]
            options += [f"--config.file={tmp_path / 'prometheus.yml'}", "--storage.tsdb.retention.size=64MB"]
            with (tmp_path / "prometheus.log").open("ab") as log:
                child = subprocess.Popen([program, *options], stdout=log, stderr=log, cwd=tmp_path)
            started.append(child)
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: child.poll() is not None or answer_of(f"{url}/-/ready") is not None)  # noqa: B023
            if child.poll() is None:
                return url
        pytest.fail((tmp_path / "prometheus.log").read_text()[-2000:])

    yield start
    for child in started:
        child.terminate()
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def test_real_server_counts_what_a_service_exports(prometheus: Callable[[str], str]) -> None:
    counts: dict[str, int] = {}
    with served(lambda path: (200, exposition(counts))) as exporter:
        url = prometheus(exporter)
        one = place(url, requests=REQUESTS, errors=ERRORS, cpu="process_share", memory='process_share{job="other"}')

        def asked(query: str) -> str | None:
            answer = answer_of(f"{url}/api/v1/query", query=query)
            result = [] if answer is None else answer.json()["data"]["result"]
            return result[0]["value"][1] if result else None

        def look(source: PrometheusSource) -> tuple[Reading, Reading]:
            counts.update({"200": 1000, "500": 10})
            wait_until(lambda: asked(REQUESTS) == "1010")
            first = read(source, one)
            counts.update({"200": 1090, "500": 20})
            wait_until(lambda: asked(REQUESTS) == "1110")
            return first, read(source, one)

        # Where the host stalls the server misses a scrape, and the series is gone until the next: then look again.
        source = PrometheusSource(PATIENCE_S)
        first, second = look(source)
        for _ in range(4):
            if "cpu" not in first.values or "requests" not in second.values:
                source = PrometheusSource(PATIENCE_S)
                first, second = look(source)
        assert first.values == {"cpu": Decimal("41.50")}
        assert first.notes == (
            "prometheus: this is the first reading",
            "prometheus: memory: the query gives 0 series instead of one",
        )
        assert second.values == {"requests": Decimal(100), "errors": Decimal(10), "cpu": Decimal("41.50")}
    # The service is gone: its series end with the scrape that failed, and what is gone has no value.
    wait_until(lambda: asked(REQUESTS) is None)
    assert read(source, one).values == {}
