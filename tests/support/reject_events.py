"""Forgeries of events: who may say what, and what it rests on."""

from __future__ import annotations

from typing import Any

from forging import CAST, KEYS, Forge, key_line, person, policy, trust
from reject_deployments import DETAILS, A, C, _nothing
from reject_registry import add
from reject_stories import (
    halt,
    pause,
    restore,
    verdict,
)

# Events by themselves.


def _event(
    name: str,
    what: str,
    moment: str,
    code: str,
    who: str,
    type_: str,
    /,
    *,
    prepare: Any = _nothing,
    story: str = "main",
    **detail: Any,
) -> None:
    def doing(f: Forge) -> None:
        prepare(f)
        f.forge_event(who, f.it, type_, **{**DETAILS.get(type_, {}), **detail})

    add(f"event_{name}", what, moment, code, doing, story)


def _do(*doings: Any) -> Any:
    def prepare(f: Forge) -> None:
        for doing in doings:
            doing(f)

    return prepare


def _wait(seconds: int) -> Any:
    def prepare(f: Forge) -> None:
        f.now += seconds

    return prepare


def _order(verb: str, who: str = "ada", **changes: Any) -> Any:
    return lambda f: f.command(who, f.it, verb, **changes)


def _tell(who: str, type_: str, **detail: Any) -> Any:
    return lambda f: f.event(who, f.it, type_, **{**DETAILS.get(type_, {}), **detail})


def _judge(n: int, said: str) -> Any:
    return lambda f: verdict(f, f.it, n, said)


def _enact_policy(**changes: Any) -> Any:
    def prepare(f: Forge) -> None:
        f.now += 1
        f.enact("policy", policy(**changes))

    return prepare


def _taint(f: Forge) -> None:
    """ada's key is compromised from before the cosignature that was counted."""
    f.now += 1
    fresh = [{"key": key_line("spare"), "user_verification": False}]
    people = [person(name, keys=fresh) if name == "ada" else person(name) for name in CAST]
    root = trust(principals=people, compromised=[{"key": key_line("ada"), "position": 5}])
    root["principals"] = [{**each, "custodian": "eve"} if each["id"] == "eve" else each for each in people]
    it = f.say("ben", "trust", f.proposal("trust", root))
    f.vote("ben", it, "governor")
    f.vote("ada", it, "governor")
    f.say("ada", "cosignature", {"role": "governor", "review": None}, it, KEYS["spare"])


