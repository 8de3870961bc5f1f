"""The law: whether an entry is lawful after those before it, and the state that follows.

    judge(state, entry, objects)           -> (change, verified statement)    reads the state, changes nothing
    enact(state, entry, change, verified)  -> state                           the change, and the entry's place
    step(state, entry, objects)            -> state                           both
    foresee(state, statement, keyid, ...)  -> None                            what `judge` would refuse, before signing

Append refuses what this refuses and audit replays it, so both have one law. `objects` serves fleet bodies and long
lists only. An entry that is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from keys.ed25519 import SIGNATURE_SIZE
from keys.principals import Holder
from keys.values import ZERO_HASH
from ledger.chain import Entry
from ledger.envelope import Envelope
from ledger.record import make_record
from ledger.statement import Statement
from ledger.verified import VerifiedSignature, VerifiedStatement, open_envelope
from policies.fold.state import State
from policies.kinds import AnyPredicate
from policies.law.case import Case, Change
from policies.law.claims import judge_claim, judge_term
from policies.law.commands import judge_command
from policies.law.events import judge_event
from policies.law.governance import judge_genesis, judge_proposal
from policies.law.leases import (
    judge_cosignature,
    judge_intent,
    judge_lease,
    judge_message,
    judge_objection,
    judge_review,
)
from policies.law.position import check_place, check_time, find_holder, parse_predicate, read_statement
from policies.names import Objects

_JUDGES: Final[dict[str, Callable[[Case, Any], Change]]] = {
    "genesis": judge_genesis,
    "trust": judge_proposal,
    "policy": judge_proposal,
    "fleet": judge_proposal,
    "intent": judge_intent,
    "lease": judge_lease,
    "review": judge_review,
    "cosignature": judge_cosignature,
    "objection": judge_objection,
    "term": judge_term,
    "claim": judge_claim,
    "event": judge_event,
    "command": judge_command,
    "message": judge_message,
}


def judge(
    state: State, entry: Entry, objects: Objects, ahead: VerifiedSignature | None = None
) -> tuple[Change, VerifiedStatement]:
    """Prove that an entry is lawful after `state`; what it changes, and its verified statement. Changes nothing.

    `ahead`: its signature, where that was verified before.

    Raises: FormatError, SignatureRefused, LawRefused; CalyxError of an object that is needed and not there.
    """
    envelope = entry.record.envelope
    statement, predicate = read_statement(envelope.body)
    check_place(state, entry, statement)
    if predicate is None:
        predicate = parse_predicate(statement)
    holder = find_holder(state, statement, predicate, envelope.keyid)
    verified = open_envelope(envelope, statement, holder.enrolled, ahead)
    return _judge(state, entry, statement, predicate, holder, objects), verified


def foresee(state: State, statement: Statement, keyid: str, seconds: int, objects: Objects) -> None:
    """Spare a signer what `judge` would refuse, were the statement signed with that key and appended next, at
    `seconds` since 1970. It makes nothing lawful: the registrar judges the entry.

    Raises: as `judge`, but for the signature.
    """
    prev = state.history.leaf(state.size - 1) if state.size else ZERO_HASH
    record = make_record(state.size, prev, seconds, Envelope(statement.body, keyid, bytes(SIGNATURE_SIZE)))
    entry = Entry(record.seq, record, record.leaf)
    check_place(state, entry, statement)
    predicate = parse_predicate(statement)
    holder = find_holder(state, statement, predicate, keyid)
    _judge(state, entry, statement, predicate, holder, objects)


def _judge(
    state: State, entry: Entry, statement: Statement, predicate: AnyPredicate, holder: Holder, objects: Objects
) -> Change:
    check_time(state, entry, statement, machine=holder.enrolled.kind != "human")
    case = Case(state, entry.seq, entry.record.seconds, entry, statement, predicate, holder, objects)
    return _JUDGES[statement.kind](case, predicate)


def enact(state: State, entry: Entry, change: Change, verified: VerifiedStatement) -> State:
    """The state after an entry that `judge` found lawful after `state`. Takes `state` over: on return use only what is
    returned, and after an error neither.

    Raises: ScratchFailed.
    """
    change(state)
    state.history.append(entry.leaf, entry.record.seconds, verified.statement.digest)
    return state


def step(state: State, entry: Entry, objects: Objects, ahead: VerifiedSignature | None = None) -> State:
    """The state after a lawful entry. Takes `state` over, as `enact`; where it is refused `state` is as it was.

    Raises: as `judge` and `enact`.
    """
    change, verified = judge(state, entry, objects, ahead)
    return enact(state, entry, change, verified)
