"""What was said about a lease or proposal so far: reviews with what they found, approvals, objections, the rule now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from executor.escape import escape, shorten
from executor.render.bounds import Bounds
from executor.render.text import Row, Section, count_left, text_rows
from keys.canonical import Json, parse_json
from keys.errors import CalyxError
from keys.values import format_time
from keys.words import counted
from ledger.objects import ObjectRef, ObjectStore
from policies.fold.state import Ballot, LeaseState, ProposalState, ReviewNote, State
from policies.law.governance import quorum_progress
from policies.law.two_key import examine_lease

MAX_REPORT: Final = 4 * 1024 * 1024
"""Bytes of a review's report that are read."""


def said_sections(state: State, lease: LeaseState, objects: ObjectStore, now: int, bounds: Bounds) -> list[Section]:
    """What was said of a lease, and how the two-key rule stands at `now`."""
    rows: list[Row] = []
    for note in lease.reviews.values():
        rows += _review_rows(note, objects, bounds)
    rows += _ballot_rows(lease.ballot)
    if lease.denied is not None:
        rows.append((escape(lease.denied.principal), f"DENIED it in entry {lease.denied.seq}"))
    if lease.preflight:
        seq, code, text = lease.preflight[-1]
        said = shorten(escape(text), bounds.line)
        rows.append(("executor", f"could not claim it, entry {seq}: {escape(code)}: {said}"))
    if lease.claim_seq is not None:
        rows.append(("executor", f"CLAIMED it in entry {lease.claim_seq}"))
    steps = (
        f"{step.number} {'ok' if step.ok else 'open'}  {step.title}: {escape(step.text)}"
        for step in examine_lease(state, lease.digest, now)
    )
    return [
        Section("Said so far", tuple(rows) or (("nobody", "has said anything yet"),)),
        Section("Two-key rule now", lines=tuple(steps)),
    ]


def votes_section(state: State, proposal: ProposalState) -> Section:
    """Who cosigned a proposal, and how far each threshold is."""
    progress = [(name, f"{found} of {needed}") for name, found, needed in quorum_progress(state, proposal)]
    return Section("Votes", (*_ballot_rows(proposal.ballot), *progress))


def _ballot_rows(ballot: Ballot) -> list[Row]:
    rows = [
        (
            vote.seq,
            escape(vote.signer.principal),
            f"cosigned as {vote.role}, entry {vote.seq}, {format_time(vote.time)}"
            + (f", withdrawn in entry {ballot.withdrawn_in(vote)}" if ballot.withdrawn(vote) else ""),
        )
        for vote in ballot.votes
    ]
    rows += [(item.seq, escape(item.principal), f"withdrew, entry {item.seq}") for item in ballot.withdrawals]
    return [(label, value) for _, label, value in sorted(rows)]


def _review_rows(note: ReviewNote, objects: ObjectStore, bounds: Bounds) -> list[Row]:
    review = note.review
    verdict = "passes it" if review.verdict == "pass" else "FAILS it"
    rows = [(escape(note.signer.principal), f"as {review.role} {verdict}, entry {note.seq}")]
    rows += [("", f"says: {line}") for _, line in text_rows("", review.summary, bounds)]
    if review.findings is not None:
        rows += [("", line) for line in _findings(review.findings, objects, bounds)]
    return rows


def _findings(ref: ObjectRef, objects: ObjectStore, bounds: Bounds) -> Sequence[str]:
    if ref.size > MAX_REPORT:
        return (f"its report of {counted(ref.size, 'byte')} is too long to be shown",)
    try:
        report = parse_json(objects.get(ref), limit=MAX_REPORT)
    except CalyxError as error:
        return (f"its report cannot be shown: {error.code}: {escape(error.message)}",)
    found = report.get("findings") if isinstance(report, dict) else None
    if not isinstance(found, list):
        return ("its report is of no form that is known here",)
    lines = [f"found: {shorten(_finding(item), bounds.line)}" for item in found[: bounds.findings]]
    left = report.get("left_out") if isinstance(report, dict) else None
    more = (f"and {left} more, which it did not keep",) if type(left) is int and left else ()
    return (*lines, *count_left(len(found), bounds.findings, "finding", bounds), *more)


def _finding(item: Json) -> str:
    fields = item if isinstance(item, dict) else {"text": str(item)}
    parts = [str(fields[name]) for name in ("code", "path", "text") if fields.get(name) is not None]
    return ": ".join(escape(part) for part in parts)
