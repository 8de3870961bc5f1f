"""What a reader remembers of a ledger, and the proof that what it sees now extends that. `ledger.memory` keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from pydantic import Field

from keys.errors import CalyxError
from keys.values import Count, Hash, Model
from ledger.head import Head

MAX_HOME: Final = 4_096


class Remembered(Model):
    """What a user remembers of the ledger at `home`. `ledger`: leaf of record 0. `hash`: leaf of record `size - 1`."""

    home: Annotated[str, Field(max_length=MAX_HOME)]
    ledger: Hash
    size: Count
    hash: Hash

    @property
    def head(self) -> Head:
        """The remembered head."""
        return Head(self.size, self.hash)


class HeadContradicted(CalyxError):
    """The ledger shows a shorter or another history than its reader has verified before. Stop."""

    def __init__(self, remembered: Remembered, ledger: str, head: Head, why: str) -> None:
        super().__init__(
            "head_contradicted",
            f"{why}: remembered {remembered.head} of ledger {remembered.ledger[:16]}, "
            f"found {head} of ledger {ledger[:16]}",
            hint="do not sign or deploy; compare with another copy of the ledger",
            remembered_ledger=remembered.ledger,
            remembered_size=remembered.size,
            remembered_hash=remembered.hash,
            found_ledger=ledger,
            found_size=head.size,
            found_hash=head.hash,
        )


def check_remembered(remembered: Remembered, ledger: str, head: Head, leaf_at: Callable[[int], str]) -> None:
    """Prove that a verified history, of `ledger` up to `head`, extends what is remembered.

    `leaf_at`: gives the verified leaf of a seq.

    Raises: HeadContradicted.
    """
    if ledger != remembered.ledger:
        raise HeadContradicted(remembered, ledger, head, "this is another ledger")
    if head.size < remembered.size:
        raise HeadContradicted(remembered, ledger, head, "entries are missing at the end")
    if remembered.size and (leaf := leaf_at(remembered.size - 1)) != remembered.hash:
        # What a store says of its head may be older than a change of its last record.
        found = Head(head.size, leaf) if head.size == remembered.size else head
        raise HeadContradicted(remembered, ledger, found, "the history was rewritten")
