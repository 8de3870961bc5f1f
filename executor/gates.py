"""Health gates: what the samples of a tier say, judged so that any reader of the ledger gets the same verdict.

A breach is worse than an abort, that than missing data, that than an inconclusive reading, and a pass is the mildest;
the worst gate decides and nothing milder ever stands over it. A breach that lasted as long as its gate asks stays one
for the rest of the tier, however the values look afterwards.

What is not known counts for neither side: a null value, or one that rests on too few requests, does not end a run of
bad samples, adds no time to it, and never passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from keys.values import parse_decimal
from policies.deployment import Baseline, Deployment, SampleNote
from policies.matrix import Gate

VerdictName: TypeAlias = Literal["breach", "abort", "missing", "inconclusive", "pass"]

_decimal: Final = lru_cache(maxsize=1024)(parse_decimal)  # a gate's limits are read again for every sample

ORDER: Final[tuple[VerdictName, ...]] = ("breach", "abort", "missing", "inconclusive", "pass")
"""Worst first."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One gate at the newest sample.

    `value`: what was measured, None for nothing. `baseline`: the value it is compared with (before the first tier, or
    of the rest of the fleet), None where the comparison is absolute. `limit`: the line that `value` must not cross, in
    the unit of `value`. `state`: what this gate alone says. `text`: one line for a person.
    """

    gate: str
    value: Decimal | None
    baseline: Decimal | None
    limit: Decimal
    state: VerdictName
    text: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a tier. `gate`: the one that decided; None when all pass and for drift, which is no gate's."""

    verdict: VerdictName
    gate: str | None
    text: str
    readings: tuple[Reading, ...]


def worst(verdicts: Iterable[VerdictName]) -> VerdictName:
    """The worst of some verdicts; of none, `inconclusive`, because no data is not health."""
    return min(verdicts, key=ORDER.index, default="inconclusive")


def judge(
    gates: Sequence[Gate],
    samples: Sequence[SampleNote],
    baseline: Baseline | None,
    *,
    tier: int,
    bake_started_at: int,
    interval_s: int,
    now: int,
    drift: str | None = None,
) -> Judgement:
    """Judge a tier by its samples; those of other tiers are left out.

    `drift`: what was found running instead of the lease's trees, or None; it aborts. Times: seconds since 1970. A
    verdict in the ledger is recomputed with `now` = its `made_at`.
    """
    seen = [sample for sample in samples if sample.tier == tier]
    bake = _Bake(seen, baseline, bake_started_at, interval_s, now)
    readings = tuple(_read(gate, bake) for gate in gates)
    verdict = worst(reading.state for reading in readings)
    if drift is not None and ORDER.index("abort") < ORDER.index(verdict):
        return Judgement("abort", None, drift, readings)
    if not readings:
        return Judgement("inconclusive", None, "the lease has no gate, so nothing says that the tier is well", readings)
    if verdict == "pass":
        return Judgement("pass", None, "every gate passes", readings)
    deciding = next(reading for reading in readings if reading.state == verdict)
    return Judgement(verdict, deciding.gate, deciding.text, readings)


def judge_deployment(deployment: Deployment, now: int, drift: str | None = None) -> Judgement:
    """Judge the newest tier of a deployment; `inconclusive` before its bake began."""
    lease = deployment.lease
    if deployment.bake_started_at is None:
        return Judgement("inconclusive", None, "the bake has not begun", ())
    return judge(
        lease.gates,
        deployment.samples,
        deployment.baseline,
        tier=deployment.tier,
        bake_started_at=deployment.bake_started_at,
        interval_s=lease.interval_s,
        now=now,
        drift=drift,
    )


@dataclass(frozen=True, slots=True)
class _Bake:
    """What every gate of a tier is judged by. Times: seconds since 1970."""

    samples: Sequence[SampleNote]
    baseline: Baseline | None
    started_at: int
    interval_s: int
    now: int


@dataclass(frozen=True, slots=True)
class _Line:
    """Where a gate's limit lies for one sample. `other`: the value it is relative to, or None."""

    limit: Decimal
    other: Decimal | None


