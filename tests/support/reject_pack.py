"""How a vector's file holds records in little room: what they repeat of a known statement is only pointed at.

record  text, or {"base64": ...} of its bytes, or
        {"body": pieces, "keyid": ..., "sig": ..., "time": ...}: `prev` and `seq` are those of its place
pieces  text, and [name, from, to] for those characters of the known body of that name
"""

from __future__ import annotations

import base64
import json
import re
from difflib import SequenceMatcher
from hashlib import sha256
from itertools import accumulate
from typing import Any, Final

from keys.canonical import format_json

_LEAST: Final = 24
"""Characters below which pointing takes more room than saying."""


def unpack_text(value: Any) -> bytes:
    """Bytes of what stands as text or base64."""
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else str(value).encode()


def pack_text(data: bytes) -> Any:
    """Inverse of `unpack_text`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def unpack_records(packed: list[Any], before: list[bytes], bodies: dict[str, str]) -> list[bytes]:
    """The records that stand packed after `before`; gives all of them."""
    records = list(before)
    for value in packed:
        if isinstance(value, dict) and "body" in value:
            text = _join(value["body"], bodies)
            records.append(_frame(records, text.encode(), value["keyid"], value["sig"], value["time"]))
        else:
            records.append(unpack_text(value))
    return records


def pack_record(before: list[bytes], data: bytes, bodies: dict[str, str]) -> Any:
    """A record after others. `bodies`: what is known."""
    try:
        value = json.loads(data)
        (signature,) = value["envelope"]["signatures"]
        text = base64.b64decode(value["envelope"]["payload"]).decode()
        framed = _frame(before, text.encode(), signature["keyid"], signature["sig"], value["time"])
    except (ValueError, KeyError, TypeError):
        return pack_text(data)
    if framed != data:
        return pack_text(data)
    name = name_of(text)
    pieces = _shortest(text, [name, f"{name} shape"], bodies)
    return {"body": pieces, "keyid": signature["keyid"], "sig": signature["sig"], "time": value["time"]}


def unpack_object(value: Any, bodies: dict[str, str]) -> bytes:
    """An object: text, base64 or pieces."""
    return _join(value, bodies).encode() if isinstance(value, list) else unpack_text(value)


def pack_object(data: bytes, bodies: dict[str, str]) -> Any:
    """Inverse of `unpack_object`."""
    packed = pack_text(data)
    fleets = ["fleet body", "small fleet body"]
    return _shortest(packed, fleets, bodies) if isinstance(packed, str) and len(packed) > 256 else packed


def name_of(text: str) -> str:
    """What a statement is kept under: its kind, and the type of an event."""
    kind = re.search(r"station\.calyx/([a-z]+)/", text)
    told = re.search(r'"type":"([A-Z_]+)"', text)
    return (kind[1] if kind else "none") + (f" {told[1]}" if told and kind and kind[1] == "event" else "")


def _frame(before: list[bytes], body: bytes, keyid: str, sig: str, time: str) -> bytes:
    payload = base64.b64encode(body).decode()
    envelope: Any = {
        "payload": payload,
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"keyid": keyid, "sig": sig}],
    }
    prev = sha256(b"\0" + before[-1]).hexdigest() if before else "0" * 64
    return format_json({"envelope": envelope, "prev": prev, "seq": len(before), "time": time})


def _join(pieces: list[Any], bodies: dict[str, str]) -> str:
    return "".join(each if isinstance(each, str) else bodies[each[0]][each[1] : each[2]] for each in pieces)


def _shortest(text: str, names: list[str], bodies: dict[str, str]) -> list[Any]:
    tried = [_pieces(text, name, bodies.get(name, "")) for name in names]
    return min(tried, key=lambda pieces: len(json.dumps(pieces)))


def _pieces(text: str, name: str, known: str) -> list[Any]:
    ours, theirs = _tokens(text), _tokens(known)
    starts = [0, *accumulate(map(len, theirs))]
    pieces: list[Any] = []
    at = 0
    for block in SequenceMatcher(None, theirs, ours, autojunk=False).get_matching_blocks():
        said = "".join(ours[at : block.b])
        start, stop = starts[block.a], starts[block.a + block.size]
        if 0 < stop - start < _LEAST:
            said += known[start:stop]
        if said and pieces and isinstance(pieces[-1], str):
            pieces[-1] += said
        elif said:
            pieces.append(said)
        if stop - start >= _LEAST:
            pieces.append([name, start, stop])
        at = block.b + block.size
    return pieces


def _tokens(text: str) -> list[str]:
    return re.findall(r"[^,:]*[,:]|[^,:]+$", text)
