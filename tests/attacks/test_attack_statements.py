"""Attacks on a statement's bytes: one value in two spellings, twins of a letter, numbers past the limits."""

from __future__ import annotations

import json
import unicodedata
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from assault import QUESTION, Forced, Lease, appended, approval, repelled, signed
from refusal import refused
from station import Station, new_station

from keys.canonical import format_json
from keys.errors import CalyxError
from ledger.envelope import Envelope, pae
from ledger.verified import namespace_of
from policies.submitter import Draft


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


@pytest.fixture
def lease(station: Station) -> Lease:
    return station.propose()


def body_of(station: Station, lease: Lease) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(station.sign("ada", approval(lease)).body)
    return value


def plain(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def duplicate_key(value: Any) -> bytes:
    """Of two roles a reader could take either."""
    return plain(value).replace(b'"review":null', b'"review":null,"role":"governor"', 1)


def keys_unsorted(value: Any) -> bytes:
    return json.dumps(dict(reversed(value.items())), separators=(",", ":")).encode()


def with_a_space(value: Any) -> bytes:
    return plain(value) + b" "


def with_a_byte_order_mark(value: Any) -> bytes:
    return b"\xef\xbb\xbf" + plain(value)


def escaped_otherwise(value: Any) -> bytes:
    return plain(value).replace(b'"approver"', rb'"\u0061pprover"', 1)


def head_size_as(text: bytes) -> Any:
    def change(value: Any) -> bytes:
        size = value["predicate"]["head"]["size"]
        return plain(value).replace(b'"size":%d' % size, b'"size":' + text.replace(b"N", b"%d" % size), 1)

    return change


def unknown_field(value: Any) -> bytes:
    value["predicate"]["weight"] = 2
    return plain(value)


def missing_field(value: Any) -> bytes:
    del value["predicate"]["review"]
    return plain(value)


def null_role(value: Any) -> bytes:
    value["predicate"]["role"] = None
    return plain(value)


def two_subjects(value: Any) -> bytes:
    value["subject"] *= 2
    return plain(value)


def second_digest(value: Any) -> bytes:
    value["subject"][0]["digest"]["sha512"] = "00" * 64
    return plain(value)


def digest_in_capitals(value: Any) -> bytes:
    digest = value["subject"][0]["digest"]
    digest["sha256"] = digest["sha256"].upper()
    return plain(value)


def unknown_kind(value: Any) -> bytes:
    value["predicateType"] = "https://station.calyx/cosignature/v2"
    return plain(value)


def deep(value: Any) -> bytes:
    """Two levels around it, and fifteen of its own."""
    nest: Any = []
    for _ in range(14):
        nest = [nest]
    value["predicate"]["role"] = nest
    return plain(value)


def very_deep(value: Any) -> bytes:
    return plain(value).replace(b'"approver"', b"[" * 9000 + b"]" * 9000, 1)


def lone_surrogate(value: Any) -> bytes:
    return plain(value).replace(b'"approver"', rb'"\ud800"', 1)


def not_utf_8(value: Any) -> bytes:
    return plain(value).replace(b'"approver"', b'"\xff"', 1)


BODIES: list[tuple[Any, str]] = [
    (duplicate_key, "not_canonical"),
    (keys_unsorted, "not_canonical"),
    (with_a_space, "not_canonical"),
    (with_a_byte_order_mark, "bad_format"),
    (escaped_otherwise, "not_canonical"),
    (head_size_as(b"N.0"), "bad_format"),
    (head_size_as(b"1e1"), "bad_format"),
    (head_size_as(b"-N"), "bad_format"),
    (head_size_as(b"-0"), "not_canonical"),
    (head_size_as(b"18446744073709551616"), "bad_format"),
    (head_size_as(b"9007199254740992"), "bad_format"),
    (head_size_as(b"true"), "bad_format"),
    (head_size_as(b'"N"'), "bad_format"),
    (unknown_field, "bad_format"),
    (missing_field, "bad_format"),
    (null_role, "bad_format"),
    (two_subjects, "bad_format"),
    (second_digest, "bad_format"),
    (digest_in_capitals, "bad_format"),
    (unknown_kind, "unknown_kind"),
    (deep, "too_deep"),
    (very_deep, "too_deep"),
    (lone_surrogate, "bad_format"),
    (not_utf_8, "bad_format"),
]
NAMES = [
    "duplicate-key",
    "keys-unsorted",
    "white-space",
    "byte-order-mark",
    "other-escape",
    "float",
    "exponent",
    "negative",
    "minus-zero",
    "2-to-64",
    "2-to-53",
    "true-for-one",
    "number-as-text",
    "unknown-field",
    "missing-field",
    "null-for-a-role",
    "two-subjects",
    "second-digest",
    "digest-in-capitals",
    "unknown-kind",
    "depth-17",
    "depth-9000",
    "lone-surrogate",
    "not-utf-8",
]


@pytest.mark.parametrize(("change", "code"), BODIES, ids=NAMES)
def test_statement_in_another_spelling(station: Station, lease: Lease, change: Any, code: str) -> None:
    """Truly signed, and refused for its bytes."""
    body = change(body_of(station, lease))
    repelled(station, signed(station, "ada", body, "cosignature"), code)


def test_twins_in_nfc_and_nfd_are_two_texts(station: Station) -> None:
    """Nothing is normalised, so a signature over the one is none over the other, and neither repeats the other."""
    text = "Zo\N{LATIN SMALL LETTER E WITH DIAERESIS}"
    composed = station.sign("ada", Draft("message", {**QUESTION.fields, "text": text}), nonce="ab" * 16)
    value = json.loads(unicodedata.normalize("NFD", composed.body.decode()))
    value["subject"][0]["digest"]["sha256"] = sha256(format_json(value["predicate"])).hexdigest()
    twin = format_json(value)
    assert twin != composed.body
    repelled(station, Envelope(twin, composed.keyid, composed.sig), "bad_signature")
    appended(station, composed)
    appended(station, signed(station, "ada", twin, "message"))


def test_principal_spelled_with_a_twin_letter(station: Station) -> None:
    """Ids are ASCII: no letter that looks like one of ada's is one."""
    value = json.loads(station.sign("ada", QUESTION).body)
    for name in ("\N{CYRILLIC SMALL LETTER A}da", "ada\N{ZERO WIDTH SPACE}", "Ada", "ada "):
        value["predicate"]["by"] = name
        value["subject"][0]["digest"]["sha256"] = sha256(format_json(value["predicate"])).hexdigest()
        code = "unknown_key" if name == "Ada" else "bad_format"
        repelled(station, signed(station, "ada", format_json(value), "message"), code)


def test_statement_and_record_over_their_limits(station: Station) -> None:
    honest = station.sign("ada", QUESTION)
    value = json.loads(honest.body)
    value["predicate"]["text"] = "x" * 49_152
    value["subject"][0]["digest"]["sha256"] = sha256(format_json(value["predicate"])).hexdigest()
    for body in (honest.body + b" " * (65_536 - len(honest.body)), format_json(value)):
        size = station.store.head().size
        with refused("too_large"):
            station.append(signed(station, "ada", body, "message"))
        assert station.store.head().size == size

    def inflate(members: Any) -> bytes:
        data = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
        return data + b" " * (65_536 - len(data))

    with Forced.raw(station, honest, inflate) as forced:
        report = forced.audit()
        assert report["findings"][0]["seq"] == forced.seq
        forced.stops_every_reader("broken_chain")


def test_body_exchanged_under_a_true_signature(station: Station, lease: Lease) -> None:
    vote = station.sign("ada", approval(lease))
    for old, new in ((b'"approver"', b'"operator"'), (vote.body[-80:-70], b"0123456789")):
        assert old in vote.body
        envelope = Envelope(vote.body.replace(old, new), vote.keyid, vote.sig)
        with pytest.raises(CalyxError) as caught:
            station.append(envelope)
        assert caught.value.code in {"bad_signature", "bad_format", "unknown_subject"}
        repelled(station, envelope, caught.value.code)


def test_signature_of_another_statement_of_the_same_signer(station: Station, lease: Lease) -> None:
    first, second = station.sign("cp14", QUESTION), station.sign("cp14", QUESTION)
    assert pae(first.body) != pae(second.body)
    assert namespace_of("message") == namespace_of("review")
    repelled(station, Envelope(first.body, first.keyid, second.sig), "bad_signature")
