"""OpenSSH public keys: the blob, the line that people paste, and the fingerprint.

    blob          string "ssh-ed25519", string raw (32 bytes)
    blob          string "sk-ssh-ed25519@openssh.com", string raw (32 bytes), string application
    line          type SP base64(blob) [SP comment]
    fingerprint   "SHA256:" base64(SHA-256(blob)) without padding

Source: RFC 8709 section 4; OpenSSH PROTOCOL.u2f; RFC 4253 section 6.6.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from keys.ed25519 import PublicKey
from keys.errors import FormatError
from keys.values import format_base64, parse_base64
from keys.wire import Reader, string

KeyType: TypeAlias = Literal["ssh-ed25519", "sk-ssh-ed25519@openssh.com"]
PLAIN: Final[KeyType] = "ssh-ed25519"
HARDWARE: Final[KeyType] = "sk-ssh-ed25519@openssh.com"

MAX_APPLICATION: Final = 255
MAX_BLOB: Final = 512
MAX_LINE: Final = 2048
# The application of a token's key keeps SSH apart from web log-ins: a web site's begins with its host name.
APPLICATION_PREFIX: Final = "ssh:"


@dataclass(frozen=True, slots=True)
class OpenSshKey:
    """An Ed25519 public key in OpenSSH's form, well formed and judged (`ed25519.PublicKey`) when it exists.

    `blob`: the whole key, which is what fingerprints and signatures name. `raw`: 32 bytes. `application`: of a hardware
    token's key, begins `ssh:`; None for a plain key.

    Raises: FormatError (`unsupported_key` for another type), SignatureRefused (`bad_key`).
    """

    blob: bytes
    type: KeyType = field(init=False, compare=False)
    raw: PublicKey = field(init=False, compare=False, repr=False)
    application: str | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.blob) > MAX_BLOB:
            raise FormatError(f"an SSH public key is over the limit of {MAX_BLOB} bytes", code="too_large")
        reader = Reader(self.blob, "an SSH public key")
        name = reader.string()
        if name == PLAIN.encode():
            object.__setattr__(self, "type", PLAIN)
            object.__setattr__(self, "raw", PublicKey(reader.string()))
            object.__setattr__(self, "application", None)
        elif name == HARDWARE.encode():
            object.__setattr__(self, "type", HARDWARE)
            object.__setattr__(self, "raw", PublicKey(reader.string()))
            object.__setattr__(self, "application", _parse_application(reader.string()))
        else:
            raise FormatError(
                "an SSH public key is not of type ssh-ed25519 or sk-ssh-ed25519@openssh.com",
                code="unsupported_key",
                hint="make one with ssh-keygen -t ed25519, or -t ed25519-sk for a hardware token",
            )
        reader.end()


def parse_blob(blob: bytes) -> OpenSshKey:
    """Parse a public key blob.

    Raises: FormatError (`unsupported_key` for another type), SignatureRefused (`bad_key`).
    """
    return OpenSshKey(blob)


def format_blob(key: OpenSshKey) -> bytes:
    """The key's blob. Inverse of `parse_blob`."""
    return key.blob


def plain_key(raw: bytes) -> OpenSshKey:
    """The `ssh-ed25519` key of a raw public key (32 bytes).

    Raises: SignatureRefused (`bad_key`).
    """
    return OpenSshKey(string(PLAIN.encode()) + string(raw))


def parse_public(text: str) -> OpenSshKey:
    """Parse the line of a `.pub` file: type, base64 and perhaps a comment, one space between, at most one newline.

    Options before the type, as in authorized_keys, are refused.

    Raises: FormatError, SignatureRefused (`bad_key`).
    """
    if len(text) > MAX_LINE:
        raise FormatError(f"a public key line is over the limit of {MAX_LINE} characters", code="too_large")
    line = text.removesuffix("\n").removesuffix("\r")
    if not line.isprintable():
        raise FormatError("a public key is one line of printable characters", hint="give the contents of a .pub file")
    name, _, rest = line.partition(" ")
    encoded, _, _comment = rest.partition(" ")
    if name not in (PLAIN, HARDWARE):
        raise FormatError(
            "a public key line does not begin with ssh-ed25519 or sk-ssh-ed25519@openssh.com",
            code="unsupported_key",
            hint="make one with ssh-keygen -t ed25519, or -t ed25519-sk for a hardware token",
        )
    key = OpenSshKey(parse_base64(encoded))
    if key.type != name:
        raise FormatError(f"a public key line says {name} and holds a key of type {key.type}")
    return key


def format_public(key: OpenSshKey) -> str:
    """The key as a line without comment and without newline. `parse_public` reads it."""
    return f"{key.type} {format_base64(key.blob)}"


# An audit asks for the same few in every entry.
@lru_cache(maxsize=1024)
def fingerprint(key: OpenSshKey) -> str:
    """The key's name, `SHA256:` and 43 characters, as `ssh-keygen -l` prints it."""
    return fingerprint_blob(key.blob)


def fingerprint_blob(blob: bytes) -> str:
    """The name of a key of any type, by its blob."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def _parse_application(data: bytes) -> str:
    if len(data) > MAX_APPLICATION or not data.isascii() or not data.decode("ascii").isprintable():
        raise FormatError(f"a key's application is not at most {MAX_APPLICATION} printable ASCII characters")
    application = data.decode("ascii")
    if not application.startswith(APPLICATION_PREFIX):
        raise FormatError(
            "a hardware key's application does not begin with ssh:",
            code="bad_application",
            hint="make the key with ssh-keygen -t ed25519-sk -O application=ssh:NAME",
        )
    return application
