"""A record: one entry of the ledger as bytes, chained to the one before it.

    {"envelope":{"payload":B64,"payloadType":TYPE,"signatures":[{"keyid":KEYID,"sig":B64}]},"prev":HEX,"seq":N,"time":T}

No hole in this frame can hold a character that JSON escapes, so a record's one canonical form is the frame with its
holes filled in. `leaf` = SHA-256(0x00 || record) is the RFC 6962 leaf hash and the `prev` of the next record; `prev` of
record 0 is 64 zeros.

Source: docs/FORMAT.md, records; RFC 8785 for the canonical form; RFC 6962 section 2.1 for the leaf.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from keys.canonical import MAX_INTEGER, parse_json
from keys.errors import FormatError
from keys.plain import Plain
from keys.values import Count, format_time, parse_time
from keys.words import counted
from ledger.envelope import (
    ENVELOPE_PATTERN,
    KEYID_PATTERN,
    MAX_SIGNATURE,
    Envelope,
    WireEnvelope,
    format_envelope_bytes,
    parse_envelope,
)
from ledger.merkle import hash_leaf

MAX_RECORD: Final = 65_535

_FRAME: Final = re.compile(
    rb'\{"envelope":' + ENVELOPE_PATTERN + rb',"prev":"(?P<prev>[0-9a-f]{64})"'
    rb',"seq":(?P<seq>0|[1-9][0-9]{0,15}),"time":"(?P<time>[0-9TZ:-]{20})"\}'
)


_SPELLED: Final = re.compile(f"[0-9a-f]{{64}} {KEYID_PATTERN.decode()}")
_MAX_SIGNATURE_BYTES: Final = MAX_SIGNATURE // 4 * 3


class _Wire(Plain, frozen=True):
    envelope: WireEnvelope
    prev: str
    seq: Count
    time: str


_decode: Final = msgspec.json.Decoder(_Wire).decode
_encode: Final = msgspec.json.Encoder(order="sorted").encode


class Record(msgspec.Struct, frozen=True, gc=False):
    """One entry's bytes, read. Made by `parse_record` and `make_record` only, so `data` and `leaf` belong together.

    `prev`, `leaf`: 64 hex digits. `time`: UTC text; `seconds`: the same since 1970.
    """

    seq: int
    prev: str
    time: str
    seconds: int
    envelope: Envelope
    data: bytes
    leaf: str


def make_record(seq: int, prev: str, seconds: int, envelope: Envelope) -> Record:
    """The record that puts an envelope at position `seq`, after the record whose leaf is `prev`.

    Raises: FormatError when a value has no place in a record or the record is over 65,535 bytes.
    """
    time = format_time(seconds)
    data = b'{"envelope":%b,"prev":"%b","seq":%d,"time":"%b"}' % (
        format_envelope_bytes(envelope),
        prev.encode("ascii", "replace"),
        seq,
        time.encode("ascii"),
    )
    # The frame judges every value but the envelope's two byte strings, which were encoded just now.
    if len(data) > MAX_RECORD or not _FRAME.fullmatch(data) or seq > MAX_INTEGER:
        parse_record(data)
        raise FormatError("a record cannot hold these values")
    if len(envelope.sig) > _MAX_SIGNATURE_BYTES:
        raise FormatError("the signature of an envelope is over its limit", code="too_large")
    return Record(seq, prev, time, seconds, envelope, data, hash_leaf(data).hex())


def parse_record(data: bytes) -> Record:
    """Read a record of at most 65,535 bytes.

    Raises: FormatError when the bytes are not what `format_record` would write.
    """
    if len(data) > MAX_RECORD:
        raise FormatError(
            f"a record of {counted(len(data), 'byte')} is over the limit of {MAX_RECORD}",
            code="too_large",
            hint="put large content into an object",
            limit=MAX_RECORD,
        )
    try:
        wire = _decode(data)
        seconds = parse_time(wire.time)
    except (msgspec.DecodeError, FormatError, UnicodeDecodeError):
        raise _reason(data) from None
    (signature,) = wire.envelope.signatures
    envelope = Envelope(wire.envelope.payload, signature.keyid, signature.sig)
    if (
        not _SPELLED.fullmatch(f"{wire.prev} {envelope.keyid}")
        or not envelope.body
        or not 0 < len(envelope.sig) <= _MAX_SIGNATURE_BYTES
        or _encode(wire) != data
    ):
        raise _reason(data)
    return Record(wire.seq, wire.prev, wire.time, seconds, envelope, data, hash_leaf(data).hex())


def format_record(record: Record) -> bytes:
    """The record's canonical bytes, built from its values. Inverse of `parse_record`."""
    return make_record(record.seq, record.prev, record.seconds, record.envelope).data


def _reason(data: bytes) -> FormatError:
    """Why bytes are refused that `parse_record` found not to be a record."""
    try:
        value = parse_json(data)
        if not isinstance(value, dict) or set(value) != {"envelope", "prev", "seq", "time"}:
            return FormatError("a record has exactly the fields envelope, prev, seq and time")
        parse_envelope(value["envelope"])
        if isinstance(value["time"], str):
            parse_time(value["time"])
    except FormatError as error:
        return error
    return FormatError("prev, seq or time of a record is not in its one spelling")
