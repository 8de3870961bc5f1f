"""What a human is about to sign, as sections of plain lines: for a terminal, and for a page.

Everything is read from the exact bytes of the statement, and from objects by the digests in it. Each signed field is in
the rendering: two statements that differ render differently, whatever their digests. Text that others wrote is escaped
here, so what shows a rendering needs to know nothing of its sources. A page escapes it once more for HTML.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from executor.escape import escape
from executor.render.bounds import FULL, SHORT, Bounds
from executor.render.changes import diff_values
from executor.render.lease import bound_rows, lease_sections, loud_lines
from executor.render.said import said_sections, votes_section
from executor.render.text import Rendering, Row, Section, optional_rows, text_rows
from executor.render.trust import describe_trust
from keys.canonical import format_json
from keys.errors import FormatError
from keys.values import format_time
from keys.words import counted
from ledger.objects import ObjectStore
from ledger.record import parse_record
from ledger.statement import Statement, parse_statement
from ledger.store import Reader
from ledger.verified import namespace_of
from policies.fleet import Fleet
from policies.fold.state import LeaseState, ProposalState, State
from policies.kinds import FleetProposal, Lease, PolicyProposal, TrustProposal
from policies.law.position import parse_predicate

MAX_VALUE: Final = 400
"""Canonical bytes of a nested value that is shown as it is; a longer one is shown above, and named by its hash."""
_COMMON: Final = frozenset({"by", "ledger", "head", "nonce", "made_at"})


def read_statement(reader: Reader, seq: int, digest: str) -> Statement:
    """The statement of an entry, from the ledger's bytes, proved to be the one with this digest.

    Raises: FormatError; CalyxError of the store.
    """
    for data in reader.read(seq, seq + 1):
        statement = parse_statement(parse_record(data).envelope.body)
        if statement.digest == digest:
            return statement
    raise FormatError(f"entry {seq} is not the statement {digest[:16]}", code="ledger_corrupt")


def render_lease(
    state: State, lease: LeaseState, statement: Statement, objects: ObjectStore, now: int, bounds: Bounds = SHORT
) -> Rendering:
    """A lease, from its statement's bytes. `state`: verified, holds the lease. `now`: seconds since 1970."""
    asked = parse_predicate(statement)
    if not isinstance(asked, Lease):
        raise FormatError(f"{statement.digest[:16]} is of the kind {statement.kind}, not a lease")
    sections = (
        *lease_sections(state, asked, lease, objects, now, bounds),
        *said_sections(state, lease, objects, now, bounds),
        Section("Bound by its proposer's signature too", (*bound_rows(asked), *_common_rows(statement))),
    )
    title = f"Lease {escape(asked.id)} on {escape(asked.target)}"
    return Rendering(title, statement.digest, sections, loud_lines(state, asked))


def render_proposal(state: State, proposal: ProposalState, statement: Statement, bounds: Bounds = SHORT) -> Rendering:
    """A proposal of trust, policy or fleet, as its difference from what is in force."""
    asked = parse_predicate(statement)
    bound: list[Row] = []
    if isinstance(asked, TrustProposal):
        lines = diff_values(None if state.trust is None else state.trust.to_json(), asked.trust.to_json(), bounds)
    elif isinstance(asked, PolicyProposal):
        lines = diff_values(None if state.policy is None else state.policy.to_json(), asked.policy.to_json(), bounds)
    elif isinstance(asked, FleetProposal):
        body = proposal.fleet or Fleet.from_json({"targets": {}})
        lines = diff_values(None if state.fleet is None else state.fleet.to_json(), body.to_json(), bounds)
        bound = [("fleet", f"object {asked.fleet.sha256}, {counted(asked.fleet.size, 'byte')}")]
    else:
        raise FormatError(f"{statement.digest[:16]} is of the kind {statement.kind}, not such a proposal")
    decided = proposal.decided_seq
    rows = (
        ("asked by", f"{escape(statement.by)} in entry {proposal.seq}"),
        *text_rows("reason", asked.reason, bounds),
        ("approve until", asked.approve_by),
        ("in force", "no" if decided is None else f"since entry {decided}"),
    )
    sections = (
        Section("Proposal", rows),
        *_meaning(state, asked),
        Section(f"Change of the {proposal.kind} in force", lines=lines or ("no difference",)),
        votes_section(state, proposal),
        Section("Bound by its proposer's signature too", (("base", asked.base), *bound, *_common_rows(statement))),
    )
    return Rendering(f"Proposal of {proposal.kind} {statement.digest[:12]}", statement.digest, sections)


def _meaning(state: State, asked: TrustProposal | PolicyProposal | FleetProposal) -> list[Section]:
    """A change of trust in a person's words: the difference below has keys as base64, and people know fingerprints."""
    if not isinstance(asked, TrustProposal) or state.trust is None:
        return []
    told = describe_trust(state.trust, asked.trust)
    return [Section("What it means", lines=tuple(map(escape, told)) or ("nothing",))]


def render_own(statement: Statement, keyid: str | None) -> Section:
    """The statement that the person signs, field by field, from its bytes. `keyid`: None while no key was chosen."""
    fields = statement.predicate
    role = f", {escape(str(fields['role']))}" if "role" in fields else ""
    rows = [
        ("kind", statement.kind),
        ("about", f"{escape(statement.subject_name)}, statement {statement.subject_digest}"),
        ("as", f"{escape(statement.by)}{role}"),
        ("key", "any of yours that is enrolled" if keyid is None else escape(keyid)),
        ("namespace", namespace_of(statement.kind)),
        *(row for name in sorted(fields.keys() - _COMMON - {"role"}) for row in _field_rows(name, fields[name])),
        *_common_rows(statement),
        ("its digest", statement.digest),
    ]
    return Section("You sign", tuple(rows))


def _common_rows(statement: Statement) -> list[Row]:
    return [
        ("ledger", statement.ledger),
        ("having seen", f"{counted(statement.head.size, 'entry')}, {statement.head.hash}"),
        ("made at", format_time(statement.made_at)),
        ("nonce", statement.nonce),
    ]


def _field_rows(name: str, value: Any) -> list[Row]:
    label = name.replace("_", " ")
    if value is None or isinstance(value, str):
        return optional_rows(label, value, FULL)
    data = format_json(value)
    if len(data) <= MAX_VALUE:
        return [(label, escape(data.decode()))]
    return [(label, f"as above: {counted(len(data), 'byte')} of canonical JSON, SHA-256 {sha256(data).hexdigest()}")]
