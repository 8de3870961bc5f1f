"""What is read of a table with damaged pages: each record that SQLite finds, as when each position is looked at."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledgers import make_ledger

from ledger.record import MAX_RECORD
from ledger.repair.source import FileSource, Row

ENTRIES = 150
PAGE = 512
BATCH = 256


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger file of small pages, so that there are pages above pages above the rows."""
    path = tmp_path_factory.mktemp("whole") / "ledger.db"
    make_ledger(path, ENTRIES).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in ("PRAGMA journal_mode = DELETE", f"PRAGMA page_size = {PAGE}", "VACUUM"):
            connection.execute(statement)
    return path


@st.composite
def damages(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with pages that are zeros or others, and bytes that are others, mostly those that lead to rows."""
    data = bytearray(content)
    numbers = range(1, len(data) // PAGE)
    leading = [number for number in numbers if data[number * PAGE] == 5]
    assert len(leading) > 2, "there are pages above pages"
    page = st.one_of(st.sampled_from(leading), st.sampled_from(numbers))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(page) * PAGE
        kind = draw(st.sampled_from(["zeros", "another", "byte", "run"]))
        if kind == "byte":
            data[at + draw(st.one_of(st.integers(0, 20), st.integers(0, PAGE - 1)))] = draw(st.integers(0, 255))
        elif kind == "run":
            stop = min(len(data), at + PAGE * draw(st.integers(1, 60)))
            data[at:stop] = bytes(stop - at)
        else:
            other = draw(page) * PAGE
            data[at : at + PAGE] = bytes(PAGE) if kind == "zeros" else data[other : other + PAGE]
    if draw(st.booleans()):
        del data[draw(st.integers(PAGE, len(data))) :]
    return bytes(data)


def found_in_order(path: Path, end: int) -> set[int]:
    """The positions of the records that SQLite finds, in batches where it can, else one by one, none left out."""
    query = "SELECT seq, leaf, data FROM record WHERE seq >= ? AND seq < ? ORDER BY seq"
    found: dict[int, object] = {}
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:

        def look(start: int, stop: int) -> None:
            rows = connection.execute(query, (start, stop)).fetchmany(stop - start)
            found.update((seq, data) for seq, _, data in rows)

        for start in range(0, end, BATCH):
            stop = min(start + BATCH, end)
            try:
                look(start, stop)
            except sqlite3.Error:
                for seq in range(start, stop):
                    with suppress(sqlite3.Error):
                        look(seq, seq + 1)
    return {seq for seq, data in found.items() if isinstance(data, bytes) and len(data) <= MAX_RECORD}


def rows_of(path: Path, *, copied: bool) -> list[Row]:
    with closing(FileSource.open(path, copied=copied)) as source:
        rows = list(source.rows())
        assert len(rows) == source.end
    return rows


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_record_that_can_be_read_is_read(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(data.draw(damages(whole.read_bytes())))
    try:
        each = rows_of(path, copied=False)
    except sqlite3.Error:
        return
    rows = rows_of(path, copied=True)
    assert rows + [Row(None, None)] * (len(each) - len(rows)) == each
    assert found_in_order(path, len(each)) <= {seq for seq, row in enumerate(rows) if row.data is not None}
