from __future__ import annotations

import pytest
from authenticator import Token

from keys import sshsig
from keys.errors import CalyxError
from keys.openssh import PrivateKey, fingerprint, parse_blob
from keys.principals import Kind, Scheme
from keys.signer import FileSigner, Signer, check_signature
from keys.sshsig import NAMESPACE_APPROVAL, NAMESPACE_STATEMENT

PAE = b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
PRIVATE = PrivateKey(b"\x07" * 32)


def code(scheme: Scheme, sig: bytes, *, namespace: str = NAMESPACE_APPROVAL, user_verification: bool = False) -> str:
    with pytest.raises(CalyxError) as caught:
        check_signature(scheme, PRIVATE.public, user_verification, namespace, PAE, sig)
    return caught.value.code


def test_human_signs_in_a_namespace() -> None:
    signer: Signer = FileSigner("alice", "human", PRIVATE)
    assert (signer.principal, signer.keyid) == ("alice", fingerprint(PRIVATE.public))
    sig = signer.sign(PAE, NAMESPACE_APPROVAL)
    check_signature("sshsig", PRIVATE.public, False, NAMESPACE_APPROVAL, PAE, sig)
    assert code("sshsig", sig, namespace=NAMESPACE_STATEMENT) == "wrong_namespace"


@pytest.mark.parametrize("kind", ["agent", "overseer", "executor", "monitor"])
def test_machine_signs_the_pae_itself(kind: Kind) -> None:
    sig = FileSigner("machine", kind, PRIVATE).sign(PAE, NAMESPACE_STATEMENT)
    assert sig == PRIVATE.sign_raw(PAE)
    check_signature("ed25519", PRIVATE.public, False, NAMESPACE_STATEMENT, PAE, sig)


def test_signature_of_the_other_scheme_is_refused() -> None:
    human = FileSigner("alice", "human", PRIVATE).sign(PAE, NAMESPACE_APPROVAL)
    assert code("ed25519", human) == "bad_signature"
    assert code("ed25519", sshsig.parse_blob(human).raw) == "bad_signature"
    assert code("sshsig", PRIVATE.sign_raw(PAE)) == "bad_format"


def test_scheme_without_name_is_refused() -> None:
    assert code("none", PRIVATE.sign_raw(PAE)) == "bad_signature"  # type: ignore[arg-type]  # that is the attack


def test_machine_with_a_token_key_is_refused() -> None:
    token = Token()
    raw = PrivateKey(token.seed).sign_raw(PAE)
    with pytest.raises(CalyxError) as caught:
        check_signature("ed25519", parse_blob(token.blob), False, NAMESPACE_STATEMENT, PAE, raw)
    assert caught.value.code == "bad_key"
    assert code("ed25519", PRIVATE.sign_raw(PAE), user_verification=True) == "bad_key"


def test_human_with_a_token_key_is_accepted_and_its_touch_required() -> None:
    token = Token()
    key = parse_blob(token.blob)
    check_signature("sshsig", key, True, NAMESPACE_APPROVAL, PAE, token.sign(NAMESPACE_APPROVAL, PAE, flags=5))
    with pytest.raises(CalyxError) as caught:
        check_signature("sshsig", key, False, NAMESPACE_APPROVAL, PAE, token.sign(NAMESPACE_APPROVAL, PAE, flags=0))
    assert caught.value.code == "user_absent"


def test_signer_does_not_show_its_secret() -> None:
    assert (b"\x07" * 32).hex() not in repr(FileSigner("alice", "human", PRIVATE))
