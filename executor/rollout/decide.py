"""What the executor does next, as a pure function of the ledger's state, what was observed, and the time.

`decide` gives one action for one deployment. It runs a million times in a test; the shell (`executor.rollout.run`)
carries the action out and asks again. Every event that it asks for is one the law allows at that moment; the law still
judges it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeAlias

from executor.metrics.gates import silence_limit
from keys.errors import LawRefused
from keys.values import parse_time
from policies.fold.deployment import CommandNote, Deployment, Phase
from policies.fold.state import State
from policies.law.commands import BAD_VERDICTS, check_rollback
from policies.law.forward import check_forward
from policies.law.health import check_health

WATCHED: Final = frozenset({Phase.BAKING, Phase.PROMOTED, Phase.DEPLOYING})
"""A tier is watched from its bake until the next one bakes, also through a pause: what it runs serves while the next is
being applied."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an instance could not be applied or restored. `drift`: it was on neither tree."""

    code: str
    text: str
    drift: bool = False


@dataclass(frozen=True, slots=True)
class Observations:
    """What the shell saw besides the ledger: instances that failed in this run, by name; and that a step forward could
    not be said because the ledger's disk is full, in `no_space`. `listening_since`: seconds since 1970 from which on
    this process has read the ledger without a gap; None where it does not matter. `ahead`: of the instances of the
    newest tier, in order, at least those that are not applied yet; None for all of them.
    """

    failed: Mapping[str, Failure] = field(default_factory=dict)
    unrestored: Mapping[str, Failure] = field(default_factory=dict)
    no_space: bool = False
    listening_since: int | None = None
    ahead: Iterable[str] | None = None


@dataclass(frozen=True, slots=True)
class Say:
    """Append an event. `detail`: its type and members."""

    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Apply:
    """Bring these instances to their tree after: the next ones, at most the target's `max_unavailable`."""

    tier: int
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restore:
    """Take these instances back to their tree before, all at once."""

    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until someone else says something or time passes. `why`: one line."""

    why: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The deployment needs nothing more."""


Action: TypeAlias = Say | Apply | Restore | Wait | Finished


def decide(state: State, deployment: Deployment, seen: Observations, now: int) -> Action:
    """The next action for a deployment. `now`: seconds since 1970. Changes nothing."""
    phase = deployment.phase
    if phase in {Phase.COMPLETED, Phase.ROLLBACK_FAILED}:
        return _after_the_end(state, deployment, now)
    if phase in {Phase.ROLLED_BACK, Phase.ABORTED}:
        return Finished()
    if phase is Phase.ROLLING_BACK:
        return _go_back(deployment, seen)
    if phase is Phase.HALTED:
        return _leave_halt(deployment)
    stop = _must_stop(state, deployment, seen, now)
    if stop is not None:
        return stop
    if phase is Phase.PAUSED:
        return _leave_pause(deployment)
    if deployment.pause_order is not None:
        order = deployment.pause_order
        return _say("PAUSED", command=order.digest, cause="command", text=_order_text(order))
    if phase is Phase.CLAIMED:
        if deployment.lease.start == "command" and deployment.start_order is None:
            return Wait("it waits for a command to start")
        return _say("STARTED")
    if phase is Phase.BAKING:
        return _leave_bake(deployment)
    return _go_forward(state, deployment, seen)


def _must_stop(state: State, deployment: Deployment, seen: Observations, now: int) -> Action | None:
    """A reason to abort or halt, the gravest first, or None."""
    for order in (deployment.rollback_order, deployment.abort_order):
        if order is not None:
            return _stop(deployment, order.verb, _order_text(order), evidence=order.digest)
    # A breach lasts: what was judged later, while nobody acted on it, takes nothing back.
    verdict = deployment.bad_verdict or deployment.verdict
    if (
        verdict is not None
        and verdict.verdict in BAD_VERDICTS
        and (verdict is deployment.bad_verdict or verdict.tier == deployment.watched_tier)
    ):
        return _stop(deployment, verdict.verdict, verdict.text, gate=verdict.gate, evidence=verdict.digest)
    for name, failure in sorted(seen.failed.items()):
        cause = "drift" if failure.drift else "failed"
        return _stop(deployment, cause, f"instance {name}: {failure.code}: {failure.text}")
    if seen.no_space:
        return _stop(deployment, "no_space", "the ledger's disk is full")
    if not deployment.started and now > parse_time(deployment.lease.execute_by):
        return _stop(deployment, "expired", f"a start was possible until {deployment.lease.execute_by}")
    try:
        check_forward(state, deployment, now)
    except LawRefused as refusal:
        if refusal.code != "paused":
            return _stop(deployment, refusal.code, refusal.message)
    return _monitor_silent(state, deployment, seen, now)


