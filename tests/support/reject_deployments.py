"""Forgeries of events and commands: the order of a deployment, who may say what, and what it rests on."""

from __future__ import annotations

from typing import Any

from forging import CAST, KEYS, Forge, Subject, after, digest_of, key_line, names, person, policy, trust
from reject_registry import add, reject
from reject_stories import (
    baseline,
    deploy,
    fleet_body,
    gate_values,
    halt,
    pause,
    restore,
    sample,
    sample_fields,
    verdict,
)

from policies.deployment import MOVES, Phase

A, B, C = digest_of(1), digest_of(2), digest_of(3)

# The table of moves: in each phase one event of each type that is not possible there.

DETAILS: dict[str, dict[str, Any]] = {
    "STARTED": {},
    "TIER_INTENT": {"tier": 25},
    "INSTANCE_APPLIED": {"tier": 25, "instance": "web-04", "tree": B},
    "TIER_APPLIED": {"tier": 25},
    "BAKE_STARTED": {"tier": 25},
    "CANARY_PROMOTED": {"tier": 25, "to": 100},
    "PAUSED": {"cause": "hand", "command": None, "text": ""},
    "RESUMED": {"command": None},
    "HALTED": {"cause": "hand", "gate": None, "evidence": None, "text": ""},
    "ROLLBACK_STARTED": {"cause": "hand", "command": None},
    "INSTANCE_RESTORED": {"instance": "web-04", "tree": A, "rebuilt": False},
    "ROLLED_BACK": {},
    "ROLLBACK_FAILED": {"instances": [], "text": ""},
    "COMPLETED": {},
    "ABORTED": {"cause": "hand", "text": ""},
    "BASELINE": {"values": gate_values()},
    "SAMPLE": {"tier": 25, "n": 9, "values": gate_values(), "trees": [], "raw": None},
    "VERDICT": {"tier": 25, "n": 0, "verdict": "missing", "gate": None, "text": ""},
}


def _nothing(f: Forge) -> None:
    """The moment is the phase."""


def _fail(f: Forge) -> None:
    left = sorted(f.state.deployments[f.it[1]].intended - f.state.deployments[f.it[1]].restored)
    f.event("cp20", f.it, "ROLLBACK_FAILED", instances=left, text="")


def _abort(f: Forge) -> None:
    f.event("cp20", f.it, "ABORTED", cause="hand", text="")


PHASES: dict[Phase, tuple[str, Any]] = {
    Phase.CLAIMED: ("claimed", _nothing),
    Phase.DEPLOYING: ("started", _nothing),
    Phase.BAKING: ("baking", _nothing),
    Phase.PROMOTED: ("promoted", _nothing),
    Phase.PAUSED: ("baking", lambda f: pause(f, f.it)),
    Phase.HALTED: ("baking", lambda f: halt(f, f.it)),
    Phase.ROLLING_BACK: ("rolling", _nothing),
    Phase.ROLLED_BACK: ("back", _nothing),
    Phase.ROLLBACK_FAILED: ("rolling", _fail),
    Phase.COMPLETED: ("completed", _nothing),
    Phase.ABORTED: ("claimed", _abort),
}


def _illegal(phase: Phase, moment: str, prepare: Any, type_: str) -> None:
    def doing(f: Forge) -> None:
        prepare(f)
        who = "cp19" if type_ in {"BASELINE", "SAMPLE", "VERDICT"} else "cp20"
        f.forge_event(who, f.it, type_, **DETAILS[type_])

    add(f"move_{type_}_in_{phase}".lower(), f"{type_} while it is {phase}.", moment, "illegal_transition", doing)


for _phase, (_moment, _prepare) in PHASES.items():
    for _type in DETAILS:
        if (_phase, _type) not in MOVES:
            _illegal(_phase, _moment, _prepare, _type)


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


# Commands.


def _command(
    name: str,
    what: str,
    moment: str,
    code: str,
    verb: str,
    /,
    *,
    prepare: Any = _nothing,
    story: str = "main",
    **changes: Any,
) -> None:
    def doing(f: Forge) -> None:
        prepare(f)
        f.forge_command("ben", f.it, verb, **changes)

    add(f"command_{name}", what, moment, code, doing, story)


