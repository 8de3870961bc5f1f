"""What each type of event asks of its deployment beside its move, and what it changes there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from keys.values import parse_time
from policies import event_kinds as kinds
from policies.fold.deployment import Deployment, Phase
from policies.law.case import Case, Effect, refuse
from policies.law.commands import check_rollback
from policies.law.health import check_health, judge_baseline, judge_sample, judge_verdict
from policies.names import open_names

RULE = "deployment"


def judge_detail(case: Case, deployment: Deployment, detail: kinds.AnyDetail) -> Effect:
    """Prove that an event of this type is lawful for its deployment in all but its move; what it changes there.

    Raises: LawRefused; CalyxError of an object that is needed and not there.
    """
    judge = _JUDGES.get(type(detail))
    return _nothing if judge is None else judge(case, deployment, detail)


def _nothing(ours: Deployment) -> None:
    """The table alone moves the deployment."""


def _check_order(deployment: Deployment, digest: str | None, verb: str) -> None:
    """An event names a command only if it was given. Raises: LawRefused (`unknown_command`)."""
    if digest is not None and all(note.digest != digest or note.verb != verb for note in deployment.commands):
        refuse("unknown_command", f"no order to {verb} this deployment has the digest that the event names", rule=RULE)


def _paused(case: Case, deployment: Deployment, detail: kinds.Paused) -> Effect:
    _check_order(deployment, detail.command, "pause")

    def effect(ours: Deployment) -> None:
        ours.paused_at = case.now

    return effect


def _started(case: Case, deployment: Deployment, detail: kinds.Started) -> Effect:
    del detail
    if case.now > parse_time(deployment.lease.execute_by):
        refuse("lease_expired", f"a start was possible until {deployment.lease.execute_by}", rule="forward")
    if deployment.lease.start == "command" and deployment.start_order is None:
        refuse("start_not_ordered", "the lease waits for a command to start", rule="forward", hint="calyx start")

    def effect(ours: Deployment) -> None:
        ours.started = True
        ours.started_at = case.now

    return effect


def _aborted(case: Case, deployment: Deployment, detail: kinds.Aborted) -> Effect:
    del case, detail
    if deployment.started:
        refuse("illegal_transition", "it has started: it is halted and rolled back, not aborted", rule=RULE)
    return _nothing


def _halted(case: Case, deployment: Deployment, detail: kinds.Halted) -> Effect:
    if not deployment.started:
        refuse("illegal_transition", "it has not started: it is aborted, not halted", rule=RULE)
    verdicts = [note.digest for note in (deployment.verdict, deployment.bad_verdict) if note is not None]
    known = {*verdicts, *(order.digest for order in deployment.commands)}
    if detail.evidence is not None and detail.evidence not in known:
        refuse("unknown_evidence", "the evidence is no order to this deployment and no verdict on it", rule=RULE)

    def effect(ours: Deployment) -> None:
        ours.halted_cause = detail.cause
        ours.halted_text = detail.text
        ours.halted_at = case.now
        ours.halted_tier = ours.tier

    return effect


def _tier_intent(case: Case, deployment: Deployment, detail: kinds.TierIntent) -> Effect:
    del case
    if deployment.phase is Phase.DEPLOYING and deployment.tier != 0:
        refuse("illegal_transition", f"the tier {deployment.tier} % is not promoted yet", rule=RULE)
    if detail.tier != deployment.next_tier:
        refuse("wrong_tier", f"the next tier is {deployment.next_tier} %, not {detail.tier} %", rule=RULE)
    if deployment.baseline is None:
        refuse("no_baseline", "the monitor has taken no baseline", rule="health", hint="calyx agent run cp19")

    def effect(ours: Deployment) -> None:
        ours.tier = detail.tier
        ours.tier_applied = False
        ours.promote_order = None
        ours.intended.update(ours.cohorts[detail.tier])

    return effect


def _instance_applied(case: Case, deployment: Deployment, detail: kinds.InstanceApplied) -> Effect:
    del case
    name = detail.instance
    if deployment.tier_of.get(name) != detail.tier or name not in deployment.intended:
        refuse("not_intended", f"no intent covers instance {name} in the tier {detail.tier} %", rule=RULE)
    if name in deployment.applied or name in deployment.restored:
        refuse("repeated", f"the result of instance {name} is recorded already", rule="repetition")
    if detail.tree != deployment.after[name]:
        refuse("wrong_tree", f"instance {name} was to run another tree", rule=RULE)
    return lambda ours: ours.applied.add(sys.intern(name))


def _tier_applied(case: Case, deployment: Deployment, detail: kinds.TierApplied) -> Effect:
    del case
    if detail.tier != deployment.tier or deployment.tier_applied or deployment.tier == 0:
        refuse("wrong_tier", f"the tier {detail.tier} % is not the one being applied", rule=RULE)
    missing = [name for name in deployment.cohorts[detail.tier] if name not in deployment.applied]
    if missing:
        refuse("not_applied", f"instance {missing[0]} is not applied yet", rule=RULE)

    def effect(ours: Deployment) -> None:
        ours.tier_applied = True

    return effect


def _bake_started(case: Case, deployment: Deployment, detail: kinds.BakeStarted) -> Effect:
    if detail.tier != deployment.tier or not deployment.tier_applied:
        refuse("wrong_tier", f"the tier {detail.tier} % is not applied", rule=RULE)

    def effect(ours: Deployment) -> None:
        ours.watched_tier = detail.tier
        ours.bake_started_at = case.now
        ours.samples, ours.earlier = [], None
        ours.whole, ours.baked_at = 0, None

    return effect


def _canary_promoted(case: Case, deployment: Deployment, detail: kinds.CanaryPromoted) -> Effect:
    del case
    if detail.tier != deployment.tier or detail.to != deployment.next_tier:
        refuse("wrong_tier", f"the tier {deployment.tier} % is followed by {deployment.next_tier} %", rule=RULE)
    order = deployment.promote_order
    if deployment.lease.promotion == "manual" and (order is None or order.tier != deployment.tier):
        refuse(
            "promotion_not_ordered", "the lease waits for a command to promote", rule="forward", hint="calyx promote"
        )
    check_health(deployment)
    return _nothing


def _completed(case: Case, deployment: Deployment, detail: kinds.Completed) -> Effect:
    del detail
    if not deployment.last_tier:
        refuse("wrong_tier", f"the tier {deployment.tier} % is not the last", rule=RULE)
    check_health(deployment)

    def effect(ours: Deployment) -> None:
        ours.completed_at = case.now

    return effect


def _resumed(case: Case, deployment: Deployment, detail: kinds.Resumed) -> Effect:
    _check_order(deployment, detail.command, "resume")
    if deployment.working_phase is Phase.PAUSED:
        refuse("illegal_transition", "it is not known what the pause interrupted", rule=RULE)

    def effect(ours: Deployment) -> None:
        ours.resumed_at = case.now

    return effect


def _rollback_started(case: Case, deployment: Deployment, detail: kinds.RollbackStarted) -> Effect:
    _check_order(deployment, detail.command, "rollback")
    if not deployment.live:
        if deployment.rollback_order is None:
            refuse("rollback_not_ordered", "a deployment that has ended is rolled back by command", rule="rollback")
        check_rollback(case.state, deployment, case.now)
    elif deployment.halted_cause == "tainted" and deployment.rollback_order is None:
        refuse("rollback_not_ordered", "a tainted deployment waits for a command", rule="rollback")

    def effect(ours: Deployment) -> None:
        # What an earlier attempt restored is looked at again: it may have been touched by hand since.
        ours.restored.clear()
        ours.failed.clear()
        ours.warnings.clear()

    return effect


def _instance_restored(case: Case, deployment: Deployment, detail: kinds.InstanceRestored) -> Effect:
    del case
    name = detail.instance
    if name not in deployment.intended:
        refuse("not_intended", f"instance {name} was never touched", rule=RULE)
    if name in deployment.restored:
        refuse("repeated", f"the result of instance {name} is recorded already", rule="repetition")
    if detail.tree != deployment.before[name]:
        refuse("wrong_tree", f"instance {name} was to go back to another tree", rule=RULE)

    def effect(ours: Deployment) -> None:
        ours.restored.add(sys.intern(name))
        if detail.warning is not None:
            ours.warnings[sys.intern(name)] = detail.warning

    return effect


def _rolled_back(case: Case, deployment: Deployment, detail: kinds.RolledBack) -> Effect:
    del detail
    missing = sorted(deployment.intended - deployment.restored)
    if missing:
        refuse("not_restored", f"instance {missing[0]} is not restored yet", rule=RULE)

    def effect(ours: Deployment) -> None:
        ours.rolled_back_at = case.now

    return effect


def _rollback_failed(case: Case, deployment: Deployment, detail: kinds.RollbackFailed) -> Effect:
    failed = open_names(detail.instances, case.objects)
    left = deployment.intended - deployment.restored
    if len(set(failed)) != len(failed) or set(failed) != left:
        refuse("wrong_instances", "a failed rollback names each touched instance that is not restored, once", rule=RULE)

    def effect(ours: Deployment) -> None:
        ours.failed = set(failed)
        # Another attempt needs another order.
        ours.rollback_order = None

    return effect


_JUDGES: Final[dict[type, Callable[[Case, Deployment, Any], Effect]]] = {
    kinds.Started: _started,
    kinds.Aborted: _aborted,
    kinds.Halted: _halted,
    kinds.Paused: _paused,
    kinds.TierIntent: _tier_intent,
    kinds.InstanceApplied: _instance_applied,
    kinds.TierApplied: _tier_applied,
    kinds.BakeStarted: _bake_started,
    kinds.CanaryPromoted: _canary_promoted,
    kinds.Completed: _completed,
    kinds.Resumed: _resumed,
    kinds.RollbackStarted: _rollback_started,
    kinds.InstanceRestored: _instance_restored,
    kinds.RolledBack: _rolled_back,
    kinds.RollbackFailed: _rollback_failed,
    kinds.Baseline: judge_baseline,
    kinds.Sample: judge_sample,
    kinds.Verdict: judge_verdict,
}
