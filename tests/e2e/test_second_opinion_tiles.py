"""Where the second opinion looks for the files of an export, and how much of one it reads."""

from __future__ import annotations

import hashlib
import io
from contextlib import nullcontext
from pathlib import Path

import pytest
from verdicts import SECOND

from keys.canonical import format_json
from ledger.merkle import hash_leaf, hash_root
from ledger.tiles import Tile, format_path, format_tile, tiles_of


@pytest.mark.parametrize("index", [0, 7, 999, 1_000, 1_234_067])
def test_tile_stands_where_the_document_says(tmp_path: Path, index: int) -> None:
    for tile in (Tile(0, index), Tile(0, index, 41), Tile(0, index, 40)):
        path = tmp_path / format_path(tile)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % tile.width)
    assert SECOND.read_tile(tmp_path, "0", index, 300) == {256: b"256", 40: b"40", 41: b"41"}
    assert SECOND.read_tile(tmp_path, "0", index, 41) == {41: b"41", 40: b"40"}
    assert SECOND.read_tile(tmp_path, "0", index, 255) == {256: b"256", 40: b"40", 41: b"41"}
    (tmp_path / format_path(Tile(0, index, 255))).write_bytes(b"255")
    assert SECOND.read_tile(tmp_path, "0", index, 255) == {255: b"255", 40: b"40", 41: b"41"}


def test_no_more_of_a_file_is_read_than_its_place_allows(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert SECOND.read_whole(path, 5) == b"12345"
    assert SECOND.read_whole(path, 4) == b""
    assert SECOND.read_whole(tmp_path / "nothing", 5) is None


@pytest.mark.parametrize("less", [0, 1])
def test_no_more_of_an_object_is_read_than_its_place_allows(less: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree's manifest has a limit of its own; what the law reads has that of its list."""
    data = format_json(["calyx-tree-v1", ["a", "dir"]])
    digest, objects = hashlib.sha256(data).hexdigest(), SECOND.Objects(lambda _: io.BytesIO(data))
    limit = len(data) - less
    monkeypatch.setattr(SECOND, "MAX_MANIFEST", limit)
    refused = nullcontext() if less == 0 else pytest.raises(SECOND.Refused, match="too_large")
    with refused:
        objects.check_tree(digest)
    with refused:
        objects.read(digest, len(data), limit)


def test_tile_two_levels_above_the_leaves_is_compared(tmp_path: Path) -> None:
    """Of 65,536 entries, the least that have one."""
    leaves = [hash_leaf(b"%d" % number) for number in range(65_536)]
    levels = [leaves]
    while len(levels[-1]) > 1:
        levels.append([hash_root(levels[-1][at : at + 256]) for at in range(0, len(levels[-1]), 256)])
    for tile in tiles_of(len(leaves)):
        path = tmp_path / format_path(tile)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(format_tile(levels[tile.level][tile.index * 256 : tile.index * 256 + tile.width]))
    hashes = [leaf.hex() for leaf in leaves]
    assert list(SECOND.check_tiles(tmp_path, len(leaves), hashes)) == []
    (tmp_path / "tile" / "2" / "000.p" / "1").write_bytes(bytes(32))
    assert [(each.code, each.entry) for each in SECOND.check_tiles(tmp_path, len(leaves), hashes)] == [
        ("tile_mismatch", 0)
    ]
