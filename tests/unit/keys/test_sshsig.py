from __future__ import annotations

import struct

import pytest
from authenticator import TOUCHED, VERIFIED, Token, field, frame, to_sign

from keys import sshsig
from keys.errors import CalyxError, FormatError, SignatureRefused
from keys.openssh import PrivateKey, parse_blob
from keys.sshsig import NAMESPACE_APPROVAL, NAMESPACE_STATEMENT

MESSAGE = b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
PRIVATE = PrivateKey(b"\x07" * 32)
PLAIN_BLOB = PRIVATE.public.blob
INNER = field(b"ssh-ed25519") + field(PRIVATE.sign_raw(to_sign(NAMESPACE_APPROVAL, MESSAGE)))
GOOD = frame(PLAIN_BLOB, NAMESPACE_APPROVAL, INNER)


def check(
    blob: bytes, key_blob: bytes = PLAIN_BLOB, namespace: str = NAMESPACE_APPROVAL, *, user_verification: bool = False
) -> None:
    sshsig.check(
        blob, key=parse_blob(key_blob), namespace=namespace, message=MESSAGE, user_verification=user_verification
    )


def refusal(blob: bytes, key_blob: bytes = PLAIN_BLOB, *, user_verification: bool = False) -> CalyxError:
    with pytest.raises(CalyxError) as caught:
        check(blob, key_blob, user_verification=user_verification)
    return caught.value


def test_signature_is_the_bytes_of_the_format() -> None:
    assert sshsig.sign(PRIVATE, NAMESPACE_APPROVAL, MESSAGE) == GOOD
    check(GOOD)


@pytest.mark.parametrize(
    ("attack", "blob"),
    [
        ("version 0", frame(PLAIN_BLOB, NAMESPACE_APPROVAL, INNER, version=0)),
        ("version 2", frame(PLAIN_BLOB, NAMESPACE_APPROVAL, INNER, version=2)),
        ("hash sha256", frame(PLAIN_BLOB, NAMESPACE_APPROVAL, INNER, hash_name=b"sha256")),
        ("hash of no name", frame(PLAIN_BLOB, NAMESPACE_APPROVAL, INNER, hash_name=b"")),
        ("reserved field filled", frame(PLAIN_BLOB, NAMESPACE_APPROVAL, INNER, reserved=b"x")),
        ("a byte after the end", GOOD + b"\x00"),
        ("a byte after the inner signature", frame(PLAIN_BLOB, NAMESPACE_APPROVAL, INNER + b"\x00")),
        ("a byte after the key", frame(PLAIN_BLOB + b"\x00", NAMESPACE_APPROVAL, INNER)),
        ("a byte missing", GOOD[:-1]),
        ("nothing", b""),
        ("magic alone", b"SSHSIG"),
        ("other magic", b"SSHSIh" + GOOD[6:]),
        ("no namespace", frame(PLAIN_BLOB, "", INNER)),
        ("63 bytes of signature", frame(PLAIN_BLOB, NAMESPACE_APPROVAL, field(b"ssh-ed25519") + field(INNER[-63:]))),
        ("65 bytes of signature", frame(PLAIN_BLOB, NAMESPACE_APPROVAL, field(b"ssh-ed25519") + field(INNER[-65:]))),
        ("inner type of a token", frame(PLAIN_BLOB, NAMESPACE_APPROVAL, Token().assertion(b""))),
        ("inner type rsa", frame(PLAIN_BLOB, NAMESPACE_APPROVAL, field(b"rsa-sha2-512") + INNER[15:])),
        ("length beyond the end", GOOD[:10] + struct.pack(">I", 2**32 - 1) + GOOD[14:]),
        ("over the limit", GOOD + bytes(4096)),
        ("the armor", sshsig.format_armor(GOOD).encode()),
    ],
)
def test_malformed_blob_is_refused(attack: str, blob: bytes) -> None:
    with pytest.raises(FormatError):
        sshsig.parse_blob(blob)
    # Around what another key or namespace leads to everything can be well formed.
    code = {"a byte after the key": "wrong_key", "no namespace": "wrong_namespace"}
    assert refusal(blob).code == code.get(attack, "bad_format"), attack


def test_signature_for_another_namespace_is_refused() -> None:
    for namespace in (NAMESPACE_STATEMENT, "git", "file", NAMESPACE_APPROVAL + "x"):
        assert refusal(sshsig.sign(PRIVATE, namespace, MESSAGE)).code == "wrong_namespace"


