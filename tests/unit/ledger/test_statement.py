from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any

import pytest
from ledgers import KEYID, make_envelope, make_records

from keys.canonical import format_json
from keys.errors import FormatError
from ledger.envelope import PAYLOAD_TYPE, Envelope, format_envelope, pae, parse_envelope, parse_envelope_bytes
from ledger.head import Head
from ledger.record import MAX_RECORD, make_record, parse_record
from ledger.statement import KINDS, SELF_SUBJECT, make_statement, parse_statement

COMMON: dict[str, Any] = {
    "by": "cbo",
    "head": {"hash": "ab" * 32, "size": 7},
    "ledger": "cd" * 32,
    "made_at": "2026-01-02T03:04:05Z",
    "nonce": "0f" * 16,
}
SUBJECT = ("LEASE-20260102-030405", "ef" * 32)


def body_of(predicate: dict[str, Any], changes: dict[str, Any] | None = None) -> bytes:
    digest = sha256(format_json(predicate)).hexdigest()
    kind = "intent"
    value = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": predicate,
        "predicateType": f"https://station.calyx/{kind}/v1",
        "subject": [{"digest": {"sha256": digest}, "name": kind}],
        **(changes or {}),
    }
    return format_json(value)


def test_every_kind_is_made_and_read() -> None:
    for kind in KINDS - {"genesis"}:
        subject = None if kind in SELF_SUBJECT else SUBJECT
        statement = make_statement(kind, COMMON, subject)
        assert statement.kind == kind
        assert (statement.by, statement.ledger, statement.nonce) == ("cbo", "cd" * 32, "0f" * 16)
        assert statement.head == Head(7, "ab" * 32)
        assert statement.made_at == 1767323045
        assert statement.digest == sha256(statement.body).hexdigest()
        assert json.loads(statement.body)["predicateType"] == f"https://station.calyx/{kind}/v1"


def test_genesis_names_nothing_before_itself() -> None:
    nothing = {**COMMON, "ledger": "0" * 64, "head": {"hash": "0" * 64, "size": 0}}
    assert make_statement("genesis", nothing).head.size == 0
    for wrong in (COMMON, {**COMMON, "ledger": "0" * 64}, {**nothing, "ledger": "cd" * 32}):
        with pytest.raises(FormatError):
            make_statement("genesis", wrong)
    with pytest.raises(FormatError):
        make_statement("intent", nothing)


@pytest.mark.parametrize(
    "change",
    [
        {"by": ""},
        {"by": "-cbo"},
        {"by": "cbo\n"},
        {"by": 1},
        {"ledger": "CD" * 32},
        {"ledger": "cd" * 31},
        {"nonce": "0f" * 15},
        {"nonce": None},
        {"made_at": "2026-02-30T00:00:00Z"},
        {"made_at": "2026-01-02 03:04:05Z"},
        {"made_at": 5},
        {"head": None},
        {"head": {"hash": "ab" * 32}},
        {"head": {"hash": "ab" * 32, "size": 7, "more": 1}},
        {"head": {"hash": "ab" * 32, "size": True}},
        {"head": {"hash": "ab" * 32, "size": "7"}},
        {"head": {"hash": "ab" * 32, "size": 0}},
    ],
)
def test_misspelled_common_field_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        parse_statement(body_of({**COMMON, **change}))


@pytest.mark.parametrize("name", ["by", "ledger", "head", "nonce", "made_at"])
def test_missing_common_field_is_refused(name: str) -> None:
    with pytest.raises(FormatError):
        parse_statement(body_of({key: value for key, value in COMMON.items() if key != name}))


@pytest.mark.parametrize(
    "changes",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicateType": "https://station.calyx/intent/v2"},
        {"predicateType": "https://station.calyx/other/v1"},
        {"predicateType": None},
        {"predicate": []},
        {"subject": []},
        {"subject": [{"digest": {"sha256": "ab" * 32}, "name": "intent"}] * 2},
        {"subject": [{"digest": {"sha256": "ab" * 32}, "name": "intent"}]},
        {"subject": [{"digest": {"sha256": "ab" * 32, "sha512": "x"}, "name": "intent"}]},
        {"subject": [{"digest": {"sha256": sha256(format_json(COMMON)).hexdigest()}, "name": "lease"}]},
        {"subject": [{"digest": {"sha256": sha256(format_json(COMMON)).hexdigest()}}]},
        {"more": None},
    ],
)
def test_misshapen_statement_is_refused(changes: dict[str, Any]) -> None:
    assert parse_statement(body_of(COMMON)).kind == "intent"
    with pytest.raises(FormatError):
        parse_statement(body_of(COMMON, changes))


