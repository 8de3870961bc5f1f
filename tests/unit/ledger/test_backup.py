"""A backup of a ledger that goes on growing, and what everyone notices when an old one is put in the ledger's place."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from console import Console
from instances import write_files
from ledgers import LOG_KEY, make_ledger, next_record
from refusal import refused
from station import Station, new_station

from executor.homes.home import Home
from executor.hosts.fence import take_fence
from executor.hosts.host import Fence
from keys.errors import CalyxError, Unavailable
from ledger.chain import Chain
from ledger.checkpoint import parse_checkpoint
from ledger.memory import HeadMemory
from ledger.repair.backup import copy_ledger
from ledger.repair.fsck import check_ledger
from ledger.sqlite.check import check_store
from ledger.sqlite.store import SqliteStore
from policies.auditing.audit import audit
from policies.pin import Pin
from policies.registrar import Registrar
from policies.replay import Replay

WRITER = """
import sys
from pathlib import Path
from ledgers import LOG_KEY, next_record
from ledger.sqlite.store import SqliteStore
store = SqliteStore.open(Path(sys.argv[1]))
print("ready", flush=True)
while not Path(sys.argv[2]).exists():
    with store.writer(LOG_KEY.sign) as writer:
        for _ in range(3):
            writer.append(next_record(writer.head, size=900))
store.close()
"""


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    return Console(tmp_path, monkeypatch)


def test_backup_under_three_writers(tmp_path: Path) -> None:
    ledger, out, stop = tmp_path / "ledger.db", tmp_path / "backup" / "ledger.db", tmp_path / "stop"
    make_ledger(ledger, 400, size=900).close()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(ledger), str(stop)], stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(3)
    ]
    sizes = [0]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for _ in range(6):
            with copy_ledger(ledger, out, LOG_KEY.vkey) as made:
                assert made.old == sizes[-1]
                made.replace()
            sizes.append(made.size)
            # What moves under a check is not damage. These entries are no statements, which is another matter.
            found = {each.code for each in check_ledger(ledger, remembered=None).damage}
            assert "store_damaged" not in found
            with SqliteStore.open(out, read_only=True) as copy:
                chain = Chain()
                for _ in chain.replay(copy.read(), parse_checkpoint(copy.checkpoint(), LOG_KEY.vkey)):
                    pass
                assert chain.head.size == made.size
            assert not check_store(out)
    finally:
        stop.touch()
        for writer in writers:
            assert writer.wait(60) == 0
            assert writer.stdout is not None
            writer.stdout.close()
    assert sizes == sorted(sizes)
    assert sizes[-1] > 400, "nobody wrote meanwhile"
    with SqliteStore.open(ledger) as store:
        assert store.head().size > sizes[-1]
        # The writers were not disturbed, and the backup is the beginning of what they wrote.
        with SqliteStore.open(out, read_only=True) as copy:
            assert list(copy.read()) == list(store.read(0, sizes[-1]))
    assert {each.name for each in out.parent.iterdir()} <= {"ledger.db", "ledger.db-wal", "ledger.db-shm"}


def test_failed_backup_leaves_the_earlier_one(tmp_path: Path) -> None:
    ledger, out = tmp_path / "ledger.db", tmp_path / "backup" / "ledger.db"
    with make_ledger(ledger, 20) as store:
        with copy_ledger(ledger, out, LOG_KEY.vkey) as made:
            made.replace()
        before = out.read_bytes()
        with store.writer(LOG_KEY.sign) as writer:
            writer.append(next_record(writer.head))
    with pytest.raises(CalyxError), copy_ledger(ledger, out, LOG_KEY.vkey):
        raise CalyxError("no_object", "the objects could not be copied")
    assert out.read_bytes() == before
    with refused("unknown_key"), copy_ledger(ledger, out, new_station(tmp_path / "other").log_key.vkey):
        pass
    assert out.read_bytes() == before
    assert not [each for each in out.parent.iterdir() if each.name.endswith(".tmp")]


def test_backup_from_the_command_line(console: Console, tmp_path: Path) -> None:
    console.begin()
    console.propose()
    out = tmp_path / "backup"
    said = json.loads(console.done("ledger", "backup", str(out), "--json"))
    assert (said["ok"], said["size"], said["new"]) == (True, console.size(), console.size())
    assert {each.name for each in out.iterdir()} <= {"ledger.db", "ledger.db-wal", "ledger.db-shm", "objects"}
    secrets = [each.read_bytes().strip() for each in (console.home / "keys").iterdir() if each.suffix == ".key"]
    assert secrets
    for path in [each for each in out.rglob("*") if each.is_file()]:
        assert not [secret for secret in secrets if secret in path.read_bytes()]
        assert not path.stat().st_mode & 0o022
    assert "objects checked" in console.done("audit", "--full", "--home", str(out))
    console.propose()
    again = json.loads(console.done("ledger", "backup", str(out), "--json"))
    assert again["new"] == again["size"] - said["size"] == 2
    console.done("audit", "--full", "--home", str(out))


def test_backup_says_which_objects_are_missing(console: Console, tmp_path: Path) -> None:
    console.begin()
    shutil.rmtree(console.home / "objects")
    said = console.run("ledger", "backup", str(tmp_path / "backup"))
    assert said.code == 1
    assert "object_missing" in said.out
    assert (tmp_path / "backup" / "ledger.db").is_file(), "what there is was saved"


def test_backup_never_overwrites_what_it_does_not_extend(console: Console, tmp_path: Path) -> None:
    console.begin()
    out, older = tmp_path / "backup", tmp_path / "older.db"
    shutil.copy(console.home / "ledger.db", older)
    console.propose()
    console.done("ledger", "backup", str(out))
    before = (out / "ledger.db").read_bytes()
    whole = (console.home / "ledger.db").read_bytes()
    # Whoever remembers says so first; a user who remembers nothing is stopped by the backup itself.
    (console.home / "ledger.db").write_bytes(older.read_bytes())
    console.refused("ledger", "backup", str(out), code="head_contradicted", ends=1)
    console.monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "stranger"))
    said = console.refused("ledger", "backup", str(out), code="head_contradicted", ends=1)
    assert "keep the backup" in said.err
    assert (out / "ledger.db").read_bytes() == before
    (console.home / "ledger.db").write_bytes(whole)
    other = Console(tmp_path / "two", console.monkeypatch)
    other.root.mkdir()
    other.begin()
    other.refused("ledger", "backup", str(out), code="backup_of_another", ends=2)
    other.refused("ledger", "backup", str(console.home), code="not_a_backup", ends=2)
    write_files(tmp_path / "papers", {"letter.txt": "mine"})
    other.refused("ledger", "backup", str(tmp_path / "papers"), code="not_a_backup", ends=2)
    assert (out / "ledger.db").read_bytes() == before


def restore(console: Console, backup: Path) -> None:
    """Put an old backup in the ledger's place."""
    for suffix in ("-wal", "-shm"):
        (console.home / f"ledger.db{suffix}").unlink(missing_ok=True)
    shutil.copy(backup / "ledger.db", console.home / "ledger.db")


