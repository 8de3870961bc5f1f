"""The log that is longer than what is in it: it changes what a commit costs, and nothing that anyone reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ledgers import LOG_KEY, make_ledger, next_record, signed

from ledger.chain import Chain
from ledger.sqlite import file as sqlite_file
from ledger.sqlite.check import check_store
from ledger.sqlite.file import LOG_STEP
from ledger.sqlite.store import LENGTHEN_AFTER, SqliteStore


def append(store: SqliteStore, count: int = 1) -> None:
    for _ in range(count):
        store.append(store.head(), [next_record(store.head())], LOG_KEY.sign)


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def size(path: Path) -> int:
    return log_of(path).stat().st_size


def whole(path: Path) -> int:
    """Entries of a ledger that is whole."""
    with SqliteStore.open(path, read_only=True) as store:
        entries = len(list(Chain().replay(store.read(), signed(store))))
    assert check_store(path) == []
    return entries


def copied(path: Path, to: Path) -> Path:
    """As a kill leaves it: the file with its log, and no index of that."""
    to.mkdir()
    for each in (path, log_of(path)):
        shutil.copyfile(each, to / each.name)
    return to / path.name


def test_commits_of_a_busy_appender_do_not_grow_the_log(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with make_ledger(path, 1) as store:
        append(store, LENGTHEN_AFTER - 1)
        assert size(path) < LOG_STEP
        append(store)
        grown = size(path)
        assert grown > LOG_STEP
        append(store, 60)
        assert size(path) == grown
        assert whole(copied(path, tmp_path / "killed")) == 1 + LENGTHEN_AFTER + 60
        append(store, 200)
        assert size(path) > grown
        assert whole(copied(path, tmp_path / "later")) == store.head().size
    assert not log_of(path).exists()
    assert whole(path) == 1 + LENGTHEN_AFTER + 260


def test_log_that_another_program_cut_is_lengthened_again_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with make_ledger(path, 1) as store:
        append(store, 20)
        assert size(path) > LOG_STEP
        with SqliteStore.open(path) as other:
            append(other)
        assert size(path) < LOG_STEP
        append(store, LENGTHEN_AFTER + 2)
        assert size(path) >= LOG_STEP
        assert whole(path) == store.head().size == 1 + 20 + 1 + LENGTHEN_AFTER + 2


def test_log_is_not_lengthened_on_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    monkeypatch.setattr(sqlite_file, "LOG_ROOM", 1 << 80)
    with make_ledger(path, 1) as store:
        append(store, 30)
        assert size(path) < LOG_STEP


@pytest.mark.parametrize("written", [0, 1, 4_000])
def test_disk_that_fills_up_meanwhile_costs_no_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    path = tmp_path / "ledger.db"
    real = os.pwrite

    def full(descriptor: int, data: bytes, at: int) -> int:
        if not written:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:written], at)

    monkeypatch.setattr(os, "pwrite", full)
    with make_ledger(path, 1) as store:
        append(store, 30)
        assert whole(copied(path, tmp_path / "killed")) == 31


KILLED = """
import os, sys
from pathlib import Path
from ledgers import LOG_KEY, next_record
from ledger.sqlite import file as sqlite_file
from ledger.sqlite.store import SqliteStore
real, times = os.pwrite, 0
def pwrite(descriptor, data, at):
    real(descriptor, data[:100_000], at)
    os.kill(os.getpid(), 9)
os.pwrite = pwrite
store = SqliteStore.open(Path(sys.argv[1]))
while True:
    head = store.append(store.head(), [next_record(store.head())], LOG_KEY.sign)
    print(head.size, flush=True)
"""


def test_appender_killed_while_it_lengthens_the_log_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    make_ledger(path, 1).close()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], env=environment, check=False, timeout=60, stdout=subprocess.PIPE
    )
    assert process.returncode == -9
    acknowledged = int(process.stdout.split()[-1])
    assert acknowledged == 1 + LENGTHEN_AFTER
    assert whole(copied(path, tmp_path / "killed")) == acknowledged
    with SqliteStore.open(path) as store:
        assert store.head().size == acknowledged
        append(store, 30)
    assert whole(path) == acknowledged + 30


def test_log_of_a_moved_ledger_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with make_ledger(path, 1) as store:
        append(store, 2)
        log_of(path).rename(tmp_path / "kept")
        log_of(path).write_bytes(b"another")
        assert not store._opened.lengthen_log()
        assert log_of(path).read_bytes() == b"another"
        log_of(path).unlink()
        assert not store._opened.lengthen_log()
        (tmp_path / "kept").rename(log_of(path))
