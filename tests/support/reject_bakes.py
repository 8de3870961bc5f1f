"""Forgeries of events: promotion, completion, rollback, and what a monitor says."""

from __future__ import annotations

from typing import Any

from forging import Forge, after, names
from reject_deployments import A, B, C, _fail
from reject_events import _do, _event, _judge, _order, _tell
from reject_registry import add, reject
from reject_stories import (
    apply_tier,
    deploy,
    gate_values,
    halt,
    pause,
    sample,
    sample_fields,
    verdict,
)

_event("promoted_from_another", "Another tier is promoted.", "healthy", "wrong_tier", "cp20", "CANARY_PROMOTED", tier=5)
_event(
    "promoted_to_another",
    "It is promoted past the next tier.",
    "healthy",
    "wrong_tier",
    "cp20",
    "CANARY_PROMOTED",
    to=99,
)
_event(
    "promoted_without_order",
    "It is promoted without the order that it waits for.",
    "healthy",
    "promotion_not_ordered",
    "cp20",
    "CANARY_PROMOTED",
    story="manual",
)
_event(
    "promoted_unbaked",
    "It is promoted a sample early.",
    "sampled",
    "not_baked",
    "cp20",
    "CANARY_PROMOTED",
    prepare=_judge(1, "pass"),
)
_event(
    "promoted_with_a_hole",
    "It is promoted although a sample lacks a value.",
    "sampled",
    "not_baked",
    "cp20",
    "CANARY_PROMOTED",
    prepare=_do(lambda f: sample(f, f.it, 2, None), _judge(2, "pass")),
)
_event(
    "promoted_without_verdict",
    "It is promoted without a verdict.",
    "sampled",
    "not_healthy",
    "cp20",
    "CANARY_PROMOTED",
    prepare=lambda f: sample(f, f.it, 2),
)
_event(
    "promoted_on_an_old_verdict",
    "It is promoted on a verdict before the newest sample.",
    "healthy",
    "not_healthy",
    "cp20",
    "CANARY_PROMOTED",
    prepare=lambda f: sample(f, f.it, 3),
)
_event(
    "promoted_inconclusive",
    "It is promoted although the newest verdict is inconclusive.",
    "healthy",
    "not_healthy",
    "cp20",
    "CANARY_PROMOTED",
    prepare=_judge(2, "inconclusive"),
)
_event("completed_early", "It is completed before the last tier.", "healthy", "wrong_tier", "cp20", "COMPLETED")
_event(
    "completed_unbaked",
    "It is completed without a sample of the last tier.",
    "promoted",
    "not_baked",
    "cp20",
    "COMPLETED",
    prepare=lambda f: deploy(f, f.it),
)
_event(
    "completed_missing",
    "It is completed although the newest verdict is missing.",
    "last",
    "not_healthy",
    "cp20",
    "COMPLETED",
    prepare=_judge(2, "missing"),
)
_event(
    "skipped_without_samples",
    "A skipped bake is promoted without a sample.",
    "baking",
    "not_healthy",
    "cp20",
    "CANARY_PROMOTED",
    prepare=_order("promote", skip_bake=True),
    story="manual",
)
_event(
    "promoted_unbaked_on_an_order_that_skips_nothing",
    "It is promoted without a sample, on an order that does not skip the bake.",
    "baking",
    "not_baked",
    "cp20",
    "CANARY_PROMOTED",
    prepare=_order("promote"),
    story="manual",
)
_event(
    "completed_on_the_verdict_of_the_tier_before",
    "The last tier has its samples and no verdict; the tier before had as many, and a pass.",
    "promoted",
    "not_healthy",
    "cp20",
    "COMPLETED",
    prepare=_do(lambda f: deploy(f, f.it), lambda f: sample(f, f.it, 1), lambda f: sample(f, f.it, 2)),
)
_event(
    "rolled_back_without_order",
    "A completed deployment is rolled back without an order.",
    "completed",
    "rollback_not_ordered",
    "cp20",
    "ROLLBACK_STARTED",
)
_event(
    "tainted_rolled_back_without_order",
    "A deployment halted as tainted is rolled back without an order.",
    "baking",
    "rollback_not_ordered",
    "cp20",
    "ROLLBACK_STARTED",
    prepare=lambda f: halt(f, f.it, "tainted"),
)
_event(
    "tainted_rolled_back_on_an_order_to_abort",
    "A deployment halted as tainted is rolled back, when an order to abort stands.",
    "baking",
    "rollback_not_ordered",
    "cp20",
    "ROLLBACK_STARTED",
    prepare=_do(_order("abort"), lambda f: halt(f, f.it, "tainted")),
)
_event(
    "rolled_back_again_without_order",
    "A second attempt on the order of the first.",
    "rolling",
    "rollback_not_ordered",
    "cp20",
    "ROLLBACK_STARTED",
    prepare=_fail,
)
_event(
    "restored_untouched",
    "An instance is restored that was never to change.",
    "intended",
    "not_intended",
    "cp20",
    "INSTANCE_RESTORED",
    prepare=_do(lambda f: halt(f, f.it), _tell("cp20", "ROLLBACK_STARTED")),
    instance="web-01",
)
_event("restored_twice", "An instance is restored twice.", "restored", "repeated", "cp20", "INSTANCE_RESTORED")
_event(
    "restored_another_tree",
    "An instance goes back to another tree.",
    "rolling",
    "wrong_tree",
    "cp20",
    "INSTANCE_RESTORED",
    tree=C,
)
_event(
    "rolled_back_early", "It is rolled back before all instances are.", "rolling", "not_restored", "cp20", "ROLLED_BACK"
)
_event(
    "failed_with_too_few",
    "A failed rollback leaves out an instance.",
    "rolling",
    "wrong_instances",
    "cp20",
    "ROLLBACK_FAILED",
    instances=names(3),
)
_event(
    "failed_with_too_many",
    "A failed rollback names an instance that is restored.",
    "restored",
    "wrong_instances",
    "cp20",
    "ROLLBACK_FAILED",
    instances=["web-01"],
)
_event(
    "failed_with_one_twice",
    "A failed rollback names an instance twice.",
    "rolling",
    "wrong_instances",
    "cp20",
    "ROLLBACK_FAILED",
    instances=["web-01", *names(4)],
)
_event("baseline_twice", "There are two baselines.", "started", "late_baseline", "cp19", "BASELINE")
_event(
    "baseline_late", "A baseline after the first tier was intended.", "intended", "late_baseline", "cp19", "BASELINE"
)
_event(
    "baseline_null",
    "A baseline of nothing where something was.",
    "claimed",
    "bad_baseline",
    "cp19",
    "BASELINE",
    values=None,
)
_event(
    "baseline_without_a_gate",
    "A baseline lacks a gate.",
    "claimed",
    "bad_values",
    "cp19",
    "BASELINE",
    values=gate_values()[:1],
)
_event(
    "baseline_with_a_gate_twice",
    "A baseline has a gate twice.",
    "claimed",
    "bad_values",
    "cp19",
    "BASELINE",
    values=[gate_values()[0]] * 2,
)
_event(
    "sample_unbaked",
    "A sample while no tier bakes.",
    "tier",
    "not_baking",
    "cp19",
    "SAMPLE",
    prepare=lambda f: pause(f, f.it),
)