def test_namespace_rewritten_in_the_blob_is_refused() -> None:
    inner = field(b"ssh-ed25519") + field(PRIVATE.sign_raw(to_sign("git", MESSAGE)))
    assert refusal(frame(PLAIN_BLOB, NAMESPACE_APPROVAL, inner)).code == "bad_signature"


def test_signature_of_another_key_is_refused() -> None:
    other = PrivateKey(b"\x08" * 32)
    assert refusal(sshsig.sign(other, NAMESPACE_APPROVAL, MESSAGE)).code == "wrong_key"
    signed = field(b"ssh-ed25519") + field(other.sign_raw(to_sign(NAMESPACE_APPROVAL, MESSAGE)))
    assert refusal(frame(PLAIN_BLOB, NAMESPACE_APPROVAL, signed)).code == "bad_signature"


def test_blob_that_names_a_key_of_small_order_is_refused() -> None:
    weak = field(b"ssh-ed25519") + field(b"\x01" + bytes(31))
    assert refusal(frame(weak, NAMESPACE_APPROVAL, INNER)).code == "wrong_key"


def test_signature_over_the_message_without_sshsig_is_refused() -> None:
    inner = field(b"ssh-ed25519") + field(PRIVATE.sign_raw(MESSAGE))
    assert refusal(frame(PLAIN_BLOB, NAMESPACE_APPROVAL, inner)).code == "bad_signature"


def test_plain_key_never_verifies_its_user() -> None:
    assert refusal(GOOD, user_verification=True).code == "user_unverified"


def test_token_signature_is_accepted_with_a_touch() -> None:
    token = Token()
    check(token.sign(NAMESPACE_APPROVAL, MESSAGE), token.blob)
    check(token.sign(NAMESPACE_APPROVAL, MESSAGE, flags=TOUCHED | VERIFIED), token.blob, user_verification=True)
    # Further bits say how the token keeps its key; the counter may be anything.
    check(token.sign(NAMESPACE_APPROVAL, MESSAGE, flags=0x1D, counter=2**32 - 1), token.blob, user_verification=True)
    check(token.sign(NAMESPACE_APPROVAL, MESSAGE, counter=0), token.blob)


@pytest.mark.parametrize("flags", [0x00, VERIFIED, 0xFE])
def test_token_signature_without_touch_is_refused(flags: int) -> None:
    token = Token()
    blob = token.sign(NAMESPACE_APPROVAL, MESSAGE, flags=flags)
    assert refusal(blob, token.blob).code == "user_absent"
    assert refusal(blob, token.blob, user_verification=True).code == "user_absent"


def test_token_signature_without_user_verification_is_refused_where_the_root_asks() -> None:
    token = Token()
    blob = token.sign(NAMESPACE_APPROVAL, MESSAGE, flags=TOUCHED)
    assert refusal(blob, token.blob, user_verification=True).code == "user_unverified"


def test_flags_and_counter_changed_after_signing_are_refused() -> None:
    token = Token()
    blob = token.sign(NAMESPACE_APPROVAL, MESSAGE, flags=TOUCHED)
    verified = blob[:-5] + bytes([TOUCHED | VERIFIED]) + blob[-4:]
    assert refusal(verified, token.blob, user_verification=True).code == "bad_signature"
    later = blob[:-1] + bytes([blob[-1] + 1])
    assert refusal(later, token.blob).code == "bad_signature"


def test_token_signature_of_another_application_is_refused() -> None:
    token = Token(application=b"ssh:approve")
    web = token.assertion(to_sign(NAMESPACE_APPROVAL, MESSAGE), application=b"login.example.org")
    assert refusal(frame(token.blob, NAMESPACE_APPROVAL, web), token.blob).code == "bad_signature"
    # The same raw key under another application is another key: the whole blob is pinned.
    other = Token(application=b"ssh:")
    assert refusal(other.sign(NAMESPACE_APPROVAL, MESSAGE), token.blob).code == "wrong_key"


def test_web_application_is_never_enrolled() -> None:
    for application in (b"", b"https://example.org", b"SSH:", b"xssh:"):
        with pytest.raises(FormatError) as caught:
            parse_blob(Token(application=application).blob)
        assert caught.value.code == "bad_application"


