"""The figures of an executor in Prometheus' text format. Imported only when someone asks; needs the extra `metrics`.

Source: Prometheus, exposition formats and naming practices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from executor.rollout.figures import Figures

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
ROLES: Final = ("starting", "standby", "acting")


class _Collector(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Every family, made from what the figures say now."""
        standing = self._figures.standing
        yield GaugeMetricFamily("calyx_ledger_entries", "Entries that were verified.", standing.entries)
        yield GaugeMetricFamily("calyx_epoch", "The epoch of the newest term.", standing.epoch)
        yield GaugeMetricFamily("calyx_open_leases", "Leases that may still be claimed.", standing.open_leases)
        yield GaugeMetricFamily(
            "calyx_round_age_seconds", "Seconds since the loop came round.", self._figures.silent_s()
        )
        role = GaugeMetricFamily("calyx_role", "1 for the executor's role.", labels=["role"])
        for name in ROLES:
            role.add_metric([name], float(name == standing.role))
        yield role
        live = GaugeMetricFamily("calyx_live_deployments", "Live deployments by phase.", labels=["phase"])
        for phase, count in sorted(standing.deployments.items()):
            live.add_metric([phase], count)
        yield live
        yield from self._gates()
        events = CounterMetricFamily("calyx_events", "Events said by this process, by type.", labels=["type"])
        for type_, count in sorted(self._figures.events().items()):
            events.add_metric([type_], count)
        yield events
        errors = CounterMetricFamily("calyx_errors", "What failed or was refused, by code.", labels=["code"])
        for code, count in sorted(self._figures.errors().items()):
            errors.add_metric([code], count)
        yield errors
        times = HistogramMetricFamily("calyx_duration_seconds", "How long things took.", labels=["what"])
        for what, (buckets, total_s) in sorted(self._figures.times().items()):
            times.add_metric([what], buckets, total_s)
        yield times

    def _gates(self) -> Iterator[Metric]:
        labels = ["lease", "target", "gate"]
        value = GaugeMetricFamily("calyx_gate_value", "A gate's value at the newest sample.", labels=labels)
        baseline = GaugeMetricFamily("calyx_gate_baseline", "A gate's baseline.", labels=labels)
        limit = GaugeMetricFamily("calyx_gate_limit", "A gate's limit.", labels=labels)
        state = GaugeMetricFamily("calyx_gate_state", "1 for a gate's state.", labels=[*labels, "state"])
        for gate in self._figures.standing.gates:
            names = [gate.lease, gate.target, gate.gate]
            if gate.value is not None:
                value.add_metric(names, gate.value)
            if gate.baseline is not None:
                baseline.add_metric(names, gate.baseline)
            limit.add_metric(names, gate.limit)
            state.add_metric([*names, gate.state], 1.0)
        yield from (value, baseline, limit, state)


def expose(figures: Figures) -> bytes:
    """The figures and this process's own, as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(figures))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
