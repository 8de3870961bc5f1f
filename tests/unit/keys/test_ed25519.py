from __future__ import annotations

import copy
import pickle

import pytest

from keys.ed25519 import PublicKey, SigningKey, check_public, sign, verify
from keys.errors import SignatureRefused

# RFC 8032 section 7.1, test 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
ORDER = 2**252 + 27742317777372353535851937790883648493


def test_signature_is_that_of_rfc_8032() -> None:
    assert SigningKey(SEED).public == PUBLIC
    assert sign(SEED, b"\x72") == SIGNATURE
    verify(PUBLIC, b"\x72", SIGNATURE)
    verify(check_public(PUBLIC), b"\x72", SIGNATURE)


@pytest.mark.parametrize(
    "raw",
    [
        bytes(32),  # order 4
        b"\x01" + bytes(31),  # the identity
        b"\xec" + b"\xff" * 30 + b"\x7f",  # order 2
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),  # order 8
        b"\xee" + b"\xff" * 30 + b"\x7f",  # the identity, y = p + 1
        b"\x02" + bytes(31),  # not on the curve
        b"\xff" * 32,
        # A point of prime order plus the point of order 2: (x, y) to (-x, -y).
        (2**255 - 19 - (int.from_bytes(PUBLIC, "little") & (2**255 - 1))).to_bytes(32, "little"),
    ],
)
def test_key_outside_the_prime_order_group_is_never_enrolled(raw: bytes) -> None:
    with pytest.raises(SignatureRefused) as refusal:
        check_public(raw)
    assert refusal.value.code == "bad_key"
    with pytest.raises(SignatureRefused):
        verify(raw, b"\x72", SIGNATURE)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(SignatureRefused, match="32 bytes"):
        PublicKey(bytes(size))


def test_signature_tail_is_not_lent_to_the_message() -> None:
    with pytest.raises(SignatureRefused, match="64 bytes"):
        verify(PUBLIC, b"", SIGNATURE + b"\x72")
    with pytest.raises(SignatureRefused, match="64 bytes"):
        verify(PUBLIC, SIGNATURE[-1:] + b"\x72", SIGNATURE[:-1])


def test_malleable_s_is_refused() -> None:
    s = int.from_bytes(SIGNATURE[32:], "little") + ORDER
    with pytest.raises(SignatureRefused):
        verify(PUBLIC, b"\x72", SIGNATURE[:32] + s.to_bytes(32, "little"))


@pytest.mark.parametrize("bit", [0, 100, 255, 256, 400, 511])
def test_one_changed_bit_is_refused(bit: int) -> None:
    changed = bytearray(SIGNATURE)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SignatureRefused) as refusal:
        verify(PUBLIC, b"\x72", bytes(changed))
    assert refusal.value.code == "bad_signature"


def test_secret_is_not_shown_or_copied() -> None:
    key = SigningKey(SEED)
    assert SEED.hex() not in repr(key)
    assert key.seed == SEED
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="secret"):
            attempt(key)


def test_seed_of_another_size_is_refused_without_showing_it() -> None:
    with pytest.raises(SignatureRefused) as refusal:
        SigningKey(SEED[:31])
    assert SEED.hex()[:8] not in str(refusal.value)
