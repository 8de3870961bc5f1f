from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from policies.fold.deployment import Baseline, EarlierNote, SampleNote
from policies.fold.packer import adapter_of
from policies.law.tiers import ORDER, Judgement, TierJudge, worst
from policies.matrix import Gate

START = 1_000_000
INTERVAL = 15
NAME = "errors"

VALUES = st.decimals(min_value=0, max_value=100, places=2, allow_nan=False)


@st.composite
def gates(draw: st.DrawFn) -> Gate:
    return Gate(
        name=NAME,
        source=draw(st.sampled_from(["tes", "error_rate", "cpu"])),
        against=draw(st.sampled_from(["absolute", "baseline", "rest"])),
        breach=draw(st.sampled_from(["above", "below"])),
        limit=str(draw(st.integers(0, 50))),
        absolute=str(draw(st.integers(0, 100))),
        for_s=draw(st.integers(0, 60)),
        min_samples=draw(st.integers(1, 4)),
        missing_s=draw(st.integers(0, 90)),
        min_requests=draw(st.integers(0, 30)),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[SampleNote]:
    notes = []
    for n in range(1, draw(st.integers(0, 10)) + 1):
        value = draw(st.none() | VALUES)
        notes.append(
            SampleNote(
                seq=n,
                tier=5,
                n=n,
                made_at=START + n * INTERVAL + draw(st.integers(-1, 5)),
                values={NAME: (value, draw(st.none() | st.integers(0, 60)))},
                whole=value is not None,
                rest={NAME: draw(st.none() | VALUES)},
                rest_requests={NAME: draw(st.none() | st.integers(0, 60))},
            )
        )
    return notes


BASELINES = st.none() | st.builds(
    Baseline,
    st.none() | st.fixed_dictionaries({NAME: st.none() | VALUES}),
    st.fixed_dictionaries({NAME: st.none() | st.integers(0, 60)}),
)


def judged(gate: Gate, notes: list[SampleNote], baseline: Baseline | None, now: int | None = None) -> Judgement:
    if now is None:
        now = notes[-1].made_at if notes else START
    return judge([gate], notes, baseline, now)


def judge(gates: list[Gate], notes: list[SampleNote], baseline: Baseline | None, now: int) -> Judgement:
    tier = TierJudge(gates, baseline, bake_started_at=START, interval_s=INTERVAL, planned=8)
    for note in notes:
        tier.see(note)
    return tier.judge(now)


def bad(gate: Gate, note: SampleNote) -> SampleNote:
    # Beyond every limit that a gate can have here: 0 to 100, give or take 50.
    value = Decimal(1000 if gate.breach == "above" else -1000)
    return replace(note, values={NAME: (value, 1000)}, whole=True)


def severity(judgement: Judgement) -> int:
    return -ORDER.index(judgement.verdict)


@given(gates(), histories(), BASELINES)
def test_null_newest_value_never_passes(gate: Gate, notes: list[SampleNote], baseline: Baseline | None) -> None:
    nothing = SampleNote(seq=99, tier=5, n=99, made_at=START + 99 * INTERVAL, values={NAME: (None, 100)}, whole=False)
    assert judged(gate, [*notes, nothing], baseline).verdict != "pass"


@given(gates(), histories(), BASELINES)
def test_no_usable_value_never_passes_and_never_breaches(
    gate: Gate, notes: list[SampleNote], baseline: Baseline | None
) -> None:
    silent = [replace(note, values={NAME: (None, None)}) for note in notes]
    assert judged(gate, silent, baseline).verdict in {"missing", "inconclusive"}


@given(gates(), histories(), BASELINES)
def test_bad_sample_more_never_makes_the_verdict_milder(
    gate: Gate, notes: list[SampleNote], baseline: Baseline | None
) -> None:
    before = judged(gate, notes, baseline)
    n = len(notes) + 1
    note = SampleNote(seq=n, tier=5, n=n, made_at=START + n * INTERVAL + 5, values={}, whole=True)
    after = judged(gate, [*notes, bad(gate, note)], baseline)
    assert after.verdict != "pass"
    # That a value came at all ends the silence; the silence was not health, and neither is this.
    assert severity(after) >= severity(before) or before.verdict == "missing"


@given(gates(), histories(), BASELINES, st.data())
def test_worse_value_never_makes_the_verdict_milder(
    gate: Gate, notes: list[SampleNote], baseline: Baseline | None, data: st.DataObject
) -> None:
    usable = [index for index, note in enumerate(notes) if note.values[NAME][0] is not None]
    if not usable:
        return
    index = data.draw(st.sampled_from(usable))
    worse = [*notes[:index], bad(gate, notes[index]), *notes[index + 1 :]]
    # More requests could turn too few into enough, which is not a worse value but more data.
    requests = notes[index].values[NAME][1]
    worse[index] = replace(worse[index], values={NAME: (worse[index].values[NAME][0], requests)})
    assert severity(judged(gate, worse, baseline)) >= severity(judged(gate, notes, baseline))


@given(gates(), histories(), BASELINES, st.integers(0, 10_000))
def test_breach_stays_whatever_comes_after(
    gate: Gate, notes: list[SampleNote], baseline: Baseline | None, later: int
) -> None:
    verdicts = [judged(gate, notes[:count], baseline).verdict for count in range(len(notes) + 1)]
    if "breach" in verdicts:
        assert set(verdicts[verdicts.index("breach") :]) == {"breach"}
        assert judged(gate, notes, baseline, now=START + later).verdict == "breach"


@given(gates(), histories(), BASELINES, st.integers(0, 5000), st.integers(0, 5000))
def test_waiting_never_makes_the_verdict_milder(
    gate: Gate, notes: list[SampleNote], baseline: Baseline | None, first: int, more: int
) -> None:
    early = judged(gate, notes, baseline, now=START + first)
    assert severity(judged(gate, notes, baseline, now=START + first + more)) >= severity(early)


@given(st.lists(gates(), max_size=4), histories(), BASELINES)
def test_worst_gate_decides(many: list[Gate], notes: list[SampleNote], baseline: Baseline | None) -> None:
    now = notes[-1].made_at if notes else START
    judgement = judge(many, notes, baseline, now)
    assert judgement.verdict == worst(reading.state for reading in judgement.readings)


@given(st.lists(st.sampled_from(ORDER)), st.sampled_from(ORDER))
def test_worst_is_never_milder_than_any(verdicts: list[str], other: str) -> None:
    known = [name for name in ORDER if name in verdicts or name == other]
    assert worst(known) == known[0]


@given(gates(), histories(), BASELINES, st.data())
def test_samples_folded_at_any_cut_lead_to_the_same_judgement(
    gate: Gate, notes: list[SampleNote], baseline: Baseline | None, data: st.DataObject
) -> None:
    """What a state keeps of a long bake, also when it was a snapshot in between, stands for every sample of it."""
    cut = data.draw(st.integers(0, max(0, len(notes) - 1)))
    first = TierJudge([gate], baseline, bake_started_at=START, interval_s=INTERVAL, planned=8)
    for note in notes[:cut]:
        first.see(note)
    packed = adapter_of(EarlierNote).dump_json(first.note())
    earlier = adapter_of(EarlierNote).validate_json(packed)
    assert earlier == first.note()
    then = TierJudge([gate], baseline, bake_started_at=START, interval_s=INTERVAL, planned=8, earlier=earlier)
    for note in notes[cut:]:
        then.see(note)
    assert then.seen == len(notes)
    now = notes[-1].made_at if notes else START
    assert then.judge(now) == judged(gate, notes, baseline)
    assert then.judge(now + 100) == judged(gate, notes, baseline, now + 100)
