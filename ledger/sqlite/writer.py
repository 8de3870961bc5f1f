"""What a transaction of the SQLite store collects: records, and the nodes of the tree that they finish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.head import Head
from ledger.merkle import Frontier
from ledger.record import Record
from ledger.store import HeadMoved

FLUSH_AT: Final = 512
TILE_HEIGHT: Final = 8


class SqliteWriter:
    """`ledger.store.Writer`: made by `SqliteStore.writer`, of use inside its context only."""

    def __init__(
        self,
        store: Callable[[list[tuple[int, bytes, bytes]], list[tuple[int, int, bytes]]], None],
        head: Head,
        frontier: Frontier,
    ) -> None:
        self._store = store
        self._head = head
        self._frontier = frontier
        self._records: list[tuple[int, bytes, bytes]] = []
        self._nodes: list[tuple[int, int, bytes]] = []

    @property
    def head(self) -> Head:
        return self._head

    def append(self, record: Record) -> None:
        if record.seq != self._head.size or record.prev != self._head.hash:
            raise HeadMoved(Head(record.seq, record.prev), self._head)
        leaf = bytes.fromhex(record.leaf)
        self._records.append((record.seq, leaf, record.data))
        for level, node in enumerate(self._frontier.append(leaf), start=1):
            if level % TILE_HEIGHT == 0:
                self._nodes.append((level, record.seq >> level, node))
        self._head = Head(record.seq + 1, record.leaf)
        if len(self._records) >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Hand the rows to SQLite, inside the open transaction."""
        if self._records:
            self._store(self._records, self._nodes)
            self._records, self._nodes = [], []
