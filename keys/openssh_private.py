"""OpenSSH private key files, Ed25519 only: new ones, and those that people already have, plain or with passphrase.

The file format is OpenSSH's `openssh-key-v1`; the `cryptography` package reads and writes it. What is here is the care
around it: limits before parsing, modes, and creation that is all or nothing.

Source: OpenSSH PROTOCOL.key.
"""

from __future__ import annotations

import binascii
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from keys.ed25519 import SEED_SIZE, SigningKey
from keys.errors import CalyxError, FormatError, Refused, Unavailable, UsageError
from keys.openssh_public import OpenSshKey, fingerprint, format_public, parse_blob, plain_key
from keys.wire import Reader

MAX_FILE: Final = 64 * 1024
MAX_COMMENT: Final = 512
MAX_PASSPHRASE: Final = 1024
# OpenSSH writes 16 or 24 rounds; `ssh-keygen -a 1000` takes about 20 seconds. More is a file made to hang its reader.
MAX_ROUNDS: Final = 1000
# ssh-keygen makes files with other ciphers, too; those it has to open itself.
_CIPHERS: Final = frozenset({b"none", b"aes256-ctr", b"aes256-cbc", b"aes256-gcm@openssh.com"})
_MAGIC: Final = b"openssh-key-v1\x00"
_BEGIN: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
_END: Final = b"-----END OPENSSH PRIVATE KEY-----"


class PrivateHeader(NamedTuple):
    """What a private key file says in the open. `obstacle`: why only ssh-keygen can sign with it, else ""."""

    public: OpenSshKey
    encrypted: bool
    obstacle: str


