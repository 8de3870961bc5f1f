from __future__ import annotations

import base64
import copy
import os
import pickle
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from authenticator import Token, field

from keys import openssh_private
from keys.errors import CalyxError, Refused, SignatureRefused, Unavailable, UsageError
from keys.openssh import PrivateKey, load_private_key, new_private_key, parse_public, store_private_key

SEED = b"\x07" * 32
KEY = PrivateKey(SEED)


def never() -> bytes:
    pytest.fail("a passphrase was asked for and none is needed")


def refused(path: Path, passphrase: Callable[[], bytes] | None = None) -> CalyxError:
    with pytest.raises((Refused, Unavailable, UsageError)) as caught:
        load_private_key(path, passphrase)
    for secret in (SEED.hex(), base64.b64encode(SEED).decode(), "hunter2"):
        assert secret not in f"{caught.value}{caught.value.hint}{caught.value.fields}"
    return caught.value


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, body: bytes, mode: int = 0o600) -> Path:
    text = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64.encodebytes(body) + b"-----END OPENSSH PRIVATE KEY-----\n"
    path.write_bytes(text)
    path.chmod(mode)
    return path


def container(
    *,
    public: bytes = KEY.public.blob,
    seed: bytes = SEED,
    raw: bytes | None = None,
    cipher: bytes = b"none",
    kdf: bytes = b"none",
    options: bytes = b"",
    count: int = 1,
    tail: bytes = b"",
) -> bytes:
    """An `openssh-key-v1` container with any field of one's choice."""
    raw = public[-32:] if raw is None else raw
    secret = b"\0\0\0\1" * 2 + field(b"ssh-ed25519") + field(raw) + field(seed + raw) + field(b"comment")
    secret += bytes(range(1, 1 + -len(secret) % 8))
    head = b"openssh-key-v1\x00" + field(cipher) + field(kdf) + field(options) + struct.pack(">I", count)
    return head + field(public) + field(secret) + tail


def test_stored_key_is_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    store_private_key(path, KEY, comment="me@example.org")
    assert load_private_key(path, never).sign_raw(b"m") == KEY.sign_raw(b"m")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    line = (tmp_path / "key.pub").read_text("utf-8")
    assert line.endswith(" me@example.org\n")
    assert parse_public(line) == KEY.public
    assert names(tmp_path) == ["key", "key.pub"]


def test_stored_key_is_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store_private_key(tmp_path / "key", KEY)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_passphrase_opens_and_only_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "key"
    store_private_key(path, KEY, b"hunter2")
    assert base64.b64encode(SEED)[:20] not in path.read_bytes()
    assert load_private_key(path, lambda: b"hunter2").public == KEY.public
    assert refused(path).code == "passphrase_needed"
    assert refused(path, lambda: b"hunter3").code == "bad_passphrase"
    assert refused(path, lambda: b"").code == "bad_passphrase"
    assert refused(path, lambda: b"x" * 1025).code == "bad_passphrase"


@pytest.mark.parametrize("passphrase", [b"", b"x" * 1025])
def test_passphrase_of_no_use_is_refused_when_storing(tmp_path: Path, passphrase: bytes) -> None:
    with pytest.raises((Refused, Unavailable, UsageError)) as caught:
        store_private_key(tmp_path / "key", KEY, passphrase)
    assert caught.value.code == "bad_passphrase"
    assert names(tmp_path) == []


@pytest.mark.parametrize("taken", ["key", "key.pub"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_existing_file_is_never_overwritten(tmp_path: Path, taken: str, kind: str) -> None:
    if kind == "file":
        (tmp_path / taken).write_text("mine", "utf-8")
    else:
        (tmp_path / taken).symlink_to(tmp_path / "elsewhere")
    with pytest.raises((Refused, Unavailable, UsageError)) as caught:
        store_private_key(tmp_path / "key", KEY)
    assert caught.value.code == "key_exists"
    assert names(tmp_path) == [taken]


def test_key_made_by_another_in_between_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The look before is for a kind message; the link is what excludes.
    (tmp_path / "key").write_text("mine", "utf-8")
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    with pytest.raises((Refused, Unavailable, UsageError)) as caught:
        store_private_key(tmp_path / "key", KEY)
    assert caught.value.code == "key_exists"
    assert (tmp_path / "key").read_text("utf-8") == "mine"
    assert names(tmp_path) == ["key"]


def test_file_and_directory_are_synced_before_the_key_counts_as_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        steps.append("sync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        sync(descriptor)

    def linked(source: Path, target: Path) -> None:
        steps.append(f"link {target.name}")
        link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", linked)
    store_private_key(tmp_path / "key", KEY)
    assert steps == ["sync file", "link key", "sync directory", "sync file", "link key.pub", "sync directory"]


def test_full_disk_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((Refused, Unavailable, UsageError)) as caught:
        store_private_key(tmp_path / "key", KEY)
    assert caught.value.code == "cannot_write_key"
    assert names(tmp_path) == []


def test_missing_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file or directory") as caught:
        store_private_key(tmp_path / "none" / "key", KEY)
    assert caught.value.code == "cannot_write_key"


def test_comment_cannot_add_a_line(tmp_path: Path) -> None:
    for comment in ("a\nssh-ed25519 AAAA", "a\x1b[2J", "c" * 513):
        with pytest.raises((Refused, Unavailable, UsageError)) as caught:
            store_private_key(tmp_path / "key", KEY, comment=comment)
        assert caught.value.code == "bad_comment"
    assert names(tmp_path) == []


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o777])
def test_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "key", container(), mode)
    assert refused(path).code == "bad_key_mode"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_key_of_its_owner_alone_is_loaded(tmp_path: Path, mode: int) -> None:
    assert load_private_key(write(tmp_path / "key", container(), mode)).public == KEY.public


