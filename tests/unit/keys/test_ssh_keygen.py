"""What the real ssh-keygen writes we read, and what we write it reads."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from authenticator import Token
from programs import require_program

from keys import sshsig
from keys.errors import FormatError, SignatureRefused
from keys.openssh import (
    PrivateKey,
    fingerprint,
    format_public,
    load_private_key,
    parse_blob,
    parse_public,
    store_private_key,
)
from keys.sshsig import NAMESPACE_APPROVAL, NAMESPACE_STATEMENT

KEY = PrivateKey(b"\x07" * 32)
MESSAGE = b"DSSEv1 28 application/vnd.in-toto+json 2 {}"


def keygen(*args: str | Path, stdin: bytes = b"", fails: bool = False) -> str:
    done = subprocess.run(
        [require_program("ssh-keygen"), *map(str, args)], input=stdin, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode != 0) == fails, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("passphrase", [None, b"correct horse", b"p" * 100])
def test_ssh_keygen_reads_our_key_file(tmp_path: Path, passphrase: bytes | None) -> None:
    path = tmp_path / "key"
    store_private_key(path, KEY, passphrase, comment="me@example.org")
    public = keygen("-y", "-P", (passphrase or b"").decode(), "-f", path)
    assert parse_public(public) == KEY.public
    assert keygen("-l", "-f", path) == f"256 {fingerprint(KEY.public)} me@example.org (ED25519)\n"
    assert keygen("-l", "-f", f"{path}.pub") == f"256 {fingerprint(KEY.public)} me@example.org (ED25519)\n"


@pytest.mark.parametrize(
    "options",
    [
        ["-N", "", "-C", ""],
        ["-N", "", "-C", "a comment of several words, some of them ünusual"],
        ["-N", "correct horse", "-C", "me"],
        ["-N", "correct horse", "-a", "3", "-Z", "aes256-cbc"],
        ["-N", "correct horse", "-a", "3", "-Z", "aes256-gcm@openssh.com"],
    ],
)
def test_key_file_of_ssh_keygen_is_loaded(tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "key"
    keygen("-q", "-t", "ed25519", "-f", path, *options)
    key = load_private_key(path, lambda: b"correct horse")
    assert parse_public((tmp_path / "key.pub").read_text("utf-8")) == key.public
    assert fingerprint(key.public) in keygen("-l", "-f", f"{path}.pub")
    sshsig.check(
        sshsig.sign(key, NAMESPACE_APPROVAL, MESSAGE),
        key=key.public,
        namespace=NAMESPACE_APPROVAL,
        message=MESSAGE,
        user_verification=False,
    )


def test_signature_of_ssh_keygen_is_accepted_and_equals_ours(tmp_path: Path) -> None:
    store_private_key(tmp_path / "key", KEY)
    (tmp_path / "statement").write_bytes(MESSAGE)
    keygen("-q", "-Y", "sign", "-n", NAMESPACE_APPROVAL, "-f", tmp_path / "key", tmp_path / "statement")
    text = (tmp_path / "statement.sig").read_text("ascii")
    blob = sshsig.parse_armor(text)
    assert blob == sshsig.sign(KEY, NAMESPACE_APPROVAL, MESSAGE)
    assert sshsig.format_armor(blob) == text
    sshsig.check(blob, key=KEY.public, namespace=NAMESPACE_APPROVAL, message=MESSAGE, user_verification=False)
    with pytest.raises(SignatureRefused):
        sshsig.check(blob, key=KEY.public, namespace=NAMESPACE_STATEMENT, message=MESSAGE, user_verification=False)


def test_signature_of_ssh_keygen_with_another_hash_is_refused(tmp_path: Path) -> None:
    store_private_key(tmp_path / "key", KEY)
    (tmp_path / "statement").write_bytes(MESSAGE)
    signing = ["-q", "-Y", "sign", "-O", "hashalg=sha256", "-n", NAMESPACE_APPROVAL]
    keygen(*signing, "-f", tmp_path / "key", tmp_path / "statement")
    with pytest.raises(FormatError, match="sha512"):
        sshsig.parse_blob(sshsig.parse_armor((tmp_path / "statement.sig").read_text("ascii")))


def verify(folder: Path, line: str, blob: bytes, namespace: str, message: bytes, *, fails: bool = False) -> str:
    (folder / "signers").write_text(f'alice namespaces="{NAMESPACE_APPROVAL}" {line}\n', "utf-8")
    signature = folder / "signature"
    signature.write_text(sshsig.format_armor(blob), "utf-8")
    who: list[str | Path] = ["-f", folder / "signers", "-I", "alice", "-n", namespace]
    return keygen("-Y", "verify", *who, "-s", signature, stdin=message, fails=fails)


def test_ssh_keygen_verifies_our_signature(tmp_path: Path) -> None:
    blob = sshsig.sign(KEY, NAMESPACE_APPROVAL, MESSAGE)
    line = format_public(KEY.public)
    assert 'Good "approval-v1@station.calyx" signature' in verify(tmp_path, line, blob, NAMESPACE_APPROVAL, MESSAGE)
    verify(tmp_path, line, blob, NAMESPACE_STATEMENT, MESSAGE, fails=True)
    verify(tmp_path, line, blob, NAMESPACE_APPROVAL, MESSAGE + b" ", fails=True)


def test_ssh_keygen_agrees_about_a_token_signature(tmp_path: Path) -> None:
    token = Token(application=b"ssh:approve")
    key = parse_blob(token.blob)
    blob = token.sign(NAMESPACE_APPROVAL, MESSAGE)
    sshsig.check(blob, key=key, namespace=NAMESPACE_APPROVAL, message=MESSAGE, user_verification=False)
    assert fingerprint(key) in verify(tmp_path, format_public(key), blob, NAMESPACE_APPROVAL, MESSAGE)
    changed = blob[:-1] + b"\x63"
    verify(tmp_path, format_public(key), changed, NAMESPACE_APPROVAL, MESSAGE, fails=True)
