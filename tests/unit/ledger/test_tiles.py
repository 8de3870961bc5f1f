from __future__ import annotations

from collections import Counter

import pytest
from tilework import MemoryTiles, leaves

from keys.errors import FormatError
from ledger.merkle import prove_consistency, prove_inclusion
from ledger.tiles import (
    MAX_BUNDLE,
    Bundle,
    Tile,
    TileNodes,
    bundles_of,
    format_bundle,
    format_path,
    parse_bundle,
    parse_path,
    parse_tile,
    tiles_of,
)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1_234_067), "tile/0/x001/x234/067"),
        (Tile(1, 1000, 1), "tile/1/x001/000.p/1"),
        (Tile(63, 999, 255), "tile/63/999.p/255"),
        (Bundle(67), "tile/entries/067"),
        (Bundle(1067, 17), "tile/entries/x001/067.p/17"),
    ],
)
def test_paths_are_those_of_the_specification(place: Tile | Bundle, path: str) -> None:
    assert format_path(place) == path
    assert parse_path(path) == place


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/67",
        "tile/0/0067",
        "tile/00/067",
        "tile/64/067",
        "tile/0/x000/067",
        "tile/0/001/067",
        "tile/0/x067",
        "tile/0/067.p/0",
        "tile/0/067.p/256",
        "tile/0/067.p/016",
        "tile/0/067.p/",
        "tile/entries/../../checkpoint",
        "tile/0/067\n",
        "tile/-1/067",
        "tile/0/٠٦٧",
        "/tile/0/067",
        "tile/0/" + "x999/" * 2000 + "999",
    ],
)
def test_other_spellings_of_a_path_are_refused(path: str) -> None:
    with pytest.raises(FormatError):
        parse_path(path)


@pytest.mark.parametrize("place", [(64, 0, 256), (-1, 0, 256), (0, -1, 256), (0, 0, 0), (0, 0, 257), (0, 2**53, 1)])
def test_no_tile_has_impossible_coordinates(place: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="coordinates"):
        Tile(*place)


def test_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    tiles = list(tiles_of(70_000))
    assert Counter((tile.level, tile.width) for tile in tiles) == {
        (0, 256): 273,
        (0, 112): 1,
        (1, 256): 1,
        (1, 17): 1,
        (2, 1): 1,
    }


def test_tree_of_256_has_a_full_tile_and_one_above_it() -> None:
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(bundles_of(256)) == [Bundle(0)]


def test_no_entry_no_tile() -> None:
    assert not list(tiles_of(0))
    assert not list(bundles_of(0))


def test_what_is_new_is_the_wider_tile_and_those_behind_it() -> None:
    assert list(tiles_of(300, 290)) == [Tile(0, 1, 44)]
    assert list(tiles_of(513, 290)) == [Tile(0, 1), Tile(0, 2, 1), Tile(1, 0, 2)]
    assert list(bundles_of(513, 512)) == [Bundle(2, 1)]
    assert not list(tiles_of(512, 512))


@pytest.mark.parametrize(
    ("data", "entry"),
    [(b"", 0), (b"\0", 0), (b"\0\2a", 0), (b"\0\1a", 1), (b"\0\1a\0\1b\0", 1), (b"\0\1a\0\1bc", 1)],
)
def test_bundle_whose_lengths_lead_elsewhere_names_the_entry(data: bytes, entry: int) -> None:
    with pytest.raises(FormatError) as refused:
        parse_bundle(data, 2)
    assert refused.value.fields["entry"] == entry


def test_largest_bundle() -> None:
    records = [b"x" * 65_535] * 256
    data = format_bundle(records)
    assert len(data) == MAX_BUNDLE
    assert parse_bundle(data, 256) == records
    with pytest.raises(FormatError):
        format_bundle([b"x" * 65_536])


def test_tile_of_another_size_is_refused() -> None:
    for size in (0, 31, 33, 64):
        with pytest.raises(FormatError):
            parse_tile(bytes(size), 1)


class Blank:
    """A tree of any size, for counting what is read of it."""

    def __init__(self) -> None:
        self.read: list[Tile] = []

    def load(self, tile: Tile) -> bytes:
        self.read.append(tile)
        return bytes(tile.size)


@pytest.mark.parametrize("size", [1_000_000, 2**20, 2**20 + 1, 10**9])
def test_proof_reads_two_tiles_of_a_level_at_most(size: int) -> None:
    levels = -(-size.bit_length() // 8)
    for index in (0, 1, size // 3, size - 257, size - 1):
        blank = Blank()
        prove_inclusion(index, size, TileNodes(size, blank.load))
        assert len(blank.read) == len(set(blank.read)) <= 2 * levels
    for old in (1, size // 3, size - 1, size):
        blank = Blank()
        prove_consistency(old, size, TileNodes(size, blank.load))
        assert len(blank.read) <= 2 * levels


def test_node_past_the_end_is_no_node() -> None:
    tiles = MemoryTiles(leaves(300))
    nodes = TileNodes(300, tiles.load)
    for level, index in ((0, 300), (8, 1), (6, 4), (16, 0), (9, 0)):
        with pytest.raises(IndexError):
            nodes.node(level, index)
    assert nodes.node(8, 0) == tiles.rows[1][0]
