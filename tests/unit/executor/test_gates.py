from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from executor.gates import ORDER, Judgement, judge, worst
from policies.deployment import Baseline, SampleNote
from policies.matrix import Gate

START = 1_000_000
INTERVAL = 15


def gate(**changes: Any) -> Gate:
    values: dict[str, Any] = {
        "name": "cpu",
        "source": "cpu",
        "against": "absolute",
        "breach": "above",
        "limit": "90",
        "absolute": None,
        "for_s": 30,
        "min_samples": 1,
        "missing_s": 60,
        "min_requests": 0,
    }
    return Gate(**(values | changes))


TES = gate(name="tes", source="tes", against="baseline", breach="below", limit="5", absolute="80", for_s=0)
ERRORS = gate(name="errors", source="error_rate", limit="10", for_s=0, min_requests=20)


def sample(
    n: int, value: str | None, *, requests: int | None = None, rest: str | None = None, **more: Any
) -> SampleNote:
    name = more.get("gate", "cpu")
    number = None if value is None else Decimal(value)
    return SampleNote(
        seq=100 + n,
        tier=more.get("tier", 5),
        n=n,
        made_at=more.get("made_at", START + n * INTERVAL),
        values={name: (number, requests)},
        whole=value is not None,
        rest={} if rest is None else {name: Decimal(rest)},
    )


def judged(
    the_gate: Gate, samples: list[SampleNote], *, baseline: Baseline | None = None, now: int | None = None, **more: Any
) -> Judgement:
    if now is None:
        now = samples[-1].made_at if samples else START
    return judge([the_gate], samples, baseline, tier=5, bake_started_at=START, interval_s=INTERVAL, now=now, **more)


def course(*values: str | None, name: str = "cpu", requests: int | None = None) -> list[SampleNote]:
    return [sample(n, value, gate=name, requests=requests) for n, value in enumerate(values, 1)]


def test_every_value_within_its_limit_passes() -> None:
    judgement = judged(gate(), course("20.00", "90.00"))
    assert (judgement.verdict, judgement.gate) == ("pass", None)
    assert [reading.state for reading in judgement.readings] == ["pass"]


def test_one_bad_sample_does_not_stop_a_good_rollout() -> None:
    assert judged(gate(), course("20.00", "99.00")).verdict == "inconclusive"
    assert judged(gate(), course("20.00", "99.00", "20.00")).verdict == "pass"


def test_bad_samples_apart_do_not_add_up_to_a_breach() -> None:
    assert judged(gate(), course("99.00", "99.00", "20.00", "99.00", "99.00", "20.00")).verdict == "pass"


def test_breach_counts_once_it_has_lasted() -> None:
    assert judged(gate(), course("99.00", "99.00")).verdict == "inconclusive"
    judgement = judged(gate(), course("99.00", "99.00", "99.00"))
    assert (judgement.verdict, judgement.gate) == ("breach", "cpu")
    assert judgement.text == "cpu was above 90 % for 30 s; now 99.00 %"


def test_breach_without_a_duration_counts_at_once() -> None:
    assert judged(gate(for_s=0), course("90.01")).verdict == "breach"


def test_breach_is_not_overwritten_by_later_health() -> None:
    assert judged(gate(), course("99.00", "99.00", "99.00", *["1.00"] * 50)).verdict == "breach"


def test_null_between_bad_samples_neither_ends_nor_lengthens_the_run() -> None:
    assert judged(gate(), course("99.00", "99.00", None, "99.00")).verdict == "inconclusive"
    assert judged(gate(), course("99.00", "99.00", None, "99.00", "99.00")).verdict == "breach"


def test_hole_in_the_observation_is_not_time_that_a_breach_lasted() -> None:
    late = sample(2, "99.00", made_at=START + 86_400)
    assert judged(gate(for_s=60), [sample(1, "99.00"), late]).verdict == "inconclusive"


def test_no_sample_never_passes() -> None:
    assert judged(gate(), []).verdict == "inconclusive"
    assert judged(gate(), [], now=START + INTERVAL + 60).verdict == "inconclusive"
    assert judged(gate(), [], now=START + INTERVAL + 61).verdict == "missing"


def test_no_gate_never_passes() -> None:
    judgement = judge([], course("1.00"), None, tier=5, bake_started_at=START, interval_s=INTERVAL, now=START + 15)
    assert judgement.verdict == "inconclusive"


def test_null_is_inconclusive_and_then_missing() -> None:
    assert judged(gate(), course("1.00", None)).verdict == "inconclusive"
    judgement = judged(gate(), course("1.00", None, None, None, None))
    assert (judgement.verdict, judgement.gate) == ("missing", "cpu")
    assert judgement.text == "cpu has had no value for 60 s"


def test_gate_that_never_had_a_value_is_missing_counted_from_the_bake() -> None:
    assert judged(gate(), course(None, None, None)).verdict == "inconclusive"
    assert judged(gate(), course(None, None, None, None)).verdict == "missing"


