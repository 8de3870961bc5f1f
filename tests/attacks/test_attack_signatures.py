"""Attacks on the signature: made for something else, in another scheme, malleable, or by a token that was not asked."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from assault import QUESTION, Lease, appended, approval, claim_of, objection, repelled
from authenticator import TOUCHED, VERIFIED, Token, field, frame, to_sign
from edwards import EIGHTH, IDENTITY, ORDER, P, sign_with
from governing import principal
from programs import require_program
from station import Station, new_station

from keys import ed25519
from keys.openssh import format_public, store_private_key
from keys.openssh_public import fingerprint, plain_key
from keys.openssh_public import parse_blob as parse_key
from keys.sshsig import (
    NAMESPACE_APPROVAL,
    NAMESPACE_STATEMENT,
    format_armor,
    parse_armor,
    parse_blob,
    sign,
    signed_data,
)
from ledger.envelope import Envelope, pae
from policies.submitter import Draft

REVIEW = {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


@pytest.fixture
def lease(station: Station) -> Lease:
    return station.propose()


def human_blob(station: Station, who: str, namespace: str, message: bytes) -> bytes:
    """An SSHSIG blob in any namespace, also the empty one; encoded without the code under test."""
    key = station.keys[who]
    inner = field(b"ssh-ed25519") + field(key.sign_raw(to_sign(namespace, message)))
    return frame(key.public.blob, namespace, inner)


def resigned(station: Station, draft: Draft, namespace: str, who: str = "ada") -> Envelope:
    honest = station.sign(who, draft)
    return Envelope(honest.body, honest.keyid, human_blob(station, who, namespace, pae(honest.body)))


@pytest.mark.parametrize("namespace", ["git", "file", "", NAMESPACE_STATEMENT, "approval-v2@station.calyx", "x" * 128])
def test_cosignature_in_the_namespace(station: Station, lease: Lease, namespace: str) -> None:
    repelled(station, resigned(station, approval(lease), namespace), "wrong_namespace")


@pytest.mark.parametrize("namespace", ["git", "file", "", NAMESPACE_APPROVAL, "statement-v1@station.calyx "])
@pytest.mark.parametrize("what", ["objection", "message"])
def test_statement_in_the_namespace(station: Station, lease: Lease, what: str, namespace: str) -> None:
    draft = objection(lease, "deny") if what == "objection" else QUESTION
    repelled(station, resigned(station, draft, namespace), "wrong_namespace")


def test_approval_blob_moved_to_an_objection_and_back(station: Station, lease: Lease) -> None:
    """A true signature of one kind over the other's bytes, and a true signature beside other bytes."""
    vote, protest = station.sign("ada", approval(lease)), station.sign("ada", objection(lease))
    repelled(station, Envelope(protest.body, protest.keyid, vote.sig), "wrong_namespace")
    repelled(station, Envelope(vote.body, vote.keyid, protest.sig), "wrong_namespace")
    other = station.sign("ada", approval(lease))
    repelled(station, Envelope(vote.body, vote.keyid, other.sig), "bad_signature")


@pytest.mark.parametrize(
    ("namespace", "code"),
    [
        ("git", "wrong_namespace"),
        ("file", "wrong_namespace"),
        (NAMESPACE_STATEMENT, "wrong_namespace"),
        (NAMESPACE_APPROVAL, None),
    ],
)
def test_signature_that_ssh_keygen_made(station: Station, lease: Lease, namespace: str, code: str | None) -> None:
    """A signed commit or file of the approver is no approval; the same program makes one where it is asked to."""
    keygen = require_program("ssh-keygen")
    path = station.root / "id_ed25519"
    store_private_key(path, station.keys["ada"])
    honest = station.sign("ada", approval(lease))
    made = subprocess.run(
        [keygen, "-Y", "sign", "-n", namespace, "-f", str(path)],
        input=pae(honest.body),
        capture_output=True,
        check=True,
        timeout=60,
    )
    envelope = Envelope(honest.body, honest.keyid, parse_armor(made.stdout.decode()))
    if code is None:
        appended(station, envelope)
    else:
        repelled(station, envelope, code)