def test_key_behind_a_link_is_judged_by_its_target(tmp_path: Path) -> None:
    path = write(tmp_path / "key", container())
    (tmp_path / "link").symlink_to(path)
    assert load_private_key(tmp_path / "link").public == KEY.public
    path.chmod(0o644)
    assert refused(tmp_path / "link").code == "bad_key_mode"


def test_missing_key_is_said(tmp_path: Path) -> None:
    assert refused(tmp_path / "none").code == "key_missing"


def test_directory_and_fifo_in_place_of_a_key_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "dir").mkdir()
    assert refused(tmp_path / "fifo").code == "bad_key_file"
    assert refused(tmp_path / "dir").code == "bad_key_file"


def test_file_over_the_limit_is_not_parsed(tmp_path: Path) -> None:
    assert "65536" in refused(write(tmp_path / "key", container() + bytes(60_000))).message


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (container(count=2), "unsupported_key"),
        (container(count=0), "unsupported_key"),
        (container(tail=b"x"), "bad_key_file"),
        (container(options=b"x"), "bad_key_file"),
        (container()[:-9], "bad_key_file"),
        (container()[:40], "bad_key_file"),
        (b"openssh-key-v2\x00" + container()[15:], "unsupported_key"),
        (container(public=Token().blob), "unsupported_key"),
        (container(public=field(b"ssh-rsa") + field(b"x")), "unsupported_key"),
        (container(public=field(b"ssh-ed25519") + field(b"\x01" + bytes(31))), "bad_key_file"),
        (container(raw=b"\x09" * 32), "bad_key_file"),
        (container(cipher=b"aes256-ctr", kdf=b"bcrypt", options=field(bytes(16)) + b"\xff" * 4), "unsupported_key"),
        (container(cipher=b"aes256-ctr", kdf=b"bcrypt", options=field(bytes(16)) + bytes(4)), "bad_key_file"),
        (container(cipher=b"aes256-ctr", kdf=b"scrypt"), "unsupported_key"),
        (container(cipher=b"rot13", kdf=b"bcrypt", options=field(bytes(16)) + b"\0\0\0\1"), "unsupported_key"),
    ],
)
def test_damaged_or_foreign_file_is_refused(tmp_path: Path, body: bytes, code: str) -> None:
    assert refused(write(tmp_path / "key", body), lambda: b"hunter2").code == code


def test_passphrase_rounds_without_end_are_refused_before_the_passphrase_is_asked(tmp_path: Path) -> None:
    body = container(cipher=b"aes256-ctr", kdf=b"bcrypt", options=field(bytes(16)) + b"\xff" * 4)
    assert "rounds" in refused(write(tmp_path / "key", body), never).message


def test_file_with_the_public_key_of_another_secret_is_refused(tmp_path: Path) -> None:
    # Signing under a public key that is not the secret's own gives the secret away.
    body = container(public=PrivateKey(b"\x08" * 32).public.blob)
    assert "not that of its secret" in refused(write(tmp_path / "key", body)).message


@pytest.mark.parametrize("text", [b"", b"hello", b"-----BEGIN RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----\n"])
def test_file_of_another_format_is_unsupported(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(text)
    path.chmod(0o600)
    assert refused(path).code == "unsupported_key"


def test_base64_with_anything_else_in_it_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "key", container())
    path.write_bytes(path.read_bytes().replace(b"b3Bl", b"b3B!l"))
    assert refused(path).code == "bad_key_file"


def test_new_key_comes_from_the_given_randomness() -> None:
    assert new_private_key(lambda size: SEED[:size]).public == KEY.public
    with pytest.raises(SignatureRefused):
        new_private_key(lambda size: b"short")


def test_private_key_is_not_shown_or_copied() -> None:
    assert repr(KEY).startswith("PrivateKey(SHA256:")
    assert SEED.hex() not in repr(KEY)
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="private key"):
            attempt(KEY)


def test_limits_are_what_the_documentation_says() -> None:
    assert (openssh_private.MAX_FILE, openssh_private.MAX_ROUNDS) == (65_536, 1000)
