"""The meters of a deployment whose instances this machine can reach."""

from __future__ import annotations

from collections.abc import Callable

from executor.metrics.counters import CounterSource
from executor.metrics.measure import Meters
from executor.metrics.process import ProcessSource
from executor.metrics.prometheus import PrometheusSource
from executor.metrics.tes import TesSource
from policies.kinds import Lease


def open_meters(lease: Lease, clock: Callable[[], int], monotonic: Callable[[], float]) -> Meters:
    """New meters for one deployment: processes, counters, Prometheus servers and the station's TES file.

    A TES row counts for one interval and then as long as a gate on it waits for a value. `clock`: seconds since 1970;
    `monotonic`: seconds that only grow.
    """
    waits = [gate.missing_s for gate in lease.gates if gate.source == "tes"]
    max_age_s = lease.interval_s + max(waits, default=0)
    return Meters([ProcessSource(monotonic), CounterSource(), PrometheusSource()], [TesSource(clock, max_age_s)])
