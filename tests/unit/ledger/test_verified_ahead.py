"""A signature that was verified ahead spares one look at that envelope with that key, and no other."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator, Sequence

import pytest

from keys.ahead import SignaturesAhead
from keys.ed25519 import PublicKey
from keys.errors import CalyxError, SignatureRefused
from keys.openssh_private import PrivateKey
from keys.openssh_public import format_public
from keys.principals import EnrolledKey, KeyEntry, Principal, Thresholds, TrustRoot
from keys.signer import FileSigner
from ledger import verified as module
from ledger.envelope import Envelope, pae
from ledger.statement import Statement, make_statement, parse_statement
from ledger.verified import CheckedAhead, VerifiedSignature, open_envelope, sign_statement

HUMAN, MACHINE, OTHER = PrivateKey(b"h" * 32), PrivateKey(b"m" * 32), PrivateKey(b"o" * 32)
KINDS = {"ana": ("human", HUMAN), "cp14": ("agent", MACHINE), "cp19": ("monitor", OTHER)}


def enrol(by: str, *, user_verification: bool = False) -> Principal:
    kind, key = KINDS[by]
    entry = KeyEntry(key=format_public(key.public), user_verification=user_verification)
    return Principal.from_json({"id": by, "kind": kind, "custodian": by, "roles": [], "keys": [entry.to_json()]})


def root(*principals: Principal) -> TrustRoot:
    thresholds = Thresholds(governors=1, operators=1)
    return TrustRoot(
        law=1, principals=principals, thresholds=thresholds, expires="2030-01-01T00:00:00Z", compromised=()
    )


ROOT = root(*map(enrol, KINDS))


@pytest.fixture
def ahead() -> Iterator[SignaturesAhead]:
    with SignaturesAhead(1) as made:
        yield made


def say(by: str, nonce: int = 0) -> Statement:
    head = {"hash": "ab" * 32, "size": 7}
    common = {"by": by, "head": head, "ledger": "cd" * 32, "made_at": "2026-01-02T03:04:05Z", "nonce": f"{nonce:032x}"}
    return make_statement("message", common)


def sign(by: str, nonce: int = 0) -> Envelope:
    kind, key = KINDS[by]
    return sign_statement(say(by, nonce), FileSigner(by, kind, key))  # type: ignore[arg-type]  # one of the kinds


def enrolled(by: str, trust: TrustRoot = ROOT) -> EnrolledKey:
    holder = trust.find_key(sign(by).keyid)
    assert holder is not None
    return holder.enrolled


def open_it(envelope: Envelope, key: EnrolledKey, signature: VerifiedSignature | None) -> None:
    open_envelope(envelope, parse_statement(envelope.body), key, signature)


def check(ahead: SignaturesAhead, envelopes: Sequence[Envelope]) -> list[VerifiedSignature | None]:
    return CheckedAhead(envelopes, ROOT, ahead).verified()


def test_signature_that_was_proved_is_not_checked_again(
    ahead: SignaturesAhead, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelopes = [sign(by, nonce) for nonce in range(3) for by in ("cp14", "cp19")]
    found = check(ahead, envelopes)
    monkeypatch.setattr(module, "check_signature", lambda *_: pytest.fail("it was checked here"))
    for envelope, signature in zip(envelopes, found, strict=True):
        by = parse_statement(envelope.body).by
        assert signature == (envelope, enrolled(by))
        open_it(envelope, enrolled(by), signature)


def test_forged_signature_among_good_ones_is_not_proved(ahead: SignaturesAhead) -> None:
    forged = Envelope(say("cp14", 1).body, sign("cp14").keyid, sign("cp14", 2).sig)
    found = check(ahead, [sign("cp14"), forged, sign("ana"), sign("cp19")])
    assert [signature is not None for signature in found] == [True, False, False, True]
    with pytest.raises(SignatureRefused):
        open_it(forged, enrolled("cp14"), found[1])


def test_signature_of_another_envelope_or_by_another_key_spares_nothing(ahead: SignaturesAhead) -> None:
    good = sign("cp14")
    (signature,) = check(ahead, [good])
    assert signature is not None
    for body, sig in ((say("cp14", 1).body, good.sig), (good.body, bytes(64))):
        with pytest.raises(SignatureRefused) as caught:
            open_it(Envelope(body, good.keyid, sig), enrolled("cp14"), signature)
        assert caught.value.code == "bad_signature"
    # Enrolled again for a token that verifies its user, the same key does not sign bare.
    again = enrolled("cp14", root(enrol("cp14", user_verification=True)))
    with pytest.raises(SignatureRefused) as caught:
        open_it(good, again, signature)
    assert caught.value.code == "bad_key"
    with pytest.raises(SignatureRefused) as caught:
        open_it(good, enrolled("cp19"), signature)
    assert caught.value.code == "wrong_signer"


def test_nothing_is_asked_about_what_is_not_signed_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[PublicKey] = []

    class Watched(SignaturesAhead):
        def ask(self, publics, joined):  # type: ignore[no-untyped-def]  # as it is
            asked.extend(publics)
            return super().ask(publics, joined)

    good, stranger = sign("cp14"), Envelope(b"{}", "SHA256:" + "A" * 43, bytes(64))
    # A signature that is longer would lend its tail to what is signed.
    tail = pae(good.body)[:1]
    long = Envelope(good.body, good.keyid, good.sig + tail)
    with Watched(1) as ahead:
        trust = root(enrol("ana"), enrol("cp14"), enrol("cp19", user_verification=True))
        found = CheckedAhead([sign("ana"), stranger, long, sign("cp19")], trust, ahead).verified()
        assert found == [None] * 4
        assert asked == []


def test_nobody_else_makes_a_verified_signature(ahead: SignaturesAhead) -> None:
    envelope, key = sign("cp14"), enrolled("cp14")
    (signature,) = check(ahead, [envelope])
    assert signature is not None
    attempts = (
        lambda: VerifiedSignature(envelope, key),
        lambda: VerifiedSignature._make((envelope, key)),
        lambda: signature._replace(envelope=sign("cp14", 1)),
        lambda: pickle.dumps(signature),
        lambda: copy.copy(signature),
    )
    for attempt in attempts:
        with pytest.raises(TypeError):
            attempt()


def test_process_that_cannot_be_started_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keys.ahead.COMMAND", ("/nowhere/python",))
    with SignaturesAhead(1, required=False) as ahead:
        assert check(ahead, [sign("cp14"), sign("cp19")]) == [None, None]
    with pytest.raises(CalyxError):
        SignaturesAhead(1)