def test_restored_old_backup_is_noticed(console: Console, tmp_path: Path) -> None:
    console.begin()
    out = tmp_path / "backup"
    console.done("ledger", "backup", str(out))
    lease = console.propose()
    console.done("approve", lease, "--yes")
    with Home(console.home) as place:
        reader = Replay(place.open_store(), place.open_objects(), Pin(HeadMemory(tmp_path / "reader"), "a reader"))
        reader.sync()
        size = place.open_store().head().size
    restore(console, out)
    # The home's own user, reading and appending; the hint says what to do.
    said = console.run("status")
    assert "error: head_contradicted: " in said.err
    assert "compare with another copy of the ledger" in said.err
    for command in (("propose", "web", "--dir", str(tmp_path / "content-2")), ("ledger", "log"), ("inbox",)):
        assert "error: head_contradicted: " in console.run(*command).err, command
    assert "head_contradicted" in console.run("audit").out
    fsck = console.run("ledger", "fsck")
    assert (fsck.code, "head_contradicted" in fsck.out) == (1, True)
    assert f"{size} entries" in fsck.out
    # Another reader, on another machine.
    with Home(console.home) as place, refused("head_contradicted", remembered_size=size):
        pin = Pin(HeadMemory(tmp_path / "reader"), "a reader")
        Replay(place.open_store(), place.open_objects(), pin).sync()


