from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest

from executor.hosts.host import Running
from executor.metrics.measure import Place, Reading
from executor.metrics.process import ProcessSource
from policies.fleet import Instance, Metrics, Prometheus

# Uses CPU for as many seconds as each line of its input says; a line `child N` lets a child of its own do that.
SERVICE = """
import subprocess, sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
for line in sys.stdin:
    words = line.split()
    if words[0] == "child":
        burning = f"import time\\nwhile time.process_time() < {words[1]}: pass"
        subprocess.run([sys.executable, "-c", burning], check=True)
    else:
        burn(float(words[0]))
    print("done", flush=True)
"""


class Service:
    def __init__(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", SERVICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def burn(self, what: str) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(what + "\n")
        self.child.stdin.flush()
        assert self.child.stdout.readline() == "done\n"

    def running(self, **changes: Any) -> Running:
        fields = Path(f"/proc/{self.child.pid}/stat").read_bytes().rpartition(b")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        values: dict[str, Any] = {"pid": self.child.pid, "started": int(fields[19]), "boot": boot, "tree": "0" * 64}
        return Running(**(values | changes))

    def stop(self) -> None:
        self.child.kill()
        self.child.communicate()


@pytest.fixture
def start() -> Iterator[Callable[[], Service]]:
    services: list[Service] = []

    def one() -> Service:
        services.append(Service())
        return services[-1]

    yield one
    for service in services:
        service.stop()


def read(source: ProcessSource, process: Running | None, address: str = "local") -> Reading:
    instance = Instance(name="a", root="/srv/a").model_copy(update={"address": address})
    return source.read([Place(instance, process)])["a"]


def source(*times: float) -> ProcessSource:
    clock = iter(times)
    return ProcessSource(lambda: next(clock))


def test_cpu_is_what_was_used_between_two_readings(start: Callable[[], Service]) -> None:
    service = start()
    service.burn("0.1")
    meter, process = source(100.0, 101.0, 102.0), service.running()
    first = read(meter, process)
    assert "cpu" not in first.values
    assert 0 < first.values["memory"] < 100
    service.burn("0.3")
    used = read(meter, process).values["cpu"]
    assert Decimal(25) <= used <= Decimal(60)
    assert read(meter, process).values["cpu"] < Decimal(10)


def test_cpu_of_a_child_that_ended_between_readings_counts(start: Callable[[], Service]) -> None:
    service = start()
    service.burn("0")
    meter, process = source(0.0, 1.0), service.running()
    read(meter, process)
    service.burn("child 0.3")
    assert read(meter, process).values["cpu"] >= Decimal(25)


def test_vanished_process_has_no_value(start: Callable[[], Service]) -> None:
    service = start()
    meter, process = source(0.0, 1.0), service.running()
    read(meter, process)
    service.stop()
    gone = read(meter, process)
    assert gone.values == {}
    assert gone.notes == (f"process {process.pid} is gone",)


def test_zombie_is_a_vanished_process(start: Callable[[], Service]) -> None:
    service = start()
    meter, process = source(0.0, 1.0), service.running()
    service.child.kill()
    # Waits until it has ended, and leaves it unreaped.
    assert service.child.stdout is not None
    assert service.child.stdout.read() == ""
    os.waitid(os.P_PID, service.child.pid, os.WEXITED | os.WNOWAIT)
    assert read(meter, process).values == {}


def test_number_of_an_ended_process_given_to_another_is_not_the_service(start: Callable[[], Service]) -> None:
    service = start()
    process = service.running()
    for other in (service.running(started=process.started + 1), service.running(boot="another boot")):
        assert read(source(0.0, 1.0), other).values == {}


def test_restarted_service_begins_a_new_window(start: Callable[[], Service]) -> None:
    old, new = start(), start()
    new.burn("0.2")
    meter = source(0.0, 1.0, 2.0)
    read(meter, old.running())
    restarted = read(meter, new.running())
    assert "cpu" not in restarted.values
    assert restarted.notes == ("cpu: the service was restarted",)
    assert "cpu" in read(meter, new.running()).values


def test_window_with_a_hole_does_not_span_it(start: Callable[[], Service]) -> None:
    service = start()
    meter, process = source(0.0, 1.0, 2.0), service.running()
    read(meter, process)
    assert read(meter, None).notes == ("no service process is known",)
    assert "cpu" not in read(meter, process).values


def test_process_of_another_machine_is_not_looked_up_here(start: Callable[[], Service]) -> None:
    assert read(source(0.0), start().running(), address="ops@far").values == {}


def test_whole_machine_is_measured_where_the_fleet_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = Instance(name="a", root="/srv/a", metrics=Metrics(usage="host"))
    kinds = psutil.cpu_times()._fields
    times = [dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0.0) | {"user": 3.0, "idle": 4.0, "iowait": 1.0}]
    readings = iter([psutil.cpu_times().__class__(**one) for one in times])
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(readings))
    meter = source()
    assert "cpu" not in meter.read([Place(instance, None)])["a"].values
    second = meter.read([Place(instance, None)])["a"].values
    assert second["cpu"] == Decimal("37.50")
    assert 0 < second["memory"] <= 100


def test_what_another_source_is_asked_for_is_not_measured_here(start: Callable[[], Service]) -> None:
    asked = Prometheus(url="http://127.0.0.1:9090", cpu="cpu")
    place = Place(Instance(name="a", root="/srv/a", metrics=Metrics(prometheus=asked)), start().running())
    meter = source(0.0, 1.0)
    for _ in range(2):
        assert meter.read([place])["a"].values.keys() == {"memory"}
