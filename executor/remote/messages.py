"""What a remote home and its server say to each other: one request at a time, one answer each.

    request = M frame, then the D frames that it announces
    answer  = D frames, then one M frame: {"ok": {...}} or {"error": {...}}

    verb    request                            D frames after it            D frames of the answer, and "ok"
    hello   protocol, submits                                               {protocol}
    tip                                                                     {checkpoint, hash, size}
    read    start, stop                                                     a record each; {count}
    find    sha256                                                          {size}: of the object, or null
    get     sha256, size                                                    the object's chunks; {size}
    put     sha256, size                       the object's chunks          {}
    submit  accept_clock, envelopes            an envelope each             {receipts: [{digest, leaf, seq, time}]}
    close                                                                   {}

The first request is hello with protocol 1; a server that speaks another one says so and ends. `submits` says that
statements will follow, so that a server which takes none refuses before a person has signed any. A chunk is 262,144
bytes, only the last one of an object is shorter. `read` gives records from `start` on, in order, before `stop`: at most
4,096 of them and about 4 MiB, and at least one where there is one. `put` is for what a following `submit` names: the
server keeps at most 16 MiB in 1,024 objects for a connection in its memory, and puts them into the home when a
statement that names them was signed with an enrolled key. `submit` appends its envelopes, 1 to 16, in one commit, or
none; one that is in the ledger already gives the entry that it made. No verb names a path and none runs anything.

An error is {code, exit, fields, hint, message}: a stable code, the exit code 1, 2 or 5, and text for people, which is
escaped before it is shown. Nothing that an answer says is trusted: records, checkpoint and law are verified by whoever
asked, objects by their hash, and a receipt by finding that entry under a verified checkpoint.

Source: docs/FORMAT.md, homes elsewhere.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, Field

from executor.remote.frames import MAX_DATA
from keys.canonical import MAX_INTEGER, Json, format_json, parse_json
from keys.errors import CalyxError, Exit, FormatError, Refused, Unavailable, UsageError
from keys.values import Count, Hash, Model, Seq, Text

PROTOCOL: Final = 1
MAX_RECORDS: Final = 4_096
MAX_BATCH: Final = 4 * 1024 * 1024
"""Bytes of records after which the server ends an answer; the last record may go over it."""
MAX_PUT: Final = 16 * 1024 * 1024
MAX_PUTS: Final = 1_024
"""Bytes, and number, of objects that wait for a statement on one connection."""
MAX_ENVELOPES: Final = 16
CHUNK: Final = MAX_DATA
MAX_FIELDS: Final = 16
MAX_SAID: Final = 2_000
MAX_FIELD: Final = 256
"""Characters of an error's message and hint, and of a field. All together fit into one frame however they escape."""


class Hello(Model):
    """Begins a connection. `submits`: statements will be submitted on it."""

    verb: Literal["hello"]
    protocol: Count
    submits: bool


class AskTip(Model):
    """Asks for the newest head and its checkpoint."""

    verb: Literal["tip"]


class AskRecords(Model):
    """Asks for records `start` to `stop`, not included."""

    verb: Literal["read"]
    start: Count
    stop: Count


class FindObject(Model):
    """Asks for the size of what is kept under a digest."""

    verb: Literal["find"]
    sha256: Hash


class GetObject(Model):
    """Asks for an object."""

    verb: Literal["get"]
    sha256: Hash
    size: Count


class PutObject(Model):
    """Brings an object that a following `submit` names."""

    verb: Literal["put"]
    sha256: Hash
    size: Annotated[int, Field(ge=0, le=MAX_PUT)]


class Submit(Model):
    """Brings signed statements. `accept_clock`: append even though the host's clock contradicts the last record."""

    verb: Literal["submit"]
    envelopes: Annotated[int, Field(ge=1, le=MAX_ENVELOPES)]
    accept_clock: bool


class Close(Model):
    """Ends a connection."""

    verb: Literal["close"]


Request: TypeAlias = Hello | AskTip | AskRecords | FindObject | GetObject | PutObject | Submit | Close

_REQUESTS: Final[dict[str, type[Request]]] = {
    "hello": Hello,
    "tip": AskTip,
    "read": AskRecords,
    "find": FindObject,
    "get": GetObject,
    "put": PutObject,
    "submit": Submit,
    "close": Close,
}


class SaidHello(Model):
    """The protocol that the server speaks."""

    protocol: Count


