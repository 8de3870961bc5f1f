"""Repairing with a copy that somebody made to hang, flood or mislead the repair; and how much memory a check takes."""

from __future__ import annotations

import shutil
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from damaging import Patient, edit, new_patient
from fuzzing import bounded
from ledgers import LOG_KEY, make_ledger, signed
from refusal import refused

from ledger.hash_column import HashColumn
from ledger.repair.assemble import Evidence, Signed
from ledger.repair.fsck import MAX_RUNS, Checked, check_ledger, repair_ledger
from ledger.repair.source import FileSource, copy_file
from ledger.sqlite.store import SqliteStore

SIZE = 80
HUGE = 2**53 - 1


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    return new_patient(tmp_path_factory.mktemp("patient"), SIZE)


@pytest.fixture
def path(patient: Patient, tmp_path: Path) -> Path:
    """A ledger that lost three entries."""
    found = patient.lay(tmp_path / "home")
    edit(found, "DELETE FROM record WHERE seq IN (5, 6, 40)")
    return found


@pytest.fixture
def copy(patient: Patient, tmp_path: Path) -> Path:
    return Path(shutil.copytree(patient.export, tmp_path / "copy"))


def repair(patient: Patient, path: Path, copy: Path | None) -> Checked:
    with bounded():
        return repair_ledger(path, remembered=patient.remembered, copy=copy)


@pytest.mark.parametrize("own", [True, False])
def test_export_that_claims_a_flood_of_entries_does_not_flood_the_repair(
    patient: Patient, path: Path, copy: Path, own: bool
) -> None:
    """Also when it is the log's own key that signs the claim."""
    key = patient.station.log_key if own else LOG_KEY
    (copy / "checkpoint").write_bytes(key.sign(HUGE, b"\1" * 32))
    checked = repair(patient, path, copy)
    assert not checked.repaired
    assert {each.entry for each in checked.damage if each.code == "entry_lost"} >= {5, 40}
    assert repair(patient, path, patient.export).repaired


def test_ledger_whose_own_checkpoint_claims_a_flood_is_not_whole(patient: Patient, path: Path) -> None:
    note = patient.station.log_key.sign(HUGE, b"\1" * 32)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE tip SET size = ?, checkpoint = ?", (HUGE, note))
    for checked in (check_ledger(path, remembered=patient.remembered), repair(patient, path, patient.export)):
        assert not checked.whole
        assert {each.entry for each in checked.damage if each.code == "entry_lost"} >= {5, 40}


def test_deep_directories_in_an_export(patient: Patient, path: Path, copy: Path) -> None:
    deep = copy / "tile" / "entries"
    for _ in range(300):
        deep /= "x" * 8
        deep.mkdir()
    assert repair(patient, path, copy).repaired


ENDLESS = """CREATE VIEW record AS WITH RECURSIVE r(seq, leaf, data) AS
    (SELECT 0, x'00', x'00' UNION ALL SELECT seq + 1, leaf, data FROM r) SELECT * FROM r"""


@pytest.mark.parametrize("table", ["record", "tip"])
def test_view_that_never_ends_in_a_table_s_place(patient: Patient, path: Path, tmp_path: Path, table: str) -> None:
    evil = patient.lay(tmp_path / "evil")
    edit(evil, f"DROP TABLE {table}", ENDLESS.replace("VIEW record", f"VIEW {table}"))
    with pytest.raises(sqlite3.Error):
        FileSource.open(evil)
    # Records are proved, wherever they come from.
    assert repair(patient, path, evil.parent).repaired == (table == "tip")


