"""Health: what the monitor may say of a tier, and when a tier counts as healthy."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from keys.words import counted
from policies import event_kinds as kinds
from policies.fold.deployment import LASTING_VERDICTS, Baseline, Deployment, SampleNote, VerdictNote
from policies.kinds import ABSENT
from policies.law.case import Case, Effect, refuse
from policies.law.tiers import fold_samples


def check_health(deployment: Deployment) -> None:
    """The present tier was watched long enough and is healthy. Raises: LawRefused (`not_baked`, `not_healthy`)."""
    order = deployment.promote_order
    skipped = order is not None and order.skip_bake and order.tier == deployment.tier
    whole, needed = deployment.whole_samples(), deployment.samples_needed
    if whole < needed and not skipped:
        refuse(
            "not_baked", f"{whole} of {counted(needed, 'whole sample')} of the tier {deployment.tier} %", rule="health"
        )
    newest = deployment.samples[-1] if deployment.samples else None
    verdict = deployment.verdict
    n = newest.n if newest is not None and newest.tier == deployment.tier else 0
    if verdict is None or verdict.tier != deployment.tier or verdict.n != n or verdict.verdict != "pass":
        refuse("not_healthy", f"the newest verdict on the tier {deployment.tier} % is not a pass", rule="health")


def judge_baseline(case: Case, deployment: Deployment, detail: kinds.Baseline) -> Effect:
    """The monitor's values before the first tier, taken once."""
    del case
    if deployment.tier != 0 or deployment.baseline is not None:
        refuse("late_baseline", "the baseline lies before the first tier, and is taken once", rule="health")
    from_absent = all(tree == ABSENT for tree in deployment.before.values())
    if from_absent != (detail.values is None):
        refuse("bad_baseline", "the baseline is null from absent, and only then", rule="health")
    found = None if detail.values is None else _gate_values(deployment, detail.values)
    note = (
        Baseline(None)
        if found is None
        else Baseline({k: v for k, (v, _) in found.items()}, {k: requests for k, (_, requests) in found.items()})
    )

    def effect(ours: Deployment) -> None:
        ours.baseline = note

    return effect


def judge_sample(case: Case, deployment: Deployment, detail: kinds.Sample) -> Effect:
    """One interval's observation of the tier whose bake began last, not taken before its time."""
    lease, watched = deployment.lease, deployment.watched_tier
    if deployment.bake_started_at is None:
        refuse("not_baking", "samples are taken once a tier bakes", rule="health")
    if detail.tier != watched:
        refuse("wrong_tier", f"the tier {watched} % is watched, not {detail.tier} %", rule="health")
    last = deployment.samples[-1].n if deployment.samples else 0
    if detail.n <= last:
        refuse("repeated", f"sample {last} of this tier is recorded; the next one is later", rule="repetition")
    made_at = case.statement.made_at
    # A signer may be up to two minutes ahead; without the record's time a whole bake could be over before it began.
    if min(made_at, case.now) < deployment.bake_started_at + detail.n * lease.interval_s - 1:
        refuse("early_sample", f"sample {detail.n} is taken too early", rule="health")
    values = _gate_values(deployment, detail.values)
    note = SampleNote(
        seq=case.seq,
        tier=detail.tier,
        n=detail.n,
        made_at=made_at,
        values=values,
        whole=all(value is not None for value, _ in values.values()),
        rest={v.gate: None if v.rest is None else Decimal(v.rest) for v in detail.values},
        rest_requests={v.gate: v.rest_requests for v in detail.values},
    )

    def effect(ours: Deployment) -> None:
        ours.samples.append(note)
        ours.whole += note.whole
        if ours.baked_at is None and ours.whole >= ours.samples_needed:
            ours.baked_at = case.now
        fold_samples(ours)

    return effect


def judge_verdict(case: Case, deployment: Deployment, detail: kinds.Verdict) -> Effect:
    """The monitor's judgement of the newest sample."""
    n = deployment.samples[-1].n if deployment.samples else 0
    if detail.tier != deployment.watched_tier or detail.n != n:
        refuse("wrong_sample", f"the newest sample is {n} of the tier {deployment.watched_tier} %", rule="health")
    if detail.verdict == "pass" and n == 0:
        refuse("not_healthy", "no data is not health", rule="health")
    note = VerdictNote(
        seq=case.seq,
        digest=case.statement.digest,
        tier=detail.tier,
        n=detail.n,
        verdict=detail.verdict,
        gate=detail.gate,
        text=detail.text,
    )

    def effect(ours: Deployment) -> None:
        ours.verdict = note
        if ours.bad_verdict is None and note.verdict in LASTING_VERDICTS:
            ours.bad_verdict = note

    return effect


def _gate_values(deployment: Deployment, values: tuple[kinds.GateValue, ...]) -> dict[str, tuple[Any, int | None]]:
    """Gate -> (value or None, requests). Raises: LawRefused unless each gate of the lease stands there once."""
    wanted = [gate.name for gate in deployment.lease.gates]
    if sorted(value.gate for value in values) != sorted(wanted):
        refuse("bad_values", "there is one value for each gate of the lease", rule="health")
    # How a decimal is spelled was judged when the value was read.
    return {v.gate: (None if v.value is None else Decimal(v.value), v.requests) for v in values}
