"""Reading an export: the static files of a log as a `ledger.store.Reader`.

Nothing here is trusted. A file may be missing, damaged, of any size, a link or a FIFO; a read then says which entry it
concerns. What an export claims is proved by whoever replays the entries against its signed checkpoint.

Source: docs/FORMAT.md, export.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from keys.errors import CalyxError, FormatError, Unavailable
from keys.regular import open_regular
from keys.values import ZERO_HASH
from keys.words import counted
from ledger.checkpoint import Checkpoint, peek_checkpoint
from ledger.head import Head
from ledger.merkle import hash_leaf
from ledger.note import MAX_NOTE
from ledger.store import Tip
from ledger.tiles import (
    CHECKPOINT_PATH,
    HEIGHT,
    MAX_BUNDLE,
    WIDTH,
    Bundle,
    Tile,
    TileNodes,
    format_bundle,
    format_path,
    parse_bundle,
)

_BEGINNING: Final = b'{"envelope":{"payload":"'
"""How each record begins. A payload is base64, so it stands nowhere else in one."""


class ExportReader:
    """`ledger.store.Reader` of the export in the directory `root`. Its end is that of the checkpoint, whatever else is
    there: of `note`, or of the one in the directory.

    Raises: Unavailable (`export_missing`, `export_unreadable`); FormatError (`bad_checkpoint`) when the checkpoint is
    none.
    """

    def __init__(self, root: Path, note: bytes | None = None) -> None:
        self.root: Final = root
        self.note: Final = load_checkpoint(root) if note is None else note
        self.size: Final = peek_published(self.note, str(root)).size
        self._nodes = TileNodes(self.size, self.load_tile)
        self._bundle: tuple[int, list[bytes | None]] = (-1, [])

    def tip(self) -> Tip:
        # The last entry's leaf stands nowhere else. Without it the audit says what is missing when it comes there.
        try:
            leaf = self.leaf(self.size - 1) if self.size else ZERO_HASH
        except CalyxError:
            leaf = ZERO_HASH
        return Tip(Head(self.size, leaf), self.note)

    def head(self) -> Head:
        return self.tip().head

    def checkpoint(self) -> bytes:
        return self.note

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        end = self.size if stop is None else min(stop, self.size)
        for seq in range(start, end):
            index = seq // WIDTH
            if self._bundle[0] != index:
                self._bundle = (index, self.load_bundle(index))
            data = self._bundle[1][seq % WIDTH]
            if data is None:
                raise _damaged(f"{format_path(self._place(index))} does not hold entry {seq}", seq)
            yield data

    def leaf(self, seq: int) -> str:
        for data in self.read(seq, seq + 1):
            return hash_leaf(data).hex()
        raise _damaged(f"there is no entry {seq}", seq)

    def node(self, level: int, index: int) -> bytes:
        return self._nodes.node(level, index)

    def load_tile(self, tile: Tile) -> bytes:
        """A tile's bytes; those of a partial one may be the beginning of a wider one that replaced it.

        Raises: CalyxError (`export_damaged`) when it is missing, cannot be read, or is of another size.
        """
        data = _load(self.root, tile)
        if data is None:
            raise _damaged(f"{format_path(tile)} is missing", tile.index << HEIGHT * (tile.level + 1))
        if len(data) != tile.size:
            raise _damaged(
                f"{format_path(tile)} is {counted(len(data), 'byte')}, not {tile.size}",
                tile.index << HEIGHT * (tile.level + 1),
            )
        return data

    def load_bundle(self, index: int) -> list[bytes | None]:
        """The records of the bundle that the checkpoint asks for, None for each that cannot be told apart."""
        place = self._place(index)
        try:
            data = _load(self.root, place)
        except CalyxError:
            data = None
        return split_bundle(b"" if data is None else data, place.width)

    def _place(self, index: int) -> Bundle:
        return Bundle(index, min(WIDTH, self.size - index * WIDTH))


def load_checkpoint(root: Path) -> bytes:
    """The signed note of an export, unverified. Raises: Unavailable (`export_missing`, `export_unreadable`)."""
    data = read_bounded(root / CHECKPOINT_PATH, MAX_NOTE)
    if data is None:
        raise Unavailable("export_missing", f"there is no checkpoint in {root}", hint="calyx ledger export writes one")
    return data


def peek_published(note: bytes, place: str) -> Checkpoint:
    """As `ledger.checkpoint.peek_checkpoint`, of what lies at `place` as an export's checkpoint. Raises: FormatError
    (`bad_checkpoint`).
    """
    try:
        return peek_checkpoint(note)
    except FormatError as error:
        raise FormatError(
            f"{place}/{CHECKPOINT_PATH} is no checkpoint of a log: {error.message}",
            code="bad_checkpoint",
            hint="name the directory or address that calyx ledger export writes to; if you did, it is damaged",
        ) from None


def read_bounded(path: Path, limit: int) -> bytes | None:
    """The content of a regular file of at most `limit` bytes; None when there is none.

    Raises: Unavailable (`export_unreadable`) when there is something else, or more.
    """
    with open_bounded(path, limit) as file:
        if file is None:
            return None
        data = file.read(limit + 1)
    if len(data) > limit:
        raise _unreadable(path, f"it is over {limit} bytes")
    return data


@contextmanager
def open_bounded(path: Path, limit: int) -> Iterator[BinaryIO | None]:
    """A regular file of at most `limit` bytes, to be read; None when there is none. No link is followed, and nothing is
    waited for.

    Raises: as `read_bounded`.
    """
    try:
        try:
            descriptor = open_regular(path, links=False)
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
        with open(descriptor, "rb") as file:  # noqa: PTH123  # of a descriptor
            if os.fstat(descriptor).st_size > limit:
                raise _unreadable(path, f"it is over {limit} bytes")
            yield file
    except OSError as error:
        raise _unreadable(path, error.strerror or "error") from None


def _load(root: Path, place: Tile | Bundle) -> bytes | None:
    limit = MAX_BUNDLE if isinstance(place, Bundle) else WIDTH * 32
    data = read_bounded(root / format_path(place), limit)
    if data is not None or place.width == WIDTH:
        return data
    # A partial file may be gone once the full one is there; it is the beginning of that.
    full = replace(place, width=WIDTH)
    data = read_bounded(root / format_path(full), limit)
    if data is None:
        return None
    if isinstance(place, Tile):
        return data[: place.size]
    records = split_bundle(data, WIDTH)[: place.width]
    return None if None in records else format_bundle([record or b"" for record in records])


def split_bundle(data: bytes, width: int) -> list[bytes | None]:
    """A bundle's records. Where a length is wrong, what lies between the beginnings of its neighbours is no entry."""
    try:
        return list(parse_bundle(data, width))
    except FormatError:
        pass
    starts = [match.start() - 2 for match in re.finditer(re.escape(_BEGINNING), data)]
    found: list[bytes | None] = []
    for start, end in zip(starts[:width], [*starts[1:], len(data)], strict=False):
        whole = start >= 0 and int.from_bytes(data[start : start + 2], "big") == end - start - 2
        found.append(data[start + 2 : end] if whole else None)
    if len(starts) > width:
        found[-1] = None
    return found + [None] * (width - len(found))


def _damaged(message: str, entry: int) -> CalyxError:
    return CalyxError("export_damaged", message, hint="fetch it again, or export it again", entry=entry)


def _unreadable(path: Path, why: str) -> Unavailable:
    return Unavailable("export_unreadable", f"cannot read {path}: {why}")