def test_silent_monitor_is_missing_data() -> None:
    samples = course("1.00", "1.00")
    newest = samples[-1].made_at
    assert judged(gate(), samples, now=newest + INTERVAL + 60).verdict == "pass"
    assert judged(gate(), samples, now=newest + INTERVAL + 61).verdict == "missing"


def test_value_for_another_gate_is_no_value() -> None:
    assert judged(gate(), course("1.00", name="memory")).verdict == "inconclusive"


def test_too_few_requests_neither_pass_nor_breach() -> None:
    assert judged(ERRORS, course("100.00", name="errors", requests=19)).verdict == "inconclusive"
    assert judged(ERRORS, course("0.00", name="errors", requests=19)).verdict == "inconclusive"
    assert judged(ERRORS, course("0.00", name="errors", requests=None)).verdict == "inconclusive"
    assert judged(ERRORS, course("0.00", name="errors", requests=20)).verdict == "pass"
    assert judged(ERRORS, course("10.01", name="errors", requests=20)).verdict == "breach"


def test_too_few_requests_are_data_and_not_missing() -> None:
    samples = course(*["0.00"] * 20, name="errors", requests=3)
    assert judged(ERRORS, samples).verdict == "inconclusive"


def test_samples_below_the_minimum_are_inconclusive() -> None:
    assert judged(gate(min_samples=3), course("1.00", None, "1.00")).verdict == "inconclusive"
    assert judged(gate(min_samples=3), course("1.00", None, "1.00", "1.00")).verdict == "pass"


def test_samples_of_another_tier_do_not_count() -> None:
    before = [sample(n, "99.00", tier=1) for n in (1, 2, 3)]
    assert judged(gate(), [*before, sample(4, "1.00")]).verdict == "pass"
    assert judged(gate(min_samples=2), [sample(1, "1.00", tier=1), sample(2, "1.00")]).verdict == "inconclusive"


@pytest.mark.parametrize(("value", "verdict"), [("90.00", "pass"), ("89.99", "breach")])
def test_gate_against_the_baseline(value: str, verdict: str) -> None:
    baseline = Baseline({"tes": Decimal(95)})
    judgement = judged(TES, course(value, name="tes"), baseline=baseline)
    assert judgement.verdict == verdict
    (reading,) = judgement.readings
    assert (reading.value, reading.baseline, reading.limit) == (Decimal(value), Decimal(95), Decimal(90))


@pytest.mark.parametrize("baseline", [None, Baseline(None), Baseline({}), Baseline({"tes": None})])
def test_absolute_decides_without_a_baseline(baseline: Baseline | None) -> None:
    assert judged(TES, course("80.00", name="tes"), baseline=baseline).verdict == "pass"
    assert judged(TES, course("79.99", name="tes"), baseline=baseline).verdict == "breach"


def test_gate_against_the_rest_of_the_fleet() -> None:
    against = gate(against="rest", limit="20", absolute="90", for_s=0)
    assert judged(against, [sample(1, "60.00", rest="40.00")]).verdict == "pass"
    assert judged(against, [sample(1, "60.01", rest="40.00")]).verdict == "breach"
    assert judged(against, [sample(1, "60.01")]).verdict == "pass"
    assert judged(against, [sample(1, "90.01")]).verdict == "breach"


def test_breach_on_one_gate_is_not_hidden_by_another() -> None:
    memory = gate(name="memory", source="memory", for_s=0)
    notes = [
        SampleNote(
            seq=n,
            tier=5,
            n=n,
            made_at=START + n * INTERVAL,
            values={"cpu": (None, None), "memory": (Decimal(value), None)},
            whole=False,
        )
        for n, value in enumerate(("99.00", "1.00", "1.00", "1.00"), 1)
    ]
    judgement = judge(
        [gate(), memory], notes, None, tier=5, bake_started_at=START, interval_s=INTERVAL, now=notes[-1].made_at
    )
    assert (judgement.verdict, judgement.gate) == ("breach", "memory")
    assert [reading.state for reading in judgement.readings] == ["missing", "breach"]


def test_drift_aborts_unless_there_is_a_breach() -> None:
    foreign = "instance a runs a tree that the lease does not name"
    judgement = judged(gate(), course("1.00"), drift=foreign)
    assert (judgement.verdict, judgement.gate, judgement.text) == ("abort", None, foreign)
    assert judged(gate(for_s=0), course("99.00"), drift=foreign).verdict == "breach"
    assert judged(gate(), course(None, None, None, None), drift=foreign).verdict == "abort"


def test_order_is_worst_first() -> None:
    assert ORDER == ("breach", "abort", "missing", "inconclusive", "pass")
    assert worst(["pass", "missing", "inconclusive"]) == "missing"
    assert worst([]) == "inconclusive"
