"""How far a deployment is, as facts that a terminal, a pipe and a page can show. Read from the fold alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from executor.metrics.gates import RunningJudge
from executor.views.waiting import TERMS, awaited_order
from keys.values import parse_time
from policies.fold.deployment import Deployment, Phase
from policies.fold.state import LeaseState, State
from policies.kinds import Lease
from policies.law.courses import Reading
from policies.law.two_key import examine_lease

_NEED_KEYS: Final = frozenset({5, 6})
"""Steps of the two-key rule that another cosignature settles, and after `approve_by` there is none; or a trust root
that gives a signer their role back.
"""


@dataclass(frozen=True, slots=True)
class TierProgress:
    """One tier. `state`: `waiting`, `deploying`, `baking`, `passed` or `touched`. `instances`: name -> where it is."""

    tier: int
    state: str
    instances: dict[str, str]


@dataclass(frozen=True, slots=True)
class GateProgress:
    """One gate at the newest sample, as text; "" for what is not known."""

    gate: str
    state: str
    value: str
    baseline: str
    limit: str
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """A deployment. `left_s`: seconds until the bake of this tier may end, None outside a bake. `samples`: whole ones
    so far, and how many the bake needs. `note`: one line on why it is where it is.
    """

    lease: str
    target: str
    phase: str
    tier: int
    tiers: tuple[TierProgress, ...]
    gates: tuple[GateProgress, ...]
    samples: tuple[int, int]
    left_s: int | None
    note: str
    ended: bool


def measure_progress(deployment: Deployment, now: int, judge: RunningJudge | None = None) -> Progress:
    """The progress of a deployment at a time. `now`: seconds since 1970. `judge`: the same at each look, so that a look
    reads only the samples that are new.
    """
    lease = deployment.lease
    needed = deployment.samples_needed
    left_s = None
    if deployment.working_phase is Phase.BAKING and deployment.bake_started_at is not None:
        # The next sample may come at once, and each one after it an interval later.
        lacking = needed - deployment.whole_samples()
        left_s = max(0, deployment.bake_started_at + lease.bake_s - now, (lacking - 1) * lease.interval_s)
    # After the end nothing is judged any more; a halt still shows the gate that caused it.
    watched = deployment.live and deployment.bake_started_at is not None
    readings = (judge or RunningJudge()).judge(deployment, now).readings if watched else ()
    return Progress(
        lease=lease.id,
        target=lease.target,
        phase=deployment.phase.value,
        tier=deployment.tier,
        tiers=tuple(_tier(deployment, tier, names) for tier, names in deployment.cohorts.items()),
        gates=tuple(_gate(reading) for reading in readings),
        samples=(deployment.whole_samples(), needed),
        left_s=left_s,
        note=_loud(deployment.lease, _warned(deployment, _note(deployment))),
        ended=not deployment.live,
    )


def describe_unclaimed(state: State, lease: LeaseState, now: int) -> tuple[str, str]:
    """Where a lease stands before its claim, and one line on why: `denied`, `expired` where it is too late to begin it,
    or to approve it, `void` where its terms are not those in force, which they never are again, `open`, `approved`, or
    `base_moved` where both keys are there, and its instances are not on the trees that it starts from.
    """
    if lease.denied is not None:
        return "denied", f"by {lease.denied.principal} in entry {lease.denied.seq}"
    if now > parse_time(lease.lease.execute_by):
        return "expired", f"at {lease.lease.execute_by}"
    missing = [step for step in examine_lease(state, lease.digest, now) if not step.ok]
    note = f"step {missing[0].number}: {missing[0].text}" if missing else "both keys are there"
    if any(step.number == TERMS for step in missing):
        return "void", _loud(lease.lease, note)
    if now > parse_time(lease.lease.approve_by) and any(step.number in _NEED_KEYS for step in missing):
        return "expired", _loud(lease.lease, f"{note}; approval was possible until {lease.lease.approve_by}")
    if not missing and base_moved(lease):
        return "base_moved", _loud(lease.lease, f"{lease.preflight[-1][2]}; calyx lease rebase {lease.lease.id}")
    if lease.preflight:
        note += f"; not ready: {lease.preflight[-1][1]}: {lease.preflight[-1][2]}"
    return "open" if missing else "approved", _loud(lease.lease, note)


def base_moved(lease: LeaseState) -> bool:
    """Whether the executor last found the lease's instances on other trees than it starts from."""
    return bool(lease.preflight) and lease.preflight[-1][1] == "base_moved"


def instance_state(deployment: Deployment, name: str) -> str:
    """Where one instance is: `old`, `changing`, `new` or `restored`."""
    if name in deployment.restored:
        return "restored"
    if name in deployment.applied:
        return "new"
    return "changing" if name in deployment.intended else "old"


def _tier(deployment: Deployment, tier: int, names: tuple[str, ...]) -> TierProgress:
    if tier > deployment.tier:
        state = "waiting"
    elif deployment.phase in {Phase.HALTED, Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ROLLBACK_FAILED}:
        state = "touched"
    elif tier < deployment.tier or deployment.phase in {Phase.COMPLETED, Phase.PROMOTED}:
        state = "passed"
    else:
        state = "baking" if deployment.working_phase is Phase.BAKING else "deploying"
    return TierProgress(tier, state, {name: instance_state(deployment, name) for name in names})


def _gate(reading: Reading) -> GateProgress:
    return GateProgress(
        reading.gate,
        reading.state,
        "" if reading.value is None else f"{reading.value:f}",
        "" if reading.baseline is None else f"{reading.baseline:f}",
        f"{reading.limit:f}",
        reading.text,
    )


def _loud(lease: Lease, note: str) -> str:
    """A note that says of break-glass what it is."""
    return f"BREAK-GLASS{': ' if note else ''}{note}" if lease.rule == "break_glass" else note


def _warned(deployment: Deployment, note: str) -> str:
    """A note, and what went wrong beside restores."""
    if not deployment.warnings:
        return note
    name, text = min(deployment.warnings.items())
    more = f" (and {len(deployment.warnings) - 1} more)" if len(deployment.warnings) > 1 else ""
    return f"{note}; WARNING instance {name}: {text}{more}"


def _note(deployment: Deployment) -> str:
    awaited = awaited_order(deployment)
    if awaited is not None:
        return f"{awaited[1]}; calyx {awaited[0]} {deployment.lease.id}"
    if deployment.phase is Phase.COMPLETED:
        # What they run today is for later deployments, and for the machines, to say.
        return "every instance came to the new tree"
    order = deployment.rollback_order or deployment.abort_order
    if deployment.halted_cause is None and order is not None:
        return f"{order.verb} by {order.by}: {order.reason}"
    if deployment.halted_cause is not None:
        why = f": {deployment.halted_text}" if deployment.halted_text else ""
        return f"halted at tier {deployment.halted_tier} %: {deployment.halted_cause}{why}"
    return "" if deployment.verdict is None else f"{deployment.verdict.verdict}: {deployment.verdict.text}"
