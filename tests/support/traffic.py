"""Simulated traffic for gates: samples whose failed requests are drawn, seeded, from a binomial law."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate
from random import Random

from policies.fold.deployment import Baseline, SampleNote
from policies.law.tiers import TierJudge
from policies.matrix import Gate

INTERVAL, SAMPLES = 15, 60
"""A tier of 15 minutes."""


@dataclass(frozen=True, slots=True)
class Minute:
    """What is true while one sample is taken. `rest`: the same of the rest of the fleet, None for no rest."""

    rate: float
    requests: int
    rest: tuple[float, int] | None = None


def draw(random: Random, requests: int, rate: float) -> int:
    """How many of the requests fail."""
    return min(bisect_left(_cumulative(requests, rate), random.random()), requests)


def percent(failed: int, requests: int) -> Decimal | None:
    """As a monitor says it: exact enough to give the count again."""
    return (Decimal(failed) * 100 / requests).quantize(Decimal("0.000000001")) if requests else None


def halted_at(random: Random, gate: Gate, tier: Iterable[Minute], baseline: Baseline | None = None) -> int | None:
    """The number of the sample at which a tier is called a breach, None when it never is."""
    judge = TierJudge([gate], baseline, bake_started_at=0, interval_s=INTERVAL, planned=SAMPLES)
    for n, minute in enumerate(tier, 1):
        failed = draw(random, minute.requests, minute.rate)
        note = SampleNote(
            n, 5, n, n * INTERVAL, {gate.name: (percent(failed, minute.requests), minute.requests)}, whole=True
        )
        if minute.rest is not None:
            rate, requests = minute.rest
            note.rest[gate.name] = percent(draw(random, requests, rate), requests)
            note.rest_requests[gate.name] = requests
        judge.see(note)
        if judge.judge(n * INTERVAL).verdict == "breach":
            return n
    return None


def count_halts(
    random: Random, gate: Gate, tiers: int, make: Callable[[], Iterable[Minute]], baseline: Baseline | None = None
) -> int:
    """How many of some tiers are halted."""
    return sum(halted_at(random, gate, make(), baseline) is not None for _ in range(tiers))


@lru_cache(maxsize=4096)
def _cumulative(n: int, p: float) -> list[float]:
    if not 0 < p < 1:
        return [1.0 if p <= 0 else 0.0] * n + [1.0]
    base = math.lgamma(n + 1)
    logs = (
        base - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
        for k in range(n + 1)
    )
    return list(accumulate(math.exp(value) for value in logs))
