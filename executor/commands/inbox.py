"""`calyx inbox` and `calyx show`: what waits for a person, and what exactly it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from executor.commands.common import AsOption, HomeOption, JsonOption, check_begun, opened
from executor.commands.terminal import say, say_json
from keys.errors import Exit, Refused

if TYPE_CHECKING:
    from executor.views.waiting import Waiting

_OF_NO_LEASE = frozenset({"trust", "policy", "fleet", "question"})


def inbox(
    home: HomeOption = None,
    as_principal: AsOption = None,
    as_json: JsonOption = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 6 when something waits.")] = False,
) -> None:
    """List what waits for your key.

    Example: calyx inbox --exit-code

    Leases and proposals that your key brings further, deployments that go on only at your word, claims that something
    is in the way of, reviews that break-glass owes, and questions to you. Overdue reviews come first, then break-glass,
    then what has waited longest. What you approved or withdrew, and what is decided or over, does not wait.
    """
    from executor.homes.home import system_clock
    from executor.render.text import shown_distance
    from executor.views.waiting import find_principal, list_waiting

    with opened(home) as place:
        state = check_begun(place.open_replay().sync())
        now = system_clock()
        principal = as_principal or place.find_me(state).id
        if find_principal(state, principal) is None:
            raise Refused(
                "unknown_principal", f"the trust root has no principal {principal}", hint="calyx keys show --all"
            )
        waiting = list_waiting(state, principal, now)
    if as_json:
        say_json([_row(item) for item in waiting])
    elif waiting:
        # No table: its columns would break a command that is to be copied.
        for item in waiting:
            until = f", until {item.until}" if item.until else ""
            say(f"{item.kind} {item.name}, {shown_distance(item.since - now)}{until}: {item.text}", f"  {item.command}")
    else:
        say("Nothing waits for you.")
    if exit_code and waiting:
        raise typer.Exit(Exit.WAITING)


def _row(item: Waiting) -> dict[str, Any]:
    from keys.values import format_time

    return {
        "kind": item.kind,
        "lease_id": None if item.kind in _OF_NO_LEASE else item.name,
        "digest": item.digest,
        "text": item.text,
        "began_at": format_time(item.since),
        "until": item.until,
        "command": item.command,
        "urgent": item.urgent,
    }
