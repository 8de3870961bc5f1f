"""Signers, and the one dispatch that checks a statement's signature.

What is signed is the envelope's PAE. A human's signature is an SSHSIG blob in a namespace, a machine's the
raw 64 bytes.
"""

from __future__ import annotations

from typing import Final, Protocol

from keys import sshsig
from keys.ed25519 import verify
from keys.errors import SignatureRefused
from keys.openssh_private import PrivateKey
from keys.openssh_public import PLAIN, OpenSshKey, fingerprint
from keys.principals import Kind, Scheme, scheme_of


class Signer(Protocol):
    """Whoever signs for one principal with one key: a file, an agent, a token."""

    @property
    def principal(self) -> str:
        """The principal's id."""

    @property
    def keyid(self) -> str:
        """The key's fingerprint, `SHA256:…`."""

    def sign(self, pae: bytes, namespace: str) -> bytes:
        """Sign an envelope's PAE; what the envelope carries as `sig`. `namespace` is for humans' signatures.

        Raises: CalyxError when the key cannot be used.
        """


class FileSigner:
    """Signs with a private key in memory, in the scheme of the principal's kind."""

    def __init__(self, principal: str, kind: Kind, private: PrivateKey) -> None:
        self.principal: Final = principal
        self.keyid: Final = fingerprint(private.public)
        self._scheme: Final = scheme_of(kind)
        self._private: Final = private

    def sign(self, pae: bytes, namespace: str) -> bytes:
        """Sign an envelope's PAE."""
        if self._scheme == "sshsig":
            return sshsig.sign(self._private, namespace, pae)
        return self._private.sign_raw(pae)

    def __repr__(self) -> str:
        return f"FileSigner({self.principal}, {self.keyid})"


def check_signature(
    scheme: Scheme, key: OpenSshKey, user_verification: bool, namespace: str, pae: bytes, sig: bytes
) -> None:
    """Prove that the holder of `key` signed `pae`, in `scheme`, for `namespace` where the scheme has one.

    `scheme`, `key` and `user_verification` come from the trust root and `namespace` from the statement's kind; nothing
    in `sig` chooses them.

    Raises: SignatureRefused, FormatError.
    """
    if scheme == "sshsig":
        sshsig.check(sig, key=key, namespace=namespace, message=pae, user_verification=user_verification)
    elif scheme == "ed25519":
        if key.type != PLAIN or user_verification:
            raise SignatureRefused("a machine signs with a plain ssh-ed25519 key", code="bad_key")
        verify(key.raw, pae, sig)
    else:
        raise SignatureRefused(f"there is no signature scheme {scheme}")
