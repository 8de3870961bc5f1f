from __future__ import annotations

import tempfile
from pathlib import Path

from authenticator import Token, field
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.ed25519 import PublicKey, SigningKey, sign, verify
from keys.errors import CalyxError, Refused
from keys.openssh import (
    OpenSshKey,
    PrivateKey,
    format_blob,
    format_public,
    load_private_key,
    parse_blob,
    parse_public,
    plain_key,
    store_private_key,
)

SEEDS = st.binary(min_size=32, max_size=32)
APPLICATIONS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=251).map(lambda text: f"ssh:{text}")
COMMENTS = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=40)
KEYS = st.one_of(
    SEEDS.map(lambda seed: PrivateKey(seed).public),
    st.builds(lambda seed, name: parse_blob(Token(seed, name.encode()).blob), SEEDS, APPLICATIONS),
)


@given(SEEDS, st.binary(max_size=200))
def test_what_is_signed_is_verified(seed: bytes, message: bytes) -> None:
    verify(SigningKey(seed).public, message, sign(seed, message))


@given(KEYS, COMMENTS)
def test_public_key_is_written_and_read_back(key: OpenSshKey, comment: str) -> None:
    assert parse_blob(format_blob(key)) == key
    line = format_public(key)
    assert parse_public(line) == parse_public(f"{line} {comment}\n") == key
    assert format_public(parse_public(line)) == line


@given(st.binary(max_size=120) | st.binary(max_size=64).map(lambda data: field(b"ssh-ed25519") + data))
def test_arbitrary_bytes_are_no_key_or_are_written_back(data: bytes) -> None:
    try:
        key = parse_blob(data)
    except CalyxError:
        return
    assert format_blob(key) == data


@given(st.binary(min_size=32, max_size=32))
def test_raw_key_is_refused_or_kept_as_it_is(raw: bytes) -> None:
    try:
        key = plain_key(raw)
    except CalyxError:
        return
    assert key.raw == raw
    assert type(key.raw) is PublicKey


@given(st.text(max_size=120) | st.text(max_size=80).map(lambda text: f"ssh-ed25519 {text}"))
def test_arbitrary_text_is_no_line_or_begins_with_the_same_key(text: str) -> None:
    try:
        key = parse_public(text)
    except CalyxError:
        return
    assert text.startswith(format_public(key))


def stored_and_loaded(seed: bytes, passphrase: bytes | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key"
        key = PrivateKey(seed)
        store_private_key(path, key, passphrase)
        loaded = load_private_key(path, lambda: passphrase or b"")
        assert loaded.public == key.public
        assert loaded.sign_raw(b"m") == key.sign_raw(b"m")


@given(SEEDS)
def test_private_key_is_stored_and_loaded(seed: bytes) -> None:
    stored_and_loaded(seed, None)


@settings(max_examples=5)  # a passphrase is slow on purpose
@given(SEEDS, st.binary(min_size=1, max_size=200))
def test_private_key_is_stored_and_loaded_with_any_passphrase(seed: bytes, passphrase: bytes) -> None:
    stored_and_loaded(seed, passphrase)


@given(st.binary(max_size=600), st.booleans())
def test_arbitrary_key_file_is_refused_in_one_line(body: bytes, magic: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key"
        good = PrivateKey(b"\x07" * 32).format()
        at = len(body) % len(good)
        path.write_bytes(good[:at] + body + good[at:] if magic else body)
        path.chmod(0o600)
        try:
            loaded = load_private_key(path, lambda: b"correct horse")
        except Refused as error:
            said = error.message
        else:
            # White space inside the armor is no change.
            assert loaded.public == PrivateKey(b"\x07" * 32).public
            return
        assert "\n" not in said
