"""A loss of power after a call came back takes nothing of it back: what is named is on the disk, and so is its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from disk_steps import watch_disk
from station import Station

from ledger.durable import create_file, make_directory, replace_file
from ledger.objects import DirectoryObjects
from ledger.repair.backup import copy_ledger
from ledger.sqlite.store import SqliteStore


def _copy_object(root: Path) -> None:
    objects = DirectoryObjects(root / "objects")
    objects.copy_to(objects.put(b"content"), root / "copy")


def _put_file(root: Path) -> None:
    (root / "source").write_bytes(b"content")
    DirectoryObjects(root / "objects").put_file(root / "source")


def _back_up(root: Path) -> None:
    with SqliteStore.create(root / "ledger.db") as store:
        store.backup(root / "backup.db")


def _replace_backup(root: Path) -> None:
    station = Station(root / "home")
    station.genesis()
    place = root / "backup" / "ledger.db"
    with copy_ledger(root / "home" / "ledger.db", place, station.log_key.vkey) as made:
        made.replace()
    station.store.close()


WRITERS: dict[str, Callable[[Path], object]] = {
    "replaced": lambda root: replace_file(root / "file", b"content", 0o600),
    "created": lambda root: create_file(root / "file", b"content", 0o600),
    "directories": lambda root: make_directory(root / "a" / "b" / "c"),
    "object": lambda root: DirectoryObjects(root / "objects").put(b"content"),
    "object of a file": _put_file,
    "copy of an object": _copy_object,
    "ledger and copy": _back_up,
    "backup": _replace_backup,
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_power_lost_after_a_write_was_acknowledged_takes_back_neither_content_nor_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object]
) -> None:
    seen = watch_disk(monkeypatch)
    write(tmp_path)
    assert seen.named
    assert seen.missing() == []


def test_power_lost_after_a_commit_takes_back_no_entry(tmp_path: Path) -> None:
    """SQLite's own syncs are not seen from here; that it makes them at each commit is this setting of it."""
    station = Station(tmp_path)
    station.genesis()
    (full,) = station.store._connection.execute("PRAGMA synchronous").fetchone()
    (journal,) = station.store._connection.execute("PRAGMA journal_mode").fetchone()
    assert (full, journal) == (2, "wal")


def test_what_watches_the_disk_sees_a_sync_that_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch_disk(monkeypatch)
    (tmp_path / "hidden").write_bytes(b"content")
    os.rename(tmp_path / "hidden", tmp_path / "file")  # noqa: PTH104  # the step that is watched
    (tmp_path / "made").mkdir()
    assert seen.missing() == ["the content of file", "the name file", "the name made"]
