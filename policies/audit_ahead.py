"""Reading ahead of the law: while it judges one entry, other processes check the signatures of those that follow.

The law decides which key must have signed an entry, and it gets there later. What is foreseen here is a guess, by the
trust root in force now; where the guess is wrong the signature is checked when the law asks for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from keys.ahead import SignaturesAhead
from keys.errors import CalyxError, FormatError
from keys.principals import TrustRoot
from ledger.chain import Entry
from ledger.envelope import Envelope
from ledger.statement import Statement, parse_statement
from ledger.verified import foresee_envelope
from policies.law.position import enrolled_key

WINDOW: Final = 512
"""Entries that are read ahead: each process has a few batches to work on, and they still fit into a core's cache."""


class Foreseen(NamedTuple):
    """An entry, and its statement where it has one."""

    entry: Entry
    statement: Statement | None


def read_ahead(
    entries: Iterator[Entry], ahead: SignaturesAhead | None, trust: Callable[[], TrustRoot | None]
) -> Iterator[Foreseen]:
    """The same entries, in order, their signatures foreseen by `ahead`, if there is one. An error of `entries` comes
    behind the last entry before it.

    `trust`: the root in force after the last entry that was given out.
    """
    waiting: deque[Foreseen] = deque()
    broken: CalyxError | None = None
    more = True
    while more or waiting:
        # The first entry brings the first keys.
        size = WINDOW if trust() is not None else 1
        while more and len(waiting) < size:
            try:
                entry = next(entries, None)
            except CalyxError as error:
                broken, entry = error, None
            if entry is None:
                more = False
                if ahead is not None:
                    ahead.flush()
            else:
                waiting.append(Foreseen(entry, foresee(entry.record.envelope, ahead, trust())))
        if waiting:
            yield waiting.popleft()
    if broken is not None:
        raise broken


def foresee(envelope: Envelope, ahead: SignaturesAhead | None, trust: TrustRoot | None) -> Statement | None:
    """The statement of an envelope, None where it has none, its signature foreseen by `ahead`, if there is one, with
    the key that `trust` gives to its signer.

    Raises: WorkerFailed of `ahead`.
    """
    try:
        statement = parse_statement(envelope.body)
    except FormatError:
        # The law says so when it comes there.
        return None
    if ahead is not None:
        holder = None if trust is None else trust.find_key(envelope.keyid)
        if holder is not None and holder.principal.id == statement.by:
            foresee_envelope(envelope, statement, enrolled_key(holder), ahead)
    return statement
