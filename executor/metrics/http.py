"""GET of a JSON document from a signed address, bounded in time and size, and windows over counters that only grow.

A window's numbers are differences. A new process, or a counter that went down, begins a new window, and the old one has
no value: what happened in it before the restart is not known.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeVar

import httpx

from executor.hosts.host import Running
from executor.metrics.measure import Place, Reading

MAX_BODY: Final = 64 * 1024
MAX_AT_ONCE: Final = 32

T = TypeVar("T")


class Unreadable(Exception):
    """Why there is no value: one line."""


class Getter:
    """Asks many addresses at once. `timeout_s`: for one whole answer, however slowly it drips."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s: Final = timeout_s
        self._tls: Final = httpx.create_ssl_context(trust_env=False)

    async def each(
        self, places: Sequence[Place], read: Callable[[httpx.AsyncClient, Place], Awaitable[T]]
    ) -> list[T | str]:
        """What `read` makes of each place, in their order; or why it is nothing, in one line."""
        turns = asyncio.Semaphore(MAX_AT_ONCE)

        async def one(client: httpx.AsyncClient, place: Place) -> T | str:
            try:
                async with turns, asyncio.timeout(self._timeout_s):
                    return await read(client, place)
            except TimeoutError:
                return "no answer in time"
            except Unreadable as error:
                return str(error)
            except Exception as error:  # noqa: BLE001  # one hostile answer must not take the other instances' values
                return type(error).__name__

        # The environment's proxies have no say in what production is asked, and a redirect would leave the signed URL.
        # What stands in that before an @ is public, and is not sent as a password.
        # One limit for all of it, above: with one for each step, too, it would be chance which of them is met first.
        async with httpx.AsyncClient(
            verify=self._tls,
            timeout=None,  # noqa: S113
            trust_env=False,
            follow_redirects=False,
            auth=httpx.Auth(),
        ) as client:
            return await asyncio.gather(*(one(client, place) for place in places))


async def get_json(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """The JSON object at an address. Raises: Unreadable, and what httpx raises."""
    body = b""
    async with client.stream(
        "GET", url, headers={"accept": "application/json", "accept-encoding": "identity"}
    ) as answer:
        if answer.status_code != 200:
            raise Unreadable(f"the answer has status {answer.status_code}")
        # Raw, because a decoder would let a small answer grow past the limit before it is seen.
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > MAX_BODY:
                raise Unreadable(f"the answer is over the limit of {MAX_BODY} bytes")
    return parse_object(body)


def parse_object(body: bytes) -> dict[str, Any]:
    """Raises: Unreadable unless it is a JSON object without duplicate keys."""
    try:
        value = json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise Unreadable("the answer is not JSON without duplicate keys") from None
    if not isinstance(value, dict):
        raise Unreadable("the answer is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


@dataclass(frozen=True, slots=True)
class _Edge:
    """Where a window begins."""

    process: Running | None
    requests: int
    errors: int


class Windows:
    """The windows of instances between two readings of their counters. `what`: names them in notes."""

    def __init__(self, what: str) -> None:
        self._what: Final = what
        self._edges: Final[dict[str, _Edge]] = {}

    def close(self, place: Place, counts: tuple[int, int] | str | None) -> Reading:
        """End an instance's window with its requests and errors so far, and begin the next one. Without counts, and why
        there are none, no window is open. None: it has no counters, which needs no note.
        """
        before = self._edges.pop(place.instance.name, None)
        if counts is None:
            return Reading()
        if isinstance(counts, str):
            return self._nothing(counts)
        edge = self._edges[place.instance.name] = _Edge(place.process, *counts)
        if before is None:
            return self._nothing("this is the first reading")
        if _replaced(before.process, edge.process) or edge.requests < before.requests or edge.errors < before.errors:
            return self._nothing("the service was restarted")
        requests, errors = edge.requests - before.requests, edge.errors - before.errors
        if errors > requests:
            return self._nothing("more errors than requests")
        return Reading({"requests": Decimal(requests), "errors": Decimal(errors)})

    def _nothing(self, why: str) -> Reading:
        return Reading(notes=(f"{self._what}: {why}",))


def _replaced(before: Running | None, after: Running | None) -> bool:
    return before is not None and after is not None and before != after
