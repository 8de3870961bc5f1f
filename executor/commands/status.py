"""`calyx status`: what is in force, what waits, what runs."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from executor.commands.common import HomeOption, JsonOption, check_begun, opened
from executor.commands.forms import progress_form
from executor.commands.terminal import say, say_json, say_table
from executor.commands.who_runs import RUNNERS, describe_runs
from keys.words import counted

if TYPE_CHECKING:
    from executor.homes.home import Home
    from policies.fold.state import LeaseState, State

SHOWN = 50
"""Leases that are shown, the newest ones."""


def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say what is in force, what is waiting and what is running.

    Example: calyx status
    """
    from executor.homes.home import system_clock

    with opened(home) as place:
        replay = place.open_replay()
        state = check_begun(replay.sync())
        found = _facts(place, state, system_clock())
    if as_json:
        say_json(found)
        return
    say(
        f"Ledger  {found['ledger'][:16]}, {counted(found['size'], 'entry')}, {found['origin']}",
        f"Home    {found['home']}",
        f"Trust   until {found['trust_expires']}",
        f"Policy  {found['policy'][:12]}, deployment is {'on' if found['deployment_enabled'] else 'off'}",
        f"Fleet   {found['fleet'][:12] if found['targets'] else 'none'}"
        + "".join(f", {name} {count}" for name, count in found["targets"].items()),
        f"Runs    {describe_runs(found['running'])}",
    )
    before = found["continues"]
    if before is not None:
        say(f"Before  ledger {before['ledger'][:16]}, continued after {counted(before['head']['size'], 'entry')}")
    if found["trust_warning"] is not None:
        say(f"WARNING {found['trust_warning']}", "        calyx trust propose --renew 365d --approve")
    for owed in found["owed_reviews"]:
        word = "OVERDUE" if owed["overdue"] else "Owed   "
        say(f"{word} review of {owed['lease_id']}, BREAK-GLASS, due {owed['until']}: {owed['command']}")
    if found["leases"]:
        say("")
        say_table(
            ("lease", "target", "state", "note", "since"),
            [(row["lease_id"], row["target"], row["state"], row["note"], row["timestamp"]) for row in found["leases"]],
        )


def _facts(home: Home, state: State, now: int) -> dict[str, Any]:
    from executor.proposals.governance_check import warn_expiry
    from executor.views.waiting import owed_reviews
    from policies.law.registers import newest_first

    enabled = state.policy is not None and state.policy.deployment_enabled()
    targets = {} if state.fleet is None else {name: len(t.instances) for name, t in state.fleet.targets.items()}
    known = (_lease(state, lease, now) for lease in newest_first(state.leases))
    rows = [*islice((row for row in known if row["state"] != "expired"), SHOWN)][::-1]
    return {
        "home": home.name,
        "ledger": state.ledger,
        "origin": state.origin,
        "size": state.size,
        "head": {"size": state.size, "hash": state.history.leaf(state.size - 1)},
        "trust_expires": "" if state.trust is None else state.trust.expires,
        "trust_warning": None if state.trust is None else warn_expiry(state.trust, now),
        "continues": None if state.continues is None else state.continues.to_json(),
        "policy": state.policy_digest,
        "deployment_enabled": enabled,
        "fleet": state.fleet_digest,
        "targets": targets,
        "epoch": None if state.term is None else state.term.epoch,
        "running": home.running(RUNNERS),
        "owed_reviews": [
            {"lease_id": item.name, "until": item.until, "overdue": item.urgent, "command": item.command}
            for item in owed_reviews(state, now)
        ],
        "leases": rows,
    }


def _lease(state: State, lease: LeaseState, now: int) -> dict[str, Any]:
    from executor.views.progress import describe_unclaimed, measure_progress
    from keys.values import format_time

    row: dict[str, Any] = {
        "lease_id": lease.lease.id,
        "digest": lease.digest,
        "target": lease.lease.target,
        "timestamp": format_time(lease.time),
        "progress": None,
    }
    deployment = state.deployments.get(lease.digest)
    if deployment is not None:
        progress = measure_progress(deployment, now)
        return {**row, "state": progress.phase, "note": progress.note, "progress": progress_form(progress)}
    standing, note = describe_unclaimed(state, lease, now)
    return {**row, "state": standing, "note": note}
