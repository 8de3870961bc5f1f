"""The notifier: follows the ledger, fills the outbox, and delivers. Nobody waits for it, and it holds nobody up.

A round: read what is new, write its notices and the cursor into the outbox in one step, see how deliveries ended, begin
others. At most one delivery is under way for each channel, so a channel that hangs delays its own alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from executor.agents.loop import FATAL, Wait, one_line
from executor.logbook import Log
from executor.notify.addresses import AddressBook, Book
from executor.notify.notices import DAY, Notice, Notices, due_notices, kind_of
from executor.notify.outbox import Delivery, Outbox
from executor.notify.post import DELIVERED, Letter, Post, Sending
from keys.errors import CalyxError, Refused
from ledger.chain import Entry
from policies.fold.state import State

POLL_S: Final = 1.0
BUSY_POLL_S: Final = 0.1
PARALLEL: Final = 8
"""Addresses that are sent to at once; the last channel that is begun may have more."""
MAX_TRIES: Final = 12
MAX_AGE_S: Final = DAY
FIRST_RETRY_S: Final = 5
LAST_RETRY_S: Final = 900
REST_S: Final = 60
"""The longest time for which a channel that failed is left alone with its other deliveries."""
FRESH_S: Final = DAY
"""How far back a fresh outbox begins."""


class Follows(Protocol):
    """What the notifier needs of a replay whose observer is `Notifier.observe`."""

    def sync(self) -> State:
        """Verify and fold what is new."""
        ...

    def forget(self) -> None:
        """Begin again at the next `sync`."""
        ...


@dataclass(slots=True)
class _Sent:
    """A delivery under way: tag -> where it is."""

    delivery: Delivery
    sendings: dict[str, Sending]


class Notifier:
    """One notifier on one home. `outbox`: its file. `clock`: seconds since 1970; `monotonic`: seconds that only grow.
    `random`: gives bytes for jitter.
    """

    def __init__(
        self,
        outbox: Path,
        book: AddressBook,
        post: Post,
        *,
        clock: Callable[[], int],
        monotonic: Callable[[], float],
        random: Callable[[int], bytes],
        log: Log,
    ) -> None:
        self._path: Final = outbox
        self._addresses: Final = book
        self._post: Final = post
        self._clock: Final = clock
        self._monotonic: Final = monotonic
        self._random: Final = random
        self._log: Final = log
        self._book: Book = {}
        self._outbox: Outbox | None = None
        self._running: dict[str, _Sent] = {}
        self._resting: dict[str, float] = {}
        self._complaints: dict[str, str] = {}
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._fold = Notices()
        self._cursor: int | None = None
        self._placed = False
        self._made: list[Notice] = []
        self._told: set[str] = set()
        self._kept = -1

    def observe(self, entry: Entry, state: State) -> None:
        """Take note of an entry, as the replay's observer."""
        if not self._placed:
            # The ledger's identity is known now, and with it which outbox goes on.
            self._outbox = self._outbox or Outbox.open(self._path, state.ledger)
            self._cursor = self._outbox.cursor
            self._placed = True
        fresh = self._cursor is None and entry.record.seconds >= self._clock() - FRESH_S
        if fresh:
            self._cursor = entry.seq
        if self._cursor is None or entry.seq < self._cursor:
            self._fold.skip(state)
            return
        self._made += self._fold.take(entry, state)
        self._cursor = entry.seq + 1

    def run(self, ledger: Follows, *, wait: Wait, until_idle: bool = False) -> None:
        """Notify until `wait` says to stop, or until nothing is to be sent now.

        Raises: CalyxError when the ledger contradicts itself.
        """
        while True:
            idle = self.round(ledger)
            if (until_idle and idle) or wait(POLL_S if idle else BUSY_POLL_S):
                return

    def round(self, ledger: Follows) -> bool:
        """Do what can be done now; whether nothing is under way and nothing due. Raises: CalyxError in `FATAL`."""
        now = self._clock()
        try:
            if self._placed and not self._path.exists():
                self._log("the outbox is gone; what is newer than a day is told again")
                self._lose_outbox(ledger)
            state = ledger.sync()
            if self._outbox is None:
                return True
            self._read_addresses()
            self._enqueue(self._outbox, state, now)
            self._finish(self._outbox, now)
            begun = self._begin(self._outbox, now)
        except sqlite3.OperationalError as error:
            self._complain("round", f"the outbox cannot be used: {error}")
            return True
        except (sqlite3.Error, OSError) as error:
            self._complain("round", f"the outbox is begun anew: {error}")
            self._lose_outbox(ledger)
            return True
        except CalyxError as error:
            if error.code in FATAL:
                raise
            self._complain("round", str(error))
            return True
        self._complaints.pop("round", None)
        return not begun and not self._running

    def close(self) -> None:
        """End what is under way; it is sent again by the next notifier, with the same id."""
        for sent in self._running.values():
            for sending in sent.sendings.values():
                sending.end()
        self._running.clear()
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None

    def _lose_outbox(self, ledger: Follows) -> None:
        self.close()
        self._begin_anew()
        ledger.forget()

    def _complain(self, about: str, text: str) -> None:
        """Say what is wrong once, not in each round."""
        if text != self._complaints.get(about):
            self._log(one_line(text))
        self._complaints[about] = text

    def _read_addresses(self) -> None:
        try:
            self._book = self._addresses.load()
            self._complaints.pop("addresses", None)
        except Refused as error:
            # What was read before still holds.
            self._complain("addresses", str(error))

    def _enqueue(self, outbox: Outbox, state: State, now: int) -> None:
        if self._cursor is not None and self._cursor > state.size:
            self._log("the outbox is ahead of the ledger; it goes on from its end")
            self._cursor = state.size
        # What the time tells is true in every round; once is enough for what has somewhere to go.
        timed = [notice for notice in due_notices(state, now) if notice.source not in self._told]
        made = [(notice, channel) for notice in (*self._made, *timed) for channel in self._channels(notice)]
        if not made and self._kept == state.size:
            return
        outbox.add(made, state.size, now)
        self._kept = state.size
        self._made.clear()
        self._told.update(notice.source for notice, _ in made)

    def _channels(self, notice: Notice) -> tuple[str, ...]:
        if notice.loud:
            return tuple(self._book)
        return tuple(channel for channel in notice.channels if channel in self._book)

    def _finish(self, outbox: Outbox, now: int) -> None:
        for channel, sent in list(self._running.items()):
            outcomes = {tag: sending.poll() for tag, sending in sent.sendings.items()}
            if None in outcomes.values():
                continue
            del self._running[channel]
            reached = sent.delivery.reached | {tag for tag, how in outcomes.items() if how == DELIVERED}
            errors = sorted({str(how) for how in outcomes.values() if how != DELIVERED})
            self._ended(outbox, replace(sent.delivery, reached=reached), errors[0] if errors else "", now)

    def _ended(self, outbox: Outbox, delivery: Delivery, error: str, now: int) -> None:
        tried = replace(delivery, attempts=delivery.attempts + 1, error=error)
        name = f"{delivery.event} to {delivery.channel} ({delivery.id[:12]})"
        if not error:
            self._resting.pop(delivery.channel, None)
            outbox.store(replace(tried, state="sent"), now)
            self._log(f"sent {name}")
        elif tried.attempts >= MAX_TRIES:
            outbox.store(replace(tried, state="given_up"), now)
            self._log(f"gave up {name} after {tried.attempts} attempts: {error}")
        else:
            delay_s = retry_s(tried.attempts, self._random)
            self._resting[delivery.channel] = self._monotonic() + min(delay_s, REST_S)
            outbox.store(replace(tried, next_at=now + delay_s), now)
            self._log(f"could not send {name}: {error}; attempt {tried.attempts}, again in {delay_s} s")

    def _begin(self, outbox: Outbox, now: int) -> bool:
        """Begin what is due; whether anything was done."""
        begun = False
        room = PARALLEL - sum(len(sent.sendings) for sent in self._running.values())
        for delivery in outbox.queued_before(now - MAX_AGE_S):
            if delivery.channel not in self._running:
                outbox.store(replace(delivery, state="given_up", error=delivery.error or "too_old"), now)
                self._log(f"gave up {delivery.event} to {delivery.channel} ({delivery.id[:12]}): it is over a day old")
        for channel in outbox.waiting():
            if room <= 0 or channel in self._running or self._resting.get(channel, 0.0) > self._monotonic():
                continue
            # A clock that went back must not put off for years what was put off for minutes.
            turn = outbox.next_for(channel, now, now + 2 * LAST_RETRY_S)
            if turn is None:
                continue
            begun = True
            addresses = [one for one in self._book.get(turn.channel, ()) if one.tag not in turn.reached]
            if turn.channel not in self._book:
                self._ended(outbox, turn, "no_address", now)
                continue
            letter = Letter(turn.title, letter_body(turn), kind_of(turn.event))
            self._running[turn.channel] = _Sent(
                turn, {address.tag: self._post(address, letter) for address in addresses}
            )
            room -= len(addresses)
        return begun


def letter_body(delivery: Delivery) -> str:
    """What is sent: the notice, and its id, by which a receiver knows a repeat."""
    return f"{delivery.body}\nNotice {delivery.id}"


def retry_s(attempts: int, random: Callable[[int], bytes]) -> int:
    """Seconds before the next attempt, after so many: doubled each time, up to a quarter of an hour, half of it by
    chance, so that a service that comes back is not met by everybody at once.
    """
    base: int = min(FIRST_RETRY_S << (attempts - 1), LAST_RETRY_S)
    return base // 2 + 1 + int.from_bytes(random(4), "big") * (base - base // 2) // 2**32
