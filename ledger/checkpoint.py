"""Checkpoints: the log's signed statement of its size and root.

    <origin>
    <size, decimal>
    <base64 of the root, 32 bytes>

    — <origin> <signature by the log key>

The key's name is the origin. Our checkpoints have no extension lines, and one that has them is refused.

Source: C2SP tlog-checkpoint.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from keys.canonical import MAX_INTEGER
from keys.ed25519 import SigningKey
from keys.errors import FormatError
from keys.values import format_base64, parse_base64
from ledger.merkle import EMPTY_ROOT, HASH_SIZE
from ledger.note import VerifierKey, check_name, hash_key, open_note, parse_note, sign_note

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_ORIGIN: Final = re.compile(r".+-[0-9a-f]{8}", re.ASCII)

CheckpointSigner = Callable[[int, bytes], bytes]
"""Signs the checkpoint of a size and a root (32 bytes): a signed note."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself: `size` records have the tree root `root` (32 bytes)."""

    origin: str
    size: int
    root: bytes


def new_origin(name: str, random: Callable[[int], bytes]) -> str:
    """An origin that no other log has: `name`, a dash and 8 random hex digits.

    Raises: FormatError when the name cannot stand in a note.
    """
    origin = f"{name}-{random(4).hex()}"
    check_origin(origin)
    return origin


def check_origin(origin: str) -> None:
    """Prove that `origin` may name one of our logs: a key name that ends in a dash and 8 hex digits.

    Raises: FormatError.
    """
    check_name(origin)
    if not _ORIGIN.fullmatch(origin):
        raise FormatError("an origin does not end in a dash and 8 lower-case hex digits")


def format_text(checkpoint: Checkpoint) -> str:
    """The text that the log signs."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{format_base64(checkpoint.root)}\n"


def parse_text(text: str) -> Checkpoint:
    """Read a checkpoint's text. Inverse of `format_text`.

    Raises: FormatError.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise FormatError("a checkpoint is an origin, a size and a root, each on its line, and nothing else")
    if not _SIZE.fullmatch(lines[1]) or int(lines[1]) > MAX_INTEGER:
        raise FormatError("the size of a checkpoint is not a decimal number without leading zeros")
    root = parse_base64(lines[2])
    if len(root) != HASH_SIZE:
        raise FormatError("the root of a checkpoint is not 32 bytes")
    return Checkpoint(lines[0], int(lines[1]), root)


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> bytes:
    """Sign a checkpoint under its origin: a note."""
    return sign_note(format_text(checkpoint), checkpoint.origin, key)


def checkpoint_signer(origin: str, key: SigningKey) -> CheckpointSigner:
    """What signs checkpoints of `origin`, as `sign_checkpoint` does, for a log that signs one at each append: what is
    the same in all of them is judged and formatted once.

    Raises: FormatError when the origin cannot stand in a note.
    """
    sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), key)
    before = f"{origin}\n".encode()
    line, key_id = f"\n\N{EM DASH} {origin} ".encode(), hash_key(origin, key.public)

    def sign(size: int, root: bytes) -> bytes:
        text = b"%b%d\n%b\n" % (before, size, b2a_base64(root, newline=False))
        return text + line + b2a_base64(key_id + key.sign(text))

    return sign


def parse_checkpoint(note: bytes, key: VerifierKey) -> Checkpoint:
    """Prove that the log of `key` signed this checkpoint.

    Raises: FormatError; SignatureRefused when the log did not sign it, or it is for another origin.
    """
    checkpoint = parse_text(open_note(note, key))
    if checkpoint.origin != key.name:
        raise FormatError("a checkpoint's origin is not the name of the log key", code="wrong_origin")
    return checkpoint


def peek_checkpoint(note: bytes) -> Checkpoint:
    """Read a checkpoint without verifying it, to print it or to look up its log's key. Proves nothing.

    Raises: FormatError.
    """
    return parse_text(parse_note(note).text)
