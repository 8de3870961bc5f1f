from __future__ import annotations

import pytest
from authenticator import Token, field

from keys.errors import CalyxError, FormatError, SignatureRefused
from keys.openssh import (
    OpenSshKey,
    PrivateKey,
    fingerprint,
    format_blob,
    format_public,
    parse_blob,
    parse_public,
    plain_key,
)
from keys.values import format_base64

KEY = PrivateKey(b"\x07" * 32).public
LINE = format_public(KEY)


def test_line_with_and_without_comment_is_the_same_key() -> None:
    for text in (LINE, LINE + "\n", LINE + "\r\n", LINE + " me@example.org", LINE + " two words ö\n"):
        assert parse_public(text) == KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        " " + LINE,
        LINE + "\n\n",
        LINE + "\n" + LINE,
        LINE + " a\tb",
        LINE + " a\x1b[2J",
        LINE.replace(" ", "  "),
        LINE.replace(" ", "\t"),
        LINE + "=",
        LINE[:-1],
        'command="x" ' + LINE,
        "no-touch-required " + LINE,
        LINE + " " + "c" * 3000,
        LINE.upper(),
    ],
)
def test_line_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_public(text)


@pytest.mark.parametrize("name", ["ssh-rsa", "ecdsa-sha2-nistp256", "ssh-ed25519-cert-v01@openssh.com", "ssh-ed448"])
def test_other_key_types_are_unsupported(name: str) -> None:
    blob = field(name.encode()) + field(bytes(KEY.raw))
    with pytest.raises(FormatError) as of_line:
        parse_public(f"{name} {format_base64(blob)}")
    with pytest.raises(FormatError) as of_blob:
        parse_blob(blob)
    assert of_line.value.code == of_blob.value.code == "unsupported_key"


def test_line_whose_type_is_not_that_of_its_blob_is_refused() -> None:
    with pytest.raises(FormatError, match="says ssh-ed25519 and holds"):
        parse_public("ssh-ed25519 " + format_base64(Token().blob))
    with pytest.raises(FormatError, match="says sk-ssh"):
        parse_public("sk-ssh-ed25519@openssh.com " + format_base64(KEY.blob))


@pytest.mark.parametrize(
    "blob",
    [
        KEY.blob + b"\x00",
        KEY.blob[:-1],
        field(b"ssh-ed25519") + field(bytes(KEY.raw)) + field(b"ssh:"),
        field(b"sk-ssh-ed25519@openssh.com") + field(bytes(KEY.raw)),
        Token(application=b"ssh:\n").blob,
        Token(application=b"ssh:\xff").blob,
        Token(application=b"ssh:" + b"a" * 252).blob,
        field(b"ssh-ed25519") + field(bytes(KEY.raw)) + bytes(600),
    ],
)
def test_malformed_blob_is_refused(blob: bytes) -> None:
    with pytest.raises(FormatError):
        parse_blob(blob)


def test_key_cannot_exist_around_a_weak_point() -> None:
    for make in (plain_key, lambda raw: OpenSshKey(field(b"ssh-ed25519") + field(raw))):
        with pytest.raises(SignatureRefused) as caught:
            make(b"\x01" + bytes(31))
        assert caught.value.code == "bad_key"


def test_type_raw_and_application_cannot_contradict_the_blob() -> None:
    with pytest.raises(TypeError):
        OpenSshKey(KEY.blob, type="ssh-ed25519")  # type: ignore[call-arg]  # there is no such argument: the point
    token = parse_blob(Token(application=b"ssh:approve").blob)
    assert (token.type, token.raw, token.application) == ("sk-ssh-ed25519@openssh.com", Token().raw, "ssh:approve")
    assert (KEY.type, KEY.application) == ("ssh-ed25519", None)
    assert format_blob(token) == token.blob
    with pytest.raises(AttributeError):
        token.raw = KEY.raw  # type: ignore[misc]  # frozen


def test_keys_are_equal_by_their_whole_blob() -> None:
    # One raw key, three labels.
    labels = {plain_key(Token().raw), parse_blob(Token().blob), parse_blob(Token(application=b"ssh:x").blob)}
    assert len(labels) == 3
    assert len({fingerprint(key) for key in labels}) == 3


def test_fingerprint_has_no_padding() -> None:
    assert fingerprint(KEY).startswith("SHA256:")
    assert len(fingerprint(KEY)) == len("SHA256:") + 43


def test_refusal_does_not_repeat_what_was_pasted() -> None:
    with pytest.raises(CalyxError) as caught:
        parse_public("-----BEGIN OPENSSH PRIVATE KEY----- c2VjcmV0")
    assert "c2Vj" not in str(caught.value) + caught.value.hint
