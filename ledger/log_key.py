"""The log's own key: it signs checkpoints, and nothing else. One for each ledger; no principal holds it.

The file is one line, a signer key as golang.org/x/mod/sumdb/note spells it, mode 0600; the key's name is the log's
origin.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, Self

from keys.ed25519 import SEED_SIZE, SigningKey
from keys.errors import FormatError, Refused, Unavailable, UsageError
from ledger.checkpoint import check_origin, checkpoint_signer, new_origin
from ledger.durable import create_file
from ledger.note import VerifierKey, format_skey, parse_skey

MAX_FILE: Final = 4_096


class LogKey:
    """The private key of one log. Its representation never shows the secret."""

    __slots__ = ("_key", "_sign", "vkey")

    def __init__(self, origin: str, key: SigningKey) -> None:
        check_origin(origin)
        self._key: Final = key
        self._sign: Final = checkpoint_signer(origin, key)
        self.vkey: Final = VerifierKey(origin, key.public)

    @classmethod
    def generate(cls, name: str, random: Callable[[int], bytes]) -> Self:
        """A new key, and an origin of `name` and 8 random hex digits. `random` must be fit for keys, such as
        os.urandom.
        """
        return cls(new_origin(name, random), SigningKey(random(SEED_SIZE)))

    @property
    def origin(self) -> str:
        """The log's name in checkpoints."""
        return self.vkey.name

    def sign(self, size: int, root: bytes) -> bytes:
        """Sign the checkpoint of `size` records with the tree root `root` (32 bytes): a signed note."""
        return self._sign(size, root)

    def __repr__(self) -> str:
        return f"LogKey({self.vkey})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is not pickled or copied")


def store_log_key(path: Path, key: LogKey) -> None:
    """Write the key's file, mode 0600, durable on return; never over an existing one.

    Raises: UsageError: `key_exists`; Unavailable: `cannot_write_key`.
    """
    text = format_skey(key.origin, key._key) + "\n"  # noqa: SLF001  # the one place where the secret goes to disk
    try:
        create_file(path, text.encode("utf-8"), 0o600)
    except FileExistsError:
        raise UsageError("key_exists", f"{path} exists", hint="a log key is never overwritten") from None
    except OSError as error:
        raise Unavailable("cannot_write_key", f"cannot write {path}: {error.strerror}") from None


def load_log_key(path: Path) -> LogKey:
    """Load the key's file.

    Raises: Unavailable: `key_missing`; Refused: `bad_key_mode` (others may read it), `bad_key_file`.
    """
    # Judged by descriptor, so that the file that is judged is the file that is read; a FIFO must not hang the reader.
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise Unavailable("key_missing", f"cannot open the log key {path}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("bad_key_file", f"the log key {path} is not a regular file")
        if os.name != "nt" and stat.S_IMODE(status.st_mode) & 0o077:
            raise Refused(
                "bad_key_mode",
                f"{path} may be read or written by others (mode {stat.S_IMODE(status.st_mode):04o})",
                hint=f"chmod 600 {path}",
            )
        data = os.read(descriptor, MAX_FILE + 1)
    except OSError as error:
        raise Unavailable("key_missing", f"cannot read the log key {path}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    try:
        if len(data) > MAX_FILE or not data.endswith(b"\n"):
            raise FormatError("it is not one short line")
        name, key = parse_skey(data[:-1].decode("utf-8"))
        return LogKey(name, key)
    except (FormatError, UnicodeDecodeError):
        raise Refused("bad_key_file", f"the log key {path} cannot be used: it is not a signer key") from None
