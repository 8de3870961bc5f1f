"""Which records may be below the pages that are still there. Of a record that it cannot read SQLite does not say which
others it cannot read for the same reason, so the pages above them are read without it.

Source: "Database File Format" of SQLite, sections 1.6 (b-tree pages) and 2.3 (tables).
"""

from __future__ import annotations

import os
import sqlite3
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

_INTERIOR: Final = 5
_LEAF: Final = 13
_HEAD: Final = 12
"""Bytes of an interior page before the pointers to its cells."""
_KEY: Final = 4
"""Bytes of its cell before the key."""
_MAX_KEY: Final = 2**63
_ROOT: Final = "SELECT CAST(rootpage AS INTEGER) FROM sqlite_schema WHERE name = 'record' LIMIT 1"


class _Below(NamedTuple):
    """The rows `start` to `stop` (not included) are looked for at `page` and below."""

    page: int
    start: int
    stop: int


def find_spans(path: Path, connection: sqlite3.Connection, end: int) -> list[range]:
    """Positions from 0 to `end` (not included), in order. Those that are not among them are below what is no page of a
    table, so no record is found there by its number; where anything else is wrong they are among them. `path`: a file
    that nobody writes, with nothing in its log. `connection`: reads it.

    Raises: OSError; sqlite3.Error.
    """
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    (root,) = connection.execute(_ROOT).fetchone()
    with path.open("rb") as file:
        return _walk(file.fileno(), page_size, _Below(root, 0, end))


def _walk(descriptor: int, page_size: int, top: _Below) -> list[range]:
    spans: list[range] = []
    # No page of a sound table is met twice, and a hostile one leads back to itself.
    left = os.fstat(descriptor).st_size // page_size + 1
    waiting = [top]
    while waiting:
        below = waiting.pop()
        left -= 1
        page = _read(descriptor, page_size, below.page)
        children = _split(page, below) if page[0] == _INTERIOR and left > 0 else None
        if children is not None:
            waiting += reversed(children)
        elif page[0] in {_INTERIOR, _LEAF}:
            start = spans.pop().start if spans and spans[-1].stop == below.start else below.start
            spans.append(range(start, below.stop))
    return spans


def _read(descriptor: int, page_size: int, number: int) -> bytes:
    data = os.pread(descriptor, page_size, (number - 1) * page_size) if number > 0 else b""
    return data.ljust(page_size, b"\0")


def _split(page: bytes, below: _Below) -> list[_Below] | None:
    """The pages below an interior one, each with those of its rows that are looked for there; None where its keys are
    not in order, so that it is not known what is looked for where.
    """
    pages: list[int] = []
    keys = [-1]
    for number in range(int.from_bytes(page[3:5], "big")):
        at = int.from_bytes(page[_HEAD + 2 * number : _HEAD + 2 * number + 2], "big")
        pages.append(int.from_bytes(page[at : at + _KEY], "big"))
        keys.append(_parse_key(page[at + _KEY : at + _KEY + 9]))
    if any(key >= after for key, after in pairwise(keys)) or keys[-1] >= _MAX_KEY:
        return None
    pages.append(int.from_bytes(page[8:_HEAD], "big"))
    # The key is that of the last row below the page, and the rest is below the last page.
    bounds = [min(max(key + 1, below.start), below.stop) for key in keys] + [below.stop]
    return [_Below(page, *rows) for page, rows in zip(pages, pairwise(bounds), strict=True) if rows[0] < rows[1]]


def _parse_key(data: bytes) -> int:
    """A big-endian number of 7 bits in each byte but the ninth, which has 8; too large a one where it is cut off."""
    value = 0
    for at, byte in enumerate(data):
        if at == 8:
            return value << 8 | byte
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value
    return _MAX_KEY
