"""`calyx notify`: tell people by mail, chat, desktop or web hook what the ledger says, as the policy names channels."""

from __future__ import annotations

import os
import signal
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from executor.commands.common import HomeOption, JsonOption, check_begun, noun, opened
from executor.commands.running import Stop, log_line, stopping
from executor.commands.terminal import note, say, say_json, say_table
from keys.errors import Refused, Unavailable
from keys.words import counted

if TYPE_CHECKING:
    from executor.homes.home import Home
    from executor.notify.outbox import Outbox
    from executor.notify.run import Notifier
    from policies.fold.state import State

GRACE_S: Final = 15.0
"""Seconds in which a notifier that is told to end still sends what is due."""
_LOOK_S: Final = 0.1

app = noun("Tell people what the ledger says, by mail, chat or web hook.")


@app.callback()
def notify() -> None:
    """Tell people what the ledger says, by mail, chat or web hook."""


@app.command()
def run(
    until_idle: Annotated[
        bool,
        typer.Option("--until-idle", help="End when nothing is to be sent now; what failed waits for the next run."),
    ] = False,
    home: HomeOption = None,
    parent: Annotated[
        int | None, typer.Option("--parent", hidden=True, help="End when this process is no longer the parent.")
    ] = None,
) -> None:
    """Follow the ledger and deliver its notices, until told to stop.

    Example: calyx notify run

    It needs no key. The addresses of the channels stand in notify.yaml in the home. An executor starts one of its own
    where that file exists and no notifier runs.
    """
    from executor.homes.home import system_clock
    from executor.notify.addresses import AddressBook
    from executor.notify.post import SenderProcess
    from executor.notify.run import Notifier
    from executor.process_lock import ProcessLock

    _check_apprise()
    with opened(home, here=True) as place, stopping(parent) as stop:
        book = AddressBook(place.addresses)
        if not book.load():
            raise Refused("no_addresses", f"{place.addresses} names no channel", hint="docs/NOTIFICATIONS.md shows one")
        with ProcessLock(place.lock_path("notify"), f"a notifier on {place.root}"):
            log_line(f"notifier runs on {place.root}")
            notifier = Notifier(
                place.outbox,
                book,
                SenderProcess,
                clock=system_clock,
                monotonic=time.monotonic,
                random=os.urandom,
                log=log_line,
            )
            try:
                _run(place, notifier, stop, until_idle=until_idle)
            finally:
                notifier.close()
    if stop.signal == signal.SIGINT:
        note("interrupted; what was not sent is sent by the next calyx notify run")
        raise typer.Exit(128 + signal.SIGINT)


def _run(home: Home, notifier: Notifier, stop: Stop, *, until_idle: bool) -> None:
    replay = home.open_replay(notifier.observe)
    check_begun(replay.sync())
    notifier.run(replay, wait=stop.wait, until_idle=until_idle)
    if until_idle or stop.signal == signal.SIGINT:
        return
    # The executor has ended, or a service manager says so: its last words are still to be sent.
    deadline = time.monotonic() + GRACE_S

    def pause(seconds: float) -> bool:
        time.sleep(min(seconds, _LOOK_S))
        return time.monotonic() >= deadline

    notifier.run(replay, wait=pause, until_idle=True)


@app.command("test")
def try_channel(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="A channel of notify.yaml.")],
    home: HomeOption = None,
) -> None:
    """Send a test notice to a channel, now, and say whether it arrived.

    Example: calyx notify test oncall
    """
    from executor.homes.home import system_clock
    from executor.notify.addresses import load_book
    from executor.notify.notices import kind_of, trial_notice
    from executor.notify.post import DELIVERED, Letter, SenderProcess

    _check_apprise()
    with opened(home, here=True) as place:
        book = load_book(place.addresses)
        if channel not in book:
            known = ", ".join(book) or "none"
            raise Refused("unknown_channel", f"{place.addresses} has no channel {channel}; it has {known}")
        state = check_begun(place.open_replay().sync())
        notice = trial_notice(channel, state.ledger, os.urandom(16), system_clock())
        letter = Letter(notice.title, f"{notice.body}\nNotice {notice.id_for(channel)}", kind_of(notice.event))
        sendings = [SenderProcess(address, letter) for address in book[channel]]
        try:
            outcomes = [_outcome(sending) for sending in sendings]
        finally:
            for sending in sendings:
                sending.end()
    say(*(f"address {number} of {channel}: {how}" for number, how in enumerate(outcomes, 1)))
    if any(how != DELIVERED for how in outcomes):
        raise Unavailable(
            "delivery_failed",
            f"{sum(how != DELIVERED for how in outcomes)} of {counted(len(outcomes), 'address')} of {channel} "
            "did not take it",
            hint="check them in notify.yaml",
        )


def _outcome(sending: Any) -> str:
    while (how := sending.poll()) is None:
        time.sleep(_LOOK_S)
    return str(how)


@app.command()
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say which channels there are, whether a notifier runs, and what waits or was given up.

    Example: calyx notify status
    """
    with opened(home, here=True) as place:
        state = check_begun(place.open_replay().sync())
        found = _facts(place, state)
    if as_json:
        say_json(found)
        return
    channels = ", ".join(f"{name} ({count})" for name, count in found["channels"].items())
    say(
        f"Channels  {channels or 'none: notify.yaml names none'}",
        f"Notifier  {'runs' if found['running'] else 'does not run'}",
        f"Notices   {found['pending']} waiting, {found['sent']} sent, {found['given_up']} given up",
    )
    if found["unknown_channels"]:
        say(f"Unknown   the policy names {', '.join(found['unknown_channels'])}, and notify.yaml does not")
    if found["failures"]:
        say("")
        say_table(
            ("notice", "event", "channel", "state", "attempts", "error"),
            [
                (row["notice_id"][:12], row["event"], row["channel"], row["state"], str(row["attempts"]), row["error"])
                for row in found["failures"]
            ],
        )


def _facts(home: Home, state: State) -> dict[str, Any]:
    from executor.notify.addresses import load_book
    from executor.notify.outbox import read_outbox
    from executor.process_lock import ProcessLock

    book = load_book(home.addresses)
    notify_ = {} if state.policy is None else state.policy.deploy_production.notify
    named = {channel for channels in notify_.values() for channel in channels}
    outbox = read_outbox(home.outbox)
    try:
        waiting = _waiting(outbox)
    finally:
        if outbox is not None:
            outbox.close()
    return {
        "channels": {name: len(addresses) for name, addresses in book.items()},
        "unknown_channels": sorted(named - set(book)),
        "running": ProcessLock(home.lock_path("notify"), "a notifier").held(),
        **waiting,
    }


def _waiting(outbox: Outbox | None) -> dict[str, Any]:
    from keys.values import format_time

    if outbox is None:
        return {"next_seq": None, "pending": 0, "sent": 0, "given_up": 0, "failures": []}
    return {
        "next_seq": outbox.cursor,
        **outbox.counts(),
        "failures": [
            {
                "notice_id": one.id,
                "event": one.event,
                "channel": one.channel,
                "lease_id": one.lease,
                "state": one.state,
                "attempts": one.attempts,
                "error": one.error,
                "next_at": format_time(one.next_at) if one.state == "pending" else None,
            }
            for one in outbox.failures()
        ],
    }


def _check_apprise() -> None:
    if find_spec("apprise") is None:
        raise Unavailable(
            "apprise_missing", "notifications need the library apprise", hint="install calyx with its extra: notify"
        )
