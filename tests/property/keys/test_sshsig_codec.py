from __future__ import annotations

import pytest
from authenticator import Token
from hypothesis import given
from hypothesis import strategies as st

from keys import sshsig
from keys.errors import CalyxError
from keys.openssh import OpenSshKey, PrivateKey, parse_blob
from keys.sshsig import SshSig

SEEDS = st.binary(min_size=32, max_size=32)
NAMESPACES = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128)
APPLICATIONS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=251).map(lambda text: f"ssh:{text}")
RAW = st.binary(min_size=64, max_size=64)
PLAIN_KEYS = SEEDS.map(lambda seed: PrivateKey(seed).public)
TOKEN_KEYS = st.builds(lambda seed, name: parse_blob(Token(seed, name.encode()).blob), SEEDS, APPLICATIONS)
SIGNATURES = st.one_of(
    st.builds(SshSig, PLAIN_KEYS, NAMESPACES, RAW),
    st.builds(SshSig, TOKEN_KEYS, NAMESPACES, RAW, st.integers(0, 255), st.integers(0, 2**32 - 1)),
)
PRIVATE = PrivateKey(b"\x07" * 32)
TOKEN = Token(application=b"ssh:approve")


@given(SIGNATURES)
def test_blob_is_written_and_read_back(signature: SshSig) -> None:
    blob = sshsig.format_blob(signature)
    assert sshsig.parse_blob(blob) == signature
    assert len(blob) <= sshsig.MAX_BLOB


@given(st.binary(max_size=400) | st.binary(max_size=300).map(lambda data: b"SSHSIG\0\0\0\1" + data))
def test_arbitrary_bytes_are_no_blob_or_are_written_back(data: bytes) -> None:
    try:
        signature = sshsig.parse_blob(data)
    except CalyxError:
        return
    assert sshsig.format_blob(signature) == data


@given(st.binary(min_size=1, max_size=1000))
def test_armor_is_written_and_read_back(blob: bytes) -> None:
    assert sshsig.parse_armor(sshsig.format_armor(blob)) == blob


@given(st.text(max_size=200))
def test_arbitrary_text_is_no_armor(text: str) -> None:
    with pytest.raises(CalyxError):
        sshsig.parse_armor(text)
    try:
        sshsig.parse_armor(f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n")
    except CalyxError:
        return


@given(SEEDS, NAMESPACES, st.binary(max_size=200))
def test_what_is_signed_is_accepted(seed: bytes, namespace: str, message: bytes) -> None:
    private = PrivateKey(seed)
    blob = sshsig.sign(private, namespace, message)
    sshsig.check(blob, key=private.public, namespace=namespace, message=message, user_verification=False)
    token = Token(seed)
    key = parse_blob(token.blob)
    blob = token.sign(namespace, message)
    sshsig.check(blob, key=key, namespace=namespace, message=message, user_verification=False)


@pytest.mark.parametrize(
    ("key", "blob"),
    [
        (PRIVATE.public, sshsig.sign(PRIVATE, "n", b"message")),
        (parse_blob(TOKEN.blob), TOKEN.sign("n", b"message", flags=0xFF)),
    ],
)
def test_every_single_changed_bit_is_refused(key: OpenSshKey, blob: bytes) -> None:
    for bit in range(len(blob) * 8):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CalyxError):
            sshsig.check(bytes(changed), key=key, namespace="n", message=b"message", user_verification=False)


@given(st.data())
def test_every_cut_and_every_addition_is_refused(data: st.DataObject) -> None:
    blob = sshsig.sign(PRIVATE, "n", b"message")
    at = data.draw(st.integers(0, len(blob)))
    until = data.draw(st.integers(at, len(blob)))
    between = data.draw(st.binary(max_size=8))
    changed = blob[:at] + between + blob[until:]
    if changed == blob:
        return
    with pytest.raises(CalyxError):
        sshsig.check(changed, key=PRIVATE.public, namespace="n", message=b"message", user_verification=False)
