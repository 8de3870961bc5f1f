"""`calyx svf`: the station's event feed, made from the ledger."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from executor.commands.common import HomeOption, JsonOption, check_begun, noun, opened
from executor.commands.terminal import note, say, say_json, write_out
from executor.user_paths import expand
from keys.words import counted

if TYPE_CHECKING:
    from executor.svf.lines import Feed, Line
    from policies.replay import Replay

LOOK_S: Final = 0.5

app = noun("Read the station's event feed (SVF), which is made from the ledger.")

FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on as the ledger grows, until interrupted.")]


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the daily files lie.")],
    follow: FollowOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the daily files of the feed up to the ledger.

    Example: calyx svf export /var/lib/station/svf --follow

    Goes on where the files stop, after comparing every line that they hold with the ledger, so that it also checks
    them. Files that say anything else are refused and left as they are. One export at a time writes into a directory.
    """
    from executor.svf.files import SvfFiles
    from executor.svf.lines import Feed

    feed = Feed()
    with opened(home) as place:
        replay = place.open_replay(feed)
        # The ledger is read under the files' lock: read before it, it could be older than what another one exported.
        with SvfFiles(expand(directory)) as files:
            added = files.take(_read(replay, feed))
            if as_json:
                say_json({"added": added, "size": replay.state.size, "ledger": replay.state.ledger})
            else:
                say(
                    f"{counted(added, 'line')} added to {directory}, "
                    f"which tells of {counted(replay.state.size, 'entry')} now"
                )
            if follow:
                note("following; interrupt to end")
                follow_ledger(replay, feed, files.take, wait)


@app.command()
def tail(
    follow: FollowOption = False,
    start: Annotated[
        int | None, typer.Option("--from", metavar="ENTRY", min=0, help="All lines from this entry on.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=100_000, help="How many of the last lines.")] = 10,
    home: HomeOption = None,
) -> None:
    """Print the last lines of the feed, or those from an entry on.

    Example: calyx svf tail --follow

    Each line is one JSON object, the same bytes as in the daily files. Nothing is printed before the ledger up to its
    end is verified.
    """
    from executor.svf.lines import Feed

    feed = Feed()

    def show(new: Iterable[Line]) -> None:
        for line in new:
            if start is None or line.seq >= start:
                write_out(line.data)

    with opened(home) as place:
        replay = place.open_replay(feed)
        everything = _read(replay, feed)
        show(deque(everything, maxlen=lines) if start is None else everything)
        if follow:
            follow_ledger(replay, feed, show, wait)


def follow_ledger(
    replay: Replay, feed: Feed, deliver: Callable[[list[Line]], object], pause: Callable[[], None]
) -> None:
    """Hand on each new line of a ledger for as long as `pause` comes back."""
    while True:
        pause()
        new = _read(replay, feed)
        if new:
            deliver(new)


def wait() -> None:
    """Let a moment pass before the ledger is looked at again."""
    time.sleep(LOOK_S)


def _read(replay: Replay, feed: Feed) -> list[Line]:
    check_begun(replay.sync())
    return feed.take()
