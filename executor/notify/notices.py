"""Notices: what an entry, or the time, tells people. A pure fold over entries and the state after each.

    entry, state after  -> notices          `Notices.take`
    state, now          -> notices          `due_notices`: what nobody said and the clock brings about

A notice's id is stable: whoever folds the same ledger gets the same ids, so a receiver can drop repeats.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from executor.notify.telling import Told, tell
from executor.notify.wording import inert
from executor.views.waiting import awaited_order
from keys.canonical import Json, format_json
from keys.values import format_time, parse_time
from keys.words import counted
from ledger.chain import Entry
from ledger.statement import parse_statement
from policies.event_kinds import Event
from policies.fold.state import State
from policies.kinds import Claim
from policies.law.position import parse_predicate
from policies.matrix import CapabilityMatrix
from policies.notices import ALL, LOUD

DAY: Final = 86_400
MANY: Final = 1_024
MAX_TITLE: Final = 120
MAX_BODY: Final = 2_000
EXPIRY_MARKS: Final = (30 * DAY, 7 * DAY, DAY, 0)
"""Seconds before the trust root's end at which people hear of it."""

_KINDS: Final = {
    "COMPLETED": "success",
    **dict.fromkeys(("PAUSED", "DENIED", "WITHDRAWN", "ABORTED", "PREFLIGHT_FAILED", "TRUST_EXPIRING"), "warning"),
    **dict.fromkeys(("ROLLBACK_STARTED", "ROLLED_BACK", "BREAK_GLASS_PROPOSED", "BREAK_GLASS_CLAIMED"), "warning"),
    **dict.fromkeys(("HALTED", "ROLLBACK_FAILED", "REVIEW_OVERDUE"), "failure"),
}


def kind_of(event: str) -> str:
    """How grave a notice is, in apprise's words: `info`, `success`, `warning` or `failure`."""
    return _KINDS.get(event, "info")


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. `source`: 64 hex digits that name what it comes from, an entry's leaf where it comes from one.
    `channels`: those that the policy names for it. `loud`: for every channel there is. `time`: seconds since 1970.
    """

    event: str
    source: str
    title: str
    body: str
    lease: str | None
    time: int
    channels: tuple[str, ...]
    loud: bool

    def id_for(self, channel: str) -> str:
        """The stable id of this notice on a channel, 64 hex digits."""
        return _digest(["calyx-notice-v1", self.source, self.event, channel])


class Notices:
    """The fold. Feed it every entry in order; entries that were told before go to `skip`."""

    def __init__(self) -> None:
        self._policy: CapabilityMatrix | None = None
        self._awaited: set[tuple[str, int]] = set()

    def skip(self, state: State) -> None:
        """An entry whose notices are not wanted."""
        self._policy = state.policy
        for digest in state.live.values():
            self._begins_to_wait(state, digest)

    def take(self, entry: Entry, state: State) -> list[Notice]:
        """The notices of an entry that was lawful. `state`: the one after it."""
        statement = parse_statement(entry.record.envelope.body)
        predicate = parse_predicate(statement)
        told = tell(state, entry.seq, statement, predicate)
        # Of a deployment alone, and only what its monitor says makes a tier pass.
        if isinstance(predicate, Event | Claim):
            told += self._waits(state, statement.subject_digest)
        # A policy that tells fewer people is told to those who heard of things before it.
        policies = [one for one in (self._policy, state.policy) if one is not None]
        self._policy = state.policy
        return [_notice(state, one, entry.leaf, entry.record.seconds, policies, entry.seq) for one in told]

    def _waits(self, state: State, digest: str) -> list[Told]:
        verb = self._begins_to_wait(state, digest)
        if verb is None:
            return []
        deployment = state.deployments[digest]
        name, target = deployment.lease.id, deployment.lease.target
        text = f"{name} on {target} goes on only at a person's word: calyx {verb} {name}"
        if verb == "start":
            return [Told("AWAITS_START", f"{name} waits for its start", (text,), name)]
        return [Told("AWAITS_PROMOTION", f"{name} waits at {deployment.tier} %", (text,), name)]

    def _begins_to_wait(self, state: State, digest: str) -> str | None:
        """`start` or `promote` where a deployment began to wait for it; once for each tier."""
        deployment = state.deployments.get(digest)
        if deployment is None or (digest, deployment.tier) in self._awaited:
            return None
        awaited = awaited_order(deployment)
        if awaited is None or awaited[0] not in {"start", "promote"}:
            return None
        if len(self._awaited) >= MANY:
            # None that has ended begins to wait for these again.
            live = set(state.live.values())
            self._awaited = {told for told in self._awaited if told[0] in live}
        self._awaited.add((digest, deployment.tier))
        return awaited[0]


def due_notices(state: State, now: int) -> list[Notice]:
    """What the time tells: reviews that are overdue, anew each day, and the trust root's end; the same as long as it
    stands, with the same ids. `now`: seconds since 1970.
    """
    policies = [] if state.policy is None else [state.policy]
    found = []
    for digest, due in state.owed_reviews.items():
        if due < now:
            name = state.leases[digest].lease.id
            text = (
                f"The break-glass lease {name} owes a review since {format_time(due)}. Until an agent has reviewed it, "
                "no other lease can be claimed: calyx agent run cp14"
            )
            told = Told("REVIEW_OVERDUE", f"the review of {name} is overdue", (text,), name)
            days = (now - due) // DAY
            source = _digest(["calyx-overdue-v1", digest, days])
            found.append(_notice(state, told, source, due + days * DAY, policies, None))
    if state.trust is not None:
        expires = parse_time(state.trust.expires)
        mark = min((mark for mark in EXPIRY_MARKS if now >= expires - mark), default=None)
        if mark is not None:
            when = "has expired" if mark == 0 else f"expires within {counted(mark // DAY, 'day')}"
            text = (
                f"The trust root ends at {state.trust.expires}. No lease can be claimed after it: calyx trust propose"
            )
            told = Told("TRUST_EXPIRING", f"the trust root {when}", (text,), None)
            source = _digest(["calyx-expiring-v1", state.trust_digest, mark])
            found.append(_notice(state, told, source, expires - mark, policies, None))
    return found


def trial_notice(channel: str, ledger: str, nonce: bytes, now: int) -> Notice:
    """A notice that tells nothing, to try a channel with. `nonce`: makes its id another each time."""
    source = _digest(["calyx-test-v1", ledger, nonce.hex()])
    text = "This is a test of a channel. Nothing happened."
    return _finished(Notice("TEST", source, "a test", text, None, now, (channel,), loud=False))


def _notice(
    state: State, told: Told, source: str, time: int, policies: Iterable[CapabilityMatrix], seq: int | None
) -> Notice:
    channels: dict[str, None] = {}
    for policy in policies:
        notify = policy.deploy_production.notify
        channels.update(dict.fromkeys((*notify.get(told.event, ()), *notify.get(ALL, ()))))
    where = f"ledger {inert(state.origin, 100)}"
    lines = (*told.lines, f"{format_time(time)}, {where}" + ("" if seq is None else f", entry {seq}"))
    loud = told.event in LOUD
    title = f"BREAK-GLASS: {told.title}" if loud else told.title
    return _finished(Notice(told.event, source, title, "\n".join(lines), told.lease, time, tuple(channels), loud))


def _finished(notice: Notice) -> Notice:
    """Within the limits, whatever an entry held."""
    return replace(notice, title=notice.title[:MAX_TITLE], body=notice.body[:MAX_BODY])


def _digest(material: Json) -> str:
    return sha256(format_json(material)).hexdigest()
