"""The head: how much of a ledger is meant, and the hash that pins all of it."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from keys.values import ZERO_HASH
from keys.words import counted


class Head(Struct, frozen=True, gc=False):
    """A prefix of a ledger: `size` records, and `hash`, the leaf of record `size - 1` (64 hex digits; zeros at size
    0).
    """

    size: int
    hash: str

    def __str__(self) -> str:
        return f"{counted(self.size, 'entry')}, {self.hash[:16]}"


EMPTY_HEAD: Final = Head(0, ZERO_HASH)
