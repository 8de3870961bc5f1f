"""Ed25519: the only place where a signature is checked or a raw public key judged.

One verifier for everything, libsodium. Verifiers disagree on edge cases (points of small or mixed order, encodings that
are not canonical), so a public key is judged first: canonical encoding of a point other than the identity in the
subgroup of prime order. For such keys libsodium checks the equation as it stands, without the cofactor, and refuses an
R or S that is not canonical; no known edge case is left on which it would differ from another strict verifier.

Source: RFC 8032 section 5.1; "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020).
"""

from __future__ import annotations

from typing import Final, NewType, NoReturn, Self

from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

from keys.errors import SignatureRefused

PUBLIC_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64
SEED_SIZE: Final = 32


Joined = NewType("Joined", bytes)
"""A signature of 64 bytes and the message behind it, as `join` puts them."""


class PublicKey(bytes):
    """A raw public key, 32 bytes, that has been judged: to hold one is the proof.

    Raises: SignatureRefused (`bad_key`) when the bytes are not such a key.
    """

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        if len(raw) != PUBLIC_SIZE:
            raise SignatureRefused(f"an Ed25519 public key has 32 bytes, not {len(raw)}", code="bad_key")
        if not crypto_core_ed25519_is_valid_point(bytes(raw)):
            raise SignatureRefused(
                "an Ed25519 public key is not a point of the prime-order group in canonical form",
                code="bad_key",
                hint="make a new key with ssh-keygen -t ed25519; this one was not made by a sound program",
            )
        return super().__new__(cls, raw)


def check_public(raw: bytes) -> PublicKey:
    """Prove that `raw` (32 bytes) may be enrolled: canonical, on the curve, of prime order, not the identity.

    Raises: SignatureRefused (`bad_key`).
    """
    return PublicKey(raw)


def verify(public: PublicKey | bytes, message: bytes, signature: bytes) -> None:
    """Prove that the holder of `public` signed exactly `message`. `signature`: 64 bytes.

    A key that is not yet a `PublicKey` is judged first.

    Raises: SignatureRefused (`bad_signature`, or `bad_key`).
    Source: RFC 8032 section 5.1.7, without the cofactor.
    """
    if type(public) is not PublicKey:
        public = PublicKey(public)
    verify_joined(public, join(signature, message))


def join(signature: bytes, message: bytes) -> Joined:
    """What `verify_joined` takes. Raises: SignatureRefused (`bad_signature`) unless `signature` has 64 bytes."""
    # Without this a longer signature would lend its tail to the message.
    if len(signature) != SIGNATURE_SIZE:
        raise SignatureRefused(f"an Ed25519 signature has 64 bytes, not {len(signature)}")
    return Joined(signature + message)


def verify_joined(public: PublicKey, joined: Joined) -> None:
    """As `verify`, for whoever has the two in one. Raises: SignatureRefused (`bad_signature`)."""
    try:
        crypto_sign_open(joined, public)
    except BadSignatureError:
        raise SignatureRefused("the signature is not by this key over these bytes") from None


class SigningKey:
    """An Ed25519 secret. It signs; it is never shown, compared, copied into a pickle or formatted.

    `seed`: 32 bytes. `public`: its public key.
    """

    __slots__ = ("_secret", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_SIZE:
            raise SignatureRefused("an Ed25519 seed has 32 bytes", code="bad_key")
        public, self._secret = crypto_sign_seed_keypair(seed)
        self.public: Final = PublicKey(public)

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes, for whoever stores the key."""
        return self._secret[:SEED_SIZE]

    def sign(self, message: bytes) -> bytes:
        """Sign `message`; 64 bytes. Deterministic."""
        return crypto_sign(message, self._secret)[:SIGNATURE_SIZE]

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is not pickled or copied")


def sign(seed: bytes, message: bytes) -> bytes:
    """Sign `message` with the secret `seed` (32 bytes); 64 bytes. `SigningKey` is cheaper for more than one."""
    return SigningKey(seed).sign(message)
