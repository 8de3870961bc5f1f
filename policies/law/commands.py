"""People's orders to a deployment. Those toward safety always apply; the others bind the state they were given for."""

from __future__ import annotations

from typing import Final, NoReturn

from keys.values import format_time, parse_time
from policies.fold.deployment import CommandNote, Deployment, Phase
from policies.fold.state import LeaseState, State
from policies.kinds import Command
from policies.law.case import Case, Change, refuse, require_role, subject_lease
from policies.law.places import find_neighbour, places_of
from policies.matrix import DeployProduction

RULE = "command"
BOUND: Final = frozenset({"start", "resume", "promote"})
"""Orders that name the state that they were given for."""
BAD_VERDICTS: Final = frozenset({"breach", "abort", "missing"})
"""Verdicts that no order overrides."""
_AFTER_THE_END: Final = {
    Phase.COMPLETED: "calyx rollback {} takes it back",
    Phase.ROLLBACK_FAILED: "calyx rollback {} tries again to take it back",
}


def judge_command(case: Case, command: Command) -> Change:
    """An approver's or operator's order."""
    require_role(case, "approver", "operator")
    lease = subject_lease(case)
    if max(case.now, case.statement.made_at) > parse_time(command.expires_at):
        refuse("command_expired", f"the command was good until {command.expires_at}", rule="time")
    deployment = deployment_of(case.state, lease)
    if (command.verb in BOUND) != (command.state is not None):
        refuse(
            "bad_command", f"{command.verb} {'names' if command.verb in BOUND else 'does not name'} a state", rule=RULE
        )
    if command.state is not None and command.state != deployment.state_leaf:
        refuse(
            "stale_command",
            "the deployment moved on since the command was made",
            rule=RULE,
            hint="look, then repeat",
            entry=deployment.state_seq,
        )
    if (command.verb == "promote") != (command.tier is not None) or (command.skip_bake and command.verb != "promote"):
        refuse("bad_command", "a tier stands in promote alone, and so does skipping a bake", rule=RULE)
    check_order(case.state, deployment, command.verb, command.tier, case.now, skip_bake=command.skip_bake)
    note = CommandNote(
        seq=case.seq,
        digest=case.statement.digest,
        by=case.principal.id,
        verb=command.verb,
        tier=command.tier,
        skip_bake=command.skip_bake,
        reason=command.reason,
        time=case.now,
    )
    digest, leaf = deployment.lease_digest, case.entry.leaf

    def change(state: State) -> None:
        ours = state.deployments[digest]
        _apply(ours, note, leaf)
        if note.verb == "rollback" and not ours.live:
            state.rollback_orders.setdefault(ours.lease.target, set()).add(digest)

    return change


def deployment_of(state: State, lease: LeaseState) -> Deployment:
    """The deployment of a lease. Raises: LawRefused (`not_claimed`)."""
    deployment = state.deployments.get(lease.digest)
    if deployment is None:
        text = f"{lease.lease.id} was not claimed, so there is no deployment"
        refuse("not_claimed", text, rule="subject", entry=lease.seq)
    return deployment


def check_rollback(state: State, deployment: Deployment, now: int) -> None:
    """A deployment that is not live may be rolled back now: within retention, not superseded, its target free.

    Raises: LawRefused (`retention_over`, `superseded`, `target_busy`, `nothing_to_roll_back`).
    """
    lease = deployment.lease
    if deployment.phase is Phase.COMPLETED and deployment.completed_at is not None:
        until = deployment.completed_at + _terms(state, deployment).retention_s
        if now > until:
            refuse(
                "retention_over",
                f"the retention of this deployment ended at {format_time(until)}",
                rule="rollback",
                entry=deployment.ended_seq,
                hint=_revert_hint(lease.id),
            )
    elif deployment.phase is not Phase.ROLLBACK_FAILED:
        text = f"{lease.id} ended as {deployment.phase}"
        refuse("nothing_to_roll_back", text, rule="rollback", entry=deployment.ended_seq)
    check_free(state, deployment)
    places = places_of(state, lease, deployment.intended)
    for name in sorted(deployment.intended):
        newest = state.touched[places[name]]
        if newest.deployment != deployment.lease_digest:
            later = state.leases[newest.deployment].lease.id
            refuse(
                "superseded",
                f"{later} changed {name} after {lease.id}",
                rule="rollback",
                entry=newest.seq,
                hint=_revert_hint(lease.id),
                later=later,
            )


