"""Damaged pages cost the records on them, and are not asked for each record that might be on them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from ledgers import make_ledger

from ledger.repair.source import FileSource, NoSource, open_damaged

PAGE = 4096
ENTRIES = 1_500


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with nothing in its log."""
    found = tmp_path / "ledger.db"
    make_ledger(found, ENTRIES).close()
    return found


@dataclass
class Pages:
    """The pages of the records' table. `counts`: of the records on each leaf."""

    root: int
    leaves: list[int]
    counts: list[int]


def pages_of(path: Path) -> Pages:
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'record'").fetchone()
    data = path.read_bytes()
    pages = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    top = pages[root - 1]
    assert top[0] == 5, "the table has one page above its leaves"
    cells = [int.from_bytes(top[at : at + 2], "big") for at in range(12, 12 + 2 * int.from_bytes(top[3:5], "big"), 2)]
    leaves = [int.from_bytes(top[at : at + 4], "big") for at in (*cells, 8)]
    return Pages(root, leaves, [int.from_bytes(pages[leaf - 1][3:5], "big") for leaf in leaves])


def spoil(path: Path, *numbers: int) -> None:
    """Put zeros in the place of pages."""
    with path.open("r+b") as file:
        for number in numbers:
            file.seek((number - 1) * PAGE)
            file.write(bytes(PAGE))


def held(source: FileSource) -> set[int]:
    """The positions at which there is a record."""
    return {seq for seq, row in enumerate(source.rows()) if row.data is not None}


def test_damaged_page_costs_the_records_on_it_and_no_other(path: Path) -> None:
    pages = pages_of(path)
    spoil(path, pages.leaves[3])
    lost = range(sum(pages.counts[:3]), sum(pages.counts[:4]))
    with closing(FileSource.open(path)) as source:
        assert held(source) == set(range(ENTRIES)) - set(lost)


def test_file_of_zeros_may_hold_no_record(tmp_path: Path) -> None:
    with (tmp_path / "ledger.db").open("wb") as file:
        file.truncate(2**30)
    assert isinstance(open_damaged(tmp_path / "ledger.db"), NoSource)


def test_records_below_zeros_are_not_asked_for_one_by_one(path: Path) -> None:
    pages = pages_of(path)
    spoil(path, *pages.leaves[3:-3])
    source = open_damaged(path)
    assert isinstance(source, FileSource)
    asked: list[str] = []
    source._connection.set_trace_callback(asked.append)
    with closing(source):
        assert len(held(source)) == sum(pages.counts[:3]) + sum(pages.counts[-3:])
    assert len(asked) < ENTRIES / 4


def test_pages_that_lead_back_to_themselves_come_to_an_end(path: Path) -> None:
    root = pages_of(path).root
    with path.open("r+b") as file:
        file.seek((root - 1) * PAGE)
        page = bytearray(file.read(PAGE))
        for cell in range(int.from_bytes(page[3:5], "big")):
            at = int.from_bytes(page[12 + 2 * cell : 14 + 2 * cell], "big")
            page[at : at + 4] = root.to_bytes(4, "big")
        page[8:12] = root.to_bytes(4, "big")
        file.seek((root - 1) * PAGE)
        file.write(page)
    source = open_damaged(path)
    assert isinstance(source, FileSource)
    with closing(source):
        assert held(source) == set()


def test_checkpoint_is_read_where_no_record_can_be(path: Path) -> None:
    root = pages_of(path).root
    spoil(path, root)
    with closing(sqlite3.connect(path)) as connection:
        (note,) = connection.execute("SELECT checkpoint FROM tip").fetchone()
        connection.execute("UPDATE tip SET size = 0")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    source = open_damaged(path)
    assert source.note == note
    assert isinstance(source, FileSource)
    source.close()
