"""Forgeries that break two rules that stand next to each other, of claims and what comes after: the first of them names
the refusal.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from forging import CAST, Forge, Subject, after, names, person, trust
from reject_claims import _claim, _keys, _overtaken, _terms
from reject_commands import _command, second
from reject_deployments import _nothing
from reject_events import _do, _enact_policy, _event, _judge, _order, _taint, _tell, _wait
from reject_leases import A, C
from reject_neighbours import _both
from reject_order import early, fleet
from reject_stories import gate_values, halt, pause

# Objections and terms.


def _deny_in_vain(f: Forge) -> None:
    f.forge("cp20", "objection", {"verb": "deny", "reason": ""}, fleet(f))


def _term_too_late(f: Forge) -> None:
    f.forge("cp14", "term", {"epoch": 2, "reason": ""}, head=early(f))


_both("denial of a proposal without the role", "An executor denies a proposal.", "lease", "wrong_subject",
      _deny_in_vain)  # fmt: skip
_both("term by an agent on an older head", "By no executor, on an older head.", "term", "wrong_kind", _term_too_late)


# Claims: what a lease asks for. Each row breaks one rule, by the policy or by the lease, and each vector two of them.

_GLASS = {"enabled": False, "max_validity_s": 899, "review_within_s": 1, "user_verification": False}
_RULES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("capability_disabled", {"enabled": False}, {}),
    ("target_not_allowed", {"targets": {"db": {"paths": ["app.py"]}}}, {}),
    ("path_not_allowed", {}, {"paths": ["setup.py"]}),
    ("gates_differ", {}, {"gates": []}),
    ("tiers_missing", {}, {"tiers": [5, 100]}),
    ("bake_too_short", {}, {"bake_s": 29}),
    ("interval_too_long", {}, {"interval_s": 16}),
    ("start_differs", {"start": "command"}, {"start": "auto"}),
    ("promotion_differs", {"promotion": "manual"}, {"promotion": "auto"}),
    ("hook_not_allowed", {}, {"hooks": {"drain": "drain", "undrain": "other"}}),
    ("break_glass_disabled", {"break_glass": _GLASS}, {"rule": "break_glass"}),
    ("break_glass_too_long", {"break_glass": _GLASS}, {"rule": "break_glass"}),
)
for (_first, _policy, _lease), (_then, _other_policy, _other_lease) in pairwise(_RULES):
    _claim(
        f"order {_first} and {_then}",
        f"It breaks the rules of {_first} and {_then}.",
        _first,
        _terms(**{**_policy, **_other_policy, "lease": {**_lease, **_other_lease}}),
    )


# Claims: the steps.


def _disabled_and_overtaken(f: Forge) -> Subject:
    it: Subject = _terms(enabled=False)(f)
    _overtaken("policy")(f)
    return it


def _early_and_overtaken(f: Forge) -> Subject:
    it = f.lease(1, not_before=after(f.now, 600))
    f.approve(it)
    _overtaken("fleet")(f)
    return it


def _expired_root(seconds: int) -> Any:
    def prepare(f: Forge) -> Subject:
        f.enact("trust", trust(expires=after(f.now, 10)))
        it = f.lease(1, not_before=after(f.now, 600))
        f.approve(it)
        f.now += seconds
        return it

    return prepare


def _two_faults(f: Forge) -> None:
    f.say("ada", "objection", {"verb": "withdraw", "reason": ""}, f.it)
    f.now += 1
    f.enact("trust", trust(principals=[person(n, roles=[]) if n == "cp14" else person(n) for n in CAST]))


def _denied_alone(f: Forge) -> Subject:
    it: Subject = _keys("ada")(f)
    f.say("dan", "objection", {"verb": "deny", "reason": ""}, it)
    return it


def _denied_and_busy(f: Forge) -> Subject:
    it = f.lease(2)
    f.approve(it)
    f.say("dan", "objection", {"verb": "deny", "reason": ""}, it)
    return it


def _busy_and_overdue(f: Forge) -> Subject:
    f.now += 86_401
    it = f.lease(2)
    f.approve(it)
    return it


def _failed_by_who_is_respelled(f: Forge) -> Subject:
    it: Subject = _keys("ada", "cp18")(f)
    f.review("cp14b", it, "fail")
    f.now += 1
    f.enact("trust", trust(principals=[person(n, id="CP14B") if n == "cp14b" else person(n) for n in CAST]))
    return it


for _name, _what, _code, _prepare, _moment, _story in (
    ("disabled on a policy overtaken", "Its policy is not in force, and disables deployments.", "stale_policy",
     _disabled_and_overtaken, "term", "main"),
    ("early on a fleet overtaken", "Its fleet is not in force, and it comes before not_before.", "stale_fleet",
     _early_and_overtaken, "term", "main"),
    ("early under an expired root", "It comes before not_before, and the root has expired.", "too_early",
     _expired_root(11), "term", "main"),
    ("late under an expired root", "It comes after execute_by, and the root has expired.", "lease_expired",
     _expired_root(901), "term", "main"),
    ("of two faults", "The first cosignature was withdrawn, and the other one lacks its role.", "withdrawn",
     _two_faults, "approved", "main"),
    ("denied with one key", "A person cosigned alone, and it was denied.", "quorum_unmet", _denied_alone, "term",
     "main"),
    ("denied on a busy target", "It was denied, and its target is busy.", "lease_denied", _denied_and_busy, "claimed",
     "main"),
    ("of a busy target while a review is overdue", "Its target is busy, and another one's review overdue.",
     "target_busy", _busy_and_overdue, "claimed", "glass"),
    ("with only a failed review respelled", "Its only review failed, by a sentinel who is spelled otherwise since.",
     "review_failed", _failed_by_who_is_respelled, "term", "main"),
):  # fmt: skip
    _claim(f"order {_name}", _what, _code, _prepare, _moment, _story)


def _seen(f: Forge) -> None:
    trees = [{"tree": C, "instances": names(4)}, {"tree": A, "instances": ["web-01"]}]
    f.forge("cp20", "claim", f.claim_fields(f.it, seen=trees), f.it)


_both("claim that saw another tree, and one twice", "An instance was seen twice, on another tree.", "approved",
      "bad_claim", _seen)  # fmt: skip


# Commands.


def _late_and_busy(f: Forge) -> None:
    f.now += 7 * 86_400 + 1
    second(f)


for _name, _what, _code, _moment, _verb, _before, _changes in (
    ("resume on another state with a tier", "An order to resume names another state, and a tier.", "stale_command",
     "baking", "resume", _nothing, {"state": A, "tier": 25}),
    ("start of what ended", "An order to start what is rolled back, and started itself.", "deployment_ended", "back",
     "start", _nothing, {}),
    ("promote that skips after a breach", "An order to promote skips a bake, after a breach.", "health_refused",
     "sampled", "promote", _judge(1, "breach"), {"skip_bake": True}),
    ("rollback late beside a live one", "An order to roll back comes late, and the target is busy.", "retention_over",
     "completed", "rollback", _late_and_busy, {}),
):  # fmt: skip
    _command(f"order {_name}", _what, _moment, _code, _verb, prepare=_before, **_changes)


# Steps forward.


_STOPS: tuple[tuple[str, Any], ...] = (
    ("complete_by_passed", _wait(3601)),
    ("capability_disabled", _enact_policy(enabled=False)),
    ("tainted", _taint),
    ("stopped", _order("abort", "ben")),
    ("health_refused", _judge(2, "breach")),
    ("paused", _order("pause", "ben")),
)
for (_first, _stop), (_then, _other_stop) in pairwise(_STOPS):
    _event(
        f"order {_first} and {_then}",
        f"A step forward breaks the rules of {_first} and {_then}.",
        "healthy",
        _first,
        "cp20",
        "CANARY_PROMOTED",
        # A policy is enacted by the key that is compromised then.
        prepare=_do(_stop, _other_stop) if _then == "tainted" else _do(_other_stop, _stop),
    )


# Events by themselves.

_NO_ORDER = {"command": A}
_PAUSED = _do(_order("pause"), lambda f: pause(f, f.it))
for _name, _what, _code, _moment, _type, _prepare, _detail in (
    ("resumed by no order under a pause", "An order to pause stands, and it names none to resume.", "paused",
     "started", "RESUMED", _PAUSED, _NO_ORDER),
    ("rolled back by no order and without one", "It is completed, and names no order to roll back.",
     "unknown_command", "completed", "ROLLBACK_STARTED", _nothing, _NO_ORDER),
    ("applied in another tier on another tree", "An instance is applied in another tier, with another tree.",
     "not_intended", "intended", "INSTANCE_APPLIED", _nothing, {"tier": 100, "tree": C}),
    ("applied again on another tree", "An instance is applied twice, the second time with another tree.", "repeated",
     "applied", "INSTANCE_APPLIED", _nothing, {"tree": C}),
    ("tier applied of another without its instances", "Another tier is applied, before its instances.", "wrong_tier",
     "intended", "TIER_APPLIED", _nothing, {"tier": 100}),
    ("intended of another tier without a baseline", "The first tier is the last, and there is no baseline.",
     "wrong_tier", "claimed", "TIER_INTENT", _tell("cp20", "STARTED"), {"tier": 100}),
    ("completed before the last tier, unbaked", "It is completed before the last tier, without a sample.", "wrong_tier",
     "baking", "COMPLETED", _nothing, {}),
    ("halted before the start on no evidence", "It is halted before it started, on no evidence.", "illegal_transition",
     "claimed", "HALTED", lambda f: pause(f, f.it), {"evidence": A}),
    ("restored again on another tree", "An instance is restored twice, the second time to another tree.", "repeated",
     "restored", "INSTANCE_RESTORED", _nothing, {"tree": C}),
    ("restored untouched on another tree", "An instance that was never to change goes to another tree.", "not_intended",
     "intended", "INSTANCE_RESTORED", _do(lambda f: halt(f, f.it), _tell("cp20", "ROLLBACK_STARTED")),
     {"instance": "web-01", "tree": C}),
):  # fmt: skip
    _event(f"order {_name}", _what, _moment, _code, "cp20", _type, prepare=_prepare, **_detail)
_OBSERVED: tuple[tuple[str, str, str, str, str, dict[str, Any]], ...] = (
    ("baseline again of nothing", "A second baseline, of nothing where something was.", "late_baseline", "started",
     "BASELINE", {"values": None}),
    ("baseline again without a gate", "A second baseline lacks a gate.", "late_baseline", "started", "BASELINE",
     {"values": gate_values()[:1]}),
    ("sample early of another tier", "A sample of another tier, before its time.", "wrong_tier", "baking", "SAMPLE",
     {"tier": 100, "n": 1}),
    ("sample early without a gate", "A sample before its time lacks a gate.", "early_sample", "baking", "SAMPLE",
     {"n": 1, "values": gate_values()[1:]}),
    ("verdict of nothing on a sample not taken", "A pass on a sample, when none was taken.", "wrong_sample", "baking",
     "VERDICT", {"n": 1, "verdict": "pass"}),
)  # fmt: skip
for _name, _what, _code, _moment, _type, _observed in _OBSERVED:
    _event(f"order {_name}", _what, _moment, _code, "cp19", _type, **_observed)
for _name, _what, _code, _moment, _type, _prepare, _detail in (
    ("started late without order", "It starts after execute_by, without its order.", "lease_expired", "claimed",
     "STARTED", _wait(901), {}),
    ("promoted to another tier without order", "It is promoted past the next tier, without its order.", "wrong_tier",
     "healthy", "CANARY_PROMOTED", _nothing, {"to": 99}),
    ("promoted unbaked without order", "It is promoted without its order and without a sample.",
     "promotion_not_ordered", "baking", "CANARY_PROMOTED", _nothing, {}),
):  # fmt: skip
    _event(f"order {_name}", _what, _moment, _code, "cp20", _type, prepare=_prepare, story="manual", **_detail)
