"""The audit and the second opinion say the same of a ledger's file, whatever its rows are."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from station import Station, new_station, talk
from verdicts import SECOND

from ledger.sqlite.store import SqliteStore
from policies.auditing.audit import audit

SIZE = 9


@pytest.fixture
def station(tmp_path: Path) -> Station:
    # A place whose name has to be quoted in an address.
    station = new_station(tmp_path / "a place? #1 100%25")
    talk(station, SIZE)
    return station


def change(station: Station, *statements: str) -> None:
    with closing(sqlite3.connect(station.root / "ledger.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def audit_verdict(station: Station) -> tuple[int | None, str | None]:
    with SqliteStore.open(station.root / "ledger.db", read_only=True) as store:
        report = audit(store, station.objects, remembered=None)
    if report.ok:
        return None, None
    found = [each for each in report.findings if each.code != "tip_mismatch"]
    # The store says itself that a row is not there.
    return found[0].entry, "broken_chain" if found[0].code == "ledger_corrupt" else found[0].code


def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """Exit code, output and errors of the script, in this process."""
    monkeypatch.setattr(sys, "argv", ["second_opinion.py", *map(str, arguments)])
    code = SECOND.main()
    return code, *capsys.readouterr()


def objects_of(station: Station) -> Any:
    def find(digest: str) -> Any:
        path = station.root / "objects" / digest[:2] / digest[2:]
        return path.open("rb") if path.is_file() else None

    return SECOND.Objects(find)


def second_verdict(station: Station) -> tuple[int | None, str | None]:
    records, note = SECOND.read_database(station.root / "ledger.db")
    wrong = SECOND.examine(records, note, objects_of(station), [])
    return (None, None) if wrong is None else (wrong.entry, wrong.code)


def test_both_accept_it(station: Station) -> None:
    assert audit_verdict(station) == second_verdict(station) == (None, None)


@pytest.mark.parametrize(
    ("statements", "entry", "code"),
    [
        (("DELETE FROM record WHERE seq = 4",), 4, "broken_chain"),
        (("DELETE FROM record WHERE seq = 0",), 0, "broken_chain"),
        (("DELETE FROM record WHERE seq = 8",), 8, "broken_chain"),
        (("UPDATE record SET seq = 100 WHERE seq = 8",), 8, "broken_chain"),
        (("INSERT INTO record SELECT -1, leaf, data FROM record WHERE seq = 8",), 0, "broken_chain"),
        (("UPDATE record SET data = zeroblob(0) WHERE seq = 4",), 4, "broken_chain"),
        (("UPDATE tip SET checkpoint = zeroblob(0)",), None, "bad_checkpoint"),
    ],
)
def test_both_name_what_is_wrong_with_its_rows(
    station: Station, statements: tuple[str, ...], entry: int | None, code: str
) -> None:
    change(station, *statements)
    assert second_verdict(station) == (entry, code)
    assert audit_verdict(station) == (entry, code)


def test_records_and_checkpoint_are_of_one_moment(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        """Others append between its two questions."""

        def __init__(self, *arguments: Any, **more: Any) -> None:
            self.connection = sqlite3.connect(*arguments, **more)

        def execute(self, statement: str) -> Any:
            if "FROM record" in statement:
                talk(station, SIZE + 3)
            return self.connection.execute(statement)

    monkeypatch.setattr(SECOND, "sqlite3", SimpleNamespace(connect=Slow))
    records, note = SECOND.read_database(station.root / "ledger.db")
    talk(station, SIZE + 6)
    leaves: list[str] = []
    assert SECOND.examine(records, note, objects_of(station), leaves) is None
    assert len(leaves) == SIZE


def test_nothing_is_written(station: Station) -> None:
    records, _ = SECOND.read_database(station.root / "ledger.db")
    assert len(list(records)) == SIZE
    before = {path: path.read_bytes() for path in station.root.rglob("*") if path.is_file()}
    with pytest.raises(sqlite3.OperationalError):
        SECOND.read_database(station.root / "nothing.db")
    assert {path: path.read_bytes() for path in station.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("tips", [[], [(None,)]])
def test_ledger_without_a_checkpoint_is_read(tmp_path: Path, tips: list[tuple[None]]) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE tip (checkpoint BLOB); CREATE TABLE record (seq INTEGER, data BLOB);")
        connection.executemany("INSERT INTO tip VALUES (?)", tips)
        connection.executemany("INSERT INTO record VALUES (?, ?)", [(1, b"second"), (0, b"first"), (3, b"fourth")])
        connection.commit()
    records, note = SECOND.read_database(path)
    assert (list(records), note) == ([b"first", b"second", b""], b"")


# What the script prints, and how it ends.


def test_right_ledger_is_told_in_three_lines(
    station: Station, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with SqliteStore.open(station.root / "ledger.db", read_only=True) as store:
        report = audit(store, station.objects, remembered=None)
    for place in (station.root, station.root / "ledger.db"):
        code, out, errors = run_main(monkeypatch, capsys, place)
        assert (code, errors) == (0, "")
        assert out == f"ok: {SIZE} entries\nhead {report.head.hash}\nroot {report.root}\n"


def test_fault_of_the_whole_ledger_is_told_without_an_entry(
    station: Station, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(station, "UPDATE tip SET checkpoint = zeroblob(0)")
    code, out, errors = run_main(monkeypatch, capsys, station.root)
    assert (code, errors) == (1, "")
    assert re.fullmatch(r"NOT OK: the ledger: bad_checkpoint: .+\n", out)


def test_first_fault_is_told_with_entry_code_and_reason(
    station: Station, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(station, "UPDATE record SET data = zeroblob(0) WHERE seq = 4")
    code, out, errors = run_main(monkeypatch, capsys, station.root)
    assert (code, errors) == (1, "")
    assert re.fullmatch(r"NOT OK: entry 4: broken_chain: .+\n", out)
    code, out, errors = run_main(monkeypatch, capsys, station.root, "--json")
    said = json.loads(out)
    assert (code, errors, said["ok"], said["seq"], said["code"]) == (1, "", False, 4, "broken_chain")
    assert said["message"]
    assert said["size"] == 3  # what follows an entry confirms it


def test_empty_ledger_has_the_root_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.executescript("CREATE TABLE tip (checkpoint BLOB); CREATE TABLE record (seq INTEGER, data BLOB);")
    code, out, _ = run_main(monkeypatch, capsys, tmp_path, "--json")
    said = json.loads(out)
    assert (code, said["code"], said["seq"], said["size"], said["head"]) == (1, "no_genesis", None, 0, "0" * 64)
    assert said["root"] == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_what_is_no_ledger_at_all_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database, but as long as the header of one would be" * 40)
    code, out, errors = run_main(monkeypatch, capsys, tmp_path)
    assert (code, out) == (1, "")
    assert errors.startswith(f"second_opinion: {tmp_path}: ")
    assert len(errors.splitlines()) == 1


def test_checkpoint_beside_a_misspelled_file_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint").write_bytes(b"")
    code, out, errors = run_main(monkeypatch, capsys, tmp_path / "leger.db")
    assert (code, out) == (5, "")
    assert str(tmp_path / "leger.db") in errors


@pytest.mark.parametrize("note", [b"", b"nothing", b"origin\n\xd9\xa1\n", b"origin\n1\n" + b"a" * 262_144])
def test_export_whose_checkpoint_is_none_is_told_so(
    tmp_path: Path, note: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint").write_bytes(note)
    code, out, errors = run_main(monkeypatch, capsys, tmp_path)
    assert (code, out, errors) == (1, "NOT OK: the ledger: bad_checkpoint: it is none\n", "")


def test_objects_are_those_beside_the_file_or_where_it_is_told(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[bytes | None] = []

    def examine(_records: object, _note: object, objects: Any, _leaves: object) -> None:
        file: io.BufferedIOBase | None = objects.find("ab" + "c" * 62)
        found.append(None if file is None else file.read())
        if file is not None:
            file.close()

    monkeypatch.setattr(SECOND, "examine", examine)
    for folder, data in ((station.root / "objects", b"beside"), (tmp_path / "store", b"elsewhere")):
        (folder / "ab").mkdir(parents=True, exist_ok=True)
        (folder / "ab" / ("c" * 62)).write_bytes(data)
    run_main(monkeypatch, capsys, station.root)
    run_main(monkeypatch, capsys, station.root / "ledger.db")
    run_main(monkeypatch, capsys, station.root, "--objects", tmp_path / "store")
    (tmp_path / "store" / "ab" / ("c" * 62)).unlink()
    (tmp_path / "store" / "ab" / ("c" * 62)).mkdir()
    run_main(monkeypatch, capsys, station.root, "--objects", tmp_path / "store")
    assert found == [b"beside", b"beside", b"elsewhere", None]
