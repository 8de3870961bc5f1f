"""Comparing an export's tiles and bundles with its entries, which an audit of the same reader judges.

Source: docs/FORMAT.md, export.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from keys.errors import CalyxError, Unavailable
from keys.words import counted
from ledger.exports.reader import ExportReader, read_bounded, split_bundle
from ledger.merkle import hash_leaf, hash_root
from ledger.tiles import HEIGHT, MAX_BUNDLE, WIDTH, Bundle, Tile, bundles_of, format_bundle, format_path, parse_tile

_WIDTH_NAME: Final = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TileFinding:
    """A file of an export that does not agree with its entries. `entry`: the first entry that it concerns."""

    code: str
    entry: int
    message: str


def check_tiles(reader: ExportReader, broken: Container[int]) -> Iterator[TileFinding]:
    """Compare every tile and bundle of an export with its entries: those that its checkpoint asks for, and the partial
    ones of earlier checkpoints that lie beside them.

    `broken`: the entries that an audit of the same reader found changed; what a tile says of those is not held
    against the tile.
    """
    above: list[bytes] = []
    for bundle in bundles_of(reader.size):
        records = reader.load_bundle(bundle.index)
        yield from _check_older_bundles(reader.root, bundle, records, broken)
        leaves = [None if record is None else hash_leaf(record) for record in records]
        hashes = yield from _check_tile(reader, Tile(0, bundle.index, bundle.width), leaves, broken)
        if bundle.width == WIDTH:
            above.append(hash_root(hashes))
    level = 1
    while above:
        here, above = above, []
        for index in range(-(-len(here) // WIDTH)):
            expected = here[index * WIDTH : (index + 1) * WIDTH]
            yield from _check_tile(reader, Tile(level, index, len(expected)), expected, ())
            if len(expected) == WIDTH:
                above.append(hash_root(expected))
        level += 1


def _check_tile(
    reader: ExportReader, tile: Tile, expected: list[bytes] | list[bytes | None], broken: Container[int]
) -> Generator[TileFinding, None, list[bytes]]:
    """Gives the tile's hashes as the entries have them, and as the tile has them where an entry is broken."""
    span = 1 << HEIGHT * tile.level
    start = tile.index * WIDTH * span
    found: list[bytes] = []
    try:
        found = parse_tile(reader.load_tile(tile), tile.width)
    except CalyxError as error:
        code = "tile_missing" if error.code == "export_damaged" and "missing" in error.message else "tile_mismatch"
        yield TileFinding(code, start, error.message)
    hashes: list[bytes] = []
    for number, wanted in enumerate(expected):
        entry = start + number * span
        has = found[number] if found else bytes(32)
        if wanted is None or (entry in broken and tile.level == 0):
            hashes.append(has)
            continue
        if found and has != wanted:
            yield _mismatch(tile, number, entry, span)
        hashes.append(wanted)
    yield from _check_older_tiles(reader.root, tile, hashes, start, span)
    return hashes


def _mismatch(tile: Tile, number: int, entry: int, span: int) -> TileFinding:
    what = f"entry {entry}" if span == 1 else f"entries {entry} to {entry + span - 1}"
    return TileFinding("tile_mismatch", entry, f"hash {number} of {format_path(tile)} is not that of {what}")


def _check_older_tiles(root: Path, tile: Tile, hashes: list[bytes], start: int, span: int) -> Iterator[TileFinding]:
    for width in _older_widths(root, tile):
        older = Tile(tile.level, tile.index, width)
        data = _read_quietly(root / format_path(older), older.size)
        if len(data) != older.size:
            yield TileFinding("tile_mismatch", start, f"{format_path(older)} is not {counted(older.size, 'byte')}")
            continue
        for number, has in enumerate(parse_tile(data, width)):
            if has != hashes[number]:
                yield _mismatch(older, number, start + number * span, span)


def _check_older_bundles(
    root: Path, bundle: Bundle, records: list[bytes | None], broken: Container[int]
) -> Iterator[TileFinding]:
    for width in _older_widths(root, bundle):
        older = Bundle(bundle.index, width)
        data = _read_quietly(root / format_path(older), MAX_BUNDLE)
        known = records[:width]
        if data == format_bundle([record or b"" for record in known]):
            continue
        for number, record in enumerate(split_bundle(data, width)):
            entry = bundle.start + number
            if record is None or (record != known[number] and known[number] is not None and entry not in broken):
                yield TileFinding("tile_mismatch", entry, f"{format_path(older)} holds another entry {entry}")


def _older_widths(root: Path, place: Tile | Bundle) -> list[int]:
    """Widths of the narrower partial files that lie beside a tile or bundle."""
    full = root / format_path(replace(place, width=WIDTH))
    try:
        names = os.listdir(full.with_name(full.name + ".p"))  # noqa: PTH208  # only names are wanted
    except OSError:
        return []
    widths = [int(name) for name in names if _WIDTH_NAME.fullmatch(name)]
    return sorted(width for width in widths if width < place.width)


def _read_quietly(path: Path, limit: int) -> bytes:
    try:
        return read_bounded(path, limit) or b""
    except Unavailable:
        return b""
