"""Requests and errors of an instance, from two counters in a JSON document that its service serves over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from executor.event_loop import run_async
from executor.metrics.http import Getter, Unreadable, Windows, get_json
from executor.metrics.measure import Place, Reading
from keys.canonical import MAX_INTEGER
from policies.fleet import Counters


class CounterSource:
    """Reads the counters of instances. `timeout_s`: for one whole answer."""

    def __init__(self, timeout_s: float = 2.0) -> None:
        self._getter: Final = Getter(timeout_s)
        self._windows: Final = Windows("counters")

    def read(self, places: Sequence[Place]) -> Mapping[str, Reading]:
        read = run_async(self._getter.each(places, _read))
        return {
            place.instance.name: self._windows.close(place, counts) for place, counts in zip(places, read, strict=True)
        }


async def _read(client: httpx.AsyncClient, place: Place) -> tuple[int, int] | None:
    metrics = place.instance.metrics
    if metrics.counters is None:
        counted_elsewhere = metrics.prometheus is not None and metrics.prometheus.requests is not None
        if counted_elsewhere:
            return None
        raise Unreadable("the fleet names none")
    return parse_counts(await get_json(client, metrics.counters.url), metrics.counters)


def parse_counts(value: dict[str, Any], counters: Counters) -> tuple[int, int]:
    """Requests and errors so far. Raises: Unreadable."""
    return _count(value, counters.requests), _count(value, counters.errors)


def _count(value: dict[str, Any], name: str) -> int:
    number = value.get(name)
    if type(number) is not int or not 0 <= number <= MAX_INTEGER:
        raise Unreadable(f"{name} is not a count")
    return number
