"""Health and metrics over HTTP: what they say, to whom, and that they say it when the loop hangs."""

from __future__ import annotations

import socket

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from executor.rollout.endpoint import HUNG_S, parse_listen, serving
from executor.rollout.figures import Figures, GateFigure, Standing
from keys.errors import CalyxError

STANDING = Standing(
    role="acting",
    entries=1_234,
    epoch=7,
    deployments={"BAKING": 2},
    open_leases=3,
    gates=[GateFigure("LEASE-1", 'w"eb', "tes", "pass", 88.5, None, 5.0)],
)


class Ticker:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ask(port: int, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=60, trust_env=False)


def test_health_says_what_the_executor_is_and_when_it_hangs() -> None:
    ticker = Ticker()
    figures = Figures(ticker)
    with serving(("127.0.0.1", 0), figures) as port:
        figures.stand(STANDING)
        figures.come_round()
        good = ask(port, "/health")
        assert (good.status_code, good.json()["status"]) == (200, "ok")
        assert {name: good.json()[name] for name in ("role", "size", "epoch", "live")} == {
            "role": "acting",
            "size": 1_234,
            "epoch": 7,
            "live": 2,
        }
        ticker.now += HUNG_S + 1
        hung = ask(port, "/health")
        assert hung.status_code == 503
        assert "has not come round for 31 s" in hung.json()["status"]
        assert ask(port, "/other").status_code == 404


def test_metrics_are_what_prometheus_reads() -> None:
    ticker = Ticker()
    figures = Figures(ticker)
    figures.stand(STANDING)
    figures.count_event("STARTED")
    figures.count_event("STARTED")
    figures.count_error("host_io")
    with figures.timing("append"):
        ticker.now += 0.05
    with pytest.raises(ZeroDivisionError), figures.timing("append"):
        ticker.now += 1_000
        _ = 1 / 0
    with serving(("127.0.0.1", 0), figures) as port:
        answer = ask(port, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["calyx_ledger_entries",] == 1_234
    assert found["calyx_epoch",] == 7
    assert found["calyx_open_leases",] == 3
    assert found["calyx_live_deployments", "BAKING"] == 2
    assert found["calyx_role", "acting"] == 1
    assert found["calyx_events_total", "STARTED"] == 2
    assert found["calyx_errors_total", "host_io"] == 1
    assert found["calyx_gate_value", "tes", "LEASE-1", 'w"eb'] == 88.5
    assert found["calyx_gate_limit", "tes", "LEASE-1", 'w"eb'] == 5
    assert not [key for key in found if key[0] == "calyx_gate_baseline"]
    assert found["calyx_gate_state", "tes", "LEASE-1", "pass", 'w"eb'] == 1
    assert found["calyx_duration_seconds_count", "append"] == 2
    assert found["calyx_duration_seconds_sum", "append"] == pytest.approx(1_000.05)
    buckets = {key[1]: value for key, value in found.items() if key[0] == "calyx_duration_seconds_bucket"}
    assert (buckets["0.01"], buckets["0.1"], buckets["600.0"], buckets["+Inf"]) == (0, 1, 1, 2)
    assert found["process_resident_memory_bytes",] > 0


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0:9464", "192.0.2.1:80", "localhost:80", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "[::]:1", ""],
)
def test_address_that_others_could_reach_is_refused(text: str) -> None:
    with pytest.raises(CalyxError) as refused:
        parse_listen(text)
    assert refused.value.code == "bad_listen"


@pytest.mark.parametrize(("text", "address"), [("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::1]:0", ("::1", 0))])
def test_address_of_this_machine_alone_is_taken(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


def test_port_that_is_taken_is_one_clear_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CalyxError) as refused:
        port = taken.getsockname()[1]
        with serving(("127.0.0.1", port), Figures(Ticker())):
            pass
    assert refused.value.code == "listen_failed"


def test_who_asks_and_says_nothing_keeps_nobody_waiting() -> None:
    figures = Figures(Ticker())
    with serving(("127.0.0.1", 0), figures) as port:
        silent = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(5)]
        assert ask(port, "/health").status_code == 200
        for each in silent:
            each.close()
