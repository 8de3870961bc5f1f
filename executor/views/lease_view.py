"""A lease as the station's programs read it: what was signed, its cosigners, and where it stands.

Signed values are read from the bytes of their entries, each held against the leaf that the verified state has for it;
the rest is the fold's. The form is that of `policies/lease.schema.json`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Final, TypeAlias

from executor.views.progress import describe_unclaimed, instance_state, measure_progress
from keys.canonical import Json
from keys.errors import FormatError
from keys.openssh_public import format_public, plain_key
from keys.sshsig import parse_blob
from keys.values import fold_id, format_base64, format_time
from ledger.record import Record, parse_record
from ledger.statement import Statement, parse_statement
from ledger.store import Reader
from policies.fold.deployment import Deployment
from policies.fold.state import LeaseState, ReviewNote, State, Vote, Withdrawal
from policies.law.votes import weigh_vote

SCHEMA: Final = "lease.schema.json"

Facts: TypeAlias = dict[str, Json]
_Read: TypeAlias = Callable[[int], tuple[Record, Statement]]


def read_schema() -> bytes:
    """The JSON Schema of `view_lease`, as it is packaged."""
    return files("policies").joinpath(SCHEMA).read_bytes()


def list_lease(state: State, lease: LeaseState, now: int) -> Facts:
    """A lease in a list. `now`: seconds since 1970."""
    standing, note = _standing(state, lease, now)
    return {
        "lease_id": lease.lease.id,
        "intent_id": lease.lease.intent,
        "digest": lease.digest,
        "target": lease.lease.target,
        "rule": lease.lease.rule,
        "by": lease.proposer.principal,
        "timestamp": format_time(lease.time),
        "state": standing,
        "note": note,
        "cosigners": [vote.signer.principal for vote in lease.ballot.standing()],
    }


def view_lease(state: State, lease: LeaseState, reader: Reader, now: int) -> Facts:
    """All of a lease. `reader`: of the ledger that `state` was read from. `now`: seconds since 1970.

    Raises: FormatError (`ledger_corrupt`) when the ledger's bytes are not those that were verified; CalyxError of the
    store.
    """

    def read(seq: int) -> tuple[Record, Statement]:
        return read_entry(state, reader, seq)

    record, statement = read(lease.seq)
    standing, note = _standing(state, lease, now)
    deployment = state.deployments.get(lease.digest)
    return {
        "lease_id": lease.lease.id,
        "intent_id": lease.lease.intent,
        "digest": lease.digest,
        "seq": lease.seq,
        "leaf": record.leaf,
        "timestamp": record.time,
        "proposer": {"by": statement.by, "keyid": record.envelope.keyid},
        "now": format_time(now),
        "state": standing,
        "note": note,
        "intent": _intent(state, lease),
        "lease": statement.predicate,
        "cosigners": [_cosigner(state, lease, vote, read) for vote in lease.ballot.votes],
        "reviews": [_review(state, note) for note in sorted(lease.reviews.values(), key=lambda note: note.seq)],
        "withdrawals": [_objection(withdrawal, read) for withdrawal in lease.ballot.withdrawals],
        "denied": None if lease.denied is None else _objection(lease.denied, read),
        "preflight": [{"seq": seq, "code": code, "text": text} for seq, code, text in lease.preflight],
        "claim": None if deployment is None else _claim(deployment, read),
        "deployment": None if deployment is None else _deployment(deployment),
    }


def _standing(state: State, lease: LeaseState, now: int) -> tuple[str, str]:
    deployment = state.deployments.get(lease.digest)
    if deployment is None:
        return describe_unclaimed(state, lease, now)
    progress = measure_progress(deployment, now)
    return progress.phase, progress.note


def read_entry(state: State, reader: Reader, seq: int) -> tuple[Record, Statement]:
    """An entry's bytes as they were verified, and what they say. Raises: as `view_lease`."""
    for data in reader.read(seq, seq + 1):
        record = parse_record(data)
        if record.leaf == state.history.leaf(seq):
            return record, parse_statement(record.envelope.body)
    raise FormatError(f"entry {seq} is not the one that was verified", code="ledger_corrupt")


def _intent(state: State, lease: LeaseState) -> Facts:
    intent = state.intents[fold_id(lease.lease.intent)]
    return {
        "intent_id": intent.id,
        "digest": state.ids[fold_id(intent.id)],
        "target": intent.target,
        "what": intent.what,
        "why": intent.why,
    }


def _cosigner(state: State, lease: LeaseState, vote: Vote, read: _Read) -> Facts:
    record, statement = read(vote.seq)
    human = vote.signer.kind == "human"
    sig = record.envelope.sig
    # The blob of a person's signature carries the whole key, which a token's raw key alone is not.
    key = parse_blob(sig).key if human else plain_key(bytes.fromhex(vote.signer.raw))
    ignored = weigh_vote(state, lease, vote)
    deployment = state.deployments.get(lease.digest)
    return {
        "role": vote.role,
        "id": vote.signer.principal,
        "sig": format_base64(sig),
        "timestamp": record.time,
        "kind": vote.signer.kind,
        "custodian": vote.signer.custodian,
        "scheme": "sshsig" if human else "ed25519",
        "key": format_public(key),
        "keyid": record.envelope.keyid,
        "payload": format_base64(record.envelope.body),
        "made_at": statement.predicate["made_at"],
        "seq": vote.seq,
        "digest": statement.digest,
        "review": vote.review,
        "counts": ignored is None,
        "why_not": None if ignored is None else {"code": ignored.code, "text": ignored.text, "seq": ignored.seq},
        "counted": deployment is not None and vote.seq in deployment.counted,
    }


def _review(state: State, note: ReviewNote) -> Facts:
    findings = note.review.findings
    return {
        "by": note.signer.principal,
        "role": note.review.role,
        "verdict": note.review.verdict,
        "summary": note.review.summary,
        "findings": None if findings is None else findings.to_json(),
        "timestamp": format_time(state.history.time(note.seq)),
        "seq": note.seq,
        "digest": note.digest,
    }


def _objection(withdrawal: Withdrawal, read: _Read) -> Facts:
    record, statement = read(withdrawal.seq)
    return {
        "by": withdrawal.principal,
        "reason": statement.predicate["reason"],
        "timestamp": record.time,
        "seq": withdrawal.seq,
        "digest": statement.digest,
    }


def _claim(deployment: Deployment, read: _Read) -> Facts:
    record, statement = read(deployment.claim_seq)
    return {
        "by": statement.by,
        "epoch": statement.predicate["epoch"],
        "counted": list(deployment.counted),
        "timestamp": record.time,
        "seq": deployment.claim_seq,
        "digest": statement.digest,
    }


def _deployment(deployment: Deployment) -> Facts:
    halted: Facts | None = None
    if deployment.halted_cause is not None:
        halted = {
            "cause": deployment.halted_cause,
            "text": deployment.halted_text or "",
            "tier": deployment.halted_tier or None,
            "timestamp": _time(deployment.halted_at),
        }
    return {
        "state": deployment.phase.value,
        "live": deployment.live,
        "tier": deployment.tier or None,
        "tiers": list(deployment.tiers),
        "instances": {name: _instance(deployment, name) for name in deployment.tier_of},
        "started_at": _time(deployment.started_at),
        "halted": halted,
        "completed_at": _time(deployment.completed_at),
        "rolled_back_at": _time(deployment.rolled_back_at),
        "ended_at": _time(deployment.ended_at),
    }


def _instance(deployment: Deployment, name: str) -> str:
    return "failed" if name in deployment.failed else instance_state(deployment, name)


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else format_time(seconds)