def check_free(state: State, deployment: Deployment) -> None:
    """No other deployment is under way where this one was. Raises: LawRefused (`target_busy`)."""
    lease = deployment.lease
    live = state.live.get(lease.target)
    if live is not None and live != deployment.lease_digest:
        busy = state.leases[live]
        text = f"{lease.target} has the live deployment {busy.lease.id}, claimed in entry {busy.claim_seq}"
        refuse("target_busy", text, rule="rollback", entry=busy.claim_seq, hint=_busy_hint(busy.lease.id))
    neighbour = find_neighbour(state, deployment.lease_digest)
    if neighbour is not None:
        busy, name = state.leases[neighbour[0]], neighbour[1]
        text = f"the live deployment {busy.lease.id} of {busy.lease.target} works where {name} is"
        refuse("target_busy", text, rule="rollback", entry=busy.claim_seq, hint=_busy_hint(busy.lease.id))


def check_order(
    state: State, deployment: Deployment, verb: str, tier: int | None, now: int, *, skip_bake: bool = False
) -> None:
    """An order that the deployment is in a state for. Raises: LawRefused, with the entry that is in the way."""
    if verb == "rollback":
        if not deployment.live:
            check_rollback(state, deployment, now)
        return
    if not deployment.live:
        text = f"{deployment.lease.id} ended as {deployment.phase}"
        hint = _AFTER_THE_END.get(deployment.phase, "").format(deployment.lease.id)
        refuse("deployment_ended", text, rule=RULE, entry=deployment.ended_seq, hint=hint)
    if verb == "start" and (deployment.started or deployment.lease.start != "command"):
        _refuse_order(deployment, "waits for no command to start")
    if verb == "resume":
        if deployment.phase is not Phase.PAUSED and deployment.pause_order is None:
            _refuse_order(deployment, "is not paused")
        _check_no_breach(deployment, verb)
    if verb == "promote":
        if deployment.working_phase is not Phase.BAKING or tier != deployment.tier:
            _refuse_order(deployment, f"is not baking the tier {tier} %" if tier else "is not baking a tier yet")
        _check_no_breach(deployment, verb)
        if skip_bake and not _terms(state, deployment).skip_bake:
            text, since = (
                "the policy does not allow a bake to be skipped",
                state.in_force_since(deployment.lease.policy),
            )
            refuse("skip_not_allowed", text, rule=RULE, entry=since)


def _refuse_order(deployment: Deployment, why: str) -> NoReturn:
    name = deployment.lease.id
    text, hint = f"{name} {why}; it is {deployment.phase}", f"calyx watch {name} --once shows what it waits for"
    refuse("bad_command", text, rule=RULE, entry=deployment.state_seq, hint=hint)


def _busy_hint(lease: str) -> str:
    return f"wait for its end (calyx watch {lease}), or end it first (calyx abort {lease})"


def _revert_hint(lease: str) -> str:
    return f"calyx rollback {lease} --revert drafts a new lease that undoes it, for both keys"


def _terms(state: State, deployment: Deployment) -> DeployProduction:
    return state.policies[deployment.lease.policy].deploy_production


def _check_no_breach(deployment: Deployment, verb: str) -> None:
    newest, bad = deployment.verdict, deployment.bad_verdict
    if bad is None and newest is not None and newest.tier == deployment.watched_tier and newest.verdict in BAD_VERDICTS:
        bad = newest
    if bad is not None:
        refuse(
            "health_refused",
            f"{verb} cannot override the verdict {bad.verdict} in entry {bad.seq}",
            rule="health",
            entry=bad.seq,
            gate=bad.gate,
        )


def _apply(deployment: Deployment, note: CommandNote, leaf: str) -> None:
    deployment.commands.append(note)
    deployment.state_leaf, deployment.state_seq = leaf, note.seq
    if note.verb == "start":
        deployment.start_order = note
    elif note.verb == "pause":
        deployment.pause_order = note
    elif note.verb == "resume":
        deployment.pause_order = None
    elif note.verb == "promote":
        deployment.promote_order = note
    elif note.verb == "abort":
        deployment.abort_order = note
    else:
        deployment.rollback_order = note
