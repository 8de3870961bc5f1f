"""Forgeries of records, as bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from forging import KEYS, Forge, after
from reject_law import MESSAGE
from reject_registry import add, reject

from keys.canonical import format_json
from keys.openssh import fingerprint
from ledger.envelope import Envelope, format_envelope_bytes
from ledger.record import make_record

# Records.


def _record(name: str, what: str, change: Callable[[Forge, bytes], bytes]) -> None:
    def doing(f: Forge) -> None:
        honest = f.fork()
        honest.say("ada", "message", MESSAGE)
        data = change(f, honest.records[-1].data)
        assert data != honest.records[-1].data
        f.force_bytes(data)

    add(f"record_{name}", what, "fleet", "broken_chain", doing)


def _in_record(old: bytes, new: bytes) -> Callable[[Forge, bytes], bytes]:
    return lambda _, data: data.replace(old, new, 1)


def _envelope(**changes: Any) -> Callable[[Forge, bytes], bytes]:
    def change(_: Forge, data: bytes) -> bytes:
        value = json.loads(data)
        value["envelope"].update(changes)
        return format_json(value)

    return change


def _signature(**changes: Any) -> Callable[[Forge, bytes], bytes]:
    def change(_: Forge, data: bytes) -> bytes:
        value = json.loads(data)
        value["envelope"]["signatures"][0].update(changes)
        return format_json(value)

    return change


def _twice(_: Forge, data: bytes) -> bytes:
    value = json.loads(data)
    value["envelope"]["signatures"] *= 2
    return format_json(value)


_record("with_a_space", "A space behind a colon.", _in_record(b'"seq":', b'"seq": '))
_record("with_a_field_more", "A field more.", _in_record(b'"seq":', b'"s":1,"seq":'))
_record("without_time", "It has no time.", lambda f, data: data[: data.index(b',"time"')] + b"}")
_record("with_seq_as_text", "Its seq is text.", _in_record(b'"seq":4', b'"seq":"4"'))
_record("with_another_seq", "Its seq is the next one.", _in_record(b'"seq":4', b'"seq":5'))
_record("with_a_leading_zero", "Its seq has a leading zero.", _in_record(b'"seq":4', b'"seq":04'))
_record(
    "at_a_time_that_does_not_exist",
    "Its time is on 30 February.",
    _in_record(b'"time":"2026-01-05', b'"time":"2026-02-30'),
)
_record(
    "before_the_one_before",
    "Its time is a second before that of the entry before it.",
    lambda f, data: data.replace(after(f.now, 0).encode() + b'"}', after(f.now, -1).encode() + b'"}'),
)
_record("with_a_signature_more", "It has two signatures.", _twice)
_record("without_signature", "It has no signature.", _envelope(signatures=[]))
_record("of_another_payload_type", "Its payload type is text.", _envelope(payloadType="text/plain"))
_record("with_an_envelope_field_more", "Its envelope has a field more.", _envelope(x=1))
_record("with_an_empty_payload", "Its payload is empty.", _envelope(payload=""))
_record("with_an_empty_signature", "Its signature is empty.", _signature(sig=""))
_record("with_a_signature_too_long", "Its signature has 4,100 characters.", _signature(sig="A" * 4100))
_record("with_a_key_id_of_another_form", "Its key id is an MD5 fingerprint.", _signature(keyid="MD5:00:11"))
_record("with_a_padded_key_id", "Its key id is padded.", _signature(keyid=fingerprint(KEYS["ada"].public) + "="))
_record(
    "with_spare_bits_in_its_key_id",
    "The last digit of its key id has a spare bit.",
    _signature(keyid="SHA256:" + "A" * 42 + "B"),
)
_record("with_url_safe_base64", "Its signature is in the alphabet for addresses.", _signature(sig="-_-_"))
_record("with_unpadded_base64", "Its signature lacks its padding.", _signature(sig="AA"))
_record("with_spare_bits", "Its signature has spare bits.", _signature(sig="AB=="))
_record("with_base64_in_lines", "Its signature has a newline.", _signature(sig="AAAA\nAAAA"))
_record("that_is_no_json", "Its bytes are no JSON.", lambda f, data: b"\xff\xfe")
_record("that_is_empty", "It has no bytes.", lambda f, data: b"")


@reject("fleet", "broken_chain")
def record_of_more_than_65535_bytes(f: Forge) -> None:
    """A lease with so many long paths that its record has 65,536 bytes; it is lawful but for that."""
    for _ in range(8):  # base64 grows by four: with a seq of two digits a record can have a byte too many
        f.now += 1
        f.say("ada", "message", MESSAGE)
    envelope = long_lease(f, 1)
    data = b'{"envelope":%b,"prev":"%b","seq":%d,"time":"%b"}' % (
        format_envelope_bytes(envelope), f.head.hash.encode(), f.head.size, after(f.now, 0).encode(),
    )  # fmt: skip
    assert len(data) == 65_536
    f.force_bytes(data)


def long_lease(f: Forge, more: int) -> Envelope:
    """A lease whose record is as long as one may be, and `more` bytes of statement longer. Its intent is said."""
    f.intent("INT-20260105-001")
    fields = {**f.common("cbo"), **f.lease_fields(1)}

    def lease(sizes: list[int]) -> Envelope:
        paths = [f"static/{number:02}".ljust(size, "a") for number, size in enumerate(sizes)]
        return f.sign("cbo", "lease", f.body("lease", {**fields, "paths": paths}))

    short = lease([64] * 12)
    frame_size = len(make_record(f.head.size, f.head.hash, f.now, short).data) - 4 * -(-len(short.body) // 3)
    room = (65_535 - frame_size) // 4 * 3 + more - len(short.body)
    each, last = divmod(room, 12)
    return lease([64 + each] * 11 + [64 + each + last])


@reject("nothing", "bad_genesis", "small")
def record_with_another_prev_after_an_unlawful_genesis(f: Forge) -> None:
    """Nobody can read the checkpoint, and the second record names another leaf: the first is judged all the same."""
    f.forge("ada", "genesis", f.genesis_fields(origin="elsewhere-00000000"))
    f.follow()
    f.force_bytes(format_json({**json.loads(f.records.pop().data), "prev": "1" * 64}))
    f.forged = 0
