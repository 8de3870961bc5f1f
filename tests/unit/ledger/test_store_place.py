from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ledgers import LOG_KEY, make_ledger, make_records, next_record

from keys.errors import CalyxError
from ledger.head import EMPTY_HEAD
from ledger.sqlite.store import SqliteStore


def replaced(action: Callable[[], object]) -> None:
    with pytest.raises(CalyxError) as caught:
        action()
    assert caught.value.code == "ledger_replaced"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_file_replaced_by_an_older_copy_under_an_open_ledger_stops_reader_and_writer(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / "ledger.db"
    make_ledger(path, 2).close()
    with SqliteStore.open(path) as store, SqliteStore.open(path, read_only=True) as reader:
        head = store.append(store.head(), [next_record(store.head())], LOG_KEY.sign)
        moved = path.with_name(path.name + suffix)
        shutil.copy(moved, tmp_path / "copy")
        (tmp_path / "copy").replace(moved)
        # SQLite itself would go on in the file that lost its name, and call the entry durable.
        replaced(lambda: store.append(head, [next_record(head)], LOG_KEY.sign))
        replaced(reader.tip)


def test_ledger_moved_away_under_a_writer_acknowledges_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with SqliteStore.create(path) as store:

        def sign_late(size: int, root: bytes) -> bytes:
            path.rename(tmp_path / "elsewhere.db")
            return LOG_KEY.sign(size, root)

        replaced(lambda: store.append(EMPTY_HEAD, make_records(1), sign_late))
