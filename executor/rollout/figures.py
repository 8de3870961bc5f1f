"""Figures of a running executor: what it did, how long that took, and where it is. For its own process's life only.

They are counted by the loop and read by an endpoint's thread, and never decide anything. Names of what is counted come
from this program (types of events, codes of errors), so there is an end to them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 600.0)
"""Upper bounds of the buckets of a histogram of seconds."""


@dataclass(frozen=True, slots=True)
class GateFigure:
    """A gate of a live deployment at its newest sample. `value`, `baseline`: None for none."""

    lease: str
    target: str
    gate: str
    state: str
    value: float | None
    baseline: float | None
    limit: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the executor is, as of one moment. `role`: `starting`, `standby` or `acting`. `deployments`: phase -> how
    many. `open_leases`: leases that may still be claimed.
    """

    role: str = "starting"
    entries: int = 0
    epoch: int = 0
    deployments: Mapping[str, int] = field(default_factory=dict)
    open_leases: int = 0
    gates: Sequence[GateFigure] = ()


@dataclass(slots=True)
class Histogram:
    """How often something took how long. `counts`: one for each of `BUCKETS_S`, and one for what took longer."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total_s: float = 0.0

    def take(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Upper bound and how many took at most that long, as Prometheus wants it."""
        so_far = 0
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts, strict=True):
            so_far += count
            yield bound, so_far


class Figures:
    """The figures of one process. `monotonic`: seconds that only grow."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic: Final = monotonic
        self._lock: Final = threading.Lock()
        self._standing = Standing()
        self._came_round_at = monotonic()
        self._events: Final[Counter[str]] = Counter()
        self._errors: Final[Counter[str]] = Counter()
        self._times: Final[dict[str, Histogram]] = {}

    def stand(self, standing: Standing) -> None:
        """Take note of where the executor is."""
        self._standing = standing

    def come_round(self) -> None:
        """Take note that the loop lives."""
        self._came_round_at = self._monotonic()

    def count_event(self, type_: str) -> None:
        """One event of this type is in the ledger."""
        with self._lock:
            self._events[type_] += 1

    def count_error(self, code: str) -> None:
        """Something was refused or failed with this code."""
        with self._lock:
            self._errors[code] += 1

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Measure what is done in the context, however it ends."""
        began = self._monotonic()
        try:
            yield
        finally:
            took_s = self._monotonic() - began
            with self._lock:
                self._times.setdefault(what, Histogram()).take(took_s)

    @property
    def standing(self) -> Standing:
        """Where the executor is."""
        return self._standing

    def silent_s(self) -> float:
        """Seconds since the loop came round."""
        return self._monotonic() - self._came_round_at

    def events(self) -> dict[str, int]:
        """Type -> how many."""
        with self._lock:
            return dict(self._events)

    def errors(self) -> dict[str, int]:
        """Code -> how many."""
        with self._lock:
            return dict(self._errors)

    def times(self) -> dict[str, tuple[list[tuple[str, int]], float]]:
        """What was measured -> its cumulative buckets and the seconds in all."""
        with self._lock:
            return {what: (list(known.cumulative()), known.total_s) for what, known in self._times.items()}