def test_raw_ed25519_from_a_human_key(station: Station, lease: Lease) -> None:
    honest = station.sign("ada", approval(lease))
    for message in (pae(honest.body), signed_data(NAMESPACE_APPROVAL, pae(honest.body)), honest.body):
        raw = station.keys["ada"].sign_raw(message)
        repelled(station, Envelope(honest.body, honest.keyid, raw), "bad_format")


def test_sshsig_from_an_agent_key(station: Station, lease: Lease) -> None:
    honest = station.sign("cp14", Draft("review", REVIEW, lease))
    for namespace in (NAMESPACE_STATEMENT, NAMESPACE_APPROVAL):
        blob = sign(station.keys["cp14"], namespace, pae(honest.body))
        repelled(station, Envelope(honest.body, honest.keyid, blob), "bad_signature")
        # Its 64 bytes alone are over other bytes than the PAE.
        repelled(station, Envelope(honest.body, honest.keyid, parse_blob(blob).raw), "bad_signature")


def test_signature_over_the_body_alone_by_an_agent(station: Station, lease: Lease) -> None:
    honest = station.sign("cp14", Draft("review", REVIEW, lease))
    raw = station.keys["cp14"].sign_raw(honest.body)
    repelled(station, Envelope(honest.body, honest.keyid, raw), "bad_signature")


def changed(blob: bytes, old: bytes, new: bytes) -> bytes:
    assert blob.count(old) >= 1
    return blob.replace(old, new, 1)