def _monitor_silent(state: State, deployment: Deployment, seen: Observations, now: int) -> Action | None:
    waits_for_baseline = deployment.working_phase is Phase.DEPLOYING and deployment.baseline is None
    # A tier is watched until the next one bakes: no more instances get what nobody watches.
    watched = deployment.working_phase in WATCHED and deployment.bake_started_at is not None
    if not watched and not waits_for_baseline:
        return None
    heard = [state.history.time(deployment.claim_seq)]
    heard += [at for at in (deployment.started_at, deployment.bake_started_at) if at is not None]
    if deployment.samples:
        heard.append(state.history.time(deployment.samples[-1].seq))
    if deployment.verdict is not None:
        heard.append(state.history.time(deployment.verdict.seq))
    # Who did not listen cannot tell that nobody spoke: the machine may have been down, and the monitor with it. Such
    # time is not healthy either; it brings no samples, so it extends the bake.
    heard += [at for at in (deployment.resumed_at, seen.listening_since) if at is not None]
    limit = silence_limit(deployment.lease.gates, deployment.lease.interval_s)
    if now - max(heard) <= limit:
        return None
    return _stop(deployment, "missing", f"the monitor said nothing for {limit} s")


def _stop(
    deployment: Deployment, cause: str, text: str, *, gate: str | None = None, evidence: str | None = None
) -> Action:
    if not deployment.started:
        return _say("ABORTED", cause=cause, text=text)
    return _say("HALTED", cause=cause, gate=gate, evidence=evidence, text=text)


def _leave_pause(deployment: Deployment) -> Action:
    if deployment.pause_order is not None:
        return Wait(f"{deployment.pause_order.by} paused it")
    resumes = [note for note in deployment.commands if note.verb == "resume"]
    return _say("RESUMED", command=resumes[-1].digest if resumes else None)


def _go_forward(state: State, deployment: Deployment, seen: Observations) -> Action:
    if deployment.phase is Phase.DEPLOYING and deployment.tier:
        tier = deployment.tier
        if deployment.tier_applied:
            return _say("BAKE_STARTED", tier=tier)
        ahead = deployment.cohorts[tier] if seen.ahead is None else seen.ahead
        lease = deployment.lease
        at_once = state.fleets[lease.fleet].targets[lease.target].max_unavailable
        left = tuple(islice((name for name in ahead if name not in deployment.applied), at_once))
        return Apply(tier, left) if left else _say("TIER_APPLIED", tier=tier)
    if deployment.baseline is None:
        return Wait("the monitor takes the baseline")
    return _say("TIER_INTENT", tier=deployment.next_tier)


def _leave_bake(deployment: Deployment) -> Action:
    try:
        check_health(deployment)
    except LawRefused as refusal:
        return Wait(refusal.message)
    if deployment.last_tier:
        return _say("COMPLETED")
    order = deployment.promote_order
    if deployment.lease.promotion == "manual" and (order is None or order.tier != deployment.tier):
        return Wait(f"the tier {deployment.tier} % passed and waits for a command to promote")
    return _say("CANARY_PROMOTED", tier=deployment.tier, to=deployment.next_tier)


def _leave_halt(deployment: Deployment) -> Action:
    order = deployment.rollback_order
    if deployment.halted_cause == "tainted" and order is None:
        return Wait("a counted key was compromised: a person decides about the rollback")
    cause = deployment.halted_cause or "halted"
    return _say("ROLLBACK_STARTED", cause=cause, command=None if order is None else order.digest)


def _go_back(deployment: Deployment, seen: Observations) -> Action:
    left = tuple(sorted(deployment.intended - deployment.restored))
    if not left:
        return _say("ROLLED_BACK")
    open_ones = tuple(name for name in left if name not in seen.unrestored)
    if open_ones:
        return Restore(open_ones)
    first = seen.unrestored[left[0]]
    return _say("ROLLBACK_FAILED", instances=left, text=f"instance {left[0]}: {first.code}: {first.text}")


def _after_the_end(state: State, deployment: Deployment, now: int) -> Action:
    order = deployment.rollback_order
    if order is None:
        return Finished()
    try:
        check_rollback(state, deployment, now)
    except LawRefused as refusal:
        return Wait(refusal.message) if refusal.code == "target_busy" else Finished()
    return _say("ROLLBACK_STARTED", cause="rollback", command=order.digest)


def _order_text(order: CommandNote) -> str:
    return f"{order.by} ordered {order.verb}: {order.reason}" if order.reason else f"{order.by} ordered {order.verb}"


def _say(type_: str, **members: object) -> Say:
    text = members.get("text")
    if isinstance(text, str):
        members["text"] = text[:500]
    return Say({"type": type_, **members})
