"""The bars of the error rate's test, on simulated tiers of 15 minutes, under the packaged policy's own gate.

Seeded, so that they never fail by chance; other seeds give other counts and the same answers.
"""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic import SAMPLES, Minute, count_halts, draw, halted_at, percent

from policies.fold.deployment import Baseline
from policies.law.evidence import ALPHA, Counts, Evidence, upper_bound
from policies.matrix import Gate
from policies.matrix_file import default_matrix_text, load_matrix

(GATE,) = (gate for gate in load_matrix(default_matrix_text()).deploy_production.gates if gate.name == "error_rate")
TIERS = 1000
MOST = TIERS // 100


def against(other: str) -> Gate:
    return GATE.model_copy(update={"against": other, "limit": "5", "absolute": "15"})


def steady(rate: float, requests: int, samples: int = SAMPLES) -> list[Minute]:
    return [Minute(rate, requests)] * samples


def test_good_tiers_of_any_traffic_are_not_halted() -> None:
    random = Random(1)

    def tier() -> list[Minute]:
        return steady(random.choice(range(1, 11)) / 100, random.choice((5, 10, 20, 50, 100, 200, 500, 1000)))

    assert count_halts(random, GATE, TIERS, tier) <= MOST


@pytest.mark.parametrize("requests", [5, 30, 100, 1000])
def test_tiers_exactly_at_the_limit_are_not_halted(requests: int) -> None:
    assert count_halts(Random(requests), GATE, TIERS, lambda: steady(0.10, requests)) <= MOST


def test_rate_that_moves_below_the_limit_is_not_halted() -> None:
    tier = [Minute(0.01 if n % 20 < 12 else 0.10, 5 if n % 7 else 400) for n in range(SAMPLES)]
    assert count_halts(Random(2), GATE, TIERS, lambda: tier) <= MOST


def test_twenty_percent_are_found_within_a_minute() -> None:
    random = Random(3)
    found = [halted_at(random, GATE, steady(0.20, 100, 4)) for _ in range(TIERS)]
    assert sum(n is not None for n in found) >= 0.95 * TIERS


@pytest.mark.parametrize("before", [0.01, 0.05, 0.09])
def test_service_that_fails_after_twelve_minutes_is_found_within_two(before: float) -> None:
    random = Random(4)
    well = steady(before, 100, 48)
    found = [halted_at(random, GATE, [*well, *steady(0.20, 100, 8)]) for _ in range(TIERS)]
    assert sum(n is not None and n > 48 for n in found) >= 0.95 * TIERS
    assert sum(n is not None and n <= 48 for n in found) <= MOST


def test_service_that_fails_wholly_after_twelve_minutes_is_found_at_once() -> None:
    random = Random(5)
    found = [halted_at(random, GATE, [*steady(0.01, 20, 48), *steady(1.0, 20, 1)]) for _ in range(100)]
    assert found == [49] * 100


@pytest.mark.parametrize("rest", [100, 1900])
def test_tiers_as_far_from_the_rest_as_they_may_be_are_not_halted(rest: int) -> None:
    # What all instances share moves both.
    tier = [Minute(0.07, 100, (0.02, rest)) if n % 30 < 20 else Minute(0.45, 100, (0.40, rest)) for n in range(SAMPLES)]
    assert count_halts(Random(6), against("rest"), TIERS, lambda: tier) <= MOST


def test_tier_worse_than_the_rest_is_found() -> None:
    random = Random(7)
    tier = [Minute(0.22, 100, (0.02, 1900))] * 4
    assert count_halts(random, against("rest"), TIERS, lambda: tier) >= 0.95 * TIERS


def test_unlucky_baseline_of_few_requests_halts_no_good_tier() -> None:
    random = Random(8)
    halts = 0
    for _ in range(TIERS):
        known = Baseline({GATE.name: percent(draw(random, 50, 0.03), 50)}, {GATE.name: 50})
        halts += halted_at(random, against("baseline"), steady(0.08, 100), known) is not None
    assert halts <= MOST


def test_mean_of_the_stake_is_at_most_one_at_the_limit() -> None:
    # Over every outcome of two samples of four requests, weighed by how likely it is.
    rate = 0.2

    def chance(k: int) -> float:
        return [1, 4, 6, 4, 1][k] * rate**k * (1 - rate) ** (4 - k)

    for distance in (0.0, 0.1):
        mean = 0.0
        for x1, x2, y1, y2 in ((a, b, c, d) for a in range(5) for b in range(5) for c in range(5) for d in range(5)):
            evidence = Evidence(2)
            for x, y in ((x1, y1), (x2, y2)):
                if distance:
                    evidence.see_beside(Counts(x, 4), Counts(y, 4), 0.0)
                else:
                    evidence.see(Counts(x, 4), rate)
            mean += chance(x1) * chance(x2) * chance(y1) * chance(y2) * evidence.stake()
        assert mean <= 1 + 1e-9


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_upper_bound_lies_between_the_share_and_one(bad: int, total: int) -> None:
    share = min(bad, total) / total
    assert share <= upper_bound(Counts(min(bad, total), total)) <= 1
    assert upper_bound(Counts(0, 0)) == 1


def test_upper_bound_holds_as_often_as_it_says() -> None:
    random = Random(9)
    below = sum(upper_bound(Counts(draw(random, 200, 0.03), 200)) < 0.03 for _ in range(10_000))
    assert below <= ALPHA * 10_000


def test_rate_is_spelled_so_that_it_gives_its_count() -> None:
    assert percent(1, 3) == Decimal("33.333333333")
