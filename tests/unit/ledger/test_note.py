from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from ledgers import LOG_KEY

from keys.ed25519 import SigningKey
from keys.errors import CalyxError, FormatError, Refused, SignatureRefused
from ledger.checkpoint import (
    Checkpoint,
    check_origin,
    checkpoint_signer,
    format_text,
    new_origin,
    parse_checkpoint,
    peek_checkpoint,
    sign_checkpoint,
)
from ledger.log_key import LogKey, load_log_key, store_log_key
from ledger.note import (
    Note,
    NoteSignature,
    VerifierKey,
    format_note,
    format_skey,
    format_vkey,
    open_note,
    parse_note,
    parse_skey,
    parse_vkey,
    sign_note,
)

# The example key pair in the documentation of golang.org/x/mod/sumdb/note, and the public key of sum.golang.org.
GO_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SUMDB_VKEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

KEY = SigningKey(bytes(range(32)))
VKEY = VerifierKey("example.com/log", KEY.public)
TEXT = "one\n\nthree\n"
NOTE = sign_note(TEXT, VKEY.name, KEY)


def refused(action: Callable[[], object], code: str = "bad_format") -> CalyxError:
    with pytest.raises(CalyxError) as caught:
        action()
    assert caught.value.code == code
    return caught.value


def test_keys_of_others_are_read_and_written_as_they_spell_them() -> None:
    for text in (GO_VKEY, SUMDB_VKEY):
        assert format_vkey(parse_vkey(text)) == text
    name, key = parse_skey(GO_SKEY)
    assert format_skey(name, key) == GO_SKEY
    assert format_vkey(VerifierKey(name, key.public)) == GO_VKEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PeterNeumann",
        GO_VKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY.replace("c74f20a3", "C74F20A3"),
        GO_VKEY.replace("PeterNeumann", "Peter Neumann"),
        GO_VKEY.replace("PeterNeumann", "Peter+Neumann"),
        GO_VKEY.replace("PeterNeumann", ""),
        GO_VKEY + "=",
        GO_VKEY[:-4],
        GO_VKEY.replace("+ARpc", "+BRpc"),
        GO_VKEY + "\n",
    ],
)
def test_misspelled_verifier_key_is_refused(text: str) -> None:
    refused(lambda: parse_vkey(text))


def test_signed_text_is_opened_and_may_hold_empty_lines() -> None:
    assert open_note(NOTE, VKEY) == TEXT
    assert NOTE.decode().startswith("one\n\nthree\n\n— example.com/log ")


def test_note_signed_by_another_key_is_refused() -> None:
    other = VerifierKey(VKEY.name, SigningKey(bytes(32)).public)
    refused(lambda: open_note(NOTE, other), "unknown_key")
    refused(lambda: open_note(NOTE, VerifierKey("example.com/other", KEY.public)), "unknown_key")


def test_changed_text_is_refused() -> None:
    refused(lambda: open_note(NOTE.replace(b"one", b"two"), VKEY), "bad_signature")


def test_signatures_of_witnesses_are_ignored_and_wrong_ones_of_ours_are_not() -> None:
    note = parse_note(NOTE)
    witness = NoteSignature("witness.example/w", b"\x01\x02\x03\x04", b"\x04" * 72)
    same_name = NoteSignature(VKEY.name, b"\x01\x02\x03\x04", b"x")
    assert open_note(format_note(Note(TEXT, (witness, same_name, *note.signatures))), VKEY) == TEXT
    wrong = NoteSignature(VKEY.name, VKEY.key_id, bytes(64))
    refused(lambda: open_note(format_note(Note(TEXT, (*note.signatures, wrong))), VKEY), "bad_signature")
    refused(lambda: open_note(format_note(Note(TEXT, (witness,))), VKEY), "unknown_key")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        NOTE[:-1],
        NOTE + b"\n",
        NOTE + b"x\n",
        NOTE.replace(b"\n\n\xe2\x80\x94", b"\n\xe2\x80\x94"),
        NOTE.replace("—".encode(), b"-"),
        NOTE.replace(b"one", b"o\te"),
        NOTE.replace(b"one", b"o\x00e"),
        NOTE.replace(b"one", b"o\xffe"),
        NOTE.replace(b"\n", b"\r\n"),
        NOTE.replace(b"example.com/log ", b"example.com/log  "),
        NOTE.replace(b"example.com/log", b"example.com+log"),
        "text\n\n— name AAAA\n".encode(),
        "text\n\n— name\u00a0x AAAAAAAA\n".encode(),
        "text\n\n— name AAAAAAA\n".encode(),
    ],
)
def test_malformed_note_is_refused(data: bytes) -> None:
    refused(lambda: parse_note(data))


