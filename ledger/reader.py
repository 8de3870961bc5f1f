"""Opening a ledger to read it: what every room may do, unlike appending."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.sqlite.store import SqliteStore
from ledger.store import Reader


@contextmanager
def open_reader(path: Path) -> Iterator[Reader]:
    """A ledger file as a reader, for as long as the context lasts; it cannot be written through it.

    Raises: as `ledger.sqlite.store.SqliteStore.open`.
    """
    with SqliteStore.open(path, read_only=True) as store:
        yield store
