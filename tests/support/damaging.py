"""A lawful ledger to damage, with an export of it, in which entries are large enough to fill many pages."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from station import Station, new_station, talk

from ledger.head import Head
from ledger.objects import DirectoryObjects
from ledger.remembered import Remembered
from ledger.sqlite.store import SqliteStore
from policies.auditing.audit import audit
from policies.auditing.export import export_ledger
from policies.auditing.report import Report


@dataclass
class Patient:
    """A ledger file in a directory of its own, a copy of which tests damage. `export`: of the whole ledger."""

    station: Station
    export: Path
    head: Head
    remembered: Remembered
    content: bytes

    def lay(self, directory: Path) -> Path:
        """A fresh copy of the file in a new directory."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        path = directory / "ledger.db"
        path.write_bytes(self.content)
        return path

    def audit(self, path: Path) -> Report:
        """The audit of a copy, caches and all."""
        with SqliteStore.open(path, read_only=True) as store:
            objects = DirectoryObjects(self.station.root / "objects")
            return audit(store, objects, remembered=self.remembered, store_path=path)


def new_patient(root: Path, size: int) -> Patient:
    """A ledger of `size` entries with a completed deployment in it."""
    station = new_station(root / "station")
    lease = station.propose()
    station.begin(lease)
    station.complete(lease)
    talk(station, size)
    export_ledger(station.store, station.objects, root / "export", remembered=None)
    head = station.store.head()
    remembered = station.memory.load(str(station.root))
    assert remembered is not None
    assert remembered.head == head
    station.store.close()
    return Patient(station, root / "export", head, remembered, (station.root / "ledger.db").read_bytes())


def edit(path: Path, *statements: str) -> None:
    """Change a ledger file as a stranger's program does."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
