"""The newest checkpoint of a ledger, proved to be its log's own without replaying the ledger."""

from __future__ import annotations

from keys.errors import CalyxError
from ledger.chain import Chain
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.note import VerifierKey, parse_vkey
from ledger.remembered import Remembered, check_remembered
from ledger.store import Reader, Tip
from policies.fold.state import State
from policies.law.step import step
from policies.names import Objects


def find_log_key(reader: Reader, objects: Objects) -> VerifierKey:
    """The key of the log, from a genesis that is lawful by itself.

    Raises: CalyxError of chain and law when record 0 is none.
    """
    first = next(iter(reader.read(0, 1)), None)
    state = State()
    for entry in Chain().replay([] if first is None else [first], None):
        state = step(state, entry, objects)
    if not state.log_key:
        raise CalyxError("no_genesis", "the ledger is empty", hint="calyx init makes the first entry")
    return parse_vkey(state.log_key)


def open_tip(reader: Reader, objects: Objects, remembered: Remembered | None) -> tuple[Tip, Checkpoint, VerifierKey]:
    """The newest tip, with its checkpoint proved to be the log's own, and to extend the remembered head as far as the
    records at its two ends show; an audit shows all of it. It costs a few reads.

    Raises: SignatureRefused; FormatError; HeadContradicted; CalyxError of the reader.
    """
    key = find_log_key(reader, objects)
    tip = reader.tip()
    if remembered is not None:
        check_remembered(remembered, reader.leaf(0), tip.head, reader.leaf)
    return tip, parse_checkpoint(tip.checkpoint, key), key