def test_pages_that_lead_back_to_pages(patient: Patient, path: Path, tmp_path: Path) -> None:
    """Each pointer of the table's first page leads to one leaf, whose rows are there again and again."""
    evil = patient.lay(tmp_path / "evil")
    with closing(sqlite3.connect(evil)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'record'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    data = bytearray(evil.read_bytes())
    page = memoryview(data)[(root - 1) * size : root * size]
    assert page[0] == 5, "the table has an interior page"
    cells = int.from_bytes(page[3:5], "big")
    first = int.from_bytes(page[12:14], "big")
    child = bytes(page[first : first + 4])
    for number in range(cells):
        at = int.from_bytes(page[12 + 2 * number : 14 + 2 * number], "big")
        page[at : at + 4] = child
    page[8:12] = child
    evil.write_bytes(data)
    with bounded(), closing(FileSource.open(evil)) as source:
        assert len(list(source.rows())) == source.end
    assert not repair(patient, path, evil.parent).repaired
    assert repair(patient, path, patient.export).repaired


def test_rows_larger_than_any_record_are_not_read(patient: Patient, path: Path, tmp_path: Path) -> None:
    evil = patient.lay(tmp_path / "evil")
    edit(
        evil, "UPDATE record SET data = zeroblob(65536) WHERE seq > 50", "UPDATE tip SET checkpoint = zeroblob(900000)"
    )
    with closing(FileSource.open(evil)) as source:
        rows = list(source.rows())
        assert source.note == b""
    assert [row.data is None for row in rows] == [seq > 50 for seq in range(SIZE)]
    assert repair(patient, path, evil.parent).repaired


def test_copy_larger_than_the_disk_is_not_copied(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(2**33)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**32))
    with pytest.raises(OSError, match="no room"):
        copy_file(tmp_path / "big", tmp_path / "work")
    with refused("repair_failed"):
        repair_ledger(path, remembered=None, copy=tmp_path / "big")
    assert not [each for each in path.parent.iterdir() if each.name.startswith(".")]


def test_damage_everywhere_is_named_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    make_ledger(path, 2 * MAX_RUNS + 10, size=1).close()
    edit(path, "DELETE FROM record WHERE seq % 2 = 0")
    with SqliteStore.open(path) as store:
        newest = Signed(signed(store), store.checkpoint())
    with closing(FileSource.open(path)) as source, Evidence([source], None) as evidence:
        found = evidence.assemble(newest)
        assert found.proved
        assert (found.lost, len(list(found.changed()))) == (MAX_RUNS + 5, MAX_RUNS + 5)


def peak(path: Path) -> int:
    """Bytes that a check of a ledger took at most, read and assembled."""
    with SqliteStore.open(path) as store, closing(FileSource.open(path)) as source:
        tracemalloc.start()
        try:
            with Evidence([source, source], None) as evidence:
                found = evidence.assemble(Signed(signed(store), store.checkpoint()))
                assert found.whole
                assert not list(found.changed())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def test_memory_does_not_grow_with_the_entries(tmp_path: Path) -> None:
    sizes = (5_000, 20_000)
    peaks = []
    for size in sizes:
        make_ledger(tmp_path / f"{size}.db", size, size=1).close()
        # What the first look leaves in caches of a fixed size is no part of it.
        peak(tmp_path / f"{size}.db")
        peaks.append(peak(tmp_path / f"{size}.db"))
    # One byte an entry says where it comes from.
    assert peaks[1] - peaks[0] < 4 * (sizes[1] - sizes[0]), peaks


@pytest.fixture
def column() -> Iterator[HashColumn]:
    with closing(HashColumn()) as found:
        yield found


def test_column_gives_back_what_was_set_in_any_order(column: HashColumn) -> None:
    cells = {at: at.to_bytes(32, "big") for at in (0, 1, 4_095, 4_096, 9_000, 100_000)}
    for at in (9_000, 0, 100_000, 4_096, 1, 4_095):
        column[at] = cells[at]
    column[1] = None
    cells.pop(1)
    for at in (2**53, 0, 5, 100_001, 100_000, 1, 9_000, 4_096, 4_095):
        assert column[at] == cells.get(at)
    assert [at for at, cell in enumerate(column.first(10_000)) if cell is not None] == [0, 4_095, 4_096, 9_000]
    with pytest.raises(ValueError, match="32 bytes"):
        column[0] = b"short"
    with pytest.raises(IndexError):
        column[-1]