_event(
    "on_a_lease_without_claim",
    "An event on a lease that was not claimed.",
    "approved",
    "not_claimed",
    "cp20",
    "STARTED",
)
_event(
    "sanity_without_claim",
    "A validator looks at a deployment that does not exist.",
    "approved",
    "not_claimed",
    "cp18",
    "SANITY",
    verdict="pass",
    report=None,
    text="",
)
_event(
    "preflight_after_the_claim",
    "A preflight of a lease that was claimed.",
    "claimed",
    "lease_consumed",
    "cp20",
    "PREFLIGHT_FAILED",
    code="a",
    instance=None,
    text="",
)
_event(
    "forward_too_late",
    "A step forward a second after complete_by.",
    "started",
    "complete_by_passed",
    "cp20",
    "TIER_INTENT",
    prepare=_wait(3601),
)
_event(
    "forward_when_disabled",
    "A step forward under a policy that disables deployments.",
    "started",
    "capability_disabled",
    "cp20",
    "TIER_INTENT",
    prepare=_enact_policy(enabled=False),
)
_event(
    "forward_when_target_gone",
    "A step forward under a policy without the target.",
    "started",
    "capability_disabled",
    "cp20",
    "TIER_INTENT",
    prepare=_enact_policy(targets={"db": {"paths": ["a"]}}),
)
_event(
    "forward_when_tainted",
    "A step forward although a counted cosignature is compromised.",
    "started",
    "tainted",
    "cp20",
    "TIER_INTENT",
    prepare=_taint,
)
_event(
    "forward_after_an_abort",
    "A step forward after an order to abort.",
    "started",
    "stopped",
    "cp20",
    "TIER_INTENT",
    prepare=_order("abort"),
)
_event(
    "forward_after_a_rollback",
    "A step forward after an order to roll back.",
    "started",
    "stopped",
    "cp20",
    "TIER_INTENT",
    prepare=_order("rollback"),
)
_event(
    "forward_after_a_breach",
    "A step forward after a verdict of breach.",
    "healthy",
    "health_refused",
    "cp20",
    "CANARY_PROMOTED",
    prepare=_do(_judge(2, "breach"), _judge(2, "pass")),
)
_event(
    "forward_after_an_abort_verdict",
    "A step forward after a verdict of abort.",
    "healthy",
    "health_refused",
    "cp20",
    "CANARY_PROMOTED",
    prepare=_do(_judge(2, "abort"), _judge(2, "pass")),
)
_event(
    "forward_under_a_pause",
    "A step forward while an order to pause stands.",
    "started",
    "paused",
    "cp20",
    "TIER_INTENT",
    prepare=_order("pause"),
)
_event(
    "started_under_a_pause",
    "It starts while an order to pause stands.",
    "claimed",
    "paused",
    "cp20",
    "STARTED",
    prepare=_order("pause"),
)
_event(
    "completed_under_a_pause",
    "It completes while an order to pause stands.",
    "last",
    "paused",
    "cp20",
    "COMPLETED",
    prepare=_order("pause"),
)
_event(
    "resumed_under_a_pause",
    "It resumes while an order to pause stands.",
    "started",
    "paused",
    "cp20",
    "RESUMED",
    prepare=_do(_order("pause"), lambda f: pause(f, f.it)),
)
_event(
    "started_too_late",
    "It starts a second after execute_by.",
    "claimed",
    "lease_expired",
    "cp20",
    "STARTED",
    prepare=_wait(901),
)
_event(
    "started_without_order",
    "It starts without the order that it waits for.",
    "claimed",
    "start_not_ordered",
    "cp20",
    "STARTED",
    story="manual",
)
_event(
    "aborted_after_the_start",
    "It is aborted after it started.",
    "started",
    "illegal_transition",
    "cp20",
    "ABORTED",
    prepare=lambda f: pause(f, f.it),
)
_event(
    "halted_before_the_start",
    "It is halted before it started.",
    "claimed",
    "illegal_transition",
    "cp20",
    "HALTED",
    prepare=lambda f: pause(f, f.it),
)
_event(
    "halted_on_no_evidence",
    "It is halted on evidence that is nothing of this deployment.",
    "baking",
    "unknown_evidence",
    "cp20",
    "HALTED",
    evidence=A,
)
_event(
    "paused_by_no_order",
    "It is paused by an order that was not given.",
    "started",
    "unknown_command",
    "cp20",
    "PAUSED",
    command=A,
)
_event(
    "resumed_by_no_order",
    "It is resumed by an order that was not given.",
    "started",
    "unknown_command",
    "cp20",
    "RESUMED",
    prepare=lambda f: pause(f, f.it),
    command=A,
)
_event(
    "rolled_back_by_no_order",
    "It is rolled back by an order that was not given.",
    "baking",
    "unknown_command",
    "cp20",
    "ROLLBACK_STARTED",
    prepare=lambda f: halt(f, f.it),
    command=A,
)
_event("tier_left_out", "The first tier is the last.", "started", "wrong_tier", "cp20", "TIER_INTENT", tier=100)
_event(
    "tier_that_was_merged",
    "The first tier is one that was merged into another.",
    "started",
    "wrong_tier",
    "cp20",
    "TIER_INTENT",
    tier=5,
)
_event("tier_again", "A tier is intended twice.", "intended", "illegal_transition", "cp20", "TIER_INTENT")
_event("tier_back", "A tier is intended again after it was promoted.", "promoted", "wrong_tier", "cp20", "TIER_INTENT")
_event(
    "no_baseline",
    "A tier is intended before the baseline.",
    "claimed",
    "no_baseline",
    "cp20",
    "TIER_INTENT",
    prepare=_tell("cp20", "STARTED"),
)
_event(
    "applied_without_intent",
    "An instance is applied of a tier that was not intended.",
    "intended",
    "not_intended",
    "cp20",
    "INSTANCE_APPLIED",
    tier=100,
    instance="web-01",
)
_event(
    "applied_of_another_tier",
    "An instance is applied in a tier that is not its own.",
    "intended",
    "not_intended",
    "cp20",
    "INSTANCE_APPLIED",
    tier=100,
)
_event("applied_twice", "An instance is applied twice.", "applied", "repeated", "cp20", "INSTANCE_APPLIED")
_event(
    "applied_after_restored",
    "An instance is applied after it was restored.",
    "intended",
    "repeated",
    "cp20",
    "INSTANCE_APPLIED",
    prepare=_do(lambda f: halt(f, f.it), _tell("cp20", "ROLLBACK_STARTED"), lambda f: restore(f, f.it)),
)
_event(
    "applied_another_tree",
    "An instance has another tree than its lease says.",
    "intended",
    "wrong_tree",
    "cp20",
    "INSTANCE_APPLIED",
    tree=C,
)
_event(
    "tier_applied_early", "A tier is applied before its instances.", "intended", "not_applied", "cp20", "TIER_APPLIED"
)
_event("tier_applied_of_another", "Another tier is applied.", "applied", "wrong_tier", "cp20", "TIER_APPLIED", tier=100)
_event("tier_applied_twice", "A tier is applied twice.", "tier", "wrong_tier", "cp20", "TIER_APPLIED")
_event("bake_early", "A bake begins before the tier is applied.", "applied", "wrong_tier", "cp20", "BAKE_STARTED")
_event("bake_of_another", "A bake of another tier begins.", "tier", "wrong_tier", "cp20", "BAKE_STARTED", tier=100)
