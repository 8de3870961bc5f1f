"""Statements with verified signatures: made here, and nowhere else.

What decides how a signature is checked comes from the trust root and from the statement's kind, never from the
envelope: the key id only selects among the keys that the principal named in `by` holds at this position.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple, NoReturn, Self

from keys.ahead import SignaturesAhead
from keys.errors import FormatError, SignatureRefused
from keys.principals import EnrolledKey, scheme_of
from keys.signer import Signer, check_signature, foresee_signature
from keys.sshsig import NAMESPACE_APPROVAL, NAMESPACE_STATEMENT
from ledger.envelope import Envelope, pae
from ledger.statement import TYPE_PREFIX, TYPE_SUFFIX, Statement, parse_statement

_COSIGNATURE: Final = f'"predicateType":"{TYPE_PREFIX}cosignature{TYPE_SUFFIX}"'.encode()


Resolve = Callable[[Statement, str], EnrolledKey]
"""Finds the key with a key id that the statement's `by` holds. Raises: SignatureRefused (`unknown_key`)."""


class _Parts(NamedTuple):
    statement: Statement
    envelope: Envelope
    signer: EnrolledKey


class VerifiedStatement(_Parts):
    """A statement that the holder of `signer.key` signed. Only `open_envelope` and `open_with` make one.

    Raises: TypeError for everyone else.
    """

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> Self:
        raise TypeError("only open_envelope makes a VerifiedStatement")

    @classmethod
    def _make(cls, _: object) -> NoReturn:  # type: ignore[override]  # as `__new__`
        raise TypeError("only open_envelope makes a VerifiedStatement")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a verified statement is not pickled: whoever reads the bytes verifies them again")


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
    envelope: Envelope,
    resolve: Resolve,
    *,
    statement: Statement | None = None,
    ahead: SignaturesAhead | None = None,
) -> VerifiedStatement:
    """Prove that the principal a statement is by signed it, with a key that `resolve` finds enrolled.

    `statement`: what the caller already parsed from this envelope's body, to spare the second parse. `ahead`: who may
    have been told of it with `foresee_envelope`.

    Raises: FormatError; SignatureRefused (`unknown_key`, `wrong_signer`, `bad_signature`, ...); WorkerFailed.
    """
    if statement is None:
        statement = parse_statement(envelope.body)
    elif statement.body != envelope.body:
        # Before a key is looked for.
        raise ValueError("the statement is not this envelope's")
    return open_with(envelope, statement, resolve(statement, envelope.keyid), ahead)


def open_with(
    envelope: Envelope, statement: Statement, enrolled: EnrolledKey, ahead: SignaturesAhead | None = None
) -> VerifiedStatement:
    """Prove that the principal a statement is by signed it with this key, which the caller found enrolled for it.
    `statement`: parsed from this envelope's body.

    Raises: FormatError; SignatureRefused (`unknown_key`, `wrong_signer`, `bad_signature`, ...); WorkerFailed;
    ValueError for a statement of another envelope.
    """
    if statement.body != envelope.body:
        raise ValueError("the statement is not this envelope's")
    if enrolled.principal != statement.by:
        raise SignatureRefused(
            f"a statement by {statement.by} carries the key id of {enrolled.principal}", code="wrong_signer"
        )
    if enrolled.keyid != envelope.keyid:
        raise SignatureRefused("the key id of the envelope is not that of the enrolled key", code="unknown_key")
    check_signature(
        scheme_of(enrolled.kind),
        enrolled.key,
        enrolled.user_verification,
        namespace_of(statement.kind),
        pae(statement.body),
        envelope.sig,
        ahead,
    )
    return tuple.__new__(VerifiedStatement, (statement, envelope, enrolled))


def foresee_envelope(envelope: Envelope, enrolled: EnrolledKey, ahead: SignaturesAhead) -> None:
    """Have the signature of an envelope checked ahead, by the key that it will probably be asked for. Proves nothing,
    and is silent where `open_envelope` will refuse.

    Raises: WorkerFailed of `ahead`.
    """
    signed = pae(envelope.body)
    if scheme_of(enrolled.kind) == "ed25519":
        ahead.foresee(enrolled.key.raw, signed, envelope.sig)
        return
    namespace = NAMESPACE_APPROVAL if _COSIGNATURE in envelope.body else NAMESPACE_STATEMENT
    # A blob that is no signature is refused when it is asked about.
    with suppress(SignatureRefused, FormatError):
        foresee_signature("sshsig", enrolled.key, enrolled.user_verification, namespace, signed, envelope.sig, ahead)
