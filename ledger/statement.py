"""The statement: what a principal says, as an in-toto Statement v1 in canonical JSON.

    {"_type":"https://in-toto.io/Statement/v1","predicate":{...},"predicateType":"https://station.calyx/KIND/v1",
     "subject":[{"digest":{"sha256":HEX},"name":NAME}]}

Every predicate begins a signed claim about the ledger it was made for: `by`, `ledger`, `head`, `nonce`, `made_at`.
Those are checked here; the rest of a predicate is given its type by `policies`.

Source: in-toto Attestation Framework, Statement v1; docs/FORMAT.md, statements.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any, Final, NamedTuple

from keys.canonical import MAX_BYTES, Json, format_json, parse_json
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
_ID: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_HEX32: Final = "[0-9a-f]{32}"
_HEX64: Final = "[0-9a-f]{64}"

_BEGIN: Final = f'{{"_type":"{STATEMENT_TYPE}","predicate":{{'.encode()
_PREDICATE_AT: Final = len(_BEGIN) - 1
_END_BEGINS: Final = b',"predicateType":"'
_END: Final = re.compile(
    (
        f'{_END_BEGINS.decode()}{re.escape(TYPE_PREFIX)}(?P<kind>{"|".join(sorted(KINDS))}){TYPE_SUFFIX}",'
        rf'"subject":\[\{{"digest":\{{"sha256":"(?P<digest>{_HEX64})"\}},"name":"(?P<name>{_ID})"\}}\]\}}'
    ).encode()
)
_COMMON: Final = re.compile(f"{_ID} {_HEX64} {_HEX64} {_HEX32}")


class Statement(NamedTuple):
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
    predicate: dict[str, Any]
    body: bytes


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
    # In canonical bytes `_END_BEGINS` is a key wherever it stands, and what `_END` matches up to the last byte closes
    # the outermost object: so both frames together are the statement but for its predicate.
    end = body.rfind(_END_BEGINS)
    match = _END.fullmatch(body, end) if end > 0 and body.startswith(_BEGIN) else None
    if match is None or len(value) != 4:  # type: ignore[arg-type]  # it begins as an object
        raise _misshapen(value)
    kind, digest, name = match["kind"].decode(), match["digest"].decode(), match["name"].decode()
    predicate: dict[str, Any] = value["predicate"]  # type: ignore[index, call-overload, assignment]
    try:
        by, ledger, head, nonce = predicate["by"], predicate["ledger"], predicate["head"], predicate["nonce"]
        size, leaf, made_at = head["size"], head["hash"], predicate["made_at"]
        # No value may hold the space between them. `join` takes text alone.
        common = _COMMON.fullmatch(" ".join((by, ledger, leaf, nonce)))
    except (KeyError, TypeError):
        raise _misspelled(predicate) from None
    if common is None or type(size) is not int or type(made_at) is not str or len(head) != 2:
        raise _misspelled(predicate)
    if kind in SELF_SUBJECT:
        if name != kind:
            raise FormatError(f"the subject of a {kind} is named {kind}")
        if sha256(body[_PREDICATE_AT:end]).hexdigest() != digest:
            raise FormatError(f"the subject of a {kind} is not the digest of its predicate")
    if size == 0 and leaf != ZERO_HASH:
        raise FormatError("the head of nothing is 64 zeros")
    if kind == GENESIS:
        if ledger != ZERO_HASH or size != 0:
            raise FormatError("genesis names no ledger and no head before itself")
    elif size == 0:
        raise FormatError("head.size is at least 1 except in genesis")
    return Statement(
        kind,
        name,
        digest,
        by,
        ledger,
        Head(size, leaf),
        nonce,
        parse_time(made_at),
        sha256(body).hexdigest(),
        predicate,
        body,
    )


def format_statement(statement: Statement) -> bytes:
    """The statement's canonical bytes, built from its values. Inverse of `parse_statement`."""
    return make_statement(statement.kind, statement.predicate, (statement.subject_name, statement.subject_digest)).body


def _misshapen(value: Json) -> FormatError:
    """Why canonical JSON is no statement; the frames alone decide that it is none."""
    if not isinstance(value, dict) or len(value) != 4 or value.get("_type") != STATEMENT_TYPE:
        return FormatError("not an in-toto Statement v1 with exactly one predicate and one subject")
    if not isinstance(kind := value.get("predicateType"), str):
        return FormatError("predicateType is missing or is not text")
    if kind not in _KIND_OF:
        return FormatError("the predicate type names no kind of statement that is known here", code="unknown_kind")
    if not isinstance(value.get("predicate"), dict):
        return FormatError("the predicate is not an object")
    return FormatError("a statement has exactly one subject, with a name and one sha256 digest in their one spelling")


def _misspelled(predicate: dict[str, Json]) -> FormatError:
    """Which of the common fields is wrong; `_COMMON` and the types alone decide that one is."""
    for name, pattern in (("ledger", _HEX64), ("by", _ID), ("nonce", _HEX32), ("made_at", "")):
        text = predicate.get(name)
        if type(text) is not str:
            return FormatError(f"{name} is missing or is not text")
        if pattern and not re.fullmatch(pattern, text):
            return FormatError(f"{name} is not in its one spelling")
    return FormatError("head has exactly the fields size, a count, and hash, 64 lower-case hex digits")
