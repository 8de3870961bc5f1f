"""Each parse/format pair: what is made parses back; of arbitrary bytes, each is refused or formats back to itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import KEYID, LOG_KEY, make_records

from keys.errors import CalyxError, FormatError
from ledger.checkpoint import Checkpoint, format_text, parse_checkpoint, parse_text
from ledger.envelope import (
    Envelope,
    format_envelope,
    format_envelope_bytes,
    parse_envelope,
    parse_envelope_bytes,
)
from ledger.note import Note, NoteSignature, format_note, format_vkey, parse_note, parse_vkey
from ledger.record import format_record, make_record, parse_record
from ledger.statement import format_statement, make_statement, parse_statement

ENVELOPES = st.builds(
    Envelope, st.binary(min_size=1, max_size=400), st.just(KEYID), st.binary(min_size=1, max_size=200)
)
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
TIMES = st.integers(0, 4_000_000_000)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**53 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcXYZ_", min_size=1), inner, max_size=4),
    max_leaves=12,
)
COMMON: dict[str, Any] = {
    "by": "cbo",
    "head": {"hash": "ab" * 32, "size": 7},
    "ledger": "cd" * 32,
    "made_at": "2026-01-02T03:04:05Z",
    "nonce": "0" * 32,
}


def seen_whole(data: bytes, parse: Callable[[bytes], Any], form: Callable[[Any], bytes]) -> None:
    with suppress(CalyxError):
        assert form(parse(data)) == data


def flip(data: bytes, bit: int) -> bytes:
    at = bit // 8 % len(data)
    return data[:at] + bytes([data[at] ^ 1 << bit % 8]) + data[at + 1 :]


RECORD = make_records(2)[1].data
STATEMENT = make_statement("intent", {**COMMON, "what": 'a "quoted" wörd\n'}).body
CHECKPOINT = LOG_KEY.sign(12, bytes(range(32)))


@given(ENVELOPES)
def test_envelope_round_trip(envelope: Envelope) -> None:
    assert parse_envelope(format_envelope(envelope)) == envelope
    data = format_envelope_bytes(envelope)
    assert parse_envelope_bytes(data) == envelope
    assert json.loads(data) == format_envelope(envelope)


@given(st.integers(0, 2**53 - 1), HASHES, TIMES, ENVELOPES)
def test_record_round_trip(seq: int, prev: str, seconds: int, envelope: Envelope) -> None:
    record = make_record(seq, prev, seconds, envelope)
    assert parse_record(record.data) == record
    assert format_record(record) == record.data
    assert (record.seq, record.prev, record.seconds, record.envelope) == (seq, prev, seconds, envelope)
    # The frame of the fast parser and canonical JSON are the same form.
    value = json.loads(record.data)
    assert json.dumps(value, sort_keys=True, separators=(",", ":")).encode() == record.data


@given(st.dictionaries(st.text("pqrs", min_size=1), JSON, max_size=4), IDS, HASHES)
def test_statement_round_trip(more: dict[str, Any], name: str, digest: str) -> None:
    for kind, subject in (("lease", None), ("cosignature", (name, digest))):
        statement = make_statement(kind, {**more, **COMMON}, subject)
        again = parse_statement(statement.body)
        assert again == statement
        assert format_statement(again) == statement.body
        assert again.predicate == {**more, **COMMON}


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_or_canonical(data: bytes) -> None:
    seen_whole(data, parse_record, format_record)
    seen_whole(data, parse_statement, format_statement)
    seen_whole(data, parse_envelope_bytes, format_envelope_bytes)
    seen_whole(data, parse_note, format_note)


@given(st.integers(0, 10_000_000))
def test_changed_bit_is_refused_or_canonical(bit: int) -> None:
    seen_whole(flip(RECORD, bit), parse_record, format_record)
    seen_whole(flip(STATEMENT, bit), parse_statement, format_statement)
    seen_whole(flip(CHECKPOINT, bit), parse_note, format_note)
    with pytest.raises(CalyxError):
        parse_checkpoint(flip(CHECKPOINT, bit), LOG_KEY.vkey)


@given(JSON)
def test_arbitrary_json_is_refused_by_every_parser(value: Any) -> None:
    data = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    for parse in (parse_record, parse_statement, parse_envelope_bytes):
        with pytest.raises(FormatError):
            parse(data)


@given(st.text(max_size=40), st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32))
def test_checkpoint_text_round_trip(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint("o" + origin.replace("\n", ""), size, root)
    assert parse_text(format_text(checkpoint)) == checkpoint


@given(st.text(max_size=60))
def test_arbitrary_checkpoint_text_is_refused_or_canonical(text: str) -> None:
    with suppress(CalyxError):
        assert format_text(parse_text(text)) == text
    with suppress(CalyxError):
        assert format_vkey(parse_vkey(text)) == text


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="+"), min_size=1, max_size=10)


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), max_size=60),
    st.lists(
        st.builds(NoteSignature, NAMES, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80)),
        min_size=1,
        max_size=16,
    ),
)
def test_note_round_trip(text: str, signatures: list[NoteSignature]) -> None:
    note = Note(text + "\n", tuple(signatures))
    assert parse_note(format_note(note)) == note
