"""`calyx intent`: what someone wants to change, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from executor.commands.common import HomeOption, JsonOption, check_begun, noun, opened
from executor.commands.terminal import say, say_json, say_table, say_theirs
from keys.errors import Refused

if TYPE_CHECKING:
    from policies.fold.state import State
    from policies.kinds import Intent

app = noun("List what was meant to change, and why.")


@app.command(name="list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List intents, each with the leases that were asked for it.

    Example: calyx intent list
    """
    with opened(home) as place:
        state = check_begun(place.open_replay().sync())
        rows = [_row(state, intent, leases) for intent, leases in _with_leases(state).values()]
    if as_json:
        say_json(rows)
    elif rows:
        say_table(
            ("intent", "target", "what", "by", "leases"),
            [(r["intent_id"], r["target"], r["what"], r["by"], ", ".join(r["lease_ids"])) for r in rows],
        )
    else:
        say("There is no intent.")


@app.command()
def show(
    intent: Annotated[str, typer.Argument(metavar="INTENT", help="Its id, such as INT-20260105-001.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an intent: what, why, and the leases that were asked for it.

    Example: calyx intent show INT-20260105-001
    """
    from keys.values import fold_id

    with opened(home) as place:
        state = check_begun(place.open_replay().sync())
        found = _with_leases(state).get(fold_id(intent))
        if found is None:
            raise Refused("unknown_intent", f"there is no intent {intent} in this ledger", hint="calyx intent list")
        row = _row(state, *found)
    if as_json:
        say_json(row)
        return
    say_theirs(
        f"Intent  {row['intent_id']} on {row['target']}, by {row['by']} at {row['timestamp']}",
        f"What    {row['what']}",
        f"Why     {row['why']}",
        f"Leases  {', '.join(row['lease_ids']) or 'none'}",
    )


def _with_leases(state: State) -> dict[str, tuple[Intent, list[str]]]:
    from keys.values import fold_id

    found: dict[str, tuple[Intent, list[str]]] = {name: (intent, []) for name, intent in state.intents.items()}
    for lease in state.leases.values():
        found[fold_id(lease.lease.intent)][1].append(lease.lease.id)
    return found


def _row(state: State, intent: Intent, leases: list[str]) -> dict[str, Any]:
    from keys.values import fold_id, format_time

    digest = state.ids[fold_id(intent.id)]
    seq = state.history.find(digest)
    return {
        "intent_id": intent.id,
        "digest": digest,
        "seq": seq,
        "timestamp": "" if seq is None else format_time(state.history.time(seq)),
        "by": intent.by,
        "target": intent.target,
        "what": intent.what,
        "why": intent.why,
        "lease_ids": leases,
    }
