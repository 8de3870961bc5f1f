"""What each byte of a ledger's SQLite file is, read from the file format and without SQLite.

Source: "Database File Format" of SQLite, sections 1.3 (header), 1.6 (b-tree pages) and 1.7 (overflow pages).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

INTERIOR_INDEX: Final = 2
INTERIOR_TABLE: Final = 5
LEAF_INDEX: Final = 10
LEAF_TABLE: Final = 13
_HEADER: Final = 100

HEADER_FIELDS: Final = (
    ("magic", 0, 16),
    ("page size", 16, 18),
    ("journal mode", 18, 20),
    ("reserved bytes", 20, 21),
    ("payload fractions", 21, 24),
    ("change counter", 24, 28),
    ("page count", 28, 32),
    ("free list", 32, 40),
    ("schema cookie", 40, 44),
    ("schema format", 44, 48),
    ("cache size", 48, 52),
    ("largest root", 52, 56),
    ("text encoding", 56, 60),
    ("user version", 60, 64),
    ("incremental vacuum", 64, 68),
    ("application id", 68, 72),
    ("expansion", 72, 92),
    ("version-valid-for", 92, 96),
    ("writer's version", 96, 100),
)


@dataclass(frozen=True, slots=True)
class Place:
    """What a byte is. `table`: whose page it lies in, "" for the header. `entry`: whose row it is, if any."""

    table: str
    part: str
    entry: int | None = None


def map_bytes(data: bytes, roots: dict[str, int]) -> list[Place]:
    """The place of each byte. `roots`: page number of each table's root, the schema's is 1.

    Raises: AssertionError when a byte belongs to no page that a table leads to, or to two.
    """
    return _Map(data).run(roots)


class _Map:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.page_size = int.from_bytes(data[16:18], "big")
        self.places: list[Place | None] = [None] * len(data)

    def run(self, roots: dict[str, int]) -> list[Place]:
        for name, start, end in HEADER_FIELDS:
            self._mark(start, end, Place("", name))
        for table, root in roots.items():
            self._page(table, root)
        assert None not in self.places
        return [place for place in self.places if place is not None]

    def _mark(self, start: int, end: int, place: Place) -> None:
        assert not any(self.places[start:end]), f"{place} at {start} is something else too"
        self.places[start:end] = [place] * (end - start)

    def _number(self, at: int, size: int) -> int:
        return int.from_bytes(self.data[at : at + size], "big")

    def _page(self, table: str, page: int) -> None:
        base = (page - 1) * self.page_size
        head = base + (_HEADER if page == 1 else 0)
        kind = self.data[head]
        interior = kind in {INTERIOR_INDEX, INTERIOR_TABLE}
        assert interior or kind in {LEAF_INDEX, LEAF_TABLE}
        pointers = head + (12 if interior else 8)
        count = self._number(head + 3, 2)
        self._mark(head, pointers, Place(table, "page header"))
        self._mark(pointers, pointers + 2 * count, Place(table, "cell pointer"))
        if interior:
            self._page(table, self._number(head + 8, 4))
        for number in range(count):
            self._cell(table, kind, base + self._number(pointers + 2 * number, 2))
        self._rest(table, base, head)

    def _rest(self, table: str, base: int, head: int) -> None:
        free = self._number(head + 1, 2)
        while free:
            at = base + free
            self._mark(at, at + 4, Place(table, "free block's header"))
            free, size = self._number(at, 2), self._number(at + 2, 2)
            self._mark(at + 4, at + size, Place(table, "free block"))
        for at in range(base, base + self.page_size):
            if self.places[at] is None:
                self.places[at] = Place(table, "unused space")

    def _cell(self, table: str, kind: int, at: int) -> None:
        if kind in {INTERIOR_INDEX, INTERIOR_TABLE}:
            self._mark(at, at + 4, Place(table, "child pointer"))
            self._page(table, self._number(at, 4))
            at += 4
        if kind == INTERIOR_TABLE:
            _, end = self._varint(at)
            self._mark(at, end, Place(table, "key"))
            return
        size, start = self._varint(at)
        entry, body = None, start
        if kind == LEAF_TABLE:
            row, body = self._varint(start)
            entry = row if table == "record" else None
        self._mark(at, start, Place(table, "row's frame", entry))
        self._mark(start, body, Place(table, "row's number", entry))
        self._payload(table, entry, body, size, leaf_table=kind == LEAF_TABLE)

    def _payload(self, table: str, entry: int | None, body: int, size: int, *, leaf_table: bool) -> None:
        local = self._local(size, leaf_table=leaf_table)
        spots = list(range(body, body + local))
        if local < size:
            self._mark(body + local, body + local + 4, Place(table, "overflow pointer", entry))
            page = self._number(body + local, 4)
            while page:
                base = (page - 1) * self.page_size
                self._mark(base, base + 4, Place(table, "overflow pointer", entry))
                more = min(self.page_size - 4, size - len(spots))
                spots += range(base + 4, base + 4 + more)
                self._mark(base + 4 + more, base + self.page_size, Place(table, "unused space"))
                page = self._number(base, 4)
        for part, start, end in self._columns(table, spots):
            for spot in spots[start:end]:
                self._mark(spot, spot + 1, Place(table, part, entry))

    def _local(self, size: int, *, leaf_table: bool) -> int:
        most = self.page_size - 35 if leaf_table else (self.page_size - 12) * 64 // 255 - 23
        if size <= most:
            return size
        least = (self.page_size - 12) * 32 // 255 - 23
        local = least + (size - least) % (self.page_size - 4)
        return local if local <= most else least

    def _columns(self, table: str, spots: list[int]) -> Iterator[tuple[str, int, int]]:
        if table not in {"record", "tip"}:
            yield "row", 0, len(spots)
            return
        # The first column is the row's number, so that its own place is empty.
        yield "row's frame", 0, 1
        yield "type of the row's number", 1, 2
        if table == "tip":
            yield "row", 2, len(spots)
            return
        header = self.data[spots[0]]
        at, sizes = spots[2], []
        while at < spots[0] + header:
            kind, at = self._varint(at)
            sizes.append((kind - 12) // 2)
        assert len(sizes) == 2
        yield "row's frame", 2, header
        yield "leaf", header, header + sizes[0]
        yield "data", header + sizes[0], len(spots)

    def _varint(self, at: int) -> tuple[int, int]:
        value = 0
        for step in range(8):
            byte = self.data[at + step]
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value, at + step + 1
        return value << 8 | self.data[at + 8], at + 9
