"""Requests and errors of an instance, from two counters in a JSON document that its service serves over HTTP.

The counters only grow while a process lives, so a window's numbers are differences. A new process, or a counter that
went down, begins a new window, and the old one has no value: what happened in it before the restart is not known.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import httpx

from executor.host import Running
from executor.metrics.measure import Place, Reading
from keys.canonical import MAX_INTEGER
from policies.fleet import Counters

MAX_BODY: Final = 64 * 1024
MAX_AT_ONCE: Final = 32


class _Unreadable(Exception):
    """Why there are no counters: one line."""


@dataclass(frozen=True, slots=True)
class _Edge:
    """Where a window begins."""

    process: Running | None
    requests: int
    errors: int


class CounterSource:
    """Reads the counters of instances. `timeout_s`: for one whole answer, however slowly it drips."""

    def __init__(self, timeout_s: float = 2.0) -> None:
        self._timeout_s: Final = timeout_s
        self._tls: Final = httpx.create_ssl_context(trust_env=False)
        self._edges: Final[dict[str, _Edge]] = {}

    def read(self, places: Sequence[Place]) -> Mapping[str, Reading]:
        return asyncio.run(self._read_all(places))

    async def _read_all(self, places: Sequence[Place]) -> dict[str, Reading]:
        turns = asyncio.Semaphore(MAX_AT_ONCE)
        # The environment's proxies have no say in what production is asked, and a redirect would leave the signed URL.
        async with httpx.AsyncClient(
            verify=self._tls, timeout=self._timeout_s, trust_env=False, follow_redirects=False
        ) as client:
            readings = await asyncio.gather(*(self._read(client, turns, place) for place in places))
        return {place.instance.name: reading for place, reading in zip(places, readings, strict=True)}

    async def _read(self, client: httpx.AsyncClient, turns: asyncio.Semaphore, place: Place) -> Reading:
        name, counters = place.instance.name, place.instance.metrics.counters
        before = self._edges.pop(name, None)
        if counters is None:
            return Reading(notes=("the fleet names no counters",))
        try:
            async with turns, asyncio.timeout(self._timeout_s):
                requests, errors = _parse(await _fetch(client, counters.url), counters)
        except TimeoutError:
            return Reading(notes=("counters: no answer in time",))
        except _Unreadable as error:
            return Reading(notes=(f"counters: {error}",))
        except Exception as error:  # noqa: BLE001  # one hostile answer must not take the other instances' values
            return Reading(notes=(f"counters: {type(error).__name__}",))
        edge = self._edges[name] = _Edge(place.process, requests, errors)
        if before is None:
            return Reading(notes=("counters: this is the first reading",))
        if _replaced(before.process, edge.process) or requests < before.requests or errors < before.errors:
            return Reading(notes=("counters: the service was restarted",))
        grown = edge.requests - before.requests, edge.errors - before.errors
        if grown[1] > grown[0]:
            return Reading(notes=("counters: more errors than requests",))
        return Reading({"requests": Decimal(grown[0]), "errors": Decimal(grown[1])})


def _replaced(before: Running | None, after: Running | None) -> bool:
    return before is not None and after is not None and before != after


async def _fetch(client: httpx.AsyncClient, url: str) -> bytes:
    body = b""
    async with client.stream(
        "GET", url, headers={"accept": "application/json", "accept-encoding": "identity"}
    ) as answer:
        if answer.status_code != 200:
            raise _Unreadable(f"the answer has status {answer.status_code}")
        # Raw, because a decoder would let a small answer grow past the limit before it is seen.
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > MAX_BODY:
                raise _Unreadable(f"the answer is over the limit of {MAX_BODY} bytes")
    return body


def _parse(body: bytes, counters: Counters) -> tuple[int, int]:
    try:
        value = json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise _Unreadable("the answer is not JSON without duplicate keys") from None
    if not isinstance(value, dict):
        raise _Unreadable("the answer is not a JSON object")
    return _count(value, counters.requests), _count(value, counters.errors)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _count(value: dict[str, Any], name: str) -> int:
    number = value.get(name)
    if type(number) is not int or not 0 <= number <= MAX_INTEGER:
        raise _Unreadable(f"{name} is not a count")
    return number
