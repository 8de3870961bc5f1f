"""The DSSE envelope: a statement's bytes with exactly one signature over their pre-authentication encoding.

    {"payload": base64(body), "payloadType": TYPE, "signatures": [{"keyid": KEYID, "sig": base64}]}

    TYPE = application/vnd.in-toto+json

    PAE = "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body        LEN: decimal, in bytes

An `Envelope` is only read, not verified; `ledger.verified.open_envelope` verifies.

Source: DSSE protocol v1 (secure-systems-lab/dsse).
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import Any, Final, Literal

from msgspec import Struct

from keys.canonical import Json, parse_json
from keys.errors import FormatError
from keys.plain import Plain
from keys.words import counted

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
MAX_ENVELOPE: Final = 65_535
MAX_SIGNATURE: Final = 4_096
"""Characters of base64: 3,072 bytes."""

_PAE_HEAD: Final = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} ".encode("ascii")
_PAE: Final = re.compile(re.escape(_PAE_HEAD) + rb"(?P<size>[1-9][0-9]{0,6}) ")

# An OpenSSH fingerprint: SHA-256 in unpadded base64. 43 digits hold 258 bits, so the last one has two that are zero.
KEYID_PATTERN: Final = rb"SHA256:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]"
# What stands in the two base64 holes is judged by decoding it and encoding it again.
ENVELOPE_PATTERN: Final = (
    rb'\{"payload":"(?P<payload>[^"]+)","payloadType":"'
    + re.escape(PAYLOAD_TYPE).encode("ascii")
    + rb'","signatures":\[\{"keyid":"(?P<keyid>'
    + KEYID_PATTERN
    + rb')","sig":"(?P<sig>[^"]+)"\}\]\}'
)
_KEYID: Final = re.compile(KEYID_PATTERN)
_ENVELOPE: Final = re.compile(ENVELOPE_PATTERN)


class _Signature(Plain, frozen=True):
    keyid: str
    sig: bytes


class WireEnvelope(Plain, frozen=True, rename={"payload_type": "payloadType"}):
    """An envelope's JSON as it is decoded, base64 and all; how `keyid` is spelled is not judged."""

    payload: bytes
    payload_type: Literal["application/vnd.in-toto+json"]
    signatures: tuple[_Signature]


class Envelope(Struct, frozen=True, gc=False):
    """Statement bytes, and the key id and signature that came with them. Nothing here is verified."""

    body: bytes
    keyid: str
    sig: bytes


def pae(body: bytes) -> bytes:
    """The bytes that are signed for a statement's `body`. Source: DSSE protocol v1, signature definition."""
    return _PAE_HEAD + b"%d " % len(body) + body


def parse_pae(data: bytes) -> bytes:
    """The body out of the bytes that are signed for it, at most 65,535 bytes of it. Inverse of `pae`.

    Raises: FormatError for another payload type, a length in another spelling, or more or fewer bytes than it says.
    """
    match = _PAE.match(data)
    if match is None:
        raise FormatError("not the bytes that are signed for a statement")
    if int(match["size"]) > MAX_ENVELOPE:
        raise FormatError(f"a statement is over the limit of {MAX_ENVELOPE} bytes", code="too_large")
    body = data[match.end() :]
    if len(body) != int(match["size"]):
        raise FormatError(f"{counted(len(body), 'byte')} follow, and {int(match['size'])} were announced")
    return body


def parse_envelope(value: Json) -> Envelope:
    """Read an envelope from parsed JSON.

    Raises: FormatError unless it has exactly the fields of the format and exactly one signature.
    """
    if not isinstance(value, dict) or set(value) != {"payload", "payloadType", "signatures"}:
        raise FormatError("an envelope has exactly the fields payload, payloadType and signatures")
    if value["payloadType"] != PAYLOAD_TYPE:
        raise FormatError(f"the payload type of an envelope is not {PAYLOAD_TYPE}")
    signatures = value["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise FormatError("an envelope has exactly one signature")
    signature = signatures[0]
    if not isinstance(signature, dict) or set(signature) != {"keyid", "sig"}:
        raise FormatError("a signature has exactly the fields keyid and sig")
    keyid = _ascii(signature["keyid"])
    if not _KEYID.fullmatch(keyid):
        raise FormatError("keyid is not an OpenSSH fingerprint (SHA256:...)")
    return envelope_from_groups(_ascii(value["payload"]), keyid, _ascii(signature["sig"]))


def format_envelope(envelope: Envelope) -> dict[str, Any]:
    """The envelope as JSON material. Inverse of `parse_envelope`."""
    return {
        "payload": _encode(envelope.body).decode("ascii"),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": envelope.keyid, "sig": _encode(envelope.sig).decode("ascii")}],
    }


def parse_envelope_bytes(data: bytes) -> Envelope:
    """Read an envelope from its canonical JSON, at most 65,535 bytes.

    Raises: FormatError.
    """
    if len(data) > MAX_ENVELOPE:
        raise FormatError(
            f"an envelope of {counted(len(data), 'byte')} is over the limit of {MAX_ENVELOPE}", code="too_large"
        )
    match = _ENVELOPE.fullmatch(data)
    if match is None:
        parse_envelope(parse_json(data))
        raise FormatError("an envelope is not in its one spelling", code="not_canonical")
    return envelope_from_groups(*match.groups())


def format_envelope_bytes(envelope: Envelope) -> bytes:
    """The envelope as canonical JSON. Inverse of `parse_envelope_bytes`."""
    return b'{"payload":"%b","payloadType":"%b","signatures":[{"keyid":"%b","sig":"%b"}]}' % (
        _encode(envelope.body),
        PAYLOAD_TYPE.encode("ascii"),
        envelope.keyid.encode("ascii", "replace"),
        _encode(envelope.sig),
    )


def envelope_from_groups(payload: bytes, keyid: bytes, sig: bytes) -> Envelope:
    """The envelope of what the three groups of `ENVELOPE_PATTERN` matched.

    Raises: FormatError for base64 that is not canonical, or a signature that is too long.
    """
    if len(payload) > MAX_ENVELOPE or len(sig) > MAX_SIGNATURE:
        raise FormatError("the payload or the signature of an envelope is over its limit", code="too_large")
    body, signature = _decode(payload), _decode(sig)
    if not body or not signature:
        raise FormatError("the payload or the signature of an envelope is empty")
    return Envelope(body, keyid.decode("ascii"), signature)


def _decode(text: bytes) -> bytes:
    try:
        data = a2b_base64(text)
    except Base64Error:
        raise FormatError("not standard padded base64") from None
    # The lenient decoder skips what it does not know, and the comparison refuses everything that it skipped.
    if b2a_base64(data, newline=False) != text:
        raise FormatError("base64 is not canonical")
    return data


def _encode(data: bytes) -> bytes:
    return b2a_base64(data, newline=False)


def _ascii(value: Json) -> bytes:
    if not isinstance(value, str) or not value.isascii():
        raise FormatError("a field of an envelope is not ASCII text")
    return value.encode("ascii")
