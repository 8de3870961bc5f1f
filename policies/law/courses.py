"""One health gate over the samples of a tier: what it says, judged so that any reader of the ledger gets the same.

A breach that lasted as long as its gate asks stays one for the rest of the tier, however the values look afterwards.

What is not known counts for neither side: a null value, or an interval without requests, does not end a run of bad
samples, adds no time to it, and never passes. A value is bad when it is beyond its limit; an error rate, when the
counts of the tier are evidence of that (`policies.law.evidence`), because a rate of few requests is beyond any limit
now and then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from keys.values import parse_decimal
from keys.words import counted
from policies.fold.deployment import Baseline, CourseNote, SampleNote
from policies.law.evidence import Counts, Evidence, count_of, upper_bound
from policies.matrix import Gate

VerdictName: TypeAlias = Literal["breach", "abort", "missing", "inconclusive", "pass"]

_decimal: Final = lru_cache(maxsize=1024)(parse_decimal)  # a gate's limits are read again for every sample

_CENT: Final = Decimal("0.01")


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


def _beyond(gate: Gate, value: Decimal, limit: Decimal) -> bool:
    return value > limit if gate.breach == "above" else value < limit


class Course:
    """A gate's course over a tier. `lasted`: seconds of the present run of bad samples. `note`: where it stands."""

    def __init__(self, gate: Gate, baseline: Baseline | None, note: CourseNote, interval_s: int) -> None:
        self.gate: Final = gate
        self.baseline: Final = baseline
        self._interval_s: Final = interval_s
        self._known_at = note.known_at
        self._bad_at = note.bad_at  # of the sample just before, if it was bad
        self.newest: SampleNote | None = None
        self.usable = note.usable
        self.lasted = note.lasted
        self.breached = note.breached

    def note(self) -> CourseNote:
        """Where it stands now."""
        return CourseNote(self._known_at, self._bad_at, self.usable, self.lasted, self.breached)

    def see(self, sample: SampleNote) -> None:
        """Take in the tier's next sample."""
        value, requests = sample.values.get(self.gate.name, (None, None))
        self.newest = sample
        if self.known(value, requests):
            self._known_at = sample.made_at
        if value is None or not self.tells(requests):
            self._bad_at = None
            return
        self.usable += 1
        if not self.is_bad(sample, value, requests or 0):
            self.lasted, self._bad_at = 0, None
            return
        if self._bad_at is not None:
            # A hole in the observation is not time that the breach is known to have lasted.
            self.lasted += min(max(0, sample.made_at - self._bad_at), 2 * self._interval_s)
        self._bad_at = sample.made_at
        self.breached = self.breached or self.lasted >= self.gate.for_s

    def known(self, value: Decimal | None, requests: int | None) -> bool:
        """Whether an interval was measured, be it that there was nothing to see in it."""
        del requests
        return value is not None

    def tells(self, requests: int | None) -> bool:
        """Whether a value rests on something."""
        del requests
        return True

    def is_bad(self, sample: SampleNote, value: Decimal, requests: int) -> bool:
        """Take in a value, and say whether it counts toward a breach."""
        del requests
        return _beyond(self.gate, value, _line(self.gate, sample, self.baseline).limit)

    def doubt(self, value: Decimal, line: _Line, shown: str, beyond: str) -> str | None:
        """Why a gate with this newest value does not pass yet, None when nothing is in its way."""
        if _beyond(self.gate, value, line.limit):
            return f"{shown} is {beyond}, for {self.lasted} of {self.gate.for_s} s so far"
        return None

    def read(self, now: int) -> Reading:
        """What the gate says at a time, seconds since 1970."""
        gate, newest = self.gate, self.newest
        value, requests = (None, None) if newest is None else newest.values.get(gate.name, (None, None))
        line = _line(gate, newest, self.baseline)
        silent_s = now - self._known_at
        # The next value is due one interval after the newest; a sample without one has been waited for already.
        came_without = newest is not None and not self.known(value, requests)
        missing = silent_s >= gate.missing_s if came_without else silent_s > self._interval_s + gate.missing_s
        shown = gate.name if value is None else f"{gate.name} {_show(gate, value)}"
        beyond = f"{gate.breach} {_show(gate, line.limit)}{_compared(gate, line)}"
        state: VerdictName = "inconclusive"
        if self.breached:
            lasting = f" for {gate.for_s} s" if gate.for_s else ""
            after = "" if value is None else f"; now {_show(gate, value)}"
            state, text = "breach", f"{gate.name} was {beyond}{lasting}{after}"
        elif missing:
            state, text = "missing", f"{gate.name} has had no value for {silent_s} s"
        elif newest is None:
            text = f"{gate.name} has no sample yet"
        elif requests == 0:
            text = f"{gate.name} had no request in the newest interval, which says nothing"
        elif value is None or not self.tells(requests):
            text = f"{gate.name} has no value"
        elif (doubt := self.doubt(value, line, shown, beyond)) is not None:
            text = doubt
        elif self.usable < gate.min_samples:
            text = f"{shown} has {self.usable} of {counted(gate.min_samples, 'sample')}"
        else:
            state, text = "pass", f"{shown} is not {beyond}"
        return Reading(gate.name, value, line.other, line.limit, state, text)


