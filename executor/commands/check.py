"""`calyx check`: the two-key rule for one lease, its nine steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from executor.commands.common import HomeOption, JsonOption, LeaseArgument, check_begun, find_lease, opened
from executor.commands.forms import preflight_form
from executor.commands.terminal import note, say, say_json, say_table
from keys.errors import Exit

if TYPE_CHECKING:
    from policies.law.two_key import StepResult


def check(lease: LeaseArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Go through the two-key rule for a lease, step by step.

    Example: calyx check LEASE-20260105-090000

    Ends with 0 when the lease may be claimed now, and with 1 when a step fails. What keeps the executor from claiming
    it all the same is a note, and `preflight` in --json, the newest last.
    """
    from executor.homes.home import system_clock
    from keys.values import format_time
    from policies.law.two_key import examine_lease

    with opened(home) as place:
        state = check_begun(place.open_replay().sync())
        found = find_lease(state, lease)
        now = system_clock()
        steps = examine_lease(state, found.digest, now)
    good = all(step.ok for step in steps)
    if as_json:
        say_json(
            {
                "lease_id": found.lease.id,
                "digest": found.digest,
                "now": format_time(now),
                "ok": good,
                "steps": [_step(step) for step in steps],
                "preflight": preflight_form(found.preflight),
            }
        )
    else:
        if found.lease.rule == "break_glass":
            say("BREAK-GLASS: step 5 asks for two human approvers; step 9 is owed where none came before the claim.")
        say_table(
            ("step", "result", "code", "rule", "found"),
            [(str(step.number), "ok" if step.ok else "failed", step.code, step.title, step.text) for step in steps],
        )
        say(f"{found.lease.id} {'may be claimed' if good else 'may not be claimed'} at {format_time(now)}")
    if good and found.preflight:
        # The rule says what may be; the executor said what it found.
        _, code, text = found.preflight[-1]
        note(f"note: the executor did not find it ready: {code}: {text}")
    if not good:
        raise typer.Exit(Exit.REFUSED)


def _step(step: StepResult) -> dict[str, Any]:
    return {
        "step": step.number,
        "title": step.title,
        "ok": step.ok,
        "code": step.code,
        "text": step.text,
        "missing": step.missing,
    }
