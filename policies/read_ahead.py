"""Reading ahead of the law: while it judges one entry, other processes check the signatures of those that follow.

The law decides which key must have signed an entry, and it gets there later. What is foreseen here is a guess, by the
trust root in force now; where the guess is wrong the signature is checked when the law asks for it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from keys.ahead import BATCH, SignaturesAhead
from keys.errors import CalyxError
from keys.principals import TrustRoot
from ledger.chain import Entry
from ledger.verified import foresee_envelope

WORTH_PROCESSES: Final = 2_000
"""Entries from which on it is worth starting processes."""
WINDOW: Final = 256
"""Entries that are read ahead: each process has a few batches to work on, and they still fit into a core's cache."""
_STRIDE: Final = 64
"""Entries that are given out before more are read."""
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
) -> Iterator[Entry]:
    """The same entries, in order, their signatures foreseen by `ahead`, if there is one. An error of `entries` comes
    behind the last entry before it.

    `trust`: the root in force after the last entry that was given out.
    """
    if ahead is None:
        yield from entries
        return
    waiting: deque[Entry] = deque()
    broken: CalyxError | None = None
    more = True
    while more or waiting:
        root = trust()
        # The first entry brings the first keys.
        for _ in range(1 if root is None else WINDOW - len(waiting)):
            try:
                entry = next(entries, None)
            except CalyxError as error:
                broken, entry = error, None
            if entry is None:
                more = False
                ahead.flush()
                break
            waiting.append(entry)
            holder = None if root is None else root.find_key(entry.record.envelope.keyid)
            if holder is not None:
                foresee_envelope(entry.record.envelope, holder.enrolled, ahead)
        for _ in range(min(_STRIDE, len(waiting))):
            yield waiting.popleft()
    if broken is not None:
        raise broken
