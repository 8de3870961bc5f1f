"""Forgeries of commands."""

from __future__ import annotations

from typing import Any

from forging import Forge, Subject, after, names, policy
from reject_deployments import A, B, C, _nothing
from reject_events import _do, _judge, _wait
from reject_registry import add, reject
from reject_stories import (
    baseline,
    fleet_body,
    halt,
    pause,
)

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
    f.event(
        "cp20",
        it,
        "INSTANCE_RESTORED",
        instance=f.state.deployments[it[1]].cohorts[25][0],
        tree=B,
        rebuilt=False,
        warning=None,
    )
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
