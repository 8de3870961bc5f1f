"""The rows of a tree that its next tiles are made of, which is all that an export keeps of what it exported before."""

from __future__ import annotations

from collections.abc import Iterator

from ledger.merkle import Frontier, Nodes, hash_root
from ledger.tiles import HEIGHT, MAX_LEVEL, WIDTH, Tile


class Levels:
    """The hashes of the tiles that are not full, level by level: `Nodes` for the peaks of the tree, and all that the
    next tiles need.
    """

    def __init__(self, size: int, nodes: Nodes) -> None:
        self.size = size
        self.rows: list[list[bytes]] = []
        while size >> HEIGHT * len(self.rows):
            level = len(self.rows)
            count = size >> HEIGHT * level
            start = count - count % WIDTH
            self.rows.append([nodes.node(HEIGHT * level, index) for index in range(start, count)])

    def append(self, leaf: bytes) -> Iterator[tuple[Tile, list[bytes]]]:
        """Add a leaf hash; the tiles that it filled."""
        self.size += 1
        for level in range(MAX_LEVEL + 1):
            if level == len(self.rows):
                self.rows.append([])
            row = self.rows[level]
            row.append(leaf)
            if len(row) < WIDTH:
                return
            self.rows[level] = []
            yield Tile(level, (self.size >> HEIGHT * (level + 1)) - 1), row
            leaf = hash_root(row)

    def partial(self) -> Iterator[tuple[Tile, list[bytes]]]:
        """The tiles that are not full."""
        for level, row in enumerate(self.rows):
            if row:
                yield Tile(level, self.size >> HEIGHT * (level + 1), len(row)), row

    def node(self, level: int, index: int) -> bytes:
        """See `Nodes.node`; for the peaks only."""
        stored, within = divmod(level, HEIGHT)
        start = (index << within) % WIDTH
        return hash_root(self.rows[stored][start : start + (1 << within)])

    def root(self) -> bytes:
        """Root of the tree; every hash here takes part in it."""
        return Frontier.load(self.size, self).root()
