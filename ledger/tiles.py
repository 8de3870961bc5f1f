"""Tiles: the tree and the entries of a log as a finite set of static files.

    tile/<L>/<N>[.p/<W>]          level L: W hashes of complete subtrees of 256**L leaves, 32 bytes each
    tile/entries/<N>[.p/<W>]      an entry bundle: W records, each behind its length, a big-endian uint16

N counts from 0 and is spelt in groups of three digits, all but the last with an x before them: 1234067 is
x001/x234/067. A full tile is 256 wide and has no .p; W of a partial one is 1 to 255. Names and shapes are pure: this
module opens no file.

Source: C2SP tlog-tiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from keys.errors import FormatError
from keys.words import counted
from ledger.merkle import HASH_SIZE, hash_root
from ledger.record import MAX_RECORD

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
MAX_LEVEL: Final = 63
MAX_INDEX: Final = 2**53 - 1
MAX_BUNDLE: Final = WIDTH * (2 + MAX_RECORD)
CHECKPOINT_PATH: Final = "checkpoint"

_PATH: Final = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<index>(?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Tile:
    """The hashes of the subtrees [index * 256, index * 256 + width) of level `level`, each over 256**level leaves.

    Raises: ValueError for coordinates that no tile has.
    """

    level: int
    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        _check(self.level, self.index, self.width)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.width * HASH_SIZE


@dataclass(frozen=True, slots=True)
class Bundle:
    """The records [index * 256, index * 256 + width). Raises: ValueError, as `Tile`."""

    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        _check(0, self.index, self.width)

    @property
    def start(self) -> int:
        """Seq of its first record."""
        return self.index * WIDTH


def format_path(place: Tile | Bundle) -> str:
    """Where a tile or bundle lies below the log's prefix."""
    level = "entries" if isinstance(place, Bundle) else str(place.level)
    partial = "" if place.width == WIDTH else f".p/{place.width}"
    return f"tile/{level}/{_format_index(place.index)}{partial}"


def parse_path(text: str) -> Tile | Bundle:
    """Read a path. Inverse of `format_path`.

    Raises: FormatError.
    """
    match = _PATH.fullmatch(text)
    if match is None:
        raise FormatError("this is not the path of a tile or of an entry bundle")
    index = int(match["index"].replace("/", "").replace("x", ""))
    width = int(match["width"] or WIDTH)
    try:
        found = Bundle(index, width) if match["level"] == "entries" else Tile(int(match["level"]), index, width)
    except ValueError as error:
        raise FormatError(str(error)) from None
    if format_path(found) != text:
        raise FormatError("this is not the one spelling of the path of a tile")
    return found


def tiles_of(size: int, old: int = 0) -> Iterator[Tile]:
    """The tiles of a tree of `size` leaves, without those that the tree of `old` leaves has as well; level by level."""
    for level in range(MAX_LEVEL + 1):
        count, known = size >> HEIGHT * level, old >> HEIGHT * level
        if not count:
            return
        for index in range(known // WIDTH, -(-count // WIDTH)):
            tile = Tile(level, index, min(WIDTH, count - index * WIDTH))
            if known - index * WIDTH < tile.width:
                yield tile


def bundles_of(size: int, old: int = 0) -> Iterator[Bundle]:
    """The entry bundles of a log of `size` entries, without those that it had at `old` entries."""
    for index in range(old // WIDTH, -(-size // WIDTH)):
        bundle = Bundle(index, min(WIDTH, size - index * WIDTH))
        if old - index * WIDTH < bundle.width:
            yield bundle


def partial_of(size: int) -> Iterator[Tile | Bundle]:
    """The tiles and the bundle of a log of `size` entries that are not full."""
    if size % WIDTH:
        yield Bundle(size // WIDTH, size % WIDTH)
    for level in range(MAX_LEVEL + 1):
        count = size >> HEIGHT * level
        if not count:
            return
        if count % WIDTH:
            yield Tile(level, count // WIDTH, count % WIDTH)


def format_tile(hashes: Sequence[bytes]) -> bytes:
    """A tile's bytes: its hashes, one after the other."""
    return b"".join(hashes)


def parse_tile(data: bytes, width: int) -> list[bytes]:
    """The `width` hashes of a tile. Inverse of `format_tile`.

    Raises: FormatError when the size is another.
    """
    if len(data) != width * HASH_SIZE:
        raise FormatError(
            f"a tile of {counted(width, 'hash')} is {counted(width * HASH_SIZE, 'byte')}, this one is {len(data)}"
        )
    return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]


def format_bundle(records: Sequence[bytes]) -> bytes:
    """An entry bundle's bytes.

    Raises: FormatError when a record is over 65,535 bytes.
    """
    if any(len(record) > MAX_RECORD for record in records):
        raise FormatError(f"a record over {MAX_RECORD} bytes has no place in an entry bundle", code="too_large")
    return b"".join(len(record).to_bytes(2, "big") + record for record in records)


def parse_bundle(data: bytes, width: int) -> list[bytes]:
    """The `width` records of an entry bundle. Inverse of `format_bundle`.

    Raises: FormatError when the lengths do not lead to the end in `width` steps; its field `entry` counts from the
    bundle's first record.
    """
    records: list[bytes] = []
    at = 0
    for number in range(width):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise FormatError("an entry of the bundle goes past its end", entry=number)
        records.append(data[at + 2 : end])
        at = end
    if at != len(data):
        raise FormatError(f"the bundle goes on after its {counted(width, 'entry')}", entry=width - 1)
    return records


class TileNodes:
    """`ledger.merkle.Nodes` of a tree of `size` leaves, read from tiles; each tile is asked for once.

    `load`: gives a tile's bytes. What it gives is only shaped here: check the proof that was made with it.
    """

    def __init__(self, size: int, load: Callable[[Tile], bytes]) -> None:
        self._size = size
        self._load = load
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def node(self, level: int, index: int) -> bytes:
        """See `Nodes.node`. Raises: FormatError for a tile of another size; what `load` raises; IndexError past the
        last complete subtree.
        """
        stored, within = divmod(level, HEIGHT)
        first, count = index << within, 1 << within
        if first + count > self._size >> HEIGHT * stored:
            raise IndexError("no such complete subtree")
        start = first % WIDTH
        return hash_root(self._hashes(stored, first // WIDTH)[start : start + count])

    def _hashes(self, level: int, index: int) -> list[bytes]:
        known = self._tiles.get((level, index))
        if known is None:
            tile = Tile(level, index, min(WIDTH, (self._size >> HEIGHT * level) - index * WIDTH))
            known = self._tiles[(level, index)] = parse_tile(self._load(tile), tile.width)
        return known


def _format_index(index: int) -> str:
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    return "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])


def _check(level: int, index: int, width: int) -> None:
    if not (0 <= level <= MAX_LEVEL and 0 <= index <= MAX_INDEX and 1 <= width <= WIDTH):
        raise ValueError("no tile has these coordinates")
