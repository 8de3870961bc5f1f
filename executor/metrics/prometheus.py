"""What a Prometheus server knows of an instance, by the instant queries that the fleet signs.

Each query gives one number: a scalar, or a vector of exactly one series. `requests` and `errors` are counters as they
stand, whole numbers that only grow, and not rates: their difference over a window is a count, which `rate()` and
`increase()` only estimate. `cpu` and `memory` are percents. Anything else is no value: no series, several, NaN, a
number that is not whole where a count is asked for, a server that says that it is partly blind.

Source: prometheus.io/docs/prometheus/latest/querying/api, "Instant queries" and "Expression query result formats".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

import httpx

from executor.event_loop import run_async
from executor.metrics.http import Getter, Unreadable, Windows, get_json
from executor.metrics.measure import Place, Quantity, Reading, two_decimals
from keys.canonical import MAX_INTEGER
from policies.fleet import Prometheus

_NUMBER: Final = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_GAUGES: Final[tuple[Quantity, ...]] = ("cpu", "memory")
MAX_PERCENT: Final = 1_000_000
"""CPU is percent of one core, so a large machine is far above 100; what is above this is no percentage."""


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the queries of one instance gave. `counts`: requests and errors, why there are none, None if not asked."""

    counts: tuple[int, int] | str | None
    gauges: Mapping[Quantity, Decimal | str]


class PrometheusSource:
    """Asks the servers of instances. `timeout_s`: for all answers of one instance together."""

    def __init__(self, timeout_s: float = 4.0) -> None:
        self._getter: Final = Getter(timeout_s)
        self._windows: Final = Windows("prometheus")

    def read(self, places: Sequence[Place]) -> Mapping[str, Reading]:
        asked = [place for place in places if place.instance.metrics.prometheus is not None]
        if not asked:
            return {}
        read = run_async(self._getter.each(asked, _read))
        return {place.instance.name: self._reading(place, answers) for place, answers in zip(asked, read, strict=True)}

    def _reading(self, place: Place, answers: _Answers | str) -> Reading:
        if isinstance(answers, str):
            answers = _Answers(answers, {})
        counted = self._windows.close(place, answers.counts)
        values = dict(counted.values)
        notes = list(counted.notes)
        for quantity, gauge in answers.gauges.items():
            if isinstance(gauge, str):
                notes.append(f"prometheus: {quantity}: {gauge}")
            else:
                values[quantity] = gauge
        return Reading(values, tuple(notes))


async def _read(client: httpx.AsyncClient, place: Place) -> _Answers:
    source = place.instance.metrics.prometheus
    counts: tuple[int, int] | str | None = None
    if source is None:
        return _Answers(None, {})
    if source.requests is not None and source.errors is not None:
        try:
            # Errors first: a request in between then counts as served before it can count as failed.
            errors = _whole(await _ask(client, source, source.errors), "errors")
            counts = _whole(await _ask(client, source, source.requests), "requests"), errors
        except Unreadable as error:
            counts = str(error)
    gauges: dict[Quantity, Decimal | str] = {}
    for quantity in _GAUGES:
        query = source.cpu if quantity == "cpu" else source.memory
        if query is None:
            continue
        try:
            gauges[quantity] = _percent(await _ask(client, source, query))
        except Unreadable as error:
            gauges[quantity] = str(error)
    return _Answers(counts, gauges)


async def _ask(client: httpx.AsyncClient, source: Prometheus, query: str) -> Decimal:
    return parse_result(await get_json(client, f"{source.url.rstrip('/')}/api/v1/query?{urlencode({'query': query})}"))


def parse_result(value: dict[str, Any]) -> Decimal:
    """The one number of an instant query. Raises: Unreadable."""
    data = value.get("data")
    if value.get("status") != "success" or not isinstance(data, dict):
        raise Unreadable("the server did not answer the query")
    if value.get("warnings"):
        raise Unreadable("the server warns that its answer is not whole")
    result = data.get("result")
    if data.get("resultType") == "vector":
        if not isinstance(result, list) or len(result) != 1 or not isinstance(result[0], dict):
            found = len(result) if isinstance(result, list) else "no"
            raise Unreadable(f"the query gives {found} series instead of one")
        result = result[0].get("value")
    elif data.get("resultType") != "scalar":
        raise Unreadable("the query gives neither a scalar nor a vector")
    text = result[1] if isinstance(result, list) and len(result) == 2 else None
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise Unreadable("the query gives no finite number")
    return Decimal(text)


def _whole(number: Decimal, name: str) -> int:
    if not 0 <= number <= MAX_INTEGER or number != number.to_integral_value():
        raise Unreadable(f"{name} is not a count")
    return int(number)


def _percent(number: Decimal) -> Decimal:
    if not 0 <= number <= MAX_PERCENT:
        raise Unreadable("the number is not a percentage")
    return abs(two_decimals(number))  # minus zero has no spelling
