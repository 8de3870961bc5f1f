"""Who did what to a deployment: who asked, who approved it, who gave orders, who judged and who ended it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from executor.views.lease_view import read_entry
from ledger.store import Reader
from policies.fold.deployment import CommandNote, Deployment
from policies.fold.state import State, Vote

_ORDERING: Final = frozenset({"approver", "operator"})
_MACHINES: Final = frozenset({"executor", "monitor"})
"""Kinds whose holders have no role but that."""


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that somebody signed. `time`: seconds since 1970. `role`: the role in which it was done; of an order
    the roles that the person has now; "" for one who is in the trust root no more. `text`: their words, or "".
    """

    entry: int
    time: int
    by: str
    role: str
    did: str
    text: str


def list_deeds(state: State, deployment: Deployment, reader: Reader) -> tuple[Deed, ...]:
    """What was done, in the order of the entries. `reader`: of the ledger that `state` was read from.

    Raises: as `executor.views.lease_view.read_entry`.
    """
    lease = state.leases[deployment.lease_digest]
    found = [
        Deed(lease.seq, lease.time, lease.proposer.principal, "proposer", "asked for it", ""),
        *(_approved(vote, counted=vote.seq in deployment.counted) for vote in lease.ballot.votes),
        _said(state, reader, deployment.claim_seq, "claimed it"),
        *(_ordered(state, note) for note in deployment.commands),
    ]
    bad = deployment.bad_verdict
    if bad is not None:
        found.append(_said(state, reader, bad.seq, f"found a {bad.verdict} at {bad.tier} %"))
    if deployment.ended_seq is not None:
        found.append(_said(state, reader, deployment.ended_seq, f"said {deployment.phase}"))
    return tuple(sorted(found, key=lambda deed: deed.entry))


def _approved(vote: Vote, *, counted: bool) -> Deed:
    did = "approved it" if counted else "approved it, and was not counted"
    return Deed(vote.seq, vote.time, vote.signer.principal, vote.role, did, "")


def _ordered(state: State, note: CommandNote) -> Deed:
    did = f"ordered {note.verb}"
    if note.tier is not None:
        did += f" from {note.tier} %" + (" without the rest of its bake" if note.skip_bake else "")
    return Deed(note.seq, note.time, note.by, _role(state, note.by), did, note.reason)


def _said(state: State, reader: Reader, seq: int, did: str) -> Deed:
    record, statement = read_entry(state, reader, seq)
    detail = statement.predicate.get("detail")
    text = str(detail.get("text", "")) if isinstance(detail, dict) else ""
    return Deed(seq, record.seconds, statement.by, _role(state, statement.by), did, text)


def _role(state: State, principal: str) -> str:
    known = None if state.trust is None else state.trust.find_principal(principal)
    if known is None:
        return ""
    return known.kind if known.kind in _MACHINES else ", ".join(sorted(_ORDERING.intersection(known.roles)))
