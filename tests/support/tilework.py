"""Tiles of synthetic trees, held in memory, with a count of how many were read."""

from __future__ import annotations

from hashlib import sha256

from ledger.merkle import hash_root
from ledger.tiles import WIDTH, Tile, format_tile, tiles_of


def leaves(count: int) -> list[bytes]:
    """Leaf hashes of no record."""
    return [sha256(b"%d" % number).digest() for number in range(count)]


class MemoryTiles:
    """Every tile of a tree over `leaves`."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.rows = [leaves]
        while len(self.rows[-1]) >= WIDTH:
            below = self.rows[-1]
            full = len(below) // WIDTH
            self.rows.append([hash_root(below[at * WIDTH : (at + 1) * WIDTH]) for at in range(full)])
        self.tiles = {tile: format_tile(self._hashes(tile)) for tile in tiles_of(len(leaves))}
        self.read: list[Tile] = []

    def load(self, tile: Tile) -> bytes:
        """A tile's bytes."""
        self.read.append(tile)
        return self.tiles[tile]

    def _hashes(self, tile: Tile) -> list[bytes]:
        start = tile.index * WIDTH
        return self.rows[tile.level][start : start + tile.width]