class RateCourse(Course):
    """The course of an error rate, judged by how many requests failed since the bake began."""

    def __init__(self, gate: Gate, baseline: Baseline | None, note: CourseNote, interval_s: int, planned: int) -> None:
        super().__init__(gate, baseline, note, interval_s)
        self._evidence: Final = Evidence(planned, note.evidence)
        self._requests = note.requests
        self._bad = note.bad
        self._allowed = note.allowed  # how many bad ones the limits of the samples so far come to

    def note(self) -> CourseNote:
        return replace(
            super().note(),
            requests=self._requests,
            bad=self._bad,
            allowed=self._allowed,
            evidence=self._evidence.note(),
        )

    def known(self, value: Decimal | None, requests: int | None) -> bool:
        # No request is a measurement. A rate of nobody knows how many is none.
        return requests == 0 or (value is not None and requests is not None)

    def tells(self, requests: int | None) -> bool:
        return bool(requests)

    def is_bad(self, sample: SampleNote, value: Decimal, requests: int) -> bool:
        counts = self._count(value, requests)
        line = _line(self.gate, sample, self.baseline)
        share = (line.limit if self.gate.breach == "above" else 100 - line.limit) / 100
        self._requests += requests
        self._bad += counts.bad
        self._allowed += share * requests
        distance = float(_decimal(self.gate.limit)) / 100
        known = sample.rest_requests.get(self.gate.name)
        if line.other is None:
            self._evidence.see(counts, float(share))
        elif self.gate.against == "rest" and known:
            self._evidence.see_beside(counts, self._count(line.other, known), distance)
        else:
            self._evidence.see(counts, self._room(line.other, float(share), distance))
        # The evidence of a moment outlasts it; a rate that is back within its limit is no breach that lasts.
        enough = self._requests >= self.gate.min_requests
        return enough and _beyond(self.gate, value, line.limit) and self._evidence.convinces()

    def doubt(self, value: Decimal, line: _Line, shown: str, beyond: str) -> str | None:
        least = self.gate.min_requests
        if self._requests < least:
            return f"{shown} rests on {counted(self._requests, 'request')} since the bake began, fewer than {least}"
        if self._bad_at is not None:
            return super().doubt(value, line, shown, beyond)
        if _beyond(self.gate, value, line.limit):
            return f"{shown} is {beyond}, which so few requests may show by chance"
        if self._bad > self._allowed:
            return f"{self.gate.name} has been {beyond} since the bake began, which chance may explain"
        return None

    def _count(self, rate: Decimal, total: int) -> Counts:
        """The requests on the bad side of a rate in percent."""
        failed = min(max(count_of(rate, total), 0), total)
        return Counts(failed if self.gate.breach == "above" else total - failed, total)

    def _room(self, other: Decimal, share: float, distance: float) -> float:
        """The bad share that a rate seen before the first tier allows. Few requests leave its true value in doubt; the
        doubt is the new release's, up to what the gate would allow without that rate.
        """
        requests = None if self.baseline is None else self.baseline.requests.get(self.gate.name)
        if self.gate.against != "baseline" or not requests or self.gate.absolute is None:
            return share
        absolute = float(_decimal(self.gate.absolute)) / 100
        unknown = absolute if self.gate.breach == "above" else 1 - absolute
        return min(upper_bound(self._count(other, requests)) + distance, max(share, unknown))


def _show(gate: Gate, value: Decimal) -> str:
    # A rate has as many digits as its count needs; two are enough for a person.
    short = value.quantize(_CENT, ROUND_HALF_UP)
    text = f"{value if value == short else short:f}"
    return text if gate.source == "tes" else f"{text} %"


def _compared(gate: Gate, line: _Line) -> str:
    if line.other is None:
        return ""
    what = "before the first tier" if gate.against == "baseline" else "on the rest of the fleet"
    return f" ({_show(gate, line.other)} {what})"
