from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from executor.metrics.measure import two_decimals
from policies.fold.deployment import Baseline, SampleNote
from policies.law.tiers import ORDER, Judgement, TierJudge, worst
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
    return judge([the_gate], samples, baseline, now=now, **more)


def judge(
    gates: list[Gate],
    samples: list[SampleNote],
    baseline: Baseline | None = None,
    *,
    now: int,
    drift: str | None = None,
) -> Judgement:
    tier = TierJudge(gates, baseline, bake_started_at=START, interval_s=INTERVAL, planned=60)
    for one in samples:
        tier.see(one)
    return tier.judge(now, drift)


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
    judgement = judge([], course("1.00"), now=START + 15)
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


def rates(*counts: tuple[int, int] | None, the_gate: Gate = ERRORS, rest: tuple[int, int] | None = None) -> Judgement:
    """Judge (failed, requests) sample by sample; None for one without a value."""
    notes = [
        SampleNote(
            seq=100 + n,
            tier=5,
            n=n,
            made_at=START + n * INTERVAL,
            values={the_gate.name: (None, None) if count is None else share(*count)},
            whole=count is not None,
            rest={} if rest is None else {the_gate.name: share(*rest)[0]},
            rest_requests={} if rest is None else {the_gate.name: rest[1]},
        )
        for n, count in enumerate(counts, 1)
    ]
    return judged(the_gate, notes)


def share(failed: int, requests: int) -> tuple[Decimal | None, int]:
    return (two_decimals(Decimal(failed) * 100 / requests) if requests else None), requests


def test_no_request_is_inconclusive_and_never_a_pass() -> None:
    for least in (0, 20):
        alone = gate(name="errors", source="error_rate", limit="10", for_s=0, min_requests=least)
        assert rates((0, 0), the_gate=alone).verdict == "inconclusive"
        assert rates(*[(0, 0)] * 50, the_gate=alone).verdict == "inconclusive"
        assert rates((0, 100), (0, 0), the_gate=alone).verdict == "inconclusive"
        assert rates((0, 0), (0, 100), the_gate=alone).verdict == "pass"
    assert judged(ERRORS, course("0.00", name="errors", requests=0)).verdict == "inconclusive"


def test_rate_of_an_unknown_number_of_requests_is_no_value() -> None:
    nameless = course(*["0.00"] * 4, name="errors", requests=None)
    assert judged(ERRORS, nameless[:1]).verdict == "inconclusive"
    assert judged(ERRORS, nameless).verdict == "missing"


def test_unknown_counts_of_requests_go_missing() -> None:
    assert rates((0, 100), None).verdict == "inconclusive"
    assert rates((0, 100), *[None] * 4).verdict == "missing"


def test_few_requests_a_sample_add_up_until_they_say_something() -> None:
    judgement = rates(*[(0, 5)] * 3)
    assert (judgement.verdict, judgement.text) == (
        "inconclusive",
        "errors 0.00 % rests on 15 requests since the bake began, fewer than 20",
    )
    assert rates(*[(0, 5)] * 4).verdict == "pass"
    assert rates(*[(5, 5)] * 3).verdict == "inconclusive"
    assert rates(*[(5, 5)] * 4).verdict == "breach"


def test_one_bad_sample_of_few_requests_is_no_breach() -> None:
    judgement = rates(*[(0, 5)] * 20, (2, 5))
    assert judgement.verdict == "inconclusive"
    assert judgement.text == "errors 40.00 % is above 10 %, which so few requests may show by chance"
    assert rates(*[(0, 5)] * 20, (2, 5), (0, 5)).verdict == "pass"


def test_rate_over_its_limit_since_the_bake_began_does_not_pass_on_one_good_sample() -> None:
    judgement = rates((9, 50), (4, 50))
    assert judgement.verdict == "inconclusive"
    assert judgement.text == "errors has been above 10 % since the bake began, which chance may explain"


def test_service_that_was_well_for_long_and_then_fails_is_found() -> None:
    well = [(1, 100)] * 48
    found = next(n for n in range(1, 10) if rates(*well, *[(20, 100)] * n).verdict == "breach")
    assert found <= 6
    assert rates(*well, (100, 100)).verdict == "breach"


def test_error_rate_may_have_to_last_too() -> None:
    lasting = gate(name="errors", source="error_rate", limit="10", for_s=30, min_requests=20)
    assert rates(*[(90, 100)] * 2, the_gate=lasting).verdict == "inconclusive"
    assert rates(*[(90, 100)] * 3, the_gate=lasting).verdict == "breach"
    assert rates((90, 100), *[(0, 100)] * 50, the_gate=lasting).verdict == "pass"


def test_nothing_may_fail_where_the_limit_is_zero() -> None:
    none = gate(name="errors", source="error_rate", limit="0", for_s=0)
    assert rates(*[(0, 1000)] * 5, the_gate=none).verdict == "pass"
    assert rates(*[(0, 1000)] * 5, (1, 1000), the_gate=none).verdict == "breach"


def test_share_that_must_not_fall_is_judged_by_counts_too() -> None:
    used = gate(name="errors", source="error_rate", breach="below", limit="90", for_s=0)
    assert rates((95, 100), the_gate=used).verdict == "pass"
    assert rates((88, 100), the_gate=used).verdict == "inconclusive"
    assert rates((50, 100), the_gate=used).verdict == "breach"


BESIDE = gate(name="errors", source="error_rate", against="rest", limit="5", absolute="10", for_s=0)


def test_error_rate_beside_the_rest_of_the_fleet() -> None:
    assert rates((30, 100), the_gate=BESIDE, rest=(570, 1900)).verdict == "pass"
    assert rates((45, 100), the_gate=BESIDE, rest=(570, 1900)).verdict == "inconclusive"
    assert rates(*[(60, 100)] * 2, the_gate=BESIDE, rest=(570, 1900)).verdict == "breach"
    # Without a rest the limit is absolute.
    assert rates(*[(30, 100)] * 2, the_gate=BESIDE).verdict == "breach"


def test_trouble_that_the_whole_fleet_shares_is_no_breach() -> None:
    tier = TierJudge([BESIDE], None, bake_started_at=START, interval_s=INTERVAL, planned=60)
    for n in range(1, 61):
        failed = 1 if n <= 30 else 60
        note = SampleNote(
            seq=n,
            tier=5,
            n=n,
            made_at=START + n * INTERVAL,
            values={"errors": share(failed, 100)},
            whole=True,
            rest={"errors": share(failed * 19, 1900)[0]},
            rest_requests={"errors": 1900},
        )
        tier.see(note)
        assert tier.judge(note.made_at).verdict == "pass"


def test_baseline_of_few_requests_leaves_room_for_chance() -> None:
    against = gate(name="errors", source="error_rate", against="baseline", limit="5", absolute="10", for_s=0)
    notes = [
        SampleNote(n, 5, n, START + n * INTERVAL, {"errors": (Decimal(10), 100)}, whole=True) for n in range(1, 31)
    ]
    few = Baseline({"errors": Decimal(0)}, {"errors": 20})
    many = Baseline({"errors": Decimal(0)}, {"errors": 100_000})
    assert judged(against, notes, baseline=few).verdict == "inconclusive"
    assert judged(against, notes, baseline=many).verdict == "breach"


def test_samples_below_the_minimum_are_inconclusive() -> None:
    assert judged(gate(min_samples=3), course("1.00", None, "1.00")).verdict == "inconclusive"
    assert judged(gate(min_samples=3), course("1.00", None, "1.00", "1.00")).verdict == "pass"


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
    judgement = judge([gate(), memory], notes, now=notes[-1].made_at)
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
