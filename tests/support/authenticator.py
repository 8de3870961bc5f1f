"""A FIDO2 token in software: makes the signatures a real one makes, and each wrong one.

It encodes everything by itself, so that a mistake in the code under test is not repeated here.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass

from keys import ed25519

TOUCHED = 0x01
VERIFIED = 0x04
_KIND = "OPENSSH PRIVATE KEY"


def field(data: bytes) -> bytes:
    """An SSH string."""
    return struct.pack(">I", len(data)) + data


@dataclass(frozen=True)
class Token:
    """One resident key. `application`: the relying party that the key was made for."""

    seed: bytes = b"\x11" * 32
    application: bytes = b"ssh:"

    @property
    def raw(self) -> bytes:
        return bytes(ed25519.SigningKey(self.seed).public)

    @property
    def blob(self) -> bytes:
        return field(b"sk-ssh-ed25519@openssh.com") + field(self.raw) + field(self.application)

    def assertion(self, signed: bytes, *, flags: int = TOUCHED, counter: int = 7, application: bytes = b"") -> bytes:
        """The inner signature over `signed`, for the key's own application unless another is named."""
        tail = struct.pack(">BI", flags, counter)
        digest = hashlib.sha256(application or self.application).digest()
        raw = ed25519.sign(self.seed, digest + tail + hashlib.sha256(signed).digest())
        return field(b"sk-ssh-ed25519@openssh.com") + field(raw) + tail

    def key_file(self, handle: bytes = b"", *, flags: int = TOUCHED) -> str:
        """A private key file as `ssh-keygen -t ed25519-sk` makes it without passphrase. `handle`: what the token's
        maker put there in place of a secret. `flags`: what the token is to do at each signature.
        """
        check = bytes(4) * 2
        secret = check + self.blob + bytes([flags]) + field(handle) + field(b"") + field(b"a token")
        secret += bytes(range(1, 1 + -len(secret) % 8))
        body = b"openssh-key-v1\x00" + field(b"none") * 2 + field(b"") + struct.pack(">I", 1)
        text = base64.b64encode(body + field(self.blob) + field(secret)).decode("ascii")
        lines = [text[at : at + 70] for at in range(0, len(text), 70)]
        return "\n".join([f"-----BEGIN {_KIND}-----", *lines, f"-----END {_KIND}-----", ""])

    def sign(self, namespace: str, message: bytes, *, flags: int = TOUCHED, counter: int = 7) -> bytes:
        """An SSHSIG blob, as `ssh-keygen -Y sign` makes it with the token."""
        return frame(self.blob, namespace, self.assertion(to_sign(namespace, message), flags=flags, counter=counter))


def to_sign(namespace: str, message: bytes) -> bytes:
    """What SSHSIG has the key sign."""
    return (
        b"SSHSIG" + field(namespace.encode()) + field(b"") + field(b"sha512") + field(hashlib.sha512(message).digest())
    )


def frame(
    key_blob: bytes,
    namespace: str,
    inner: bytes,
    *,
    version: int = 1,
    reserved: bytes = b"",
    hash_name: bytes = b"sha512",
) -> bytes:
    """An SSHSIG blob with any field of one's choice."""
    fields = (key_blob, namespace.encode(), reserved, hash_name, inner)
    return b"SSHSIG" + struct.pack(">I", version) + b"".join(field(each) for each in fields)
