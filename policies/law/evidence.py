"""Evidence that more requests fail than may: a sequential test on counts that may be looked at after every sample.

It bets against the claim that the rate is within its limit. For a factor f > 1 and a sample of n requests of which x
failed, the stake is multiplied by

    f^x / (1 + (f - 1) q)^n

where q is the limit. While each request fails with a probability of at most q, however that varies, the mean of this
is at most 1, whatever came before: the stake is a supermartingale, and by Ville's inequality the chance that it *ever*
reaches 1 / alpha is at most alpha. Looking every few seconds therefore halts no more good rollouts than looking once.

Which factor is best depends on the true rate, so the stake is split between a few. When the rate went bad is not known
either: half of the stake is bet from the first sample on, and the other half in equal parts from each of the `planned`
samples on, so a service that was well for long and then fails is found within a few samples and not outweighed by its
past. Within the planned samples the chance of a false alarm is at most alpha; each further such span, when a bake is
extended, adds at most alpha / 2. The state has one number for each factor, however many samples there were.

Against a rest of the fleet of which y in m requests failed in the same interval, a second bet with 0 < u < 1,

    f^x (1 - u)^y / sup over r of (1 + (f - 1) (r + d))^n (1 - u r)^m

has a mean of at most 1 as long as the rate is at most that of the rest, whatever that is just then, plus the distance
d. `u` is chosen from earlier samples alone, so that the supremum lies where the rest is expected.

Source: Ville 1939; Robbins, Annals of Mathematical Statistics 41 (1970) 1397; Waudby-Smith and Ramdas, Journal of the
Royal Statistical Society B 86 (2024) 1 (betting); Shin, Ramdas and Rinaldo, arXiv:2203.03532 (bets that begin at each
sample). Upper bound of a baseline: Chernoff, Annals of Mathematical Statistics 23 (1952) 493.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from policies.fold.deployment import EvidenceNote

ALPHA: Final = 0.005
"""Largest chance that a tier whose rate is at its limit all the time is ever called bad within its planned samples."""
FACTORS: Final = (1.25, 1.6, 2.25, 4.0, 10.0)
"""For a limit of 10 %, these are best at rates of 12, 15, 20, 31 and 53 %."""
_FIRST: Final = 0.5  # the part of the stake that is bet from the first sample on
_LARGEST_U: Final = 0.9
_GUESS: Final = (0.5, 50.0)  # failed and all requests that the rest is taken to have had before its first sample


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests, and how many of them were bad."""

    bad: int
    total: int


def count_of(percent: Decimal, total: int) -> int:
    """How many of some requests a percentage stands for."""
    return int((percent * total / 100).to_integral_value(ROUND_HALF_UP))


class Evidence:
    """Evidence that a rate is above its limit, sample by sample. `planned`: how many samples the tier needs. `note`:
    what `note` gave of the samples before.
    """

    def __init__(self, planned: int, note: EvidenceNote | None = None) -> None:
        note = note or EvidenceNote(None, *_GUESS, certain=False)
        self._each: Final = math.log((1 - _FIRST) / max(1, planned))
        self._stakes: Final = [-math.inf] * len(FACTORS) if note.stakes is None else list(note.stakes)
        self._begun = note.stakes is not None
        self._rest_bad, self._rest_total = note.rest_bad, note.rest_total
        self._certain = note.certain

    def note(self) -> EvidenceNote:
        """All that is known of the samples so far."""
        stakes = tuple(self._stakes) if self._begun else None
        return EvidenceNote(stakes, self._rest_bad, self._rest_total, certain=self._certain)

    def see(self, counts: Counts, limit: float) -> None:
        """Take in a sample that is judged by a fixed limit: a share, below 0 and above 1 taken as these."""
        limit = min(1.0, max(0.0, limit))
        # Where nothing may fail, one failure is proof, and no bet of finite size would say so.
        self._certain = self._certain or (limit == 0 and counts.bad > 0)
        self._bet([counts.bad * math.log(f) - counts.total * math.log1p((f - 1) * limit) for f in FACTORS])

    def see_beside(self, counts: Counts, rest: Counts, distance: float) -> None:
        """Take in a sample that is judged by the rest of the fleet. `distance`: how much higher its share may be."""
        expected = self._rest_bad / self._rest_total
        self._bet([_beside(f - 1, counts, rest, distance, expected) for f in FACTORS])
        self._rest_bad += rest.bad
        self._rest_total += rest.total

    def stake(self) -> float:
        """What a stake of 1 has become: at most 1 on average while the rate is within its limit."""
        if self._certain:
            return math.inf
        if not self._begun:
            return 1.0
        # More than that is infinite for a float, and for every use of it here.
        return math.fsum(math.exp(min(stake, 700.0)) for stake in self._stakes) / len(FACTORS)

    def convinces(self) -> bool:
        """Whether the stake is at least 1 / ALPHA now."""
        return self.stake() >= 1 / ALPHA

    def _bet(self, gains: list[float]) -> None:
        joins = self._each if self._begun else math.log(_FIRST + math.exp(self._each))
        self._begun = True
        for index, gain in enumerate(gains):
            before = self._stakes[index]
            high, low = max(before, joins), min(before, joins)
            self._stakes[index] = high + math.log1p(math.exp(low - high)) + gain


def upper_bound(counts: Counts) -> float:
    """A share that the true one of a single count is above with a chance of at most ALPHA; 1 for no requests."""
    if counts.total == 0:
        return 1.0
    share = counts.bad / counts.total
    low, high = share, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if counts.total * _divergence(share, middle) < -math.log(ALPHA):
            low = middle
        else:
            high = middle
    return high


def _divergence(p: float, q: float) -> float:
    """Kullback and Leibler's, of one request. `q`: at least `p`."""
    if q >= 1:
        return 0.0 if p >= 1 else math.inf
    first = p * math.log(p / q) if p > 0 else 0.0
    return first + ((1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0)


def _beside(a: float, counts: Counts, rest: Counts, distance: float, expected: float) -> float:
    n, m = counts.total, rest.total
    distance = min(1.0, max(0.0, distance))
    pull = n * a / (1 + a * min(1.0, expected + distance))
    u = min(_LARGEST_U, pull / (m + pull * expected)) if pull else 0.0

    def log_mean(r: float) -> float:
        return n * math.log1p(a * min(1.0, r + distance)) + m * math.log1p(-u * r)

    # Concave up to r = 1 - distance and falling from there, so the largest value is where the slope is zero, or there.
    flat = (n * a - m * u * (1 + a * distance)) / (a * u * (n + m)) if u else 1.0
    most = log_mean(min(max(flat, 0.0), 1 - distance))
    return counts.bad * math.log1p(a) + rest.bad * math.log1p(-u) - most
