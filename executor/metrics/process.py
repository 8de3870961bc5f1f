"""CPU and memory of an instance's service, from the operating system.

CPU is what the service's process and its descendants used between two readings, as percent of one core. A process's
counters hold those of the children it has waited for, so a child that ends between readings is not lost. Memory is the
sum of their resident sets as percent of the machine's; pages that they share count for each, so it is an upper bound.

Source: proc_pid_stat(5), fields utime, stime, cutime and cstime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import psutil

from executor.host import Running
from executor.metrics.measure import Place, Quantity, Reading, two_decimals
from executor.processes import is_alive


@dataclass(frozen=True, slots=True)
class _Edge:
    """Where a window begins. `cpu_s`: seconds of CPU that the process tree has used. `at`: monotonic seconds."""

    process: Running
    cpu_s: float
    at: float


class ProcessSource:
    """Measures services on this machine. `monotonic`: seconds that only grow."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic: Final = monotonic
        self._edges: Final[dict[str, _Edge]] = {}

    def read(self, places: Sequence[Place]) -> Mapping[str, Reading]:
        total = psutil.virtual_memory().total
        return {place.instance.name: self._read(place, total) for place in places}

    def _read(self, place: Place, total: int) -> Reading:
        name, process = place.instance.name, place.process
        before = self._edges.pop(name, None)
        if process is None:
            return Reading(notes=("no service process is known",))
        if place.instance.address != "local":
            return Reading(notes=("the service runs on another machine",))
        try:
            cpu_s, resident = _usage(process)
        except psutil.Error:
            return Reading(notes=(f"process {process.pid} is gone",))
        edge = self._edges[name] = _Edge(process, cpu_s, self._monotonic())
        values: dict[Quantity, Decimal] = {"memory": two_decimals(resident * 100 / total)}
        if before is None:
            return Reading(values, ("cpu: this is the first reading",))
        if before.process != process:
            return Reading(values, ("cpu: the service was restarted",))
        if edge.at <= before.at:
            return Reading(values, ("cpu: no time has passed",))
        used = max(0.0, edge.cpu_s - before.cpu_s)
        values["cpu"] = two_decimals(used * 100 / (edge.at - before.at))
        return Reading(values)


def _usage(running: Running) -> tuple[float, int]:
    """Seconds of CPU and bytes of memory of a process and its descendants. Raises: psutil.Error when it is gone."""
    process = psutil.Process(running.pid)
    cpu_s, resident = _own_usage(process)
    for one in process.children(recursive=True):
        try:
            used, held = _own_usage(one)
        except psutil.Error:
            continue  # it ended just now; its parent's counters have it from here on
        cpu_s, resident = cpu_s + used, resident + held
    # Asked last: had the number been another process's by the time it was read, this one would not live any more.
    if not is_alive(running):
        raise psutil.NoSuchProcess(running.pid)
    return cpu_s, resident


def _own_usage(process: psutil.Process) -> tuple[float, int]:
    with process.oneshot():
        times = process.cpu_times()
        own = times.user + times.system + times.children_user + times.children_system
        return own, process.memory_info().rss
