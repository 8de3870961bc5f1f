"""The second opinion comes to an end, whatever file it is given."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from station import Station, new_station
from verdicts import SCRIPT

PATIENCE_S = 60.0
"""Far more than a verdict on some entries takes; one that never comes would hold everybody up."""

ENDLESS = """
ALTER TABLE record RENAME TO kept;
CREATE VIEW record AS
  WITH RECURSIVE place(seq) AS (SELECT 0 UNION ALL SELECT seq + 1 FROM place)
  SELECT seq, (SELECT data FROM kept WHERE seq = 0) AS data FROM place;
"""


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Station:
    return new_station(tmp_path_factory.mktemp("station"))


@pytest.fixture
def path(station: Station, tmp_path: Path) -> Path:
    """A copy of the ledger's file."""
    station.store.backup(tmp_path / "ledger.db")
    shutil.copytree(station.root / "objects", tmp_path / "objects")
    return tmp_path / "ledger.db"


def judge(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(path)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def refuses(path: Path, why: str) -> None:
    said = judge(path)
    assert said.returncode == 1
    assert why in said.stderr
    assert "Traceback" not in said.stderr + said.stdout


def test_copy_is_good(path: Path) -> None:
    assert judge(path).returncode == 0


def test_records_of_a_view_that_never_ends(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(ENDLESS)
    refuses(path, "not the tables of a ledger")


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_pipe_for_the_file_or_beside_it(path: Path, suffix: str) -> None:
    place = path.with_name(path.name + suffix)
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    refuses(path, "is not a regular file")


@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize("good", [True, False])
def test_verdict_that_the_disk_has_no_room_for(path: Path, more: list[str], good: bool) -> None:
    """It is no verdict, and the end says so as where a ledger cannot be read."""
    if not good:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE record SET data = x'00' WHERE seq = 1")
    with Path("/dev/full").open("wb") as full:
        said = subprocess.run(
            [sys.executable, str(SCRIPT), str(path), *more],
            stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert said.returncode == 1
    (line,) = said.stderr.splitlines()
    assert line.startswith("second_opinion: ")
