"""Step 2 of the two-key rule: whether a lease keeps the policy and the fleet in force, and the policy's terms."""

from __future__ import annotations

from itertools import chain
from typing import NoReturn

from keys.errors import LawRefused
from keys.values import parse_time
from policies.fold.state import LeaseState, State
from policies.law.case import policy_of
from policies.matrix import DeployProduction, paths_outside


def fail_step(step: int, code: str, message: str, hint: str = "", **fields: str | int | None) -> NoReturn:
    """Refuse at a step of the two-key rule. Raises: LawRefused."""
    raise LawRefused(code, message, rule="two_key", hint=hint, step=step, **fields)


def check_in_force(state: State, lease: LeaseState) -> None:
    """Step 2 of the two-key rule: policy, fleet and terms of a lease are those in force. Once it fails it does not come
    to hold again.

    Raises: LawRefused, with the entry that brought what is in force, or that of the lease.
    """
    if lease.lease.policy != state.policy_digest:
        since = state.in_force_since(state.policy_digest)
        fail_step(2, "stale_policy", f"another policy is in force since entry {since}", "propose again", entry=since)
    if lease.lease.fleet != state.fleet_digest:
        since = state.in_force_since(state.fleet_digest)
        fail_step(2, "stale_fleet", f"another fleet is in force since entry {since}", "propose again", entry=since)
    policy = policy_of(state)
    if not policy.deployment_enabled():
        fail_step(
            2,
            "capability_disabled",
            "the policy in force does not enable deploy_production",
            "a policy that does is proposed and approved first: calyx policy propose",
            entry=state.in_force_since(state.policy_digest),
        )
    terms = policy.deploy_production
    rule = terms.targets.get(lease.lease.target)
    if rule is None:
        fail_step(
            2, "target_not_allowed", f"the policy does not allow deployments to {lease.lease.target}", entry=lease.seq
        )
    for path in paths_outside(lease.paths, rule.paths):
        fail_step(2, "path_not_allowed", f"the policy does not allow a change of {path}", entry=lease.seq)
    _check_terms(state, lease, terms)


def _check_terms(state: State, lease: LeaseState, terms: DeployProduction) -> None:
    asked = lease.lease
    if asked.gates != terms.gates:
        fail_step(2, "gates_differ", "the lease's gates are not the policy's", entry=lease.seq)
    missing = sorted(set(terms.tiers) - set(asked.tiers))
    if missing:
        fail_step(2, "tiers_missing", f"the policy asks for the tier {missing[0]} %", entry=lease.seq)
    if asked.bake_s < terms.bake_s:
        fail_step(
            2,
            "bake_too_short",
            f"the policy asks for a bake of {terms.bake_s} s, the lease has {asked.bake_s} s",
            entry=lease.seq,
        )
    if asked.interval_s > terms.interval_s:
        fail_step(2, "interval_too_long", f"the policy asks for a sample every {terms.interval_s} s", entry=lease.seq)
    if terms.start == "command" and asked.start != "command":
        fail_step(2, "start_differs", "the policy asks for a start by command", entry=lease.seq)
    if terms.promotion == "manual" and asked.promotion != "manual":
        fail_step(2, "promotion_differs", "the policy asks for manual promotion", entry=lease.seq)
    own = (name for name in (asked.hooks.drain, asked.hooks.undrain) if name is not None)
    for name in chain(own, state.fleets[asked.fleet].targets[asked.target].hook_names):
        if name not in terms.hooks:
            fail_step(2, "hook_not_allowed", f"the policy has no hook {name}", entry=lease.seq)
    if asked.rule == "break_glass":
        clause = terms.break_glass
        if not clause.enabled:
            fail_step(2, "break_glass_disabled", "the policy does not allow break-glass", entry=lease.seq)
        if parse_time(asked.execute_by) > lease.time + clause.max_validity_s:
            fail_step(
                2,
                "break_glass_too_long",
                f"a break-glass lease is valid for {clause.max_validity_s} s at most",
                entry=lease.seq,
            )
