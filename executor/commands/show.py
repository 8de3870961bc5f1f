"""`calyx show`: what exactly a lease or proposal asks."""

from __future__ import annotations

from executor.commands.common import HomeOption, IdArgument, JsonOption, check_begun, find_subject, opened
from executor.commands.signing import FullOption, say_rendering
from executor.commands.terminal import say_json


def show(
    identifier: IdArgument, home: HomeOption = None, full: FullOption = False, as_json: JsonOption = False
) -> None:
    """Show a lease or proposal exactly as its proposer signed it.

    Example: calyx show LEASE-20260105-090000 --full

    It is read from the bytes of its entry, and the difference of the files from the objects that it names. What is long
    is cut short and counted; --full leaves nothing out. With --json, the signed statement itself is printed.
    """
    from executor.homes.home import system_clock
    from executor.render.bounds import FULL, SHORT
    from executor.render.statement import read_statement
    from executor.render.text import format_rendering
    from executor.signing.approval import render_subject
    from keys.canonical import parse_json

    with opened(home) as place:
        state = check_begun(place.open_replay().sync())
        subject = find_subject(state, identifier)
        reader = place.open_store()
        if as_json:
            say_json(parse_json(read_statement(reader, subject.seq, subject.digest).body))
            return
        bounds = FULL if full else SHORT
        rendering = render_subject(state, subject, reader, place.open_objects(), system_clock(), bounds)
        say_rendering(format_rendering(rendering))
