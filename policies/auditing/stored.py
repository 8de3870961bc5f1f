"""What a store says of itself, for the audit: its tip, and its caches beside the records."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from keys.errors import CalyxError
from keys.values import ZERO_HASH
from ledger.head import Head
from ledger.sqlite.check import Finding, check_store
from ledger.store import Reader, Tip
from policies.auditing.report import MAX_FINDINGS

OWN_CHECKS: Final = frozenset({"page", "log"})
"""What `compare_store` finds without comparing with the records."""
_TRIES: Final = 3


def find_tip(reader: Reader, first: int) -> tuple[Tip, CalyxError | None]:
    """The store's tip. Where that is damaged, one without a checkpoint that leads to the last record, counted from
    entry `first` on, and the damage.

    Raises: Unavailable of the reader.
    """
    try:
        return reader.tip(), None
    except CalyxError as error:
        if error.code != "ledger_corrupt":
            raise
        damage = error
    size = end = first
    # What cannot be read is named when the entries are; with more of that the report is full.
    for _ in range(MAX_FINDINGS):
        try:
            for _ in reader.read(size):
                size = end = size + 1
            break
        except CalyxError:
            size += 1
    else:
        # Where nothing can be read any more, nobody knows how many there are.
        size = min(size, end + 1)
    return Tip(Head(size, ZERO_HASH), b""), damage


def compare_store(path: Path, reader: Reader | None) -> list[Finding]:
    """What is wrong with a ledger's file. `reader`: of the same file, None where its tip cannot be read.

    Raises: as `ledger.sqlite.check.check_store`, and of the reader.
    """
    found: list[Finding] = []
    for _ in range(_TRIES):
        # Whoever appends meanwhile moves what is compared, so only what stays while the tip stands still counts.
        before = None if reader is None else reader.tip()
        found = check_store(path)
        if not found or reader is None or reader.tip() == before:
            break
    return found
