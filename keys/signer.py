"""Signers, and the one dispatch that checks a statement's signature.

What is signed is the envelope's PAE. A human's signature is an SSHSIG blob in a namespace, a machine's the
raw 64 bytes. Where something else than this process signs, its signature is checked before anyone gets it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from keys import sshsig
from keys.ed25519 import PublicKey, verify
from keys.errors import CalyxError, SignatureRefused
from keys.openssh_private import PrivateKey
from keys.openssh_public import PLAIN, OpenSshKey, fingerprint
from keys.principals import Kind, Scheme, scheme_of

if TYPE_CHECKING:
    from keys.ssh_agent import SshAgent


class PersonKey(NamedTuple):
    """An enrolled key of a human. `user_verification`: its token must verify its user at each signature."""

    principal: str
    public: OpenSshKey
    user_verification: bool


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


class AgentSigner:
    """Signs for a human with a key that an ssh-agent holds."""

    def __init__(self, key: PersonKey, agent: SshAgent, before: Callable[[], None] | None = None) -> None:
        """`before`: called before each signature, to say what the person has to do."""
        self.principal: Final = key.principal
        self.keyid: Final = fingerprint(key.public)
        self._key: Final = key
        self._agent: Final = agent
        self._before: Final = before

    def sign(self, pae: bytes, namespace: str) -> bytes:
        """Sign an envelope's PAE, and prove that the agent did what it was asked for."""
        if self._before is not None:
            self._before()
        inner = self._agent.sign(self._key.public, sshsig.signed_data(namespace, pae))
        try:
            blob = sshsig.wrap(self._key.public, namespace, inner)
            check_own(self._key, namespace, pae, blob)
        except CalyxError as error:
            raise refused_own(error, f"the ssh-agent's signature with {self.keyid} is refused") from None
        return blob

    def __repr__(self) -> str:
        return f"AgentSigner({self.principal}, {self.keyid})"


def check_own(key: PersonKey, namespace: str, pae: bytes, sig: bytes) -> None:
    """Prove, before it leaves this machine, that a human's signature is what every reader will ask for.

    Raises: as `check_signature`.
    """
    check_signature("sshsig", key.public, key.user_verification, namespace, pae, sig)


def refused_own(error: CalyxError, what: str) -> SignatureRefused:
    """The refusal of a signature that was made for us, under the verifier's code."""
    hint = f"{error.hint}; nothing was recorded" if error.hint else "nothing was recorded"
    return SignatureRefused(f"{what}: {error.message}", code=error.code, hint=hint)


def check_signature(
    scheme: Scheme,
    key: OpenSshKey,
    user_verification: bool,
    namespace: str,
    pae: bytes,
    sig: bytes,
) -> None:
    """Prove that the holder of `key` signed `pae`, in `scheme`, for `namespace` where the scheme has one.

    `scheme`, `key` and `user_verification` come from the trust root and `namespace` from the statement's kind; nothing
    in `sig` chooses them.

    Raises: SignatureRefused, FormatError.
    """
    if scheme == "sshsig":
        verify(*sshsig.unwrap(sig, key=key, namespace=namespace, message=pae, user_verification=user_verification))
    elif scheme == "ed25519":
        public = bare_key(scheme, key, user_verification)
        if public is None:
            raise SignatureRefused("a machine signs with a plain ssh-ed25519 key", code="bad_key")
        verify(public, pae, sig)
    else:
        raise SignatureRefused(f"there is no signature scheme {scheme}")


def bare_key(scheme: Scheme, key: OpenSshKey, user_verification: bool) -> PublicKey | None:
    """The key by which `check_signature` verifies PAE and signature as they stand; None where it does anything else."""
    return key.raw if scheme == "ed25519" and key.type == PLAIN and not user_verification else None
