"""Signed notes: text with Ed25519 signatures under named keys.

    text, ending in a newline
    (empty line)
    — <key name> base64(key id || signature)         one line for each signature

    key id = SHA-256(key name || 0x0A || 0x01 || public key)[:4]
    verifier key:  <key name>+<key id, 8 hex>+base64(0x01 || public key)
    signer key:    PRIVATE+KEY+<key name>+<key id, 8 hex>+base64(0x01 || seed)

A note's text means nothing until a signature by a key that the reader already trusts is checked; `open_note` gives
the text only then. Signatures by other keys are ignored, as the format asks, so witnesses can add theirs.

Source: C2SP signed-note; the spelling of keys is that of golang.org/x/mod/sumdb/note.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from keys.ed25519 import PUBLIC_SIZE, SEED_SIZE, PublicKey, SigningKey, check_public, verify
from keys.errors import FormatError, SignatureRefused
from keys.values import format_base64, parse_base64
from keys.words import counted

MAX_NOTE: Final = 262_144
MAX_SIGNATURES: Final = 32
ED25519: Final = b"\x01"

_CONTROL: Final = re.compile("[\x00-\x09\x0b-\x1f]")
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)
_PRIVATE: Final = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A named public key that may sign notes. `public` was judged by `check_public`."""

    name: str
    public: PublicKey

    @property
    def key_id(self) -> bytes:
        """Four bytes; with the name they say which key signed. Not a hash to rely on."""
        return hash_key(self.name, self.public)

    def __str__(self) -> str:
        return format_vkey(self)


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: `key_id` 4 bytes, `signature` the bytes after it. Not verified."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note's text, with its final newline, and its signatures. Not verified."""

    text: str
    signatures: tuple[NoteSignature, ...]


def check_name(name: str) -> None:
    """Prove that `name` may name a key: not empty, no Unicode space, no plus, no control character.

    Raises: FormatError.
    """
    if not name or "+" in name or any(char.isspace() or char < " " for char in name):
        raise FormatError("a key name is empty or holds a space, a plus or a control character")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError("a key name is not UTF-8") from None


def hash_key(name: str, public: bytes) -> bytes:
    """Key id of an Ed25519 key (32 bytes) under `name`: 4 bytes. Source: C2SP signed-note, Ed25519 signatures."""
    return sha256(name.encode("utf-8") + b"\n" + ED25519 + public).digest()[:4]


def parse_vkey(text: str) -> VerifierKey:
    """Read a verifier key.

    Raises: FormatError for another spelling, key type or key id; SignatureRefused for a bad point.
    """
    name, key_id, raw = _parse_key(text, PUBLIC_SIZE)
    key = VerifierKey(name, check_public(raw))
    if key.key_id.hex() != key_id:
        raise FormatError("the key id of a verifier key does not belong to its name and key")
    return key


def format_vkey(key: VerifierKey) -> str:
    """The verifier key as text. Inverse of `parse_vkey`."""
    return f"{key.name}+{key.key_id.hex()}+{format_base64(ED25519 + key.public)}"


def parse_skey(text: str) -> tuple[str, SigningKey]:
    """Read a signer key: its name and its secret.

    Raises: FormatError, which never repeats the text.
    """
    if not text.startswith(_PRIVATE):
        raise FormatError("not a signer key")
    name, key_id, seed = _parse_key(text.removeprefix(_PRIVATE), SEED_SIZE)
    key = SigningKey(seed)
    if hash_key(name, key.public).hex() != key_id:
        raise FormatError("the key id of a signer key does not belong to its name and key")
    return name, key


def format_skey(name: str, key: SigningKey) -> str:
    """The signer key as text: secret. Inverse of `parse_skey`."""
    check_name(name)
    return f"{_PRIVATE}{name}+{hash_key(name, key.public).hex()}+{format_base64(ED25519 + key.seed)}"


def parse_note(data: bytes) -> Note:
    """Read a note of at most 256 KiB and 32 signatures, without verifying it.

    Raises: FormatError.
    """
    if len(data) > MAX_NOTE:
        raise FormatError(f"a note of {counted(len(data), 'byte')} is over the limit of {MAX_NOTE}", code="too_large")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("a note is not UTF-8") from None
    if _CONTROL.search(whole):
        raise FormatError("a note holds a control character")
    # The last empty line separates: the text may have empty lines, the signatures have none.
    text, separator, signatures = whole.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise FormatError("a note has no empty line before its signatures, or does not end in a newline")
    lines = signatures[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise FormatError(f"a note has over {MAX_SIGNATURES} signatures", code="too_large")
    return Note(text + "\n", tuple(_parse_signature(line) for line in lines))


def format_note(note: Note) -> bytes:
    """The note as bytes. Inverse of `parse_note`.

    Raises: FormatError when the parts do not make a note.
    """
    if not note.text.endswith("\n") or _CONTROL.search(note.text):
        raise FormatError("the text of a note does not end in a newline, or holds a control character")
    if not 0 < len(note.signatures) <= MAX_SIGNATURES:
        raise FormatError(f"a note has 1 to {MAX_SIGNATURES} signatures", code="too_large")
    for each in note.signatures:
        check_name(each.name)
        if len(each.key_id) != 4 or not each.signature:
            raise FormatError("a signature of a note has a key id of 4 bytes and at least one byte more")
    lines = (f"— {each.name} {format_base64(each.key_id + each.signature)}\n" for each in note.signatures)
    data = _encode(note.text + "\n" + "".join(lines))
    if len(data) > MAX_NOTE:
        raise FormatError(f"a note of {counted(len(data), 'byte')} is over the limit of {MAX_NOTE}", code="too_large")
    return data


def sign_note(text: str, name: str, key: SigningKey) -> bytes:
    """Sign `text`, which ends in a newline, under `name`: a note with one signature.

    Raises: FormatError when the text or the name cannot stand in a note.
    """
    signature = NoteSignature(name, hash_key(name, key.public), key.sign(_encode(text)))
    return format_note(Note(text, (signature,)))


def open_note(data: bytes, key: VerifierKey) -> str:
    """Prove that `key` signed the note; its text.

    Every signature under this name and key id must verify; those under others are ignored.

    Raises: FormatError; SignatureRefused when no signature is by `key` (`unknown_key`) or one is wrong
    (`bad_signature`).
    """
    note = parse_note(data)
    mine = [each for each in note.signatures if each.name == key.name and each.key_id == key.key_id]
    if not mine:
        raise SignatureRefused(f"the note is not signed by {key.name}+{key.key_id.hex()}", code="unknown_key")
    for each in mine:
        verify(key.public, note.text.encode("utf-8"), each.signature)
    return note.text


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError("a note is not UTF-8") from None


def _parse_signature(line: str) -> NoteSignature:
    dash, _, rest = line.partition(" ")
    name, _, text = rest.partition(" ")
    if dash != "—":
        raise FormatError("a signature line of a note does not begin with an em dash and a space")
    check_name(name)
    data = parse_base64(text)
    if len(data) < 5:
        raise FormatError("a signature of a note is shorter than a key id and one byte")
    return NoteSignature(name, data[:4], data[4:])


def _parse_key(text: str, size: int) -> tuple[str, str, bytes]:
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    check_name(name)
    if not _KEY_ID.fullmatch(key_id):
        raise FormatError("the key id of a note key is not 8 lower-case hex digits")
    data = parse_base64(encoded)
    if data[:1] != ED25519 or len(data) != 1 + size:
        raise FormatError("a note key is not an Ed25519 key of 32 bytes")
    return name, key_id, data[1:]
