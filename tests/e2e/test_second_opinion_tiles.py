"""Where the second opinion looks for the files of an export, and how much of one it reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from verdicts import SECOND

from ledger.tiles import Tile, format_path


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
