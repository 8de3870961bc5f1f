"""Reading ahead of the law: while it judges one entry, other processes check the signatures of those that follow.

The law decides which key must have signed an entry, and it gets there later. Which key is tried here is a guess, by the
trust root in force now; where the guess is wrong the signature is checked when the law asks for it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

from keys.ahead import BATCH, SignaturesAhead
from keys.errors import CalyxError
from keys.principals import TrustRoot
from ledger.chain import Entry
from ledger.verified import CheckedAhead, VerifiedSignature

WORTH_PROCESSES: Final = 2_000
"""Entries from which on it is worth starting processes."""
WINDOW: Final = 4
"""Batches that are read ahead: each process has a few to work on, and they still fit into a core's cache."""
_BUSY: Final = 3 * BATCH
"""Signatures that keep a process busy for as long as this one judges what is before them."""


@contextmanager
def signatures_ahead(jobs: int, entries: int, *, required: bool) -> Iterator[SignaturesAhead | None]:
    """Who checks the signatures of so many entries ahead, in `jobs - 1` processes beside this one, which judges: one
    more would take the cores from them in turn. None where this process alone is as fast.
    `required`: as `keys.ahead.SignaturesAhead` has it.

    Raises: WorkerFailed, where they are required.
    """
    # On Windows a pipe cannot be asked whether it would block.
    if jobs < 2 or entries < WORTH_PROCESSES or sys.platform == "win32":
        yield None
        return
    with SignaturesAhead(jobs - 1, required=required, busy=_BUSY) as ahead:
        yield ahead


def read_ahead(
    entries: Iterator[Entry], ahead: SignaturesAhead | None, trust: Callable[[], TrustRoot | None]
) -> Iterator[tuple[Entry, VerifiedSignature | None]]:
    """The same entries, in order, each with its signature where `ahead` proved that. An error of `entries` comes behind
    the last entry before it.

    `trust`: the root in force after the last entry that was given out.

    Raises: as `entries`; WorkerFailed of `ahead`.
    """
    if ahead is None:
        for entry in entries:
            yield entry, None
        return
    waiting: deque[tuple[list[Entry], CheckedAhead]] = deque()
    broken: CalyxError | None = None
    more = True
    while more or waiting:
        root = trust()
        if root is None:
            # The first entry brings the first keys.
            first = next(entries, None)
            more = first is not None
            if first is not None:
                yield first, None
            continue
        while more and len(waiting) < WINDOW:
            batch: list[Entry] = []
            try:
                for entry in islice(entries, BATCH):
                    batch.append(entry)  # noqa: PERF402  # what came before an error must be there
                more = len(batch) == BATCH
            except CalyxError as error:
                broken, more = error, False
            waiting.append((batch, CheckedAhead([entry.record.envelope for entry in batch], root, ahead)))
        if waiting:
            batch, checked = waiting.popleft()
            yield from zip(batch, checked.verified(), strict=True)
    if broken is not None:
        raise broken
