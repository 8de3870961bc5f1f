"""Statements with verified signatures: made here, and nowhere else.

What decides how a signature is checked comes from the trust root and from the statement's kind, never from the
envelope: the key id only selects among the keys that the principal named in `by` holds at this position.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, NoReturn, Self

from keys.ahead import Asked, SignaturesAhead
from keys.ed25519 import SIGNATURE_SIZE, Joined, PublicKey, join
from keys.errors import SignatureRefused
from keys.principals import EnrolledKey, TrustRoot, scheme_of
from keys.signer import Signer, bare_key, check_signature
from keys.sshsig import NAMESPACE_APPROVAL, NAMESPACE_STATEMENT
from ledger.envelope import Envelope, pae
from ledger.statement import Statement


class _Sealed:
    """A tuple that only this module makes."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> Self:
        raise TypeError(f"only ledger.verified makes a {cls.__name__}")

    @classmethod
    def _make(cls, _: object) -> NoReturn:
        raise TypeError(f"only ledger.verified makes a {cls.__name__}")

    def __reduce__(self) -> NoReturn:
        raise TypeError("what was verified is not pickled: whoever reads the bytes verifies them again")


class _Parts(NamedTuple):
    statement: Statement
    envelope: Envelope
    signer: EnrolledKey


class VerifiedStatement(_Sealed, _Parts):  # type: ignore[misc]  # nobody makes one in the way of its parts
    """A statement that the holder of `signer.key` signed. Only `open_envelope` makes one.

    Raises: TypeError for everyone else.
    """

    __slots__ = ()


class _Signed(NamedTuple):
    envelope: Envelope
    enrolled: EnrolledKey


class VerifiedSignature(_Sealed, _Signed):  # type: ignore[misc]  # as above
    """Proof that the holder of `enrolled.key` signed this very `envelope`, bare. Only `CheckedAhead` makes one.

    Raises: TypeError for everyone else.
    """

    __slots__ = ()


def namespace_of(kind: str) -> str:
    """The SSHSIG namespace in which humans sign statements of `kind`."""
    return NAMESPACE_APPROVAL if kind == "cosignature" else NAMESPACE_STATEMENT


def sign_statement(statement: Statement, signer: Signer) -> Envelope:
    """Sign a statement for the principal it is by.

    Raises: SignatureRefused (`wrong_signer`) when the signer signs for another principal; CalyxError of the signer.
    """
    if signer.principal != statement.by:
        raise SignatureRefused(
            f"a statement by {statement.by} is not signed by {signer.principal}", code="wrong_signer"
        )
    signature = signer.sign(pae(statement.body), namespace_of(statement.kind))
    return Envelope(statement.body, signer.keyid, signature)


def open_envelope(
    envelope: Envelope, statement: Statement, enrolled: EnrolledKey, ahead: VerifiedSignature | None = None
) -> VerifiedStatement:
    """Prove that the principal a statement is by signed it with this key, which the caller found enrolled for it.
    `statement`: parsed from this envelope's body. `ahead`: its signature, where that was verified before; one of
    another envelope or by another key spares nothing.

    Raises: FormatError; SignatureRefused (`unknown_key`, `wrong_signer`, `bad_signature`, ...); ValueError for a
    statement of another envelope.
    """
    if statement.body != envelope.body:
        raise ValueError("the statement is not this envelope's")
    if enrolled.principal != statement.by:
        raise SignatureRefused(
            f"a statement by {statement.by} carries the key id of {enrolled.principal}", code="wrong_signer"
        )
    if enrolled.keyid != envelope.keyid:
        raise SignatureRefused("the key id of the envelope is not that of the enrolled key", code="unknown_key")
    if ahead is None or ahead.envelope is not envelope or ahead.enrolled is not enrolled:
        check_signature(
            scheme_of(enrolled.kind),
            enrolled.key,
            enrolled.user_verification,
            namespace_of(statement.kind),
            pae(statement.body),
            envelope.sig,
        )
    return tuple.__new__(VerifiedStatement, (statement, envelope, enrolled))


class CheckedAhead:
    """The signatures of some envelopes, each being checked with the key of `trust` that it names, ahead of whoever will
    decide which key must have signed. Signatures of people are left to that one: they are few.

    Raises: WorkerFailed of `ahead`.
    """

    def __init__(self, envelopes: Iterable[Envelope], trust: TrustRoot, ahead: SignaturesAhead) -> None:
        self._claims: list[tuple[Envelope, EnrolledKey] | None] = []
        known: dict[str, tuple[EnrolledKey, PublicKey] | None] = {}
        publics: list[PublicKey] = []
        joined: list[Joined] = []
        for envelope in envelopes:
            keyid, sig = envelope.keyid, envelope.sig
            if keyid not in known:
                known[keyid] = _find_bare(trust, keyid)
            found = known[keyid]
            if found is None or len(sig) != SIGNATURE_SIZE:
                self._claims.append(None)
                continue
            self._claims.append((envelope, found[0]))
            publics.append(found[1])
            joined.append(join(sig, pae(envelope.body)))
        self._asked: Asked = ahead.ask(publics, joined)

    def verified(self) -> list[VerifiedSignature | None]:
        """One for each envelope, in order; None where its signature was not proved. Waits. Raises: WorkerFailed."""
        proved = iter(self._asked.proved())
        return [
            tuple.__new__(VerifiedSignature, claim) if claim is not None and next(proved) == 1 else None
            for claim in self._claims
        ]


def _find_bare(trust: TrustRoot, keyid: str) -> tuple[EnrolledKey, PublicKey] | None:
    holder = trust.find_key(keyid)
    if holder is None:
        return None
    enrolled = holder.enrolled
    public = bare_key(scheme_of(enrolled.kind), enrolled.key, enrolled.user_verification)
    return None if public is None else (enrolled, public)
