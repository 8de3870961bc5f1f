"""The quick reader of statements takes nothing that the plain one refuses, and finds the same in what it takes."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from typing import Any

import pytest
from fuzzing import bounded, hostile, hostile_json
from hypothesis import given
from hypothesis import strategies as st
from told import told

from keys.canonical import Json, format_json
from keys.errors import CalyxError
from ledger.statement import SELF_SUBJECT, STATEMENT_TYPE, TYPE_PREFIX, Typed, parse_statement
from policies.event_kinds import Event
from policies.law.position import PREDICATES, parse_predicate, read_statement

QUICK = ("intent", "review", "cosignature", "objection", "term", "claim", "event", "command", "message")


def agree(body: bytes) -> bool:
    """Whether the quick reader took it; then the plain one finds the same."""
    statement, predicate = read_statement(body)
    assert statement == parse_statement(body)
    if predicate is None:
        return False
    assert predicate == parse_predicate(statement)
    assert type(predicate) is PREDICATES[statement.kind]
    return True


def test_the_quick_reader_takes_what_machines_say() -> None:
    took = {statement.kind for statement in told() if agree(statement.body)}
    assert took == set(QUICK)


@given(st.data())
def test_hostile_bytes_are_read_alike(data: st.DataObject) -> None:
    bodies = [statement.body for statement in told() if statement.kind in QUICK]
    with bounded(), suppress(CalyxError):
        agree(data.draw(hostile(bodies)))


@given(st.data())
def test_hostile_values_are_read_alike(data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from([statement for statement in told() if statement.kind in QUICK]))
    predicate: Any = data.draw(hostile_json([dict(sample.predicate)]))
    with bounded(), suppress(CalyxError):
        own = sample.kind in SELF_SUBJECT and data.draw(st.booleans())
        digest = sha256(format_json(predicate)).hexdigest() if own else sample.subject_digest
        whole: Json = {
            "_type": STATEMENT_TYPE,
            "predicate": predicate,
            "predicateType": f"{TYPE_PREFIX}{sample.kind}/v1",
            "subject": [{"digest": {"sha256": digest}, "name": sample.subject_name}],
        }
        agree(format_json(whole))


def event(detail: bytes, **changes: bytes) -> bytes:
    """A statement's bytes, written out."""
    parts = {
        "by": b'"cp20"',
        "epoch": b"1",
        "head": b'{"hash":"%s","size":3}' % (b"ab" * 32),
        "ledger": b'"%s"' % (b"cd" * 32),
        "made_at": b'"2026-01-05T09:00:04Z"',
        "nonce": b'"%s"' % (b"ef" * 16),
        **changes,
    }
    inner = b",".join(
        b'"%s":%s' % (name.encode(), value) for name, value in sorted([*parts.items(), ("detail", detail)])
    )
    return (
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{%s},"predicateType":"https://station.calyx/event/v1",'
        b'"subject":[{"digest":{"sha256":"%s"},"name":"LEASE-1"}]}' % (inner, b"12" * 32)
    )


def aborted(text: bytes) -> bytes:
    return b'{"cause":"order","text":"%s","type":"ABORTED"}' % text


@pytest.mark.parametrize(
    "text",
    [b"plain", "naïve \u2028 \x7f \U0001f600".encode(), b"", b"x" * 4096],
    ids=["ascii", "unicode", "empty", "longest"],
)
def test_text_that_needs_no_escape_is_taken(text: bytes) -> None:
    assert agree(event(aborted(text)))


def test_escaped_text_is_left_to_the_plain_reader() -> None:
    assert not agree(event(aborted(rb"a\tb\\c\"")))


@pytest.mark.parametrize(
    "body",
    [
        event(aborted(b"\xed\xa0\x80")),
        event(aborted(b"\xff")),
        event(aborted(rb"\u0041")),
        event(aborted(b"x" * 4097)),
        event(b'{"tier":5.0,"type":"TIER_INTENT"}'),
        event(b'{"tier":true,"type":"TIER_INTENT"}'),
        event(b'{"tier":0,"type":"TIER_INTENT"}'),
        event(b'{"tier":05,"type":"TIER_INTENT"}'),
        event(b'{"tier":5,"tier":5,"type":"TIER_INTENT"}'),
        event(b'{"type":"TIER_INTENT","tier":5}'),
        event(b'{"tier":5,"type":"TIER_INTENT","zone":null}'),
        event(b'{"tier": 5,"type":"TIER_INTENT"}'),
        event(b'{"tier":5,"type":"NOTHING"}'),
        event(b'{"tier":5}'),
        event(b'{"a":%s%s,"type":"STARTED"}' % (b"[" * 9_000, b"]" * 9_000)),
        event(b'{"a":%s1%s,"type":"STARTED"}' % (b'{"a":' * 9_000, b"}" * 9_000)),
        event(b'{"a":%s' % (b"[" * 9_000)),
        event(b'{"type":"STARTED"}', epoch=b"9007199254740992"),
        event(b'{"type":"STARTED"}', epoch=b"-1"),
        event(b'{"type":"STARTED"}', made_at=b'"2026-02-30T09:00:04Z"'),
        event(b'{"type":"STARTED"}', made_at=b'"2026-01-05T09:00:04z"'),
        event(b'{"type":"STARTED"}', nonce=b'"%s\n"' % (b"ef" * 16)),
        event(b'{"type":"STARTED"}', by=b'"cp20 %s"' % (b"cd" * 32)),
        event(b'{"type":"STARTED"}', head=b'{"hash":"%s","size":0}' % (b"ab" * 32)),
        event(b'{"instance":"a\n","tier":5,"tree":"%s","type":"INSTANCE_APPLIED"}' % (b"ab" * 32)),
    ],
)
def test_what_is_refused_is_refused_by_both(body: bytes) -> None:
    with pytest.raises(CalyxError) as caught:
        parse_predicate(parse_statement(body))
    with pytest.raises(CalyxError) as again:
        statement, predicate = read_statement(body)
        assert predicate is None
        parse_predicate(statement)
    assert again.value.code == caught.value.code
    assert Typed("event", Event).read(body) is None


@pytest.mark.parametrize("kind", ["intent", "message", "term"])
def test_subject_that_is_another_predicate_is_refused_by_both(kind: str) -> None:
    (body,) = [statement.body for statement in told() if statement.kind == kind][:1]
    assert agree(body)
    digest = parse_statement(body).subject_digest.encode()
    for changed in (body.replace(digest, b"0" * 64), body.replace(b'"name":"%s"' % kind.encode(), b'"name":"other"')):
        assert changed != body
        with pytest.raises(CalyxError):
            read_statement(changed)


def test_genesis_has_no_quick_reader() -> None:
    with pytest.raises(ValueError):
        Typed("genesis", Event)
