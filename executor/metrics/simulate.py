"""What a policy's gates would have said of recorded metrics, and when they would have halted a rollout.

The recorded rows are cut into the samples that a monitor would have taken under the policy's interval, and judged by
`policies.law.tiers` and nothing else, as CP19 judges. A tier passes as the law asks for: with as many whole samples
as the bake needs, and a newest verdict that passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from executor.metrics.gates import silence_limit
from executor.metrics.measure import share
from executor.metrics.recording import Part, Recording, Row, Side
from policies.fold.deployment import Baseline, SampleNote
from policies.law.courses import VerdictName
from policies.law.evidence import Counts
from policies.law.tiers import Judgement, TierJudge
from policies.matrix import DeployProduction, Gate

Outcome: TypeAlias = Literal["passed", "halted", "unfinished"]

HALTING: Final = frozenset({"breach", "abort", "missing"})
"""Verdicts on which the executor takes a deployment back."""


@dataclass(frozen=True, slots=True)
class GateSaid:
    """What one gate said. `state`, `text`: at the end. `counts`: state -> at how many samples. `first_bad`: when it
    first said more than `inconclusive`, None for never.
    """

    gate: str
    state: VerdictName
    text: str
    counts: dict[str, int]
    first_bad: int | None


@dataclass(frozen=True, slots=True)
class TierSaid:
    """What became of a tier. `tier`: percent, or which one after another. `whole`, `needed`: samples with a value for
    every gate. `gate`: the one that decided. Times: seconds since 1970; `ended`: when it passed or was halted, or of
    the last row.
    """

    tier: int
    began: int
    ended: int
    outcome: Outcome
    samples: int
    whole: int
    needed: int
    verdict: VerdictName
    gate: str | None
    text: str
    gates: tuple[GateSaid, ...]


@dataclass(frozen=True, slots=True)
class Simulation:
    """`left_out`: gates whose source was not recorded, and which were therefore not asked."""

    tiers: tuple[TierSaid, ...]
    left_out: tuple[str, ...]

    @property
    def halted(self) -> int:
        """How many tiers would have been halted."""
        return sum(tier.outcome == "halted" for tier in self.tiers)


def simulate(policy: DeployProduction, recording: Recording) -> Simulation:
    """Judge a recording as if a rollout had been watched under this policy."""
    gates = [gate for gate in policy.gates if gate.source in recording.sources]
    left_out = tuple(gate.name for gate in policy.gates if gate.source not in recording.sources)
    tiers: Iterator[TierSaid]
    if recording.parts:
        # Samples are taken as they are, unless the policy would have taken fewer.
        cut = recording.interval_s is None or recording.interval_s < policy.interval_s
        tiers = (_replay(policy, gates, part, recording.baseline, cut=cut)[0] for part in recording.parts)
    else:
        tiers = _one_after_another(policy, gates, recording.rows)
    return Simulation(tuple(tiers), left_out)


def _one_after_another(policy: DeployProduction, gates: Sequence[Gate], rows: Sequence[Row]) -> Iterator[TierSaid]:
    """Rollouts of one tier each. The row on which one ends, and at first the first row, is the baseline of the next.
    One trouble halts one tier: after a halt the next begins when this one would have ended.
    """
    at, number = 0, 1
    while at < len(rows) - 1:
        first = rows[at]
        said, used = _replay(policy, gates, Part(number, first.at, rows[at + 1 :]), first.here, cut=True)
        yield said
        at, number = at + max(used, 1), number + 1
        while said.outcome == "halted" and at < len(rows) and rows[at].at < said.began + policy.bake_s:
            at += 1


def _replay(
    policy: DeployProduction, gates: Sequence[Gate], part: Part, before: Side | None, *, cut: bool
) -> tuple[TierSaid, int]:
    """What became of a tier, and how many of its rows that took. `cut`: rows are joined to the policy's samples."""
    began = part.began if part.began is not None else part.rows[0].at - policy.interval_s
    needed = -(-policy.bake_s // policy.interval_s)
    judge = TierJudge(
        gates, _baseline(gates, before), bake_started_at=began, interval_s=policy.interval_s, planned=needed
    )
    tally = _Tally(gates)
    limit = silence_limit(gates, policy.interval_s)
    outcome: Outcome = "unfinished"
    judgement = judge.judge(began)
    pending: list[Row] = []
    ended, last = began, began
    used = whole = newest = 0
    for row in part.rows:
        used += 1
        if row.at - last > limit:
            # What the executor says of a monitor that is silent.
            text = f"there was no sample for {row.at - last} s, more than {limit} s"
            judgement, outcome, ended = Judgement("missing", None, text, judgement.readings), "halted", last + limit
            break
        pending.append(row)
        # A second of leave, as the law gives it.
        n = (row.at - began + 1) // policy.interval_s
        if cut and n <= newest:
            continue
        newest = n
        note = _note(gates, pending, tally.samples + 1, part.tier)
        pending, last, ended = [], row.at, row.at
        judge.see(note)
        judgement = judge.judge(row.at)
        tally.take(judgement, row.at)
        whole += note.whole
        if judgement.verdict in HALTING:
            outcome = "halted"
            break
        if whole >= needed and judgement.verdict == "pass":
            outcome = "passed"
            break
    said = TierSaid(
        part.tier, began, ended, outcome, tally.samples, whole, needed,
        judgement.verdict, judgement.gate, judgement.text, tally.gates(judgement),
    )  # fmt: skip
    return said, used


class _Tally:
    def __init__(self, gates: Sequence[Gate]) -> None:
        self.samples = 0
        self._counts: Final[dict[str, Counter[str]]] = {gate.name: Counter() for gate in gates}
        self._first_bad: Final[dict[str, int]] = {}

    def take(self, judgement: Judgement, at: int) -> None:
        self.samples += 1
        for reading in judgement.readings:
            self._counts[reading.gate][reading.state] += 1
            if reading.state in HALTING:
                self._first_bad.setdefault(reading.gate, at)

    def gates(self, judgement: Judgement) -> tuple[GateSaid, ...]:
        return tuple(
            GateSaid(one.gate, one.state, one.text, dict(self._counts[one.gate]), self._first_bad.get(one.gate))
            for one in judgement.readings
        )


def _note(gates: Sequence[Gate], rows: Sequence[Row], n: int, tier: int) -> SampleNote:
    """The sample that a monitor would have taken over some rows: counts add up, of all else the newest counts."""
    newest = rows[-1]
    here, rest = (
        Side(side.gauges, _sum(counts))
        for side, counts in (
            (newest.here, [row.here.counts for row in rows]),
            (newest.rest, [row.rest.counts for row in rows]),
        )
    )
    values = {gate.name: _value(gate, here) for gate in gates}
    others = {gate.name: _value(gate, rest) for gate in gates if gate.against == "rest"}
    # A rest with too few requests is none, as a monitor says it.
    known = {
        gate.name: gate.source != "error_rate" or (others[gate.name][1] or 0) >= gate.min_requests
        for gate in gates
        if gate.name in others
    }
    return SampleNote(
        seq=n,
        tier=tier,
        n=n,
        made_at=newest.at,
        values=values,
        whole=all(value is not None for value, _ in values.values()),
        rest={name: value if known[name] else None for name, (value, _) in others.items()},
        rest_requests={name: requests if known[name] else None for name, (_, requests) in others.items()},
    )


def _baseline(gates: Sequence[Gate], side: Side | None) -> Baseline:
    if side is None:
        return Baseline(None)
    values = {gate.name: _value(gate, side) for gate in gates}
    few = {
        gate.name for gate in gates if gate.source == "error_rate" and (values[gate.name][1] or 0) < gate.min_requests
    }
    return Baseline(
        {name: None if name in few else value for name, (value, _) in values.items()},
        {name: requests for name, (_, requests) in values.items()},
    )


def _value(gate: Gate, side: Side) -> tuple[Decimal | None, int | None]:
    if gate.source != "error_rate":
        return side.gauges.get(gate.source), None
    if side.counts is None:
        return None, None
    return share(side.counts.bad, side.counts.total), side.counts.total


def _sum(counts: Sequence[Counts | None]) -> Counts | None:
    known = [one for one in counts if one is not None]
    # A part that is not known makes the whole unknown.
    if len(known) != len(counts):
        return None
    return Counts(sum(one.bad for one in known), sum(one.total for one in known))
