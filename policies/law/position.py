"""Rules that every entry keeps, whatever it says: identity, repetition, heads and time, and whose key it is."""

from __future__ import annotations

from typing import Final

from keys.errors import FormatError, SignatureRefused
from keys.principals import Holder, TrustRoot
from keys.words import counted
from ledger.chain import Entry
from ledger.statement import PlainPredicate, Statement, Typed, kind_of, parse_statement
from policies.event_kinds import Event
from policies.fold.state import State
from policies.kinds import (
    AnyPredicate,
    Claim,
    Command,
    Cosignature,
    FleetProposal,
    Genesis,
    Intent,
    Lease,
    Message,
    Objection,
    PolicyProposal,
    Predicate,
    Review,
    Term,
    TrustProposal,
)
from policies.law.case import refuse, trust_of

MAX_LAG: Final = 1_024
"""Entries by which a machine's head may be behind."""
MAX_SKEW_S: Final = 120

PREDICATES: Final[dict[str, type[Predicate] | type[PlainPredicate]]] = {
    "genesis": Genesis,
    "trust": TrustProposal,
    "policy": PolicyProposal,
    "fleet": FleetProposal,
    "intent": Intent,
    "lease": Lease,
    "review": Review,
    "cosignature": Cosignature,
    "objection": Objection,
    "term": Term,
    "claim": Claim,
    "event": Event,
    "command": Command,
    "message": Message,
}

_TYPED: Final = {kind: Typed(kind, model) for kind, model in PREDICATES.items() if issubclass(model, PlainPredicate)}

SPELLED_OUT: Final = frozenset({"genesis", "trust", "policy", "lease"})
"""Kinds in whose models some field has a default, for files that people write: what is signed must still state it."""


def read_statement(body: bytes) -> tuple[Statement, AnyPredicate | None]:
    """Read a statement, and its predicate where that goes together; for None ask `parse_predicate`.

    Raises: as `parse_statement`.
    """
    typed = _TYPED.get(kind_of(body))
    read = None if typed is None else typed.read(body)
    return (parse_statement(body), None) if read is None else read


def parse_predicate(statement: Statement) -> AnyPredicate:
    """Give a statement's predicate its type.

    Raises: FormatError when a field is missing, unknown or wrong.
    """
    model = PREDICATES.get(statement.kind)
    if model is None:
        raise FormatError(f"there is no kind {statement.kind}", code="unknown_kind")
    said = statement.predicate
    predicate = model.from_json(said, what=statement.kind)
    if statement.kind in SPELLED_OUT and predicate.to_json() != said:
        raise FormatError(f"a {statement.kind} must state every field", code="not_canonical")
    return predicate


def find_holder(state: State, statement: Statement, predicate: AnyPredicate, keyid: str) -> Holder:
    """The principal that signs, and its key with this key id: in the root in force; in its own root for genesis; for a
    cosignature on a trust proposal or its withdrawal, also in the proposed root.

    Raises: SignatureRefused (`unknown_key`).
    """
    root = predicate.trust if isinstance(predicate, Genesis) else trust_of(state)
    holder = root.find_key(keyid)
    if holder is None or holder.enrolled.principal != statement.by:
        # Nearly every key is in the root in force, so what else there is is looked for only then.
        proposed = _proposed_root(state, statement, predicate)
        holder = None if proposed is None else proposed.find_key(keyid)
    if holder is None or holder.enrolled.principal != statement.by:
        raise SignatureRefused(
            f"{statement.by} holds no key {keyid} at this position",
            code="unknown_key",
            hint="sign with a key that the trust root in force gives to this principal",
        )
    return holder


def _proposed_root(state: State, statement: Statement, predicate: AnyPredicate) -> TrustRoot | None:
    """The root that a statement cosigns, or whose cosignature it withdraws."""
    if isinstance(predicate, Cosignature) or (isinstance(predicate, Objection) and predicate.verb == "withdraw"):
        proposal = state.proposals.get(statement.subject_digest)
        if proposal is not None and isinstance(proposal.proposal, TrustProposal):
            return proposal.proposal.trust
    return None


def check_place(state: State, entry: Entry, statement: Statement) -> None:
    """The statement belongs to this ledger, was not said before, and names a true prefix. Raises: LawRefused."""
    seq, history = entry.seq, state.history
    if seq != history.size:
        refuse("out_of_order", f"entry {entry.seq} does not follow {counted(history.size, 'entry')}", rule="position")
    if (statement.kind == "genesis") != (seq == 0):
        refuse("misplaced_genesis", "genesis is the first entry, and only that", rule="genesis")
    # Whoever signed it had seen the entries before its head, and so it is none of them.
    before = history.find(statement.digest, statement.head.size)
    if before is not None:
        refuse("repeated", f"the same statement is entry {before} already", rule="repetition", entry=before)
    if seq == 0:
        return
    if statement.ledger != state.ledger:
        refuse("wrong_ledger", "the statement was made for another ledger", rule="identity")
    head = statement.head
    if head.size > seq or history.leaf(head.size - 1) != head.hash:
        refuse(
            "head_contradicted",
            f"the signer had verified {head}, which is no prefix of this ledger at entry {entry.seq}",
            rule="heads",
            hint="two histories exist: compare both ledgers before anything else",
            head_size=head.size,
            head_hash=head.hash,
        )


def check_time(state: State, entry: Entry, statement: Statement, *, machine: bool) -> None:
    """`made_at` fits the record's time, and a machine's head is recent. Raises: LawRefused."""
    now = entry.record.seconds
    if statement.made_at > now + MAX_SKEW_S:
        refuse("clock_suspect", "the statement was made after the time of its record", rule="time")
    if not machine:
        return
    if now > statement.made_at + MAX_SKEW_S:
        refuse("stale_statement", f"a machine's statement is at most {MAX_SKEW_S} s old", rule="time")
    if entry.seq == 0:
        return
    if entry.seq - statement.head.size > MAX_LAG:
        refuse("head_too_old", f"a machine's head is at most {MAX_LAG} entries behind", rule="heads")
    if statement.made_at < state.history.time(statement.head.size - 1):
        refuse("clock_suspect", "a machine's statement is older than the head it names", rule="time")
