"""The lawful beginning of a ledger that is no longer whole: how far it can be trusted, and what ends it.

A reader stops at the first entry that is broken or unlawful and has no state then (`policies.replay`). Whoever makes a
ledger that continues such a one needs the state before that entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from keys.errors import CalyxError
from ledger.chain import Chain
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.head import EMPTY_HEAD, Head
from ledger.objects import OBJECT_CODES
from ledger.store import Reader
from policies.fold.state import State
from policies.law.step import enact, judge
from policies.names import Objects
from policies.signed_tip import find_log_key


@dataclass(frozen=True, slots=True)
class Beginning:
    """Entries that are whole and lawful, from the first on. `first`: the bytes of record 0. `ended`: why it goes no
    further, None when that is all there is. `confirmed`: the newest checkpoint is the log's; without one the last entry
    is as its signature and the law have it, and nothing says that none followed.
    """

    state: State
    head: Head
    first: bytes
    ended: CalyxError | None
    confirmed: bool


def read_lawful(reader: Reader, objects: Objects) -> Beginning:
    """Read and judge a ledger as far as it is lawful.

    Raises: Unavailable when it cannot be read at all; CalyxError of an object that the law needs and that is not there,
    because then nothing says where the lawful part ends.
    """
    tip = reader.tip()
    first = next(iter(reader.read(0, 1)), b"")
    checkpoint = _find_checkpoint(reader, tip.checkpoint, objects)
    end = tip.head.size if checkpoint is None else checkpoint.size
    state, chain = State(), Chain()
    ended: CalyxError | None = None
    try:
        for entry in chain.replay(reader.read(0, end), checkpoint):
            change, verified = judge(state, entry, objects)
            state = enact(state, entry, change, verified)
    except CalyxError as error:
        if error.code in OBJECT_CODES:
            raise
        ended = error
    head = Head(state.size, state.history.leaf(state.size - 1)) if state.size else EMPTY_HEAD
    return Beginning(state, head, first, ended, checkpoint is not None)


def _find_checkpoint(reader: Reader, note: bytes, objects: Objects) -> Checkpoint | None:
    try:
        return parse_checkpoint(note, find_log_key(reader, objects))
    except CalyxError:
        return None