FRAMES: dict[str, Any] = {
    "trailing-byte": lambda blob: blob + b"\0",
    "trailing-newline": lambda blob: blob + b"\n",
    "twice": lambda blob: blob * 2,
    "byte-missing": lambda blob: blob[:-1],
    "first-byte-missing": lambda blob: blob[1:],
    "version-2": lambda blob: changed(blob, b"SSHSIG\0\0\0\x01", b"SSHSIG\0\0\0\x02"),
    "reserved-not-empty": lambda blob: changed(blob, field(b"") + field(b"sha512"), field(b"x") + field(b"sha512")),
    "sha256": lambda blob: changed(blob, field(b"sha512"), field(b"sha256")),
    "type-of-a-token": lambda blob: changed(
        blob, b"\0\0\0\x0bssh-ed25519\0\0\0\x40", b"\0\0\0\x0bssh-rsa2048\0\0\0\x40"
    ),
    "armour": lambda blob: format_armor(blob).encode(),
    "signature-of-65-bytes": lambda blob: (
        changed(
            changed(blob, struct.pack(">I", 83), struct.pack(">I", 84)), struct.pack(">I", 64), struct.pack(">I", 65)
        )
        + b"\0"
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_blob_with_trailing_bytes_or_another_frame(station: Station, lease: Lease, name: str) -> None:
    honest = station.sign("ada", approval(lease))
    repelled(station, Envelope(honest.body, honest.keyid, FRAMES[name](honest.sig)), "bad_format")


def test_blob_whose_own_key_is_another(station: Station, lease: Lease) -> None:
    """The blob brings a key along; the trust root's is the one that counts."""
    honest = station.sign("ada", approval(lease))
    theirs = station.sign("ada", approval(lease), signer=station.signer("ben"))
    repelled(station, Envelope(honest.body, honest.keyid, theirs.sig), "wrong_key")
    blob = changed(honest.sig, station.keys["ada"].public.blob, station.keys["ben"].public.blob)
    repelled(station, Envelope(honest.body, honest.keyid, blob), "wrong_key")


@pytest.mark.parametrize("tail", [b"\0", b"\n", b"\0" * 64])
def test_trailing_bytes_behind_an_agents_signature(station: Station, lease: Lease, tail: bytes) -> None:
    honest = station.sign("cp14", Draft("review", REVIEW, lease))
    repelled(station, Envelope(honest.body, honest.keyid, honest.sig + tail), "bad_signature")
    repelled(station, Envelope(honest.body, honest.keyid, honest.sig[:-1]), "bad_signature")


def mauled(raw: bytes) -> bytes:
    """The same signature with S + L: the equation still holds, and the bytes are others."""
    s = int.from_bytes(raw[32:], "little") + ORDER
    assert s < 2**256
    return raw[:32] + s.to_bytes(32, "little")


@pytest.mark.parametrize("who", ["ada", "cp14"])
def test_s_plus_l(station: Station, lease: Lease, who: str) -> None:
    honest = station.sign(who, approval(lease) if who == "ada" else Draft("review", REVIEW, lease))
    sig = honest.sig[:-64] + mauled(honest.sig[-64:])
    repelled(station, Envelope(honest.body, honest.keyid, sig), "bad_signature")


def seed_of(station: Station, who: str) -> bytes:
    return station.keys[who]._signing.seed


R_COMPONENTS = {
    "identity": (0, IDENTITY),
    "order-2": (0, (0, P - 1)),
    "order-8": (0, EIGHTH),
    "mixed-order-2": (7, (0, P - 1)),
    "mixed-order-8": (7, EIGHTH),
}


@pytest.mark.parametrize("name", R_COMPONENTS)
@pytest.mark.parametrize("who", ["ada", "cp14"])
def test_small_order_or_mixed_r_component(station: Station, lease: Lease, who: str, name: str) -> None:
    """The key's holder can make these, and verifiers disagree on them: a ledger must not mean two things."""
    r, torsion = R_COMPONENTS[name]
    honest = station.sign(who, approval(lease) if who == "ada" else Draft("review", REVIEW, lease))
    message = pae(honest.body)
    if who == "ada":
        message = signed_data(NAMESPACE_APPROVAL, message)
    raw = sign_with(seed_of(station, who), message, r=r, torsion=torsion)
    repelled(station, Envelope(honest.body, honest.keyid, honest.sig[:-64] + raw), "bad_signature")


def test_forged_r_is_a_true_signature_without_torsion(station: Station, lease: Lease) -> None:
    """Were the forger wrong, every refusal above would prove nothing."""
    honest = station.sign("cp14", Draft("review", REVIEW, lease))
    raw = sign_with(seed_of(station, "cp14"), pae(honest.body), r=7, torsion=IDENTITY)
    appended(station, Envelope(honest.body, honest.keyid, raw))


@pytest.mark.parametrize("r", ["01" + "00" * 31, "ee" + "ff" * 30 + "7f", "00" * 32, "ff" * 32])
def test_r_that_is_no_canonical_point(station: Station, lease: Lease, r: str) -> None:
    honest = station.sign("ada", approval(lease))
    sig = honest.sig[:-64] + bytes.fromhex(r) + honest.sig[-32:]
    repelled(station, Envelope(honest.body, honest.keyid, sig), "bad_signature")


class Held:
    """Signs with a token as told: flags, application, and the key it says it is."""

    principal = "ada"

    def __init__(self, token: Token, key_blob: bytes = b"", **how: Any) -> None:
        self.token = token
        self.how = how
        self.blob = key_blob or token.blob

    @property
    def keyid(self) -> str:
        return fingerprint(parse_key(self.blob))

    def sign(self, pae: bytes, namespace: str) -> bytes:
        return frame(self.blob, namespace, self.token.assertion(to_sign(namespace, pae), **self.how))


TOKEN = Token(application=b"ssh:calyx")


def with_token(root: Path, *, verified: bool) -> tuple[Station, Lease]:
    """A station in which ada's key is a token's."""
    station = Station(root)
    trust = station.trust()
    line = format_public(parse_key(TOKEN.blob))
    principal(trust, "ada")["keys"].append({"key": line, "user_verification": verified})
    station.trust = lambda **_: trust  # type: ignore[method-assign]  # this station's genesis has one key more
    station.genesis()
    station.enact_fleet()
    return station, station.propose()


def test_token_that_was_touched_approves(tmp_path: Path) -> None:
    station, lease = with_token(tmp_path, verified=False)
    station.review("cp14", lease)
    station.take_term()
    appended(station, station.sign("ada", approval(lease), signer=Held(TOKEN)))
    appended(station, claim_of(station, lease, *sorted(v.seq for v in station.state.leases[lease[1]].ballot.votes)))


@pytest.mark.parametrize(
    ("verified", "how", "code"),
    [
        (False, {"flags": 0}, "user_absent"),
        (False, {"flags": VERIFIED}, "user_absent"),
        (False, {"flags": 0x80}, "user_absent"),
        (True, {"flags": TOUCHED}, "user_unverified"),
        (True, {"flags": TOUCHED | 0x40}, "user_unverified"),
        (False, {"application": b"ssh:"}, "bad_signature"),
        (False, {"application": b"https://example.org"}, "bad_signature"),
    ],
    ids=["no-touch", "verified-untouched", "backup-flag", "no-pin", "attested-no-pin", "application", "website"],
)
def test_token_that_was_not_asked_as_the_root_wants(
    tmp_path: Path, verified: bool, how: dict[str, Any], code: str
) -> None:
    station, lease = with_token(tmp_path, verified=verified)
    repelled(station, station.sign("ada", approval(lease), signer=Held(TOKEN, **how)), code)


def test_token_key_whose_application_changed(tmp_path: Path) -> None:
    """The whole key blob is pinned: the same point under another application is another key."""
    station, lease = with_token(tmp_path, verified=False)
    other = Token(application=b"ssh:")
    assert other.raw == TOKEN.raw
    repelled(station, station.sign("ada", approval(lease), signer=Held(other)), "unknown_key")
    honest = station.sign("ada", approval(lease), signer=Held(TOKEN))
    theirs = Held(other).sign(pae(honest.body), NAMESPACE_APPROVAL)
    repelled(station, Envelope(honest.body, honest.keyid, theirs), "wrong_key")


def test_token_flags_and_counter_changed_after_signing(tmp_path: Path) -> None:
    station, lease = with_token(tmp_path, verified=True)
    honest = station.sign("ada", approval(lease), signer=Held(TOKEN, flags=TOUCHED))
    for tail in (bytes([TOUCHED | VERIFIED]) + honest.sig[-4:], honest.sig[-5:-1] + b"\0"):
        sig = honest.sig[:-5] + tail
        code = "bad_signature" if tail[0] & VERIFIED else "user_unverified"
        repelled(station, Envelope(honest.body, honest.keyid, sig), code)


def test_plain_key_posing_as_a_token_and_a_token_as_a_plain_key(tmp_path: Path) -> None:
    station, lease = with_token(tmp_path, verified=False)
    body = station.sign("ada", approval(lease), signer=Held(TOKEN)).body
    keyid, message = Held(TOKEN).keyid, to_sign(NAMESPACE_APPROVAL, pae(body))

    raw = ed25519.sign(TOKEN.seed, message)
    plain = plain_key(TOKEN.raw).blob
    inner = field(b"ssh-ed25519") + field(raw)
    # A program that has the secret signs without any touch.
    repelled(station, Envelope(body, keyid, frame(plain, NAMESPACE_APPROVAL, inner)), "wrong_key")
    repelled(station, Envelope(body, keyid, frame(TOKEN.blob, NAMESPACE_APPROVAL, inner)), "bad_format")
    posing = field(b"sk-ssh-ed25519@openssh.com") + field(raw) + bytes([TOUCHED]) + bytes(4)
    repelled(station, Envelope(body, keyid, frame(TOKEN.blob, NAMESPACE_APPROVAL, posing)), "bad_signature")
    # And a token's assertion is none of the plain key that ada has too.
    honest = station.sign("ada", approval(lease))
    assertion = TOKEN.assertion(to_sign(NAMESPACE_APPROVAL, pae(honest.body)))
    ours = frame(station.keys["ada"].public.blob, NAMESPACE_APPROVAL, assertion)
    repelled(station, Envelope(honest.body, honest.keyid, ours), "bad_format")
    assert not station.state.leases[lease[1]].ballot.votes