class PrivateKey:
    """An Ed25519 private key with its OpenSSH public key. Its representation never shows the secret."""

    __slots__ = ("_signing", "public")

    def __init__(self, seed: bytes) -> None:
        self._signing = SigningKey(seed)
        self.public: Final[OpenSshKey] = plain_key(self._signing.public)

    def sign_raw(self, message: bytes) -> bytes:
        """Sign `message` with bare Ed25519; 64 bytes."""
        return self._signing.sign(message)

    def format(self, passphrase: bytes | None = None) -> bytes:
        """The private key file's contents, encrypted when there is a passphrase (1 to 1,024 bytes). Secret."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import (
            BestAvailableEncryption,
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
        secret = Ed25519PrivateKey.from_private_bytes(self._signing.seed)
        return secret.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption)

    def __repr__(self) -> str:
        return f"PrivateKey({fingerprint(self.public)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled or copied")


def new_private_key(random: Callable[[int], bytes]) -> PrivateKey:
    """Make a private key from 32 bytes of `random`, which must be a source fit for keys, such as `os.urandom`."""
    return PrivateKey(random(SEED_SIZE))


def load_private_key(path: Path, passphrase: Callable[[], bytes] | None = None) -> PrivateKey:
    """Load an OpenSSH Ed25519 private key file of at most 64 KiB.

    `passphrase` is called only when the file is encrypted.

    Raises: Unavailable: `key_missing`; UsageError: `passphrase_needed`; Refused: `bad_key_mode` (others may read the
    file), `unsupported_key` (another type, or a hardware token's file, which holds no secret), `bad_passphrase`,
    `bad_key_file`.
    """
    data = _read(path)
    header = _parse_file(path, data)
    if header.public.application is not None:
        raise _unsupported(path)
    if header.obstacle:
        raise Refused(
            "unsupported_key",
            f"{path} cannot be opened here: {header.obstacle}",
            hint=f"encrypt it in the usual way: ssh-keygen -p -f {path}",
        )
    secret: bytes | None = None
    if header.encrypted:
        if passphrase is None:
            raise UsageError("passphrase_needed", f"{path} needs a passphrase", hint="run it on a terminal")
        secret = passphrase()
        if not 0 < len(secret) <= MAX_PASSPHRASE:
            raise Refused("bad_passphrase", f"the passphrase for {path} is empty or too long", hint="type it again")
    key = PrivateKey(_open(path, data, secret))
    # A file may carry another public key than that of its secret; signing under it would leak the secret.
    if key.public != header.public:
        raise _broken(path, "its public key is not that of its secret")
    return key


def peek_private_key(path: Path) -> PrivateHeader:
    """The public half of a private key file, which its header says in the open; the secret is not opened.

    A token's file is as good as any here. Who wrote the file may have put another key's public half there: what it says
    chooses among files and proves nothing.

    Raises: Unavailable: `key_missing`; Refused: `bad_key_mode`, `unsupported_key` (another type), `bad_key_file`.
    """
    return _parse_file(path, _read(path))


def store_private_key(path: Path, key: PrivateKey, passphrase: bytes | None = None, comment: str = "") -> None:
    """Write `path` (mode 0600) and `path.pub` (mode 0644), durable on return; never over an existing file.

    Each file appears whole or not at all. The comment goes to the `.pub` file.

    Raises: UsageError: `key_exists`, `bad_comment`; Unavailable: `cannot_write_key`; Refused: `bad_passphrase` (empty,
    or over 1,024 bytes).
    """
    if len(comment) > MAX_COMMENT or not comment.isprintable():
        raise UsageError("bad_comment", f"a key's comment is at most {MAX_COMMENT} printable characters")
    if passphrase is not None and not 0 < len(passphrase) <= MAX_PASSPHRASE:
        raise Refused("bad_passphrase", f"a passphrase has 1 to {MAX_PASSPHRASE} bytes")
    public_path = path.with_name(path.name + ".pub")
    for existing in (path, public_path):
        if os.path.lexists(existing):
            raise _exists(existing)
    line = " ".join(part for part in (format_public(key.public), comment) if part) + "\n"
    try:
        _create(path, key.format(passphrase), 0o600)
        _create(public_path, line.encode("utf-8"), 0o644)
    except FileExistsError as error:
        raise _exists(Path(error.filename2 or path)) from None
    except OSError as error:
        raise Unavailable("cannot_write_key", f"cannot write {path}: {error.strerror}") from None


def _parse_file(path: Path, data: bytes) -> PrivateHeader:
    try:
        return _parse_header(data)
    except FormatError as error:
        if error.code == "unsupported_key":
            raise _unsupported(path) from None
        raise _broken(path, error.message) from None
    except CalyxError as error:
        raise _broken(path, error.message) from None


def _parse_header(data: bytes) -> PrivateHeader:
    # The part before the secret is never encrypted: it tells whether a passphrase is needed, and what the work costs.
    body = data.strip().replace(b"\r\n", b"\n")
    if not body.startswith(_BEGIN) or not body.endswith(_END):
        raise FormatError("it is not an OpenSSH private key", code="unsupported_key")
    try:
        blob = binascii.a2b_base64(body[len(_BEGIN) : -len(_END)].replace(b"\n", b""), strict_mode=True)
    except binascii.Error:
        raise FormatError("its base64 is damaged") from None
    reader = Reader(blob, "it")
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise FormatError("it is not an OpenSSH private key", code="unsupported_key")
    cipher = reader.string()
    obstacle = "" if cipher in _CIPHERS else "its cipher is one that only ssh-keygen opens"
    kdf = reader.string()
    options = Reader(reader.string(), "its key derivation")
    if cipher != b"none":
        if kdf != b"bcrypt":
            raise FormatError("its key derivation is not bcrypt", code="unsupported_key")
        options.string()
        rounds = options.u32()
        if not rounds:
            raise FormatError("its passphrase takes no round")
        if rounds > MAX_ROUNDS:
            obstacle = f"its passphrase takes more than {MAX_ROUNDS} rounds"
    options.end()
    if reader.u32() != 1:
        raise FormatError("it holds more than one key", code="unsupported_key")
    return PrivateHeader(parse_blob(reader.string()), cipher != b"none", obstacle)


def _open(path: Path, data: bytes, secret: bytes | None) -> bytes:
    # Imported here and in `format`: verification never needs it, and it is slow to load.
    from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    # A wrong passphrase shows as damage; which of the two it was cannot be told.
    try:
        key = load_ssh_private_key(data, secret)
    except UnsupportedAlgorithm:
        raise _unsupported(path) from None
    except (ValueError, TypeError, InvalidTag):
        if secret is None:
            raise _broken(path, "its contents are damaged") from None
        raise Refused(
            "bad_passphrase", f"the passphrase does not open {path}", hint="type it again, or the file is damaged"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _unsupported(path)
    return key.private_bytes_raw()


def _read(path: Path) -> bytes:
    # Not blocking, so that a FIFO in the key's place cannot hang us; judged by descriptor, so that the file that is
    # judged is the file that is read. A link is followed: people keep their keys behind links.
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise Unavailable("key_missing", f"cannot open the key file {path}: {error.strerror}") from None
    try:
        _check_mode(path, os.fstat(descriptor).st_mode)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise Unavailable("key_missing", f"cannot read the key file {path}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE:
        raise _broken(path, f"it is over {MAX_FILE} bytes")
    return data


def _check_mode(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise _broken(path, "it is not a regular file")
    # Windows has no such bits: access there is by lists, which OpenSSH for Windows checks itself.
    if os.name != "nt" and mode & 0o077:
        raise Refused(
            "bad_key_mode",
            f"{path} may be read or written by others (mode {stat.S_IMODE(mode):04o})",
            hint=f"chmod 600 {path}; if others could read it, make a new key",
        )


def _create(path: Path, data: bytes, mode: int) -> None:
    # Written under another name, synced, then linked: the link fails if the name is taken, and whoever sees the name
    # sees the whole file. A crash before the link leaves only the hidden name, with the same mode.
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(hidden, path)
    finally:
        hidden.unlink()
    if os.name != "nt":
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _exists(path: Path) -> UsageError:
    return UsageError("key_exists", f"{path} exists", hint="choose another name; key files are never overwritten")


def _unsupported(path: Path) -> Refused:
    return Refused(
        "unsupported_key",
        f"{path} is not an Ed25519 private key file of OpenSSH",
        hint="make one with ssh-keygen -t ed25519; a hardware token signs through ssh-agent or ssh-keygen -Y sign",
    )


def _broken(path: Path, why: str) -> Refused:
    return Refused("bad_key_file", f"{path} cannot be used: {why}")
