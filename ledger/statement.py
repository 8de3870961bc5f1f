"""The statement: what a principal says, as an in-toto Statement v1 in canonical JSON.

    {"_type":"https://in-toto.io/Statement/v1","predicate":{...},"predicateType":"https://station.calyx/KIND/v1",
     "subject":[{"digest":{"sha256":HEX},"name":NAME}]}

Every predicate begins a signed claim about the ledger it was made for: `by`, `ledger`, `head`, `nonce`, `made_at`.
Those are checked here; the rest of a predicate is given its type by `policies`.

Source: in-toto Attestation Framework, Statement v1; docs/FORMAT.md, statements.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from keys.canonical import MAX_BYTES, MAX_INTEGER, Json, format_json, parse_json
from keys.errors import FormatError
from keys.values import ZERO_HASH, parse_time
from ledger.head import Head

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
TYPE_PREFIX: Final = "https://station.calyx/"
TYPE_SUFFIX: Final = "/v1"
GENESIS: Final = "genesis"

SELF_SUBJECT: Final = frozenset({"genesis", "trust", "policy", "fleet", "intent", "lease", "term", "message"})
"""Kinds whose subject is their own predicate. The subject of the others is another statement."""
KINDS: Final = SELF_SUBJECT | {"review", "cosignature", "objection", "claim", "event", "command"}

_KIND_OF: Final = {TYPE_PREFIX + kind + TYPE_SUFFIX: kind for kind in KINDS}
_PREDICATE_AT: Final = len('{"_type":"') + len(STATEMENT_TYPE) + len('","predicate":')
_HEX64: Final = re.compile(r"[0-9a-f]{64}")
_HEX32: Final = re.compile(r"[0-9a-f]{32}")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_seconds = lru_cache(maxsize=256)(parse_time)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, read but not verified. Made by `parse_statement` and `make_statement` only.

    `body`: its canonical bytes. `digest`: SHA-256 of them, its identity. `predicate`: parsed JSON; do not change it.
    `by`: principal id. `ledger`: leaf hash of record 0 (64 zeros in genesis). `head`: the prefix that the signer had
    verified. `made_at`: seconds since 1970.
    """

    kind: str
    subject_name: str
    subject_digest: str
    by: str
    ledger: str
    head: Head
    nonce: str
    made_at: int
    digest: str
    predicate: dict[str, Any] = field(repr=False)
    body: bytes = field(repr=False)


def make_statement(kind: str, predicate: dict[str, Any], subject: tuple[str, str] | None = None) -> Statement:
    """The statement of `kind` that says `predicate`.

    `subject`: name and digest of the statement that it is about; None for the kinds in `SELF_SUBJECT`.

    Raises: FormatError when the parts do not make a statement.
    """
    name, digest = subject or (kind, sha256(format_json(predicate)).hexdigest())
    value: Json = {
        "_type": STATEMENT_TYPE,
        "predicate": predicate,
        "predicateType": TYPE_PREFIX + kind + TYPE_SUFFIX,
        "subject": [{"digest": {"sha256": digest}, "name": name}],
    }
    return parse_statement(format_json(value))


def parse_statement(body: bytes) -> Statement:
    """Read a statement from canonical JSON of at most 65,535 bytes.

    Raises: FormatError for other bytes, an unknown kind, another subject than the kind has, or a common field that is
    missing or misspelled.
    """
    value = parse_json(body, limit=MAX_BYTES)
    if not isinstance(value, dict) or len(value) != 4 or value.get("_type") != STATEMENT_TYPE:
        raise FormatError("not an in-toto Statement v1 with exactly one predicate and one subject")
    kind = _KIND_OF.get(_text(value, "predicateType"))
    if kind is None:
        raise FormatError("the predicate type names no kind of statement that is known here", code="unknown_kind")
    predicate = value.get("predicate")
    if not isinstance(predicate, dict):
        raise FormatError("the predicate is not an object")
    name, digest = _subject(value.get("subject"))
    if kind in SELF_SUBJECT:
        if name != kind:
            raise FormatError(f"the subject of a {kind} is named {kind}")
        # The body is canonical and `predicate` is its second key, so this slice is the predicate's canonical form.
        end = body.rindex(b',"predicateType":"')
        if sha256(body[_PREDICATE_AT:end]).hexdigest() != digest:
            raise FormatError(f"the subject of a {kind} is not the digest of its predicate")
    ledger = _matching(predicate, "ledger", _HEX64)
    head = _head(predicate.get("head"))
    if kind == GENESIS:
        if ledger != ZERO_HASH or head.size != 0:
            raise FormatError("genesis names no ledger and no head before itself")
    elif head.size == 0:
        raise FormatError("head.size is at least 1 except in genesis")
    return Statement(
        kind,
        name,
        digest,
        _matching(predicate, "by", _ID),
        ledger,
        head,
        _matching(predicate, "nonce", _HEX32),
        _seconds(_text(predicate, "made_at")),
        sha256(body).hexdigest(),
        predicate,
        body,
    )


def format_statement(statement: Statement) -> bytes:
    """The statement's canonical bytes, built from its values. Inverse of `parse_statement`."""
    return make_statement(statement.kind, statement.predicate, (statement.subject_name, statement.subject_digest)).body


def _subject(value: Json) -> tuple[str, str]:
    subject = value[0] if isinstance(value, list) and len(value) == 1 else None
    if not isinstance(subject, dict) or len(subject) != 2:
        raise FormatError("a statement has exactly one subject with a name and a digest")
    digest = subject.get("digest")
    if not isinstance(digest, dict) or len(digest) != 1:
        raise FormatError("the digest of a subject is exactly one sha256")
    return _matching(subject, "name", _ID), _matching(digest, "sha256", _HEX64)


def _head(value: Json) -> Head:
    if not isinstance(value, dict) or len(value) != 2:
        raise FormatError("head has exactly the fields size and hash")
    size = value.get("size")
    if type(size) is not int or not 0 <= size <= MAX_INTEGER:
        raise FormatError("head.size is not a count")
    digest = _matching(value, "hash", _HEX64)
    if size == 0 and digest != ZERO_HASH:
        raise FormatError("the head of nothing is 64 zeros")
    return Head(size, digest)


def _text(values: dict[str, Json], name: str) -> str:
    text = values.get(name)
    if type(text) is not str:
        raise FormatError(f"{name} is missing or is not text")
    return text


def _matching(values: dict[str, Json], name: str, pattern: re.Pattern[str]) -> str:
    text = _text(values, name)
    if not pattern.fullmatch(text):
        raise FormatError(f"{name} is not in its one spelling")
    return text
