"""Attacks on the envelope: more signatures, other key ids and types, base64 and lengths in other spellings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from assault import QUESTION, Forced, Lease, appended, approval, repelled
from station import Station, new_station

from keys.errors import FormatError
from ledger.envelope import PAYLOAD_TYPE, Envelope, format_envelope_bytes, parse_envelope_bytes
from policies.submitter import Draft


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


@pytest.fixture
def lease(station: Station) -> Lease:
    return station.propose()


def two_signatures(members: Any) -> None:
    members["envelope"]["signatures"] *= 2


def second_signature_by_another(members: Any) -> None:
    first = members["envelope"]["signatures"][0]
    members["envelope"]["signatures"].append({**first, "keyid": "SHA256:" + "A" * 43})


def no_signature(members: Any) -> None:
    members["envelope"]["signatures"] = []


def key_id_missing(members: Any) -> None:
    del members["envelope"]["signatures"][0]["keyid"]


def key_id_null(members: Any) -> None:
    members["envelope"]["signatures"][0]["keyid"] = None


def key_id_in_other_letters(members: Any) -> None:
    signature = members["envelope"]["signatures"][0]
    signature["keyid"] = signature["keyid"].replace("SHA256", "sha256")


def key_id_padded(members: Any) -> None:
    members["envelope"]["signatures"][0]["keyid"] += "="


def key_id_with_spare_bits(members: Any) -> None:
    signature = members["envelope"]["signatures"][0]
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    signature["keyid"] = signature["keyid"][:-1] + digits[digits.index(signature["keyid"][-1]) + 1]


def another_payload_type(members: Any) -> None:
    members["envelope"]["payloadType"] = "application/json"


def unknown_member(members: Any) -> None:
    members["envelope"]["note"] = "approved"


def payload_without_padding(members: Any) -> None:
    payload = members["envelope"]["payload"]
    assert payload.endswith("=")
    members["envelope"]["payload"] = payload.rstrip("=")


def payload_with_spare_bits(members: Any) -> None:
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    payload = members["envelope"]["payload"]
    bare = payload.rstrip("=")
    members["envelope"]["payload"] = bare[:-1] + digits[digits.index(bare[-1]) + 1] + payload[len(bare) :]


def payload_of_the_web(members: Any) -> None:
    members["envelope"]["payload"] = members["envelope"]["payload"].replace("+", "-").replace("/", "_") + "-_"


def payload_in_lines(members: Any) -> None:
    members["envelope"]["payload"] = members["envelope"]["payload"][:76] + "\n" + members["envelope"]["payload"][76:]


def signature_over_its_limit(members: Any) -> None:
    members["envelope"]["signatures"][0]["sig"] = "AAAA" * 1025


def empty_signature(members: Any) -> None:
    members["envelope"]["signatures"][0]["sig"] = ""


def duplicate_member(members: Any) -> bytes:
    plain = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return plain.replace(b'"signatures":', b'"payloadType":"%b","signatures":' % PAYLOAD_TYPE.encode(), 1)


def white_space(members: Any) -> bytes:
    return json.dumps(members, sort_keys=True).encode()


def unsorted(members: Any) -> bytes:
    members["envelope"] = dict(reversed(members["envelope"].items()))
    return json.dumps(dict(reversed(members.items())), separators=(",", ":")).encode()


TRICKS = [
    two_signatures,
    second_signature_by_another,
    no_signature,
    key_id_missing,
    key_id_null,
    key_id_in_other_letters,
    key_id_padded,
    key_id_with_spare_bits,
    another_payload_type,
    unknown_member,
    payload_without_padding,
    payload_with_spare_bits,
    payload_of_the_web,
    payload_in_lines,
    signature_over_its_limit,
    empty_signature,
    duplicate_member,
    white_space,
    unsorted,
]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
def test_dsse_trick(station: Station, lease: Lease, trick: Any) -> None:
    """An envelope that a laxer reader could read otherwise: no parser takes it, and in the file it is the entry that
    the audit names.
    """
    honest = station.sign("ada", Draft("message", {**QUESTION.fields, "text": padding_for(station)}))
    members = json.loads(b'{"envelope":%b}' % format_envelope_bytes(honest))
    data = trick(members) or json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    with pytest.raises(FormatError):
        parse_envelope_bytes(data.removeprefix(b'{"envelope":').removesuffix(b"}"))
    with Forced.raw(station, honest, trick) as forced:
        report = forced.audit()
        assert report["findings"][0]["seq"] == forced.seq
        assert report["decided"] <= forced.seq
        assert not report["ok"]
        forced.stops_every_reader("broken_chain")


def padding_for(station: Station) -> str:
    """A text that makes the payload end in padding, whose spare bits can then be set."""
    for count in range(1, 4):
        text = "?" * count
        body = station.sign("ada", Draft("message", {**QUESTION.fields, "text": text})).body
        if len(body) % 3:
            return text
    raise AssertionError("one of three lengths ends in padding")


def test_payload_type_signed_otherwise(station: Station, lease: Lease) -> None:
    """The type is inside what is signed: a signature made for another type is none."""
    honest = station.sign("cp14", QUESTION)
    for kind in (b"application/json", b"application/vnd.in-toto+json ", b""):
        message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(honest.body), honest.body)
        repelled(station, Envelope(honest.body, honest.keyid, station.keys["cp14"].sign_raw(message)), "bad_signature")


def test_pae_length_in_characters(station: Station) -> None:
    """With text outside ASCII, characters are fewer than bytes."""
    draft = Draft("message", {**QUESTION.fields, "text": "čajovna — 茶"})
    honest = station.sign("cp14", draft)
    kind = PAYLOAD_TYPE.encode()
    count = len(honest.body.decode())
    assert count < len(honest.body)
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, count, honest.body)
    repelled(station, Envelope(honest.body, honest.keyid, station.keys["cp14"].sign_raw(message)), "bad_signature")
    appended(station, honest)


def test_key_id_of_another_enrolled_key(station: Station, lease: Lease) -> None:
    honest = station.sign("ada", approval(lease))
    for other in ("ben", "cp14", "cbo"):
        keyid = station.signer(other).keyid
        repelled(station, Envelope(honest.body, keyid, honest.sig), "unknown_key")
    repelled(station, Envelope(honest.body, "SHA256:" + "A" * 43, honest.sig), "unknown_key")
