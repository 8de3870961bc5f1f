"""The second opinion comes to an end, whatever file it is given."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from station import Station, new_station
from verdicts import SCRIPT, SECOND

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


def shell(line: str, path: Path) -> subprocess.CompletedProcess[str]:
    """A shell line in which `$SECOND` is the script, on its ledger."""
    environment = {**os.environ, "SECOND": f"{sys.executable} {SCRIPT} {path}"}
    return subprocess.run(
        ["sh", "-c", line, str(path)], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("more", ["", "--json"])
def test_disk_that_is_full_under_its_output_is_no_verdict(path: Path, more: str) -> None:
    said = shell(f"$SECOND {more} >/dev/full", path)
    assert said.returncode == 5
    assert said.stderr == "second_opinion: cannot write what was found: No space left on device\n"


def test_pipe_that_nobody_reads_is_no_verdict(path: Path) -> None:
    # The reader is gone before it writes.
    said = shell("mkfifo $0.pipe; exec 4<>$0.pipe 5>$0.pipe 4<&-; $SECOND >&5; echo $?", path)
    assert (said.stdout, said.stderr) == ("141\n", "")


def test_interrupt_is_no_verdict(path: Path) -> None:
    waiting = (
        "import signal, sys, runpy; sys.argv = sys.argv[1:]; import sqlite3;"
        "sqlite3.connect = lambda *a, **b: signal.raise_signal(signal.SIGINT);"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    said = subprocess.run(
        [sys.executable, "-c", waiting, str(SCRIPT), str(path)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (said.returncode, said.stdout, said.stderr) == (130, "", "second_opinion: interrupted\n")


@pytest.mark.parametrize("with_log", [False, True])
def test_copy_that_it_may_not_write_beside(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], with_log: bool
) -> None:
    # As on a disk that is mounted to be read alone: SQLite can make no index, and is asked for none.
    asked = list[str]()
    connect = sqlite3.connect
    monkeypatch.setattr(os, "access", lambda *_: False)

    def note(name: str, **more: Any) -> sqlite3.Connection:
        asked.append(name)
        opened: sqlite3.Connection = connect(name, **more)
        return opened

    monkeypatch.setattr(sqlite3, "connect", note)
    monkeypatch.setattr(sys, "argv", ["second_opinion.py", str(path)])
    if with_log:
        path.with_name("ledger.db-wal").write_bytes(b"something")
    code = SECOND.main()
    said = capsys.readouterr()
    if with_log:
        assert (code, asked) == (1, [])
        assert "copy ledger.db and ledger.db-wal elsewhere" in said.err
    else:
        assert (code, said.out[:3]) == (0, "ok:")
        assert asked == [f"{path.as_uri()}?mode=ro&immutable=1"]
    assert not path.with_name("ledger.db-shm").exists()