def test_plain_key_posing_as_a_token_is_refused() -> None:
    token = Token()
    plain = PrivateKey(token.seed)
    assert plain.public.raw == token.raw
    # As itself, where the token is pinned.
    assert refusal(sshsig.sign(plain, NAMESPACE_APPROVAL, MESSAGE), token.blob).code == "wrong_key"
    signed = to_sign(NAMESPACE_APPROVAL, MESSAGE)
    # Under the token's key blob, with a plain inner signature.
    inner = field(b"ssh-ed25519") + field(plain.sign_raw(signed))
    assert refusal(frame(token.blob, NAMESPACE_APPROVAL, inner), token.blob).code == "bad_format"
    # Under the token's key blob and inner type, with flags that no token signed.
    inner = field(b"sk-ssh-ed25519@openssh.com") + field(plain.sign_raw(signed)) + b"\x05" + bytes(4)
    assert refusal(frame(token.blob, NAMESPACE_APPROVAL, inner), token.blob).code == "bad_signature"


def test_token_posing_as_a_plain_key_is_refused() -> None:
    token = Token()
    plain = PrivateKey(token.seed).public.blob
    assert refusal(token.sign(NAMESPACE_APPROVAL, MESSAGE), plain).code == "wrong_key"
    assertion = token.assertion(to_sign(NAMESPACE_APPROVAL, MESSAGE))
    assert refusal(frame(plain, NAMESPACE_APPROVAL, assertion), plain).code == "bad_format"
    raw = assertion[34:98]
    inner = field(b"ssh-ed25519") + field(raw)
    assert refusal(frame(plain, NAMESPACE_APPROVAL, inner), plain).code == "bad_signature"


def test_token_blob_without_flags_and_counter_is_refused() -> None:
    token = Token()
    blob = token.sign(NAMESPACE_APPROVAL, MESSAGE)
    assertion = token.assertion(to_sign(NAMESPACE_APPROVAL, MESSAGE))
    for cut in (1, 4, 5):
        assert refusal(blob[:-cut], token.blob).code == "bad_format"
        assert refusal(frame(token.blob, NAMESPACE_APPROVAL, assertion[:-cut]), token.blob).code == "bad_format"


def test_parsed_token_signature_tells_flags_and_counter() -> None:
    found = sshsig.parse_blob(Token().sign(NAMESPACE_APPROVAL, MESSAGE, flags=5, counter=41))
    assert (found.flags, found.counter, found.namespace) == (5, 41, NAMESPACE_APPROVAL)
    assert sshsig.parse_blob(GOOD).flags is None


def test_signature_of_an_agent_is_wrapped_into_the_same_blob() -> None:
    key = PRIVATE.public
    assert sshsig.signed_data(NAMESPACE_APPROVAL, MESSAGE) == to_sign(NAMESPACE_APPROVAL, MESSAGE)
    assert sshsig.wrap(key, NAMESPACE_APPROVAL, INNER) == GOOD
    with pytest.raises(FormatError):
        sshsig.wrap(key, NAMESPACE_APPROVAL, Token().assertion(b""))


def test_namespace_that_cannot_be_is_refused_when_signing() -> None:
    for namespace in ("", "a\n", "x" * 129, "\udc80", "approval-v1\u200b"):
        with pytest.raises(FormatError):
            sshsig.sign(PRIVATE, namespace, MESSAGE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
        sshsig.format_armor(GOOD) + "\n",
        " " + sshsig.format_armor(GOOD),
        sshsig.format_armor(GOOD).replace("END", "FIN"),
        sshsig.format_armor(GOOD).replace("U1NI", "U1N!"),
        sshsig.format_armor(GOOD).replace("U1NI", "U1N\u0130"),
        sshsig.format_armor(GOOD) + "x" * 9000,
    ],
)
def test_damaged_armor_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        sshsig.parse_armor(text)


def test_armor_with_windows_line_ends_is_read() -> None:
    assert sshsig.parse_armor(sshsig.format_armor(GOOD).replace("\n", "\r\n")) == GOOD


def test_check_names_what_it_expected() -> None:
    with pytest.raises(SignatureRefused, match="for the namespace 'git'") as caught:
        check(sshsig.sign(PRIVATE, "git", MESSAGE))
    assert NAMESPACE_APPROVAL in caught.value.hint
