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
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from keys.canonical import MAX_BYTES, Json, format_json, parse_json
from keys.errors import FormatError
from keys.plain import Plain
from keys.values import ZERO_HASH, Count, Hash, parse_time
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
_KIND_BEGINS: Final = _END_BEGINS + TYPE_PREFIX.encode()
_KIND_ENDS: Final = f'{TYPE_SUFFIX}"'.encode()
_END: Final = re.compile(
    (
        f'{_END_BEGINS.decode()}{re.escape(TYPE_PREFIX)}(?P<kind>{"|".join(sorted(KINDS))}){TYPE_SUFFIX}",'
        rf'"subject":\[\{{"digest":\{{"sha256":"(?P<digest>{_HEX64})"\}},"name":"(?P<name>{_ID})"\}}\]\}}'
    ).encode()
)
_COMMON: Final = re.compile(f"{_ID} {_HEX64} {_HEX64} {_HEX32}")
_ALL_SPELLED: Final = re.compile(f"{_COMMON.pattern} {_ID} {_HEX64}")


class HeadRef(Plain, frozen=True):
    """The prefix that a signer had verified: `hash` is the leaf of record `size - 1`."""

    size: Count
    hash: Hash


class _BareHead(Plain, frozen=True):
    # As `HeadRef`; how the hash is spelled is judged with the other common fields.
    size: Count
    hash: str


class PlainPredicate(Plain, frozen=True):
    """What every predicate says: who, in which ledger, having seen what, when. How that is spelled is judged where the
    statement is read, for every kind alike.
    """

    by: str
    ledger: str
    head: _BareHead
    nonce: str
    made_at: str


class Statement(msgspec.Struct, frozen=True, gc=False):
    """One statement, read but not verified. Made by `parse_statement`, `make_statement` and `Typed` only.

    `body`: its canonical bytes. `digest`: SHA-256 of them, its identity. `by`: principal id. `ledger`: leaf hash of
    record 0 (64 zeros in genesis). `head`: the prefix that the signer had verified. `made_at`: seconds since 1970.
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
    body: bytes

    @property
    def predicate(self) -> dict[str, Any]:
        """The predicate as JSON, parsed anew each time."""
        value: dict[str, Any] = msgspec.json.decode(self.body)["predicate"]
        return value


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
        if _digest_of_predicate(body) != digest:
            raise FormatError(f"the subject of a {kind} is not the digest of its predicate")
    if size == 0 and leaf != ZERO_HASH:
        raise FormatError("the head of nothing is 64 zeros")
    if kind == GENESIS:
        if ledger != ZERO_HASH or size != 0:
            raise FormatError("genesis names no ledger and no head before itself")
    elif size == 0:
        raise FormatError("head.size is at least 1 except in genesis")
    seconds = parse_time(made_at)
    return Statement(kind, name, digest, by, ledger, Head(size, leaf), nonce, seconds, sha256(body).hexdigest(), body)


P = TypeVar("P", bound=PlainPredicate)


class _Digest(Plain, frozen=True):
    sha256: str


class _Subject(Plain, frozen=True):
    digest: _Digest
    name: str


class _Whole(Plain, Generic[P], frozen=True, rename={"type": "_type", "predicate_type": "predicateType"}):
    type: Literal["https://in-toto.io/Statement/v1"]
    predicate: P
    predicate_type: str
    subject: tuple[_Subject]


class Typed(Generic[P]):
    """Reads statements of one kind whose predicate is a `model`, with the type of the predicate, in one go.

    It takes nothing that `parse_statement` and `model.from_json` would not take, and finds the same; but it may leave
    to them what they would take, and it leaves to them to say what is wrong.
    """

    def __init__(self, kind: str, model: type[P]) -> None:
        if kind == GENESIS:
            raise ValueError("genesis is read by parse_statement")
        self._kind: Final = kind
        self._about_itself: Final = kind in SELF_SUBJECT
        self._type: Final = f"{TYPE_PREFIX}{kind}{TYPE_SUFFIX}"
        self._decode: Final = msgspec.json.Decoder(_Whole[model]).decode  # type: ignore[valid-type]  # made at run time

    def read(self, body: bytes) -> tuple[Statement, P] | None:
        """The statement and its predicate; None when `parse_statement` is to be asked."""
        # Without an escape no string has two spellings, so that both libraries write what was read alike.
        if len(body) > MAX_BYTES or b"\\" in body:
            return None
        try:
            whole: _Whole[P] = self._decode(body)
        # What an event tells is skipped to find its type, however deep it is nested.
        except (msgspec.DecodeError, FormatError, UnicodeDecodeError, RecursionError):
            return None
        if whole.predicate_type != self._type or _encode(whole) != body:
            return None
        said, subject = whole.predicate, whole.subject[0]
        head, name, digest = said.head, subject.name, subject.digest.sha256
        size, leaf = head.size, head.hash
        if (
            not _ALL_SPELLED.fullmatch(f"{said.by} {said.ledger} {leaf} {said.nonce} {name} {digest}")
            or size == 0
            or (self._about_itself and (name != self._kind or digest != _digest_of_predicate(body)))
        ):
            return None
        try:
            seconds = parse_time(said.made_at)
        except FormatError:
            return None
        statement = Statement(
            self._kind,
            name,
            digest,
            said.by,
            said.ledger,
            Head(size, leaf),
            said.nonce,
            seconds,
            sha256(body).hexdigest(),
            body,
        )
        return statement, said


_encode: Final = msgspec.json.Encoder(order="sorted").encode


def _digest_of_predicate(body: bytes) -> str:
    """Of a statement's canonical bytes."""
    return sha256(body[_PREDICATE_AT : body.rfind(_END_BEGINS)]).hexdigest()