def test_other_spellings_of_the_same_statement_are_refused() -> None:
    body = body_of(COMMON)
    for other in (
        body + b" ",
        body.replace(b'"by":', b'"by": '),
        body.replace(b'"by":"cbo"', b'"by":"cbo","by":"cbo"'),
        body.replace(b"cbo", b"\\u0063bo"),
        json.dumps(dict(reversed(json.loads(body).items())), separators=(",", ":")).encode(),
    ):
        with pytest.raises(FormatError):
            parse_statement(other)


def test_nesting_counts_from_the_statement() -> None:
    deep: Any = 1
    for _ in range(14):
        deep = [deep]
    assert parse_statement(body_of({**COMMON, "x": deep})).predicate["x"] == deep
    with pytest.raises(FormatError):
        make_statement("intent", {**COMMON, "x": [deep]})


def test_predicate_text_cannot_move_the_end_of_the_predicate() -> None:
    trick = {**COMMON, "z": ',"predicateType":"https://station.calyx/intent/v1"'}
    assert make_statement("intent", trick).predicate == trick


def test_pae_counts_bytes_not_characters() -> None:
    assert pae("é".encode()) == b"DSSEv1 28 application/vnd.in-toto+json 2 \xc3\xa9"
    assert len(PAYLOAD_TYPE) == 28


@pytest.mark.parametrize(
    "change",
    [
        {"payloadType": "application/json"},
        {"payload": "eA"},
        {"payload": "eB=="},
        {"payload": "e A=="},
        {"payload": ""},
        {"payload": "ä"},
        {"signatures": []},
        {"signatures": [{"keyid": KEYID, "sig": "eA=="}] * 2},
        {"signatures": [{"keyid": KEYID, "sig": ""}]},
        {"signatures": [{"keyid": KEYID}]},
        {"signatures": [{"keyid": "SHA256:" + "A" * 42 + "B", "sig": "eA=="}]},
        {"signatures": [{"keyid": "x", "sig": "eA=="}]},
        {"signatures": [{"keyid": KEYID, "sig": base64.b64encode(bytes(5000)).decode()}]},
        {"more": 1},
    ],
)
def test_misshapen_envelope_is_refused(change: dict[str, Any]) -> None:
    value = format_envelope(make_envelope())
    assert parse_envelope(value) == make_envelope()
    with pytest.raises(FormatError):
        parse_envelope({**value, **change})
    with pytest.raises(FormatError):
        parse_envelope_bytes(format_json({**value, **change}))
    record = json.loads(make_records(1)[0].data)
    with pytest.raises(FormatError):
        parse_record(format_json({**record, "envelope": {**value, **change}}))


@pytest.mark.parametrize(
    "change",
    [
        {"seq": "1"},
        {"seq": True},
        {"seq": 2**53},
        {"prev": "AB" * 32},
        {"time": "2026-02-30T00:00:00Z"},
        {"time": 0},
        {"more": 1},
    ],
)
def test_misshapen_record_is_refused(change: dict[str, Any]) -> None:
    value = {**json.loads(make_records(1)[0].data), **change}
    with pytest.raises(FormatError):
        parse_record(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def test_refused_record_says_what_is_wrong_with_its_time() -> None:
    value = {**json.loads(make_records(1)[0].data), "time": "2026-02-30T00:00:00Z"}
    with pytest.raises(FormatError, match="not a date that exists"):
        parse_record(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def test_record_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(FormatError) as caught:
        parse_record(b"{" * (MAX_RECORD + 1))
    assert caught.value.code == "too_large"
    with pytest.raises(FormatError):
        make_record(0, "0" * 64, 0, Envelope(bytes(50_000), KEYID, b"s"))
    assert len(make_record(0, "0" * 64, 0, Envelope(bytes(48_000), KEYID, b"s")).data) <= MAX_RECORD