def _next_intended(f: Forge) -> None:
    """The tier before goes on being watched: a third sample."""
    f.event("cp20", f.it, "TIER_INTENT", tier=100)
    sample(f, f.it, 3)


_event(
    "sample_of_the_tier_that_is_applied",
    "A sample of the next tier while that is applied.",
    "promoted",
    "wrong_tier",
    "cp19",
    "SAMPLE",
    prepare=_next_intended,
    tier=100,
    n=1,
)
_event(
    "sample_again_while_the_next_tier_is_applied",
    "The numbers of samples begin anew with the intent of the next tier.",
    "promoted",
    "repeated",
    "cp19",
    "SAMPLE",
    prepare=_next_intended,
    n=1,
)
_event(
    "verdict_on_the_tier_that_is_applied",
    "A verdict on the next tier while that is applied.",
    "promoted",
    "wrong_sample",
    "cp19",
    "VERDICT",
    prepare=_next_intended,
    tier=100,
    n=3,
)


def _breached_meanwhile(f: Forge) -> None:
    _next_intended(f)
    verdict(f, f.it, 3, "breach")
    apply_tier(f, f.it)


_event(
    "baked_after_a_breach",
    "A tier bakes although the one before broke while it was applied.",
    "promoted",
    "health_refused",
    "cp20",
    "BAKE_STARTED",
    prepare=_breached_meanwhile,
    tier=100,
)
_event(
    "verdict_on_no_sample",
    "A verdict on a sample that was not taken.",
    "sampled",
    "wrong_sample",
    "cp19",
    "VERDICT",
    n=2,
    verdict="pass",
)
_event(
    "verdict_on_an_old_sample",
    "A verdict on an older sample.",
    "healthy",
    "wrong_sample",
    "cp19",
    "VERDICT",
    n=1,
    verdict="pass",
)
_event(
    "verdict_on_another_tier",
    "A verdict on another tier.",
    "healthy",
    "wrong_sample",
    "cp19",
    "VERDICT",
    tier=100,
    n=2,
    verdict="pass",
)
_event("verdict_of_nothing", "A pass without a sample.", "baking", "not_healthy", "cp19", "VERDICT", verdict="pass")


def _sample(name: str, what: str, code: str, change: Any, moment: str = "baking", wait: int = 15) -> None:
    def doing(f: Forge) -> None:
        f.now += wait
        f.forge_event("cp19", f.it, "SAMPLE", **{**sample_fields(f, f.it, 1), **change})

    add(f"sample_{name}", what, moment, code, doing)