def kind_of(body: bytes) -> str:
    """The kind that the bytes of a statement seem to be of; it proves nothing, and of other bytes it is any text."""
    start = body.rfind(_KIND_BEGINS) + len(_KIND_BEGINS)
    return body[start : body.find(_KIND_ENDS, start)].decode("ascii", "replace")


def format_statement(statement: Statement) -> bytes:
    """The statement's canonical bytes, built from its values. Inverse of `parse_statement`."""
    return make_statement(statement.kind, statement.predicate, (statement.subject_name, statement.subject_digest)).body


def _misshapen(value: Json) -> FormatError:
    """Why canonical JSON is no statement; the frames alone decide that it is none."""
    if not isinstance(value, dict) or len(value) != 4 or value.get("_type") != STATEMENT_TYPE:
        return FormatError("not an in-toto Statement v1 with exactly one predicate and one subject")
    if not isinstance(kind := value.get("predicateType"), str):
        return FormatError("predicateType is missing or is not text")
    if not isinstance(value.get("predicate"), dict):
        return FormatError("the predicate is not an object")
    if kind not in _KIND_OF and _is_subject(value.get("subject")):
        return FormatError("the predicate type names no kind of statement that is known here", code="unknown_kind")
    return FormatError("a statement has exactly one subject, with a name and one sha256 digest in their one spelling")


def _is_subject(value: Json) -> bool:
    match value:
        case [{"digest": {"sha256": str(digest), **others}, "name": str(name), **more}] if not others and not more:
            return bool(re.fullmatch(_HEX64, digest) and re.fullmatch(_ID, name))
    return False


def _misspelled(predicate: dict[str, Json]) -> FormatError:
    """Which of the common fields is wrong; `_COMMON` and the types alone decide that one is."""
    for name, pattern in (("ledger", _HEX64), ("by", _ID), ("nonce", _HEX32), ("made_at", "")):
        text = predicate.get(name)
        if type(text) is not str:
            return FormatError(f"{name} is missing or is not text")
        if pattern and not re.fullmatch(pattern, text):
            return FormatError(f"{name} is not in its one spelling")
    return FormatError("head has exactly the fields size, a count, and hash, 64 lower-case hex digits")
