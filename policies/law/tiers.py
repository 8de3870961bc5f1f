"""The verdict on a tier: what all its health gates say together (`policies.law.courses`).

A breach is worse than an abort, that than missing data, that than an inconclusive reading, and a pass is the mildest;
the worst gate decides and nothing milder ever stands over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from policies.fold.deployment import Baseline, CourseNote, Deployment, EarlierNote, SampleNote
from policies.law.courses import Course, RateCourse, Reading, VerdictName
from policies.matrix import Gate

ORDER: Final[tuple[VerdictName, ...]] = ("breach", "abort", "missing", "inconclusive", "pass")
"""Worst first."""

WINDOW: Final = 64
"""So many samples of a bake stay as they are; when there are twice as many, those before are folded."""


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


class TierJudge:
    """Judges one tier, sample by sample: each is read once, and what is kept of them does not grow.

    `planned`: how many samples the tier needs. `earlier`: what `note` gave of samples that were seen before. Times:
    seconds since 1970.
    """

    def __init__(
        self,
        gates: Sequence[Gate],
        baseline: Baseline | None,
        *,
        bake_started_at: int,
        interval_s: int,
        planned: int,
        earlier: EarlierNote | None = None,
    ) -> None:
        begun = CourseNote(known_at=bake_started_at, bad_at=None, usable=0, lasted=0, breached=False)
        notes = [begun] * len(gates) if earlier is None else earlier.courses
        self._courses: Final = [
            RateCourse(gate, baseline, note, interval_s, planned)
            if gate.source == "error_rate"
            else Course(gate, baseline, note, interval_s)
            for gate, note in zip(gates, notes, strict=True)
        ]
        self.seen = 0 if earlier is None else earlier.count

    def see(self, sample: SampleNote) -> None:
        """Take in the tier's next sample."""
        for course in self._courses:
            course.see(sample)
        self.seen += 1

    def note(self) -> EarlierNote:
        """All that is known of the samples so far but the newest one itself; who goes on from it sees another one
        before it judges.
        """
        return EarlierNote(self.seen, tuple(course.note() for course in self._courses))

    def judge(self, now: int, drift: str | None = None) -> Judgement:
        """What the samples so far say at a time. `drift`: what was found running instead of the lease's trees, or None;
        it aborts. A verdict in the ledger is recomputed with `now` = its `made_at`.
        """
        readings = tuple(course.read(now) for course in self._courses)
        verdict = worst(reading.state for reading in readings)
        if drift is not None and ORDER.index("abort") < ORDER.index(verdict):
            return Judgement("abort", None, drift, readings)
        if not readings:
            text = "the lease has no gate, so nothing says that the tier is well"
            return Judgement("inconclusive", None, text, readings)
        if verdict == "pass":
            return Judgement("pass", None, "every gate passes", readings)
        deciding = next(reading for reading in readings if reading.state == verdict)
        return Judgement(verdict, deciding.gate, deciding.text, readings)


def judge_of(deployment: Deployment) -> TierJudge:
    """The judge of the tier that is watched, who has seen what is folded of it, and none of `samples`. Only once its
    bake began.
    """
    if deployment.bake_started_at is None:
        raise ValueError("the bake has not begun")
    return TierJudge(
        deployment.lease.gates,
        deployment.baseline,
        bake_started_at=deployment.bake_started_at,
        interval_s=deployment.lease.interval_s,
        planned=deployment.samples_needed,
        earlier=deployment.earlier,
    )


def fold_samples(deployment: Deployment) -> None:
    """Keep a long bake short: what the gates know of its first samples takes their place, and every judgement is the
    same as of all samples.
    """
    if len(deployment.samples) >= 2 * WINDOW:
        judge = judge_of(deployment)
        for sample in deployment.samples[:-WINDOW]:
            judge.see(sample)
        deployment.earlier = judge.note()
        del deployment.samples[:-WINDOW]