_sample("early", "A sample two seconds before its time.", "early_sample", {}, wait=13)
_sample("ahead", "The second sample at the time of the first.", "early_sample", {"n": 2})
_sample("again", "A sample's number stands twice.", "repeated", {}, "sampled")
_sample("that_is_the_second_again", "The number of the second sample stands twice.", "repeated", {"n": 2}, "healthy")
_sample("of_another_tier", "A sample of another tier.", "wrong_tier", {"tier": 100})
_sample("without_a_gate", "A sample lacks a gate.", "bad_values", {"values": gate_values()[1:]})


@reject("baking", "early_sample")
def sample_early_by_its_own_time(f: Forge) -> None:
    """A sample in time by its record, and made before its time."""
    f.now += 15
    fields = f.event_fields("cp19", "SAMPLE", **sample_fields(f, f.it, 1))
    f.forge("cp19", "event", fields, f.it, made_at=after(f.now, -2))


@reject("baking", "early_sample")
def sample_early_by_its_record(f: Forge) -> None:
    """A sample made by a clock ahead, in a record before its time."""
    fields = f.event_fields("cp19", "SAMPLE", **sample_fields(f, f.it, 1))
    f.forge("cp19", "event", fields, f.it, made_at=after(f.now, 15))


@reject("claimed", "bad_event")
def monitor_with_an_epoch(f: Forge) -> None:
    """A monitor's event carries an epoch."""
    f.forge("cp19", "event", {"epoch": 1, "detail": {"type": "BASELINE", "values": gate_values()}}, f.it)


@reject("claimed", "bad_event")
def validator_with_an_epoch(f: Forge) -> None:
    """A validator's event carries an epoch."""
    detail = {"type": "SANITY", "report": None, "text": "", "verdict": "pass"}
    f.forge("cp18", "event", {"epoch": 1, "detail": detail}, f.it)


@reject("claimed", "fenced")
def executor_without_an_epoch(f: Forge) -> None:
    """An executor's event carries none."""
    f.forge("cp20", "event", {"epoch": None, "detail": {"type": "STARTED"}}, f.it)


@reject("claimed", "fenced")
def executor_with_another_epoch(f: Forge) -> None:
    """An executor's event carries the next epoch."""
    f.forge("cp20", "event", {"epoch": 2, "detail": {"type": "STARTED"}}, f.it)


@reject("claimed", "role_missing")
def sanity_by_a_sentinel(f: Forge) -> None:
    """A sentinel speaks as a validator."""
    f.forge_event("cp14", f.it, "SANITY", verdict="pass", report=None, text="")


@reject("claimed", "wrong_kind")
def baseline_by_an_executor(f: Forge) -> None:
    """An executor speaks as the monitor."""
    f.forge("cp20", "event", {"epoch": None, "detail": {"type": "BASELINE", "values": gate_values()}}, f.it)


@reject("fleet", "bad_baseline")
def baseline_of_absent(f: Forge) -> None:
    """A baseline with values where nothing was deployed."""
    f.term()
    it = f.lease(1, changes=[{"before": "absent", "after": B, "instances": names(4)}])
    f.approve(it)
    f.claim(it)
    f.forge_event("cp19", it, "BASELINE", values=gate_values())


@reject("fleet", "bad_baseline")
def baseline_null_where_one_was_absent(f: Forge) -> None:
    """A baseline of nothing where one of two instances had a tree."""
    f.term()
    groups = [{"before": tree, "after": B, "instances": [name]} for tree, name in (("absent", "web-01"), (A, "web-02"))]
    it = f.lease(1, changes=groups)
    f.approve(it)
    f.claim(it)
    f.forge_event("cp19", it, "BASELINE", values=None)


@reject("healthy", "unknown_evidence")
def halted_on_a_verdict_overtaken(f: Forge) -> None:
    """It is halted on a verdict that a newer one replaced."""
    old = f.state.deployments[f.it[1]].verdict
    assert old is not None
    verdict(f, f.it, 2, "inconclusive")
    f.forge_event("cp20", f.it, "HALTED", cause="gate", gate=None, evidence=old.digest, text="")


@reject("started", "unknown_command")
def resumed_by_an_order_to_pause(f: Forge) -> None:
    """It names an order to pause as one to resume."""
    order = f.command("ada", f.it, "pause")
    pause(f, f.it)
    f.command("ada", f.it, "resume")
    f.forge_event("cp20", f.it, "RESUMED", command=order[1])


@reject("healthy", "unknown_evidence")
def halted_on_a_breach_that_is_not_the_first(f: Forge) -> None:
    """It is halted on a verdict of abort that is neither the first of its kind nor the newest of all."""
    verdict(f, f.it, 2, "breach")
    second = verdict(f, f.it, 2, "abort")
    verdict(f, f.it, 2, "inconclusive")
    f.forge_event("cp20", f.it, "HALTED", cause="gate", gate=None, evidence=second[1], text="")
