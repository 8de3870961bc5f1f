from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from executor.metrics.measure import Reading
from executor.metrics.tes import TAIL, TesSource
from policies.fleet import Instance, Target, TesFile

NOW = 1_790_000_000  # 2026-09-21T14:13:20Z


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent_metrics.csv"


def read(path: Path, data: bytes | None = None, since: int | None = None, **columns: str) -> Reading:
    if data is not None:
        path.write_bytes(data)
    target = Target(instances=(Instance(name="a", root="/srv/a"),), tes=TesFile(path=str(path), **columns))
    return TesSource(lambda: NOW, 300).read(target, since)


def score(path: Path, data: bytes, **columns: str) -> Decimal | None:
    return read(path, data, None, **columns).values.get("tes")


def test_newest_row_is_the_score(path: Path) -> None:
    rows = b"timestamp,mode,tes\n2026-09-21T14:10:00Z,safe,91.5\n2026-09-21T14:13:00+00:00,safe,96.125\n"
    assert score(path, rows) == Decimal("96.13")


@pytest.mark.parametrize(
    "time",
    ["2026-09-21T14:13:00Z", "2026-09-21 16:13:00.123456+02:00", "2026-09-21T14:13:00", "1789999980", "1789999980.5"],
)
def test_times_that_stations_write(path: Path, time: str) -> None:
    assert score(path, f"iso_ts,tes\n{time},90\n".encode(), timestamp="iso_ts") == Decimal(90)


def test_file_of_json_lines_has_a_score_too(tmp_path: Path) -> None:
    path = tmp_path / "agent_metrics.jsonl"
    rows = b'{"iso_ts":"2026-09-21T14:10:00Z","tes":91.5}\n{"mode":"safe","tes":96.125,"iso_ts":1789999980.5}\n'
    assert score(path, rows, timestamp="iso_ts") == Decimal("96.13")
    assert score(path, rows + b'{"iso_ts":1789999990,"tes":"97"}\n{"iso_ts":178', timestamp="iso_ts") == Decimal(97)
    # From the middle of a long file on.
    filler = b'{"timestamp":1789999000,"tes":1}\n' * (TAIL // 32 + 5)
    assert score(path, filler + b'{"timestamp":1789999980,"tes":88}\n') == Decimal(88)


@pytest.mark.parametrize(
    "line",
    [
        b"1789999990,97",
        b"[1789999990, 97]",
        b'[["timestamp", "1789999990"], ["tes", "97"]]',
        b'{"timestamp":1789999990}',
        b'{"timestamp":1789999990,"tes":97,"tes":98}',
        b'{"timestamp":1789999990,"tes":true}',
        b'{"timestamp":1789999990,"tes":null}',
        b'{"timestamp":1789999990,"tes":NaN}',
        b'{"timestamp":1789999990,"tes":1e1}',
        b'{"timestamp":1789999990,"tes":101}',
        b'{"timestamp":1789999990,"tes":-1}',
        b'{"timestamp":{"tes":1},"tes":[97]}',
        b"[" * 5000,
        b'\xff{"timestamp":1789999990,"tes":97}',
    ],
)
def test_bad_line_of_json_is_no_score(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "agent_metrics.jsonl"
    got = read(path, b'{"timestamp":1789999980,"tes":95}\n' + line + b"\n")
    assert got.values == {"tes": Decimal(95)}
    assert len(got.notes) == 1


def test_half_written_last_line_is_not_looked_at(path: Path) -> None:
    # Cut before its end, 97 reads as 9.
    assert read(path, b"timestamp,tes\n1789999980,95\n1789999990,9") == Reading({"tes": Decimal("95.00")}, ())


def test_bad_row_is_named_and_the_one_before_counts(path: Path) -> None:
    got = read(path, b"timestamp,tes\n1789999980,95\n1789999990,n/a\n")
    assert got.values == {"tes": Decimal(95)}
    assert got.notes == ("tes: row at byte 28: its score is not a number from 0 to 100",)


@pytest.mark.parametrize(
    "row",
    [
        b"1789999990",
        b"1789999990,1,2",
        b"yesterday,90",
        b",90",
        b"1789999990,",
        b"1789999990,NaN",
        b"1789999990,1e1",
        b"1789999990,-1",
        b"1789999990,100.01",
        b"1789999990,\xff",
        b'1789999990,"90',
        b"99999999999999999999-01-01,9",
        "1789999990,\u0669\u0660".encode(),
    ],
)
def test_row_that_says_nothing_is_no_value(path: Path, row: bytes) -> None:
    got = read(path, b"timestamp,tes\n" + row + b"\n")
    assert got.values == {}
    assert got.notes[0].startswith("tes: row at byte 14: ")


def test_old_row_is_no_value(path: Path) -> None:
    assert score(path, f"timestamp,tes\n{NOW - 300},90\n".encode()) == Decimal(90)
    got = read(path, f"timestamp,tes\n{NOW - 301},90\n".encode())
    assert got.values == {}
    assert got.notes == ("tes: the newest row is 301 s old, more than 300 s",)


def test_row_from_before_the_bake_says_nothing_of_the_new_release(path: Path) -> None:
    rows = f"timestamp,tes\n{NOW - 20},90\n".encode()
    assert read(path, rows, since=NOW - 20).values == {"tes": Decimal(90)}
    got = read(path, rows, since=NOW - 19)
    assert got.values == {}
    assert got.notes == ("tes: the newest row is from before this was watched",)


def test_row_from_the_future_is_no_value(path: Path) -> None:
    got = read(path, f"timestamp,tes\n{NOW + 6},90\n".encode())
    assert got.values == {}
    assert got.notes == ("tes: row at byte 14: its time is in the future",)


@pytest.mark.parametrize(
    "data", [b"", b"timestamp,tes", b"time,tes\n1,2\n", b"timestamp,tes,tes\n1,2,3\n", b"\xff\n1,2\n"]
)
def test_file_without_its_columns_is_no_value(path: Path, data: bytes) -> None:
    assert read(path, data).values == {}


def test_file_with_only_a_header_is_no_value(path: Path) -> None:
    assert read(path, b"timestamp,tes\n").notes == ("tes: the file has no row",)


def test_missing_file_is_no_value(path: Path) -> None:
    assert read(path).values == {}


def test_fifo_in_the_files_place_does_not_block(path: Path) -> None:
    os.mkfifo(path)
    assert read(path).notes == ("tes: cannot read the file: it is not a regular file",)


def test_long_file_is_read_from_its_end(path: Path) -> None:
    row = b"1789999000,10\n"
    with path.open("wb") as file:
        file.write(b"timestamp,tes\n" + row * (4 * TAIL // len(row)))
        file.truncate(1 << 33)
        file.seek(0, os.SEEK_END)
        file.write(b"\n1789999990,88\n")
    assert read(path).values == {"tes": Decimal(88)}


def test_target_without_a_file_has_no_value() -> None:
    target = Target(instances=(Instance(name="a", root="/srv/a"),))
    assert TesSource(lambda: NOW, 300).read(target).values == {}
