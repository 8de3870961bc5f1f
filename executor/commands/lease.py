"""`calyx lease`: leases, and one with its cosigners."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from executor.commands.common import (
    ClockOption,
    HomeOption,
    JsonOption,
    LeaseArgument,
    check_begun,
    find_lease,
    noun,
    opened,
    parse_duration,
)
from executor.commands.propose import propose
from executor.commands.proposing import ledger_now, load_proposer, submit_change, tell_change
from executor.commands.terminal import note, say, say_json, say_table, say_theirs, write_out

if TYPE_CHECKING:
    from executor.views.lease_view import Facts

app = noun("List leases, show one with its cosigners, and make one from another.")
app.command(
    name="issue",
    help="""Ask for a change of production: calyx propose by its other name.

    Example: calyx lease issue --onto LEASE-20260105-090000 --patch next.patch

    With --onto it starts from the trees that another lease of the target leads to, and can be approved while that one
    runs. It waits until the target is free, and starts if that lease was completed.
    """,
)(propose)


@app.command(name="list")
def list_(
    home: HomeOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many of the newest leases.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List leases, the newest last: open, approved, void, denied, expired, and those that became deployments.

    Example: calyx lease list
    """
    from executor.homes.home import system_clock
    from executor.views.lease_view import list_lease
    from policies.law.registers import newest_first

    with opened(home) as place:
        state = check_begun(place.open_replay().sync())
        now = system_clock()
        newest = [*islice(newest_first(state.leases), limit)]
        rows = [list_lease(state, lease, now) for lease in reversed(newest)]
    if as_json:
        say_json(rows)
    elif rows:
        say_table(
            ("lease", "target", "state", "cosigners", "note", "since"),
            [
                tuple(map(_cell, (r["lease_id"], r["target"], r["state"], r["cosigners"], r["note"], r["timestamp"])))
                for r in rows
            ],
        )
    else:
        say("There is no lease.")


@app.command()
def show(lease: LeaseArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show a lease: its terms, who cosigned it and whether that counts, and where it stands.

    Example: calyx lease show LEASE-20260105-090000 --json

    With --json it has the form that `calyx lease schema` prints, with each signature and the bytes that it is over.
    `calyx show` shows what changes.
    """
    from executor.homes.home import system_clock
    from executor.views.lease_view import view_lease

    with opened(home) as place:
        state = check_begun(place.open_replay().sync())
        view = view_lease(state, find_lease(state, lease), place.open_store(), system_clock())
    if as_json:
        say_json(view)
        return
    _show(view)


@app.command()
def rebase(
    lease: LeaseArgument,
    *,
    onto: Annotated[
        str | None,
        typer.Option("--onto", metavar="OTHER", help="Start from the trees that this lease leads to."),
    ] = None,
    valid_for: Annotated[
        str | None,
        typer.Option("--valid-for", metavar="DURATION", help="Time to approve it; else as calyx propose has it."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    accept_clock: ClockOption = False,
) -> None:
    """Ask for the change of a lease that no longer fits anew, from what its instances run now.

    Example: calyx lease rebase LEASE-20260105-090000

    The new lease has an id of its own and needs both keys; the old one is denied in the same commit. A patch is applied
    to the trees of today. A lease that was claimed or denied, or that still fits, is left as it is.
    """
    from executor.proposals.bases import promised_trees
    from executor.proposals.replan import ask_again, check_replaceable, plan_rebase
    from executor.rollout.service import host_finder
    from keys.values import parse_time

    with opened(home, here=True) as place:
        registrar = place.open_registrar(accept_clock=accept_clock)
        state = check_begun(registrar.sync())
        old, now = find_lease(state, lease), ledger_now(registrar)
        check_replaceable(old)
        signer = load_proposer(place, state)
        first = None if onto is None else find_lease(state, onto)
        valid_s = None if valid_for is None else parse_duration(valid_for)
        asked = ask_again(state, old, valid_s, None if first is None else parse_time(first.lease.complete_by))
        objects = place.open_objects()
        promised = None if first is None else promised_trees(state, first, old.lease.target, now)
        planned = plan_rebase(state, old, host_finder(objects), objects, promised, now)
        submitted = submit_change(place, registrar, signer, asked, planned, replaces=old)
    named = {one for names in planned.groups.values() for one in names}.union(planned.settled)
    gone = sorted(old.after.keys() - named)
    if gone:
        note(f"note: the target has {', '.join(gone)} no more; left out")
    more = {"replaces": old.lease.id, **({} if first is None else {"onto": first.lease.id})}
    tell_change(asked, planned, submitted, as_json=as_json, more=more)


@app.command()
def schema() -> None:
    """Print the JSON Schema of what `calyx lease show --json` prints.

    Example: calyx lease schema > lease.schema.json
    """
    from executor.views.lease_view import read_schema

    write_out(read_schema())


def _show(view: Facts) -> None:
    asked: Any = view["lease"]
    proposer: Any = view["proposer"]
    intent: Any = view["intent"]
    cosigners: Any = view["cosigners"]
    reviews: Any = view["reviews"]
    say_theirs(
        f"Lease    {view['lease_id']} on {asked['target']}, {asked['rule']}",
        f"State    {view['state']}" + (f": {view['note']}" if view["note"] else ""),
        f"Asked    by {proposer['by']} in entry {view['seq']}, {view['timestamp']}",
        f"Intent   {intent['intent_id']}: {intent['what']}",
        f"Why      {intent['why']}",
        f"Approval until {asked['approve_by']}",
        f"Execute  from {asked['not_before']} until {asked['execute_by']}, complete by {asked['complete_by']}",
        f"Tiers    {', '.join(f'{tier} %' for tier in asked['tiers'])}, each watched for {asked['bake_s']} s",
        f"Digest   {view['digest']}",
    )
    if cosigners:
        say("")
        say_table(
            ("cosigner", "role", "entry", "when", "counts", "key"),
            [(c["id"], c["role"], str(c["seq"]), c["timestamp"], _counts(c), c["keyid"]) for c in cosigners],
        )
    if reviews:
        say("")
        say_table(
            ("reviewer", "role", "entry", "verdict", "summary"),
            [(r["by"], r["role"], str(r["seq"]), r["verdict"], r["summary"]) for r in reviews],
        )


def _counts(cosigner: dict[str, Any]) -> str:
    if cosigner["counted"]:
        return "counted in the claim"
    why = cosigner["why_not"]
    return "yes" if why is None else f"no: {why['text']}"


def _cell(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
