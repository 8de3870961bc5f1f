"""OpenSSH keys: public ones as blob, line and fingerprint; private ones as files."""

from __future__ import annotations

from keys.openssh_private import (
    PrivateHeader,
    PrivateKey,
    load_private_key,
    new_private_key,
    peek_private_key,
    store_private_key,
)
from keys.openssh_public import (
    HARDWARE,
    PLAIN,
    KeyType,
    OpenSshKey,
    fingerprint,
    format_blob,
    format_public,
    parse_blob,
    parse_public,
    plain_key,
)

__all__ = [
    "HARDWARE",
    "PLAIN",
    "KeyType",
    "OpenSshKey",
    "PrivateHeader",
    "PrivateKey",
    "fingerprint",
    "format_blob",
    "format_public",
    "load_private_key",
    "new_private_key",
    "parse_blob",
    "parse_public",
    "peek_private_key",
    "plain_key",
    "store_private_key",
]