def _line(gate: Gate, sample: SampleNote | None, baseline: Baseline | None) -> _Line:
    limit = _decimal(gate.limit)
    other: Decimal | None = None
    if gate.against == "baseline" and baseline is not None and baseline.values is not None:
        other = baseline.values.get(gate.name)
    elif gate.against == "rest" and sample is not None:
        other = sample.rest.get(gate.name)
    if other is not None:
        return _Line(other + limit if gate.breach == "above" else other - limit, other)
    if gate.against != "absolute" and gate.absolute is not None:
        limit = _decimal(gate.absolute)
    return _Line(limit, None)


def _value(gate: Gate, sample: SampleNote) -> tuple[Decimal | None, bool]:
    """The value of a sample, and whether it rests on enough requests to say anything."""
    value, requests = sample.values.get(gate.name, (None, None))
    enough = gate.source != "error_rate" or (requests or 0) >= gate.min_requests
    return value, enough


def _beyond(gate: Gate, value: Decimal, limit: Decimal) -> bool:
    return value > limit if gate.breach == "above" else value < limit


@dataclass(slots=True)
class _Course:
    """A gate's course over a tier. `lasted`: seconds of the present run of bad samples."""

    last_value_at: int | None = None
    usable: int = 0
    lasted: int = 0
    breached: bool = False


def _follow(gate: Gate, bake: _Bake) -> _Course:
    course = _Course()
    bad_at: int | None = None  # of the sample just before, if it was bad
    for sample in bake.samples:
        value, enough = _value(gate, sample)
        if value is not None:
            course.last_value_at = sample.made_at
        if value is None or not enough:
            bad_at = None
            continue
        course.usable += 1
        if not _beyond(gate, value, _line(gate, sample, bake.baseline).limit):
            course.lasted, bad_at = 0, None
            continue
        if bad_at is not None:
            # A hole in the observation is not time that the breach is known to have lasted.
            course.lasted += min(max(0, sample.made_at - bad_at), 2 * bake.interval_s)
        bad_at = sample.made_at
        course.breached = course.breached or course.lasted >= gate.for_s
    return course


def _read(gate: Gate, bake: _Bake) -> Reading:
    newest = bake.samples[-1] if bake.samples else None
    value, enough = _value(gate, newest) if newest is not None else (None, True)
    line = _line(gate, newest, bake.baseline)
    course = _follow(gate, bake)
    silent_s = bake.now - (bake.started_at if course.last_value_at is None else course.last_value_at)
    # The next value is due one interval after the newest; a sample that came without one has been waited for already.
    came_without = newest is not None and value is None
    missing = silent_s >= gate.missing_s if came_without else silent_s > bake.interval_s + gate.missing_s
    shown = gate.name if value is None else f"{gate.name} {_show(gate, value)}"
    beyond = f"{gate.breach} {_show(gate, line.limit)}{_compared(gate, line)}"
    lasting = f" for {gate.for_s} s" if gate.for_s else ""
    state: VerdictName
    if course.breached:
        now = "" if value is None else f"; now {_show(gate, value)}"
        state, text = "breach", f"{gate.name} was {beyond}{lasting}{now}"
    elif missing:
        state, text = "missing", f"{gate.name} has had no value for {silent_s} s"
    elif value is None:
        state, text = "inconclusive", f"{gate.name} has no {'sample yet' if newest is None else 'value'}"
    elif not enough:
        state, text = "inconclusive", f"{shown} rests on fewer than {gate.min_requests} requests"
    elif _beyond(gate, value, line.limit):
        state, text = "inconclusive", f"{shown} is {beyond}, for {course.lasted} of {gate.for_s} s so far"
    elif course.usable < gate.min_samples:
        state, text = "inconclusive", f"{shown} has {course.usable} of {gate.min_samples} samples"
    else:
        state, text = "pass", f"{shown} is not {beyond}"
    return Reading(gate.name, value, line.other, line.limit, state, text)


def _show(gate: Gate, value: Decimal) -> str:
    return f"{value:f}" if gate.source == "tes" else f"{value:f} %"


def _compared(gate: Gate, line: _Line) -> str:
    if line.other is None:
        return ""
    what = "before the first tier" if gate.against == "baseline" else "on the rest of the fleet"
    return f" ({_show(gate, line.other)} {what})"