_command("on_an_unclaimed_lease", "An order to a lease that was not claimed.", "approved", "not_claimed", "pause")
_command("pause_with_a_state", "An order to pause names a state.", "claimed", "bad_command", "pause", state=A)
_command(
    "resume_without_a_state",
    "An order to resume names no state.",
    "baking",
    "bad_command",
    "resume",
    prepare=lambda f: pause(f, f.it),
    state=None,
)
_command(
    "resume_on_an_old_state",
    "An order to resume names a state that is past.",
    "baking",
    "stale_command",
    "resume",
    prepare=lambda f: pause(f, f.it),
    state=A,
)
_command("pause_with_a_tier", "An order to pause names a tier.", "baking", "bad_command", "pause", tier=25)
_command("promote_without_a_tier", "An order to promote names no tier.", "baking", "bad_command", "promote", tier=None)
_command("pause_skips_the_bake", "An order to pause skips a bake.", "baking", "bad_command", "pause", skip_bake=True)
_command("start_of_what_starts_itself", "An order to start what waits for none.", "claimed", "bad_command", "start")
_command("start_again", "An order to start what has started.", "baking", "bad_command", "start", story="manual")
_command("resume_of_what_runs", "An order to resume what is not paused.", "baking", "bad_command", "resume")
_command("promote_of_another_tier", "An order to promote another tier.", "baking", "bad_command", "promote", tier=100)
_command(
    "promote_of_what_does_not_bake",
    "An order to promote what does not bake.",
    "tier",
    "bad_command",
    "promote",
    tier=25,
)
_command(
    "promote_after_a_breach",
    "An order to promote after a verdict of breach.",
    "sampled",
    "health_refused",
    "promote",
    prepare=_judge(1, "breach"),
)
_command(
    "promote_while_missing",
    "An order to promote while the newest verdict is missing.",
    "sampled",
    "health_refused",
    "promote",
    prepare=_judge(1, "missing"),
)
_command(
    "resume_after_a_breach",
    "An order to resume after a verdict of abort.",
    "sampled",
    "health_refused",
    "resume",
    prepare=_do(_judge(1, "abort"), lambda f: pause(f, f.it)),
)
_command(
    "skip_without_leave",
    "An order skips a bake without the policy's leave.",
    "baking",
    "skip_not_allowed",
    "promote",
    skip_bake=True,
)
_command("pause_of_what_ended", "An order to pause what is completed.", "completed", "deployment_ended", "pause")
_command("abort_of_what_ended", "An order to abort what is rolled back.", "back", "deployment_ended", "abort")
_command(
    "rollback_of_what_is_back", "An order to roll back what is rolled back.", "back", "nothing_to_roll_back", "rollback"
)
_command(
    "rollback_after_retention",
    "An order to roll back a second after the retention.",
    "completed",
    "retention_over",
    "rollback",
    prepare=_wait(7 * 86_400 + 1),
)


@reject("claimed", "command_expired")
def command_late(f: Forge) -> None:
    """An order comes a second after its end."""
    f.forge_command("ben", f.it, "pause", expires_at=after(f.now, -1))


@reject("claimed", "command_expired")
def command_late_by_its_own_time(f: Forge) -> None:
    """An order is made after its end, and recorded before it."""
    fields = f.command_fields(f.it, "pause", expires_at=after(f.now, 1))
    f.forge("ben", "command", fields, f.it, made_at=after(f.now, 2))


def second(f: Forge, **changes: Any) -> Subject:
    """Another lease on the target, claimed."""
    f.now += 1
    it = f.lease(2, **changes)
    f.approve(it)
    f.claim(it)
    return it


@reject("completed", "target_busy")
def command_rollback_of_a_busy_target(f: Forge) -> None:
    """An order to roll back while the target has another live deployment."""
    second(f)
    f.forge_command("ben", f.it, "rollback")


@reject("completed", "superseded")
def command_rollback_superseded(f: Forge) -> None:
    """An order to roll back what a later deployment changed."""
    it = second(f, changes=[{"before": B, "after": C, "instances": names(4)}])
    baseline(f, it)
    f.event("cp20", it, "STARTED")
    f.event("cp20", it, "TIER_INTENT", tier=25)
    halt(f, it)
    f.event("cp20", it, "ROLLBACK_STARTED", cause="gate", command=None)
    f.event("cp20", it, "INSTANCE_RESTORED", instance=f.state.deployments[it[1]].cohorts[25][0], tree=B, rebuilt=False)
    f.event("cp20", it, "ROLLED_BACK")
    f.forge_command("ben", f.it, "rollback")


@reject("ordered", "rollback_not_ordered")
def rolled_back_on_an_order_that_a_claim_ended(f: Forge) -> None:
    """A rollback was ordered and not taken up, and another deployment came and went."""
    it = second(f)
    f.event("cp20", it, "ABORTED", cause="hand", text="")
    f.forge_event("cp20", f.it, "ROLLBACK_STARTED", cause="hand", command=None)


@reject("ordered", "retention_over")
def rolled_back_after_retention(f: Forge) -> None:
    """A rollback is ordered in time, and begins too late."""
    f.now += 7 * 86_400 + 1
    f.forge_event("cp20", f.it, "ROLLBACK_STARTED", cause="hand", command=None)


@reject("completed", "target_busy")
def command_rollback_of_a_busy_place(f: Forge) -> None:
    """An order to roll back where another target has a live deployment, under a newer fleet."""
    body = fleet_body(4)
    body["targets"]["db"] = body["targets"].pop("web")
    f.now += 1
    f.enact("policy", policy(targets={"db": {"paths": ["app.py"]}}))
    f.enact("fleet", f.fleet_object(body))
    it = f.lease(2, target="db")
    f.approve(it)
    f.claim(it)
    f.forge_command("ben", f.it, "rollback")
