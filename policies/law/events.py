"""What deployments do: who may sign each event, when it is lawful, and what it changes."""

from __future__ import annotations

from policies import event_kinds as kinds
from policies.event_kinds import Event
from policies.fold.deployment import EXECUTOR_EVENTS, FORWARD, MONITOR_EVENTS, Deployment, Phase
from policies.fold.state import LeaseState, State, TouchNote
from policies.law.case import Case, Change, refuse, require_kind, require_role, subject_lease
from policies.law.claims import check_epoch
from policies.law.commands import deployment_of
from policies.law.details import judge_detail
from policies.law.forward import check_forward
from policies.law.places import places_of
from policies.law.registers import end_deployment, revive_deployment


def judge_event(case: Case, event: Event) -> Change:
    """An event of a deployment, or an executor's refusal to claim a lease."""
    detail = event.detail
    type_: str = detail.type
    by_executor = type_ in EXECUTOR_EVENTS
    if by_executor:
        require_kind(case, "executor")
    elif type_ in MONITOR_EVENTS:
        require_kind(case, "monitor")
    else:
        require_role(case, "validator")
    lease = subject_lease(case)
    if by_executor:
        check_epoch(case, event.epoch)
    elif event.epoch is not None:
        refuse("bad_event", f"{type_} carries no epoch", rule="epoch")
    if isinstance(detail, kinds.PreflightFailed):
        return _judge_preflight(case, lease, detail)
    deployment = deployment_of(case.state, lease)
    phase = deployment.move(type_)
    if type_ in FORWARD:
        check_forward(case.state, deployment, case.now)
    effect = judge_detail(case, deployment, detail)

    def change(state: State) -> None:
        ours = state.deployments[deployment.lease_digest]
        if type_ == "PAUSED":
            ours.phase_before_pause = ours.working_phase
        elif phase is not Phase.PAUSED:
            ours.phase_before_pause = None
        effect(ours)
        if by_executor:
            ours.state_leaf, ours.state_seq = case.entry.leaf, case.seq
        if ours.phase is not phase:
            ours.phase = phase
            _keep_live(state, ours, case)
        if type_ == "TIER_INTENT":
            for place in places_of(state, ours.lease, ours.cohorts[ours.tier]).values():
                state.touched[place] = TouchNote(case.seq, ours.lease_digest)

    return change


def _judge_preflight(case: Case, lease: LeaseState, detail: kinds.PreflightFailed) -> Change:
    if lease.claim_seq is not None:
        text = f"the lease was claimed in entry {lease.claim_seq}"
        refuse("lease_consumed", text, rule="claim", step=8, entry=lease.claim_seq)
    note = (case.seq, detail.code, detail.text)
    digest = lease.digest

    def change(state: State) -> None:
        state.leases[digest].preflight.append(note)

    return change


def _keep_live(state: State, deployment: Deployment, case: Case) -> None:
    target, digest = deployment.lease.target, deployment.lease_digest
    if deployment.live:
        state.live[target] = digest
        deployment.ended_at, deployment.ended_seq = None, None
        state.rollback_orders.get(target, set()).discard(digest)
        revive_deployment(state, deployment)
    elif state.live.get(target) == digest:
        del state.live[target]
        deployment.ended_at, deployment.ended_seq = case.now, case.seq
        # They are in the ledger for whoever asks; a station that runs for years has millions of them.
        deployment.samples, deployment.earlier = [], None
        end_deployment(state, deployment, case.now)