class SaidTip(Model):
    """What the server says is its head. `checkpoint`: a signed note, "" while the ledger is empty."""

    size: Count
    hash: Hash
    checkpoint: Text


class SaidRecords(Model):
    """How many records came."""

    count: Annotated[int, Field(ge=0, le=MAX_RECORDS)]


class SaidFound(Model):
    """The size of an object, None where there is none."""

    size: Count | None


class SaidObject(Model):
    """The size of the object that came."""

    size: Count


class SaidReceipt(Model):
    """The entry that the server says a statement has."""

    seq: Count
    digest: Hash
    leaf: Hash
    time: Count


class SaidSubmitted(Model):
    """A receipt for each envelope, in order."""

    receipts: Annotated[Seq[SaidReceipt], Field(max_length=MAX_ENVELOPES)]


class SaidDone(Model):
    """It is done."""


def _known_exit(code: int) -> int:
    # None that says how a rollout ended, and none that says that all went well.
    if code not in {1, 2, 5}:
        raise ValueError("not the exit code of a refusal")
    return code


class SaidError(Model):
    """Why it is not done."""

    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    message: Annotated[str, Field(max_length=MAX_SAID)]
    hint: Annotated[str, Field(max_length=MAX_SAID)]
    exit: Annotated[int, AfterValidator(_known_exit)]
    fields: Annotated[
        dict[
            Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")],
            Annotated[str, Field(max_length=MAX_FIELD)] | Count | None,
        ],
        Field(max_length=MAX_FIELDS),
    ]


R = TypeVar("R", bound=Model)


class HostRefused(CalyxError):
    """What the host says when it refuses; its words, not ours."""

    exit_code = Exit.REFUSED


class _HostUsage(HostRefused, UsageError):
    exit_code = Exit.USAGE


class _HostUnavailable(HostRefused, Unavailable):
    exit_code = Exit.UNAVAILABLE


_REFUSALS: Final = {1: HostRefused, 2: _HostUsage, 5: _HostUnavailable}


def parse_request(payload: bytes) -> Request:
    """Read a request. Raises: FormatError; Refused (`unknown_verb`)."""
    value = parse_json(payload)
    verb = value.get("verb") if isinstance(value, dict) else None
    model = _REQUESTS.get(verb) if isinstance(verb, str) else None
    if model is None:
        raise Refused("unknown_verb", "the request has no verb that is known here", hint="use the same calyx on both")
    return model.from_json(value, what=f"request {verb}")


def format_request(request: Request) -> bytes:
    """A request's canonical JSON. Inverse of `parse_request`."""
    return request.canonical()


def parse_answer(payload: bytes, model: type[R]) -> R:
    """What an answer says. Raises: HostRefused when it is a refusal; FormatError."""
    value = parse_json(payload)
    if isinstance(value, dict) and set(value) == {"error"}:
        raise _refusal(SaidError.from_json(value["error"], what="error"))
    if not isinstance(value, dict) or set(value) != {"ok"}:
        raise FormatError("an answer is ok or an error")
    return model.from_json(value["ok"], what="answer")


def format_answer(said: Model) -> bytes:
    """An answer's canonical JSON. Inverse of `parse_answer`."""
    return format_json({"ok": said.to_json()})


def format_refusal(error: CalyxError) -> bytes:
    """A refusal as an answer: what does not fit the format is cut or left out."""
    fields: dict[str, Json] = {}
    for name, value in error.fields.items():
        if isinstance(value, str):
            fields[name] = _fitting(value, MAX_FIELD)
        elif value is None or (type(value) is int and 0 <= value <= MAX_INTEGER):
            fields[name] = value
    exit_code = int(error.exit_code)
    said: Json = {
        "code": error.code,
        "exit": exit_code if exit_code in _REFUSALS else 1,
        "fields": dict(list(fields.items())[:MAX_FIELDS]),
        "hint": _fitting(error.hint, MAX_SAID),
        "message": _fitting(error.message, MAX_SAID),
    }
    return format_json({"error": said})


def _refusal(said: SaidError) -> HostRefused:
    hint = f"the host's hint: {said.hint}" if said.hint else ""
    # A field of such a name would be taken for the argument.
    fields = {name: value for name, value in said.fields.items() if name not in {"self", "code", "message", "hint"}}
    return _REFUSALS[said.exit](said.code, f"the host says: {said.message}", hint=hint, **fields)


def _fitting(text: str, limit: int) -> str:
    # A path may hold bytes that are no text, which JSON cannot carry.
    return text[:limit].encode("utf-8", "replace").decode("utf-8")
