from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from keys.errors import CalyxError, SignatureRefused
from keys.openssh_private import PrivateKey
from keys.principals import EnrolledKey
from keys.signer import FileSigner
from keys.sshsig import NAMESPACE_APPROVAL, NAMESPACE_STATEMENT
from ledger.envelope import Envelope
from ledger.statement import Statement, make_statement, parse_statement
from ledger.verified import VerifiedStatement, namespace_of, open_envelope, sign_statement

HUMAN, MACHINE = PrivateKey(b"h" * 32), PrivateKey(b"m" * 32)
ENROLLED = {
    "ana": EnrolledKey("ana", "human", HUMAN.public, False),
    "cp14": EnrolledKey("cp14", "agent", MACHINE.public, False),
}
SIGNERS = {"ana": FileSigner("ana", "human", HUMAN), "cp14": FileSigner("cp14", "agent", MACHINE)}


def statement(by: str, kind: str = "cosignature") -> Statement:
    predicate: dict[str, Any] = {
        "by": by,
        "head": {"hash": "ab" * 32, "size": 7},
        "ledger": "cd" * 32,
        "made_at": "2026-01-02T03:04:05Z",
        "nonce": "0f" * 16,
    }
    return make_statement(kind, predicate, ("L", "ef" * 32) if kind == "cosignature" else None)


def open_it(envelope: Envelope) -> VerifiedStatement:
    """Open it with the key of whom the statement says it is by."""
    said = parse_statement(envelope.body)
    return open_envelope(envelope, said, ENROLLED[said.by])


def refused(envelope: Envelope, code: str) -> None:
    with pytest.raises(CalyxError) as caught:
        open_it(envelope)
    assert caught.value.code == code


@pytest.mark.parametrize("kind", ["cosignature", "message"])
@pytest.mark.parametrize("by", ["ana", "cp14"])
def test_signed_statement_is_opened(by: str, kind: str) -> None:
    said = statement(by, kind)
    envelope = sign_statement(said, SIGNERS[by])
    verified = open_it(envelope)
    assert verified.statement == said
    assert verified.signer == ENROLLED[by]


def test_nobody_else_makes_a_verified_statement() -> None:
    said = statement("cp14")
    envelope = sign_statement(said, SIGNERS["cp14"])
    verified = open_it(envelope)
    with pytest.raises(TypeError):
        VerifiedStatement(said, envelope, ENROLLED["cp14"])
    with pytest.raises(TypeError):
        VerifiedStatement(said, envelope, ENROLLED["cp14"], object())
    with pytest.raises(TypeError):
        verified._replace(statement=statement("ana"))
    with pytest.raises(TypeError):
        VerifiedStatement._make((said, envelope, ENROLLED["cp14"]))
    with pytest.raises(AttributeError):
        verified.statement = said  # type: ignore[misc]  # the attempt is the test
    for attempt in (lambda: pickle.dumps(verified), lambda: copy.copy(verified)):
        with pytest.raises(TypeError):
            attempt()


def test_changed_body_is_refused() -> None:
    envelope = sign_statement(statement("cp14"), SIGNERS["cp14"])
    refused(Envelope(envelope.body.replace(b"0f0f", b"0f0e"), envelope.keyid, envelope.sig), "bad_signature")


def test_key_id_of_another_key_is_refused() -> None:
    envelope = sign_statement(statement("cp14"), SIGNERS["cp14"])
    refused(Envelope(envelope.body, SIGNERS["ana"].keyid, envelope.sig), "unknown_key")


def test_signature_of_another_principal_is_refused() -> None:
    said = statement("ana")
    with pytest.raises(SignatureRefused):
        sign_statement(said, SIGNERS["cp14"])
    other = sign_statement(statement("cp14"), SIGNERS["cp14"])
    refused(Envelope(said.body, other.keyid, other.sig), "unknown_key")
    with pytest.raises(SignatureRefused) as caught:
        open_envelope(other, parse_statement(other.body), ENROLLED["ana"])
    assert caught.value.code == "wrong_signer"


def test_human_signature_in_the_namespace_of_statements_does_not_approve() -> None:
    said = statement("ana")
    from ledger.envelope import pae

    wrong = SIGNERS["ana"].sign(pae(said.body), NAMESPACE_STATEMENT)
    with pytest.raises(SignatureRefused):
        open_it(Envelope(said.body, SIGNERS["ana"].keyid, wrong))


def test_human_key_used_as_a_machine_signs_is_refused() -> None:
    said = statement("ana")
    raw = FileSigner("ana", "agent", HUMAN)
    with pytest.raises(CalyxError):
        open_it(sign_statement(said, raw))


def test_statement_of_another_envelope_is_not_taken() -> None:
    envelope = sign_statement(statement("cp14"), SIGNERS["cp14"])
    with pytest.raises(ValueError, match="not this envelope's"):
        open_envelope(envelope, statement("cp14", "message"), ENROLLED["cp14"])
    said = statement("cp14", "message")
    other = Envelope(envelope.body, envelope.keyid, sign_statement(said, SIGNERS["cp14"]).sig)
    with pytest.raises(ValueError, match="not this envelope's"):
        open_envelope(other, said, ENROLLED["cp14"])


def test_approvals_have_a_namespace_of_their_own() -> None:
    assert namespace_of("cosignature") == NAMESPACE_APPROVAL
    assert {namespace_of(kind) for kind in ("lease", "trust", "command")} == {NAMESPACE_STATEMENT}