def test_sixteen_signatures_are_read_and_a_flood_is_not() -> None:
    each = NoteSignature("w", b"\x00\x00\x00\x01", b"s" * 5000)
    assert len(parse_note(format_note(Note("t\n", (each,) * 16))).signatures) == 16
    refused(lambda: format_note(Note("t\n", (NoteSignature("w", b"abcd", b"s"),) * 33)), "too_large")
    refused(lambda: parse_note(b"x" * 300_000), "too_large")


def test_checkpoint_is_signed_and_opened() -> None:
    note = LOG_KEY.sign(12, bytes(range(32)))
    checkpoint = parse_checkpoint(note, LOG_KEY.vkey)
    assert checkpoint == peek_checkpoint(note) == Checkpoint(LOG_KEY.origin, 12, bytes(range(32)))
    assert note.decode().split("\n")[:4] == [LOG_KEY.origin, "12", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", ""]


ROOT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.mark.parametrize(
    "text",
    [
        f"o\n012\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n+1\n{ROOT}\n",
        f"o\n1_0\n{ROOT}\n",
        f"o\n\u0661\n{ROOT}\n",
        f"o\n99999999999999999\n{ROOT}\n",
        f"o\n1\n{ROOT[:-4]}\n",
        f"o\n1\n{ROOT[:-2]}9=\n",
        f"o\n1\n{ROOT}\nextension\n",
        f"\n1\n{ROOT}\n",
        f"o\n{ROOT}\n",
    ],
)
def test_misspelled_checkpoint_is_refused_although_signed(text: str) -> None:
    note = sign_note(text, "o", KEY)
    refused(lambda: parse_checkpoint(note, VerifierKey("o", KEY.public)))


@pytest.mark.parametrize("size", [0, 1, 2**53 - 1])
def test_log_signs_checkpoints_as_anyone_would(size: int) -> None:
    root = sha256(b"%d" % size).digest()
    note = checkpoint_signer(VKEY.name + "-0a1b2c3d", KEY)(size, root)
    assert note == sign_checkpoint(Checkpoint(VKEY.name + "-0a1b2c3d", size, root), KEY)
    with pytest.raises(FormatError):
        checkpoint_signer("two words", KEY)


def test_checkpoint_of_another_origin_is_refused() -> None:
    note = sign_note(format_text(Checkpoint("other", 1, bytes(32))), VKEY.name, KEY)
    refused(lambda: parse_checkpoint(note, VKEY), "wrong_origin")


def test_origins_end_in_random_digits() -> None:
    assert new_origin("station.calyx/a", lambda count: b"\xab" * count) == "station.calyx/a-abababab"
    check_origin(LOG_KEY.origin)
    for origin in ("station.calyx/a", "a-ABABABAB", "-abababab", "a b-abababab", "a+b-abababab", "a-abababab\n"):
        with pytest.raises(FormatError):
            check_origin(origin)


def test_log_key_is_stored_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "log.skey"
    store_log_key(path, LOG_KEY)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_log_key(path).vkey == LOG_KEY.vkey
    assert load_log_key(path).sign(1, bytes(32)) == LOG_KEY.sign(1, bytes(32))
    refused(lambda: store_log_key(path, LOG_KEY), "key_exists")
    assert [each.name for each in tmp_path.iterdir()] == ["log.skey"]


def test_log_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.skey"
    store_log_key(path, LOG_KEY)
    path.chmod(0o640)
    refused(lambda: load_log_key(path), "bad_key_mode")
    refused(lambda: load_log_key(tmp_path / "none"), "key_missing")
    refused(lambda: load_log_key(tmp_path), "bad_key_file")


@pytest.mark.parametrize("content", ["", "\n", GO_VKEY + "\n", GO_SKEY + "\n", GO_SKEY, "x" * 5000 + "\n"])
def test_damaged_log_key_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "log.skey"
    path.write_text(content)
    path.chmod(0o600)
    error = refused(lambda: load_log_key(path), "bad_key_file")
    assert isinstance(error, Refused)
    assert "AYEKFALV" not in f"{error} {error.hint} {error.fields}"


def test_log_key_shows_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "log.skey"
    store_log_key(path, LOG_KEY)
    secret = path.read_text().strip().rsplit("+", 1)[1]
    assert secret not in repr(LOG_KEY)
    for attempt in (lambda: pickle.dumps(LOG_KEY), lambda: copy.deepcopy(LOG_KEY)):
        with pytest.raises(TypeError):
            attempt()


def test_generated_log_keys_differ() -> None:
    counter = iter(range(100))
    first, second = (LogKey.generate("n", lambda count: bytes([next(counter)] * count)) for _ in range(2))
    assert first.origin != second.origin
    with pytest.raises(SignatureRefused):
        parse_checkpoint(first.sign(1, bytes(32)), second.vkey)
