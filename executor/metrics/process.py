"""CPU and memory of an instance's service, or of its whole machine where the fleet says so, from the operating system.

Of a service, CPU is what its process and its descendants used between two readings, as percent of one core. A
process's counters hold those of the children it has waited for, so a child that ends between readings is not lost.
Memory is the sum of their resident sets as percent of the machine's; pages that they share count for each, so it is an
upper bound. Of a machine, CPU is the time that its cores were busy as percent of all the time that they had, and memory
what is not available.

Source: proc_pid_stat(5), fields utime, stime, cutime and cstime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import psutil

from executor.hosts.host import Running
from executor.hosts.processes import is_alive
from executor.metrics.measure import Place, Quantity, Reading, two_decimals


@dataclass(frozen=True, slots=True)
class _Edge:
    """Where a window begins. `process`: whose it is, None for the machine. `cpu_s`: seconds of CPU that were used.
    `at`: monotonic seconds; of the machine, seconds of CPU that there were.
    """

    process: Running | None
    cpu_s: float
    at: float


class ProcessSource:
    """Measures services on this machine, and the machine. `monotonic`: seconds that only grow."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic: Final = monotonic
        self._edges: Final[dict[str, _Edge]] = {}

    def read(self, places: Sequence[Place]) -> Mapping[str, Reading]:
        memory = psutil.virtual_memory()
        machine = _machine() if any(place.instance.metrics.usage == "host" for place in places) else None
        return {place.instance.name: self._read(place, memory.total, memory.percent, machine) for place in places}

    def _read(self, place: Place, total: int, taken: float, machine: tuple[float, float] | None) -> Reading:
        name, process, metrics = place.instance.name, place.process, place.instance.metrics
        before = self._edges.pop(name, None)
        asked = metrics.prometheus
        wanted: set[Quantity] = {"cpu", "memory"}
        if asked is not None:
            # What the fleet has measured elsewhere is measured nowhere else: another number is not the same one.
            wanted -= {"cpu"} if asked.cpu is not None else set()
            wanted -= {"memory"} if asked.memory is not None else set()
        if not wanted:
            return Reading()
        if place.instance.address != "local":
            return Reading(notes=("the instance is on another machine",))
        if metrics.usage == "host" and machine is not None:
            edge, share = _Edge(None, *machine), taken
        elif process is None:
            return Reading(notes=("no service process is known",))
        else:
            try:
                cpu_s, resident = _usage(process)
            except psutil.Error:
                return Reading(notes=(f"process {process.pid} is gone",))
            edge, share = _Edge(process, cpu_s, self._monotonic()), resident * 100 / total
        self._edges[name] = edge
        values: dict[Quantity, Decimal] = {"memory": two_decimals(share)}
        note = _cpu(before, edge, values)
        return Reading({key: value for key, value in values.items() if key in wanted}, note)


def _cpu(before: _Edge | None, edge: _Edge, values: dict[Quantity, Decimal]) -> tuple[str, ...]:
    """Adds the CPU of a window to the values, or says why there is none."""
    if before is None:
        return ("cpu: this is the first reading",)
    if before.process != edge.process:
        return ("cpu: the service was restarted",)
    if edge.at <= before.at:
        return ("cpu: no time has passed",)
    values["cpu"] = two_decimals(max(0.0, edge.cpu_s - before.cpu_s) * 100 / (edge.at - before.at))
    return ()


def _machine() -> tuple[float, float]:
    """Seconds that all cores together were busy, and seconds that they had."""
    times = psutil.cpu_times()
    # A guest's time is in `user` already.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


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