def test_old_backup_is_noticed_by_an_auditor_who_only_ever_audited(console: Console, tmp_path: Path) -> None:
    console.begin()
    console.done("ledger", "backup", str(tmp_path / "backup"))
    console.propose()
    console.monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "auditor"))
    assert "is not excluded" in console.done("audit")
    size = console.size()
    assert f"with the head remembered at {size}" in console.done("audit", "--full", "--json")
    restore(console, tmp_path / "backup")
    said = console.run("audit")
    assert said.code == 1
    assert f"head_contradicted: entries are missing at the end: remembered {size} entries" in said.out
    assert console.run("audit").code == 1, "what was found wrong is not remembered"


def test_audit_that_cannot_remember_says_what_it_found_and_that(console: Console, tmp_path: Path) -> None:
    console.begin()
    console.done("ledger", "export", str(tmp_path / "out"))

    def full(*_: object) -> None:
        raise Unavailable("memory_write_failed", "no space")

    console.monkeypatch.setattr(HeadMemory, "remember", full)
    for more in ((), ("--from", str(tmp_path / "out"))):
        said = console.run("audit", *more)
        assert (said.code, "ok: " in said.out) == (5, True)
        assert "error: memory_write_failed: no space" in said.err


def test_restored_old_backup_comes_forward_again_from_an_export(console: Console, tmp_path: Path) -> None:
    console.begin()
    out, log = tmp_path / "backup", tmp_path / "log"
    console.done("ledger", "backup", str(out))
    console.propose()
    console.done("ledger", "export", str(log))
    restore(console, out)
    assert console.run("ledger", "fsck", "--repair").code == 1
    assert "mended" in console.done("ledger", "fsck", "--repair", "--from", str(log))
    console.done("audit", "--full")
    console.propose()


def test_appender_that_remembers_more_does_not_append_to_an_old_backup(tmp_path: Path) -> None:
    station: Station = new_station(tmp_path / "station")
    station.store.backup(tmp_path / "old.db")
    station.propose()
    station.store.close()
    (tmp_path / "station" / "ledger.db").unlink()
    shutil.copy(tmp_path / "old.db", tmp_path / "station" / "ledger.db")
    with SqliteStore.open(tmp_path / "station" / "ledger.db") as store:
        pin = Pin(station.memory, str(station.root))
        station.registrar = Registrar(
            store, station.objects, station.log_key, pin, clock=station.clock, random=station.random
        )
        with refused("head_contradicted"):
            station.propose("LEASE-20260105-100000")
        report = audit(store, station.objects, remembered=pin.load())
        assert "head_contradicted" in {finding.code for finding in report.findings}


def test_hosts_refuse_the_executor_of_an_old_backup(tmp_path: Path) -> None:
    station: Station = new_station(tmp_path / "station")
    station.take_term()
    old_fence = fence_of(station)
    station.store.backup(tmp_path / "old.db")
    station.take_term("cp20b")
    host = tmp_path / "fence"
    take_fence(host, fence_of(station))
    # An executor on a machine that remembers nothing, with the old backup for its ledger.
    with SqliteStore.open(tmp_path / "old.db") as station.store:
        station.memory = HeadMemory(tmp_path / "nothing")
        station.registrar = station.new_registrar()
        with refused("fenced"):
            take_fence(host, old_fence)
        station.take_term()
        with refused("fork_detected"):
            take_fence(host, fence_of(station))


def fence_of(station: Station) -> Fence:
    """What an executor shows to a host."""
    term = station.state.term
    assert term is not None
    return Fence(ledger=station.state.ledger, epoch=term.epoch, leaf=term.leaf)


def test_copy_is_nobody_elses_to_read_from_its_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    connect = sqlite3.connect

    def looking(database: Path, *args: Any, **options: Any) -> sqlite3.Connection:
        if database.name.endswith(".tmp"):
            seen.append(database.stat().st_mode & 0o777)
        opened: sqlite3.Connection = connect(database, *args, **options)
        return opened

    with make_ledger(tmp_path / "ledger.db", 3) as store:
        monkeypatch.setattr(sqlite3, "connect", looking)
        store.backup(tmp_path / "copy.db")
    assert seen == [0o600]
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
