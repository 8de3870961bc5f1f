"""Which code this is: what it computed and kept is no use to any other."""

from __future__ import annotations

import sys
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import keys
import ledger
import policies

LAWS: Final = (1,)
"""The numbers of the laws that the code knows."""
_JUDGES: Final = ("pydantic", "pydantic_core", "pynacl", "orjson", "msgspec")
"""Distributions that have a say in what is accepted."""


@lru_cache(maxsize=1)
def fingerprint_code() -> str | None:
    """SHA-256 (64 hex digits) over every source file that has a part in judging an entry, the versions of what they
    stand on, and this machine's order of bytes; None where the source files cannot be read.
    """
    digest = sha256(f"{LAWS} {sys.version_info[:2]} {sys.byteorder}".encode())
    try:
        for name in _JUDGES:
            digest.update(f" {name} {version(name)}".encode())
        for room in (keys, ledger, policies):
            root = Path(str(room.__file__)).parent
            files = sorted(root.rglob("*.py"))
            if len(files) < 2:
                return None
            for path in files:
                data = path.read_bytes()
                digest.update(f"\n{room.__name__} {path.relative_to(root).as_posix()} {len(data)}\n".encode() + data)
    except (OSError, PackageNotFoundError):
        return None
    return digest.hexdigest()
