"""Keys and values: hostile bytes are refused in our own words, or are the one spelling of what was read."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from fuzzing import Parser, bounded, check, hostile, of_text, to_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keys.canonical import format_json, parse_json
from keys.errors import CalyxError
from keys.openssh import OpenSshKey, format_public, load_private_key, new_private_key, peek_private_key
from keys.openssh_public import format_blob, parse_blob, parse_public
from keys.principals import TrustRoot
from keys.ssh_agent import (
    Identity,
    SignRequest,
    format_identities,
    format_sign_request,
    format_signature,
    parse_identities,
    parse_length,
    parse_sign_request,
    parse_signature,
)
from keys.sshsig import NAMESPACE_APPROVAL, format_armor, parse_armor, sign
from keys.sshsig import format_blob as format_sig
from keys.sshsig import parse_blob as parse_sig
from keys.values import format_base64, format_decimal, format_time, parse_base64, parse_decimal, parse_time
from keys.wire import string

KEYS = [new_private_key(lambda size, seed=seed: bytes([seed]) * size) for seed in range(1, 4)]  # type: ignore[misc]
HARDWARE = OpenSshKey(string(b"sk-ssh-ed25519@openssh.com") + string(KEYS[0].public.raw) + string(b"ssh:"))
PUBLIC = [key.public.blob for key in KEYS] + [HARDWARE.blob]
SIGS = [sign(key, NAMESPACE_APPROVAL, b"what is said") for key in KEYS]
DOCUMENTS = [
    b"null", b'""', b"9007199254740991", b"[]", b'{"a":[1,{"b":"c"}],"b":null,"c":true}', b'["\\"\\\\\\b\\f\\n\\r\\t"]',
    b"[" * 16 + b"]" * 16, '{"e":"é—\u2028"}'.encode(),
]  # fmt: skip
TRUST = TrustRoot.from_json(
    {
        "law": 1,
        "principals": [
            {"id": "ada", "kind": "human", "custodian": "ada", "roles": ["approver", "governor", "operator"],
             "keys": [{"key": format_public(KEYS[0].public), "user_verification": False}]},
            {"id": "cbo", "kind": "overseer", "custodian": "cbo", "roles": ["proposer"],
             "keys": [{"key": format_public(KEYS[1].public), "user_verification": False}]},
        ],
        "thresholds": {"governors": 1, "operators": 1},
        "expires": "2030-01-01T00:00:00Z",
        "compromised": [],
    }
)  # fmt: skip

PARSERS = [
    Parser("canonical JSON", parse_json, format_json, DOCUMENTS),
    Parser("time", of_text(parse_time), to_text(format_time), [b"2026-01-05T09:00:00Z", b"1970-01-01T00:00:00Z"]),
    Parser("decimal", of_text(parse_decimal), to_text(format_decimal), [b"0", b"-1.5", b"123456789.123456789"]),
    Parser("base64", of_text(parse_base64), to_text(format_base64), [b"", b"AA==", b"AAA=", b"AAAA", b"+/+/AQ=="]),
    Parser("public key blob", parse_blob, format_blob, PUBLIC),
    Parser("agent's list", parse_identities, format_identities,
           [format_identities([]), format_identities([Identity(blob, b"ada@home") for blob in PUBLIC])]),
    Parser("agent's request", parse_sign_request, format_sign_request,
           [format_sign_request(SignRequest(PUBLIC[0], b"data")), format_sign_request(SignRequest(PUBLIC[3], b""))]),
    Parser("agent's signature", parse_signature, format_signature, [format_signature(sig) for sig in SIGS]),
    Parser("agent's length", parse_length, lambda length: length.to_bytes(4, "big"), [b"\0\0\0\1", b"\0\1\0\0"]),
    Parser("SSHSIG blob", parse_sig, format_sig, SIGS),
    Parser("trust root", lambda data: TrustRoot.from_json(parse_json(data)), TrustRoot.canonical, [TRUST.canonical()]),
]  # fmt: skip


@pytest.mark.parametrize("parser", PARSERS, ids=repr)
def test_samples_are_valid(parser: Parser) -> None:
    for sample in parser.samples:
        value = parser.parse(sample)
        assert parser.form is None or parser.form(value) == sample


@pytest.mark.parametrize("parser", PARSERS, ids=repr)
@given(st.data())
def test_hostile_bytes_are_refused_or_the_only_spelling(parser: Parser, data: st.DataObject) -> None:
    check(parser, data.draw(hostile(parser.samples)))


@given(hostile([format_public(key).encode() for key in (KEYS[0].public, HARDWARE)]))
def test_hostile_public_line_is_refused_or_begins_with_its_key(line: bytes) -> None:
    text = line.decode("utf-8", "surrogateescape")
    with bounded():
        try:
            key = parse_public(text)
        except CalyxError:
            return
    # What may follow is a comment and one end of a line.
    rest = text.removeprefix(format_public(key))
    assert rest != text or not text
    assert rest in {"", "\n", "\r", "\r\n"} or rest.startswith(" ")


@given(hostile([format_armor(sig).encode() for sig in SIGS]))
def test_hostile_armor_is_refused_or_holds_its_blob(armor: bytes) -> None:
    with bounded():
        try:
            blob = of_text(parse_armor)(armor)
        except CalyxError:
            return
    # Lines may be of any width; nothing else may differ.
    assert b"".join(armor.split()) == b"".join(format_armor(blob).encode().split())


def _body(text: bytes) -> bytes:
    return base64.b64decode(b"".join(text.splitlines()[1:-1]))


def _file(blob: bytes) -> bytes:
    lines = base64.encodebytes(blob)
    return b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + lines + b"-----END OPENSSH PRIVATE KEY-----\n"


WHOLE = [KEYS[0].format(), KEYS[1].format()]


@given(st.one_of(hostile(WHOLE), hostile([_body(text) for text in WHOLE]).map(_file)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_private_key_file_is_refused_or_holds_the_key_that_it_says(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "id"
    path.write_bytes(data)
    path.chmod(0o600)
    with bounded():
        try:
            public = peek_private_key(path).public
            assert load_private_key(path, lambda: b"not asked for").public == public
        except CalyxError as error:
            assert "\n" not in error.message
