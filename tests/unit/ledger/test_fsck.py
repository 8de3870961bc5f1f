"""A damaged ledger is mended from its records alone where nothing signed is lost, else from a copy that proves it."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from damaging import Patient, edit, new_patient
from refusal import refused
from station import Clock, new_station

import ledger.repair.fsck
from keys.errors import CalyxError
from ledger.exports.export import OBJECTS
from ledger.log_key import LogKey
from ledger.remembered import Remembered
from ledger.repair.fsck import Checked, check_ledger, repair_ledger
from ledger.repair.replace import Held
from ledger.sqlite.store import SqliteStore
from policies.auditing.export import export_ledger

SIZE = 280
FLIPS = 40


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    """Read it only; `lay` gives copies."""
    return new_patient(tmp_path_factory.mktemp("patient"), SIZE)


@pytest.fixture
def path(patient: Patient, tmp_path: Path) -> Path:
    return patient.lay(tmp_path / "home")


def repair(patient: Patient, path: Path, copy: Path | None = None) -> Checked:
    return repair_ledger(path, remembered=patient.remembered, copy=copy)


def codes(checked: Checked) -> set[str]:
    return {each.code for each in checked.damage}


def assert_whole(patient: Patient, path: Path) -> None:
    report = patient.audit(path)
    assert report.ok, report.findings
    assert report.head == patient.head
    assert check_ledger(path, remembered=patient.remembered).whole
    assert not [each.name for each in path.parent.iterdir() if each.name.startswith(".")], "something was left behind"


def test_whole_ledger_is_left_as_it_is(patient: Patient, path: Path) -> None:
    before = path.stat().st_ino
    assert check_ledger(path, remembered=patient.remembered) == Checked([], SIZE)
    assert repair(patient, path, patient.export) == Checked([], SIZE)
    assert path.stat().st_ino == before


@pytest.mark.parametrize("spelt", [b"CREATE \xf2ABLE record", b"CREATE TABLE \xf2ecord"])
def test_schema_that_is_no_text(patient: Patient, path: Path, spelt: bytes) -> None:
    """SQLite quotes it, and Python cannot read what it quotes."""
    path.write_bytes(patient.content.replace(b"CREATE TABLE record", spelt))
    assert path.read_bytes() != patient.content
    assert not check_ledger(path, remembered=patient.remembered).whole
    assert repair(patient, path).repaired
    assert_whole(patient, path)


def test_flipped_bits(patient: Patient, tmp_path: Path) -> None:
    chance = random.Random(11)
    found = 0
    for number in range(FLIPS):
        path = patient.lay(tmp_path / "home")
        # Every other one in the pages of the schema, the tip and the beginnings of the tables.
        at = chance.randrange(len(patient.content) if number % 2 else 4 * 4096)
        data = bytearray(patient.content)
        data[at] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        checked = check_ledger(path, remembered=patient.remembered)
        mended = repair(patient, path)
        assert codes(checked) == codes(mended), at
        if not mended.damage:
            assert_whole(patient, path)
            continue
        found += 1
        if not mended.repaired:
            assert path.read_bytes() == data, "a ledger that cannot be repaired stays as it is"
            assert codes(mended) & {"entry_lost", "checkpoint_lost", "unproved"}, (at, mended.damage)
            mended = repair(patient, path, patient.export)
        assert mended.repaired, (at, mended.damage)
        assert mended.whole
        assert mended.kept is not None
        assert (mended.kept / "ledger.db").read_bytes() == data, "the damaged ledger is kept"
        assert_whole(patient, path)
    assert found > FLIPS // 3


@pytest.mark.parametrize("at", [18, 44, 48, 56, 72])
def test_field_of_the_header_that_sqlite_does_not_mind_is_mended(patient: Patient, path: Path, at: int) -> None:
    data = bytearray(patient.content)
    data[at] ^= 1
    path.write_bytes(data)
    assert codes(check_ledger(path, remembered=patient.remembered)) == {"store_damaged"}
    assert repair(patient, path).repaired
    assert_whole(patient, path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET leaf = zeroblob(32) WHERE seq = 7",
        "UPDATE node SET hash = zeroblob(32)",
        "DELETE FROM node",
        "INSERT INTO node VALUES (8, 999, zeroblob(32))",
        "UPDATE tip SET frontier = zeroblob(8)",
        "UPDATE tip SET hash = zeroblob(32)",
        "UPDATE tip SET size = size - 1",
        "UPDATE tip SET size = size + 5",
        "INSERT INTO record VALUES (9999, zeroblob(32), x'7b7d')",
        "CREATE TABLE more (one INTEGER)",
        "CREATE TRIGGER loud AFTER INSERT ON record BEGIN DELETE FROM tip; END",
        "CREATE INDEX slow ON record (data)",
        "PRAGMA user_version = 7",
        "PRAGMA application_id = 7",
    ],
)
def test_what_is_derived_is_rebuilt_from_the_records(patient: Patient, path: Path, statement: str) -> None:
    edit(path, statement)
    assert not check_ledger(path, remembered=patient.remembered).whole
    mended = repair(patient, path)
    assert mended.repaired, mended.damage
    assert mended.whole
    assert_whole(patient, path)


def test_first_page_is_not_needed(patient: Patient, path: Path) -> None:
    path.write_bytes(bytes(4096) + patient.content[4096:])
    assert repair(patient, path).repaired
    assert_whole(patient, path)


def test_lost_entries_are_named_and_come_back_from_an_export(patient: Patient, path: Path) -> None:
    edit(path, "DELETE FROM record WHERE seq IN (5, 6, 7, 40)", "UPDATE record SET data = x'7b7d' WHERE seq = 90")
    checked = repair(patient, path)
    assert not checked.repaired
    assert [each.entry for each in checked.damage if each.code == "entry_lost"] == [5, 40, 90]
    assert "entries 5 to 7" in next(each.message for each in checked.damage if each.entry == 5)
    assert repair(patient, path, patient.export).repaired
    assert_whole(patient, path)


def test_lost_checkpoint_comes_back_only_when_it_covers_every_entry(patient: Patient, path: Path) -> None:
    edit(path, "UPDATE tip SET checkpoint = x'00'")
    assert "checkpoint_lost" in codes(repair(patient, path))
    assert repair(patient, path, patient.export).repaired
    assert_whole(patient, path)


def test_checkpoint_that_covers_less_cuts_nothing_off(patient: Patient, path: Path, tmp_path: Path) -> None:
    older = new_patient(tmp_path / "older", 60)
    # The same seed made the same ledger, up to there.
    assert older.remembered.ledger == patient.remembered.ledger
    edit(path, "UPDATE tip SET checkpoint = x'00'")
    before = path.read_bytes()
    for remembered in (patient.remembered, None):
        checked = repair_ledger(path, remembered=remembered, copy=older.export)
        assert not checked.repaired
        assert {"checkpoint_lost", "unproved"} <= codes(checked)
    assert path.read_bytes() == before


def test_cut_ledger_is_told_from_a_whole_one_and_grows_back(patient: Patient, tmp_path: Path) -> None:
    older = new_patient(tmp_path / "older", 60)
    path = older.lay(tmp_path / "home")
    assert codes(repair(patient, path)) == {"head_contradicted", "unproved"}
    assert path.read_bytes() == older.content
    assert repair(patient, path, patient.export).repaired
    assert_whole(patient, path)


def test_ledger_that_is_gone(patient: Patient, path: Path) -> None:
    path.unlink()
    checked = repair(patient, path)
    assert codes(checked) == {"ledger_missing"}
    assert not checked.whole
    assert repair(patient, path, patient.export).repaired
    assert_whole(patient, path)


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_nobody_waits_at_a_pipe_beside_a_damaged_ledger(patient: Patient, path: Path, suffix: str) -> None:
    os.mkfifo(f"{path}{suffix}")
    with refused("ledger_unreadable"):
        check_ledger(path, remembered=patient.remembered)
    with refused("ledger_unreadable"):
        repair(patient, path, patient.export)


def test_nothing_is_taken_where_nothing_says_which_ledger_it_was(patient: Patient, path: Path) -> None:
    path.unlink()
    checked = repair_ledger(path, remembered=None, copy=patient.export)
    assert not checked.repaired
    assert not path.exists()


def test_file_of_rubbish_comes_back_for_who_remembers_it(patient: Patient, path: Path) -> None:
    path.write_bytes(random.Random(2).randbytes(50_000))
    assert not repair(patient, path).repaired
    assert repair(patient, path, patient.export).repaired
    assert_whole(patient, path)


def test_truncated_file(patient: Patient, path: Path) -> None:
    path.write_bytes(patient.content[: len(patient.content) // 2])
    assert "entry_lost" in codes(repair(patient, path))
    assert repair(patient, path, patient.export).repaired
    assert_whole(patient, path)


def test_damaged_copy_gives_what_it_can_prove(patient: Patient, path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(patient.export, tmp_path / "copy"))
    bundle = next(each for each in sorted((copy / "tile" / "entries").rglob("*")) if each.is_file())
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    edit(path, "DELETE FROM record WHERE seq = 3")
    assert repair(patient, path, copy).repaired
    assert_whole(patient, path)


def test_two_damaged_copies_make_a_whole_one(patient: Patient, path: Path, tmp_path: Path) -> None:
    other = patient.lay(tmp_path / "other")
    edit(path, "DELETE FROM record WHERE seq = 3")
    edit(other, "DELETE FROM record WHERE seq = 200")
    assert repair(patient, path, other).repaired
    assert_whole(patient, path)


def forged(root: Path) -> Path:
    """An export of a ledger that somebody made up, with a log of the same name."""
    station = new_station(root / "forger", seed=9)
    export_ledger(station.store, station.objects, root / "forged", remembered=None)
    station.store.close()
    return root / "forged"


def test_bytes_that_are_not_proved_are_not_taken(patient: Patient, path: Path, tmp_path: Path) -> None:
    edit(path, "DELETE FROM record WHERE seq = 3")
    before = path.read_bytes()
    checked = repair(patient, path, forged(tmp_path))
    assert not checked.repaired
    assert "entry_lost" in codes(checked)
    assert path.read_bytes() == before


def test_log_that_signed_two_histories_stops_the_repair(tmp_path: Path) -> None:
    station = new_station(tmp_path / "one")
    station.store.close()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    fields = {"type": "question", "text": "Is anyone there?", "to": None, "reply_to": None}
    for name in ("one", "two"):
        with SqliteStore.open(tmp_path / name / "ledger.db") as store:
            station.store, station.root = store, tmp_path / name
            station.registrar = station.new_registrar()
            for _ in range(2 if name == "two" else 1):
                station.say("ada", "message", {**fields, "text": name})
    path = tmp_path / "one" / "ledger.db"
    remembered = station.memory.load(str(tmp_path / "one"))
    edit(path, "DELETE FROM node", "UPDATE record SET leaf = zeroblob(32) WHERE seq = 1")
    with refused("head_contradicted"):
        repair_ledger(path, remembered=remembered, copy=tmp_path / "two" / "ledger.db")
    with refused("head_contradicted"):
        repair_ledger(path, remembered=None, copy=tmp_path / "two" / "ledger.db")


def test_remembered_head_that_the_history_contradicts(patient: Patient, path: Path) -> None:
    other = Remembered(home="h", ledger=patient.remembered.ledger, size=10, hash="ab" * 32)
    with refused("head_contradicted"):
        check_ledger(path, remembered=other)


def test_another_ledger_in_the_place_is_not_taken_for_a_damaged_one(
    patient: Patient, path: Path, tmp_path: Path
) -> None:
    other = new_station(tmp_path / "other", clock=Clock(1_800_000_000))
    other.store.close()
    shutil.copy(other.root / "ledger.db", path)
    for copy in (None, other.root):
        with refused("head_contradicted") as caught:
            repair(patient, path, copy)
        assert "this is another ledger" in caught.value.message
    with refused("head_contradicted"):
        check_ledger(path, remembered=patient.remembered)


def test_first_entry_that_was_changed_is_no_other_ledger(patient: Patient, path: Path) -> None:
    # It is a genesis still, and names the key that signed the checkpoint.
    edit(path, "UPDATE record SET data = CAST(replace(data, 'time\":\"2', 'time\":\"3') AS BLOB) WHERE seq = 0")
    checked = check_ledger(path, remembered=patient.remembered)
    assert [each.entry for each in checked.damage if each.code == "entry_lost"] == [0]
    assert not repair(patient, path).repaired
    assert repair(patient, path, patient.export).repaired
    assert_whole(patient, path)


def test_no_source(patient: Patient, path: Path, tmp_path: Path) -> None:
    with refused("not_a_source"):
        repair(patient, path, tmp_path)


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT count(*) FROM record").fetchone()
print("open", flush=True)
sys.stdin.read()
"""


def test_ledger_that_another_process_has_open_is_not_repaired(patient: Patient, path: Path) -> None:
    edit(path, "DELETE FROM node")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert holder.stdout.readline() == "open\n"
        with refused("ledger_busy"):
            repair(patient, path)
        assert not check_ledger(path, remembered=patient.remembered).whole, "a check needs no lock"
    finally:
        holder.stdin.close()
        holder.wait(60)
        holder.stdout.close()
    assert repair(patient, path).repaired
    assert_whole(patient, path)


WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
connection.execute("PRAGMA user_version = 7")
"""


def written_by_another(path: Path) -> bool:
    """Whether another process can write to the ledger now."""
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], check=False, capture_output=True, timeout=60)
    assert done.returncode == 0 or b"is locked" in done.stderr
    return done.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="there the lock ends with the first copy")
def test_nobody_writes_to_a_ledger_while_it_is_repaired(
    patient: Patient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copying the file does not give the lock back."""
    edit(path, "DELETE FROM node")
    build, tried = ledger.repair.fsck._build, []

    def watched(*arguments: Any) -> Path:
        tried.append(written_by_another(path))
        return build(*arguments)

    monkeypatch.setattr(ledger.repair.fsck, "_build", watched)
    assert repair(patient, path).repaired
    assert tried == [False]
    assert_whole(patient, path)


@pytest.mark.parametrize("where", ["file", "log"])
def test_what_is_written_just_before_a_repair_takes_the_place_is_not_lost(
    patient: Patient, path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    edit(path, "DELETE FROM node")
    let_go = Held.let_go

    def late(held: Held) -> None:
        let_go(held)
        if where == "file":
            assert written_by_another(path)
        else:
            # Whoever is killed leaves what it wrote in the log.
            script = WRITER.replace("import sqlite3", "import os, sqlite3") + "os._exit(0)"
            subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=60)
            assert path.with_name("ledger.db-wal").stat().st_size

    monkeypatch.setattr(Held, "let_go", late)
    with refused("ledger_busy"):
        repair(patient, path)
    monkeypatch.undo()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)
    assert repair(patient, path).repaired
    assert_whole(patient, path)


def test_log_is_folded_in_before_the_new_file_takes_its_place(patient: Patient, path: Path) -> None:
    # A process that was killed left its commits in the log alone.
    script = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('DELETE FROM node'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=60)
    log = path.with_name("ledger.db-wal")
    assert log.stat().st_size
    mended = repair(patient, path)
    assert mended.repaired
    assert mended.kept is not None
    assert (mended.kept / "ledger.db-wal").stat().st_size
    assert not log.exists() or not log.stat().st_size
    assert_whole(patient, path)


def test_ledger_that_is_in_the_log_alone(patient: Patient, path: Path) -> None:
    # A new file whose every page is still in the log, as after a kill before the first fold.
    script = (
        "import os, sqlite3, sys; old = sqlite3.connect(sys.argv[1]); new = sqlite3.connect(sys.argv[2]); "
        "new.execute('PRAGMA journal_mode = WAL'); new.execute('PRAGMA wal_autocheckpoint = 0'); "
        "old.backup(new); new.execute('DELETE FROM node'); new.commit(); os._exit(0)"
    )
    fresh = path.with_name("fresh.db")
    subprocess.run([sys.executable, "-c", script, str(path), str(fresh)], check=True, timeout=60)
    log = fresh.with_name("fresh.db-wal")
    assert log.stat().st_size > fresh.stat().st_size
    path.unlink()
    fresh.with_name("fresh.db-shm").unlink()
    log.rename(path.with_name("ledger.db-wal"))
    fresh.rename(path)
    assert codes(check_ledger(path, remembered=patient.remembered)) == {"store_damaged"}
    assert repair(patient, path).repaired
    assert_whole(patient, path)


def test_damaged_log_that_nobody_reads_is_kept_aside(patient: Patient, path: Path) -> None:
    log = path.with_name("ledger.db-wal")
    path.write_bytes(bytes(100) + patient.content[100:])
    log.write_bytes(b"rubbish" * 1000)
    mended = repair(patient, path)
    assert mended.repaired
    assert mended.kept is not None
    assert (mended.kept / "ledger.db-wal").read_bytes() == b"rubbish" * 1000
    assert_whole(patient, path)


def test_mode_of_the_file_stays(patient: Patient, path: Path) -> None:
    path.chmod(0o640)
    edit(path, "DELETE FROM node")
    assert repair(patient, path).repaired
    assert path.stat().st_mode & 0o777 == 0o640


def test_repaired_ledger_takes_entries_again(patient: Patient, path: Path) -> None:
    edit(path, "DELETE FROM node", "UPDATE tip SET frontier = zeroblob(8)")
    assert repair(patient, path).repaired
    shutil.copytree(patient.station.root / OBJECTS, path.parent / OBJECTS)
    key: LogKey = patient.station.log_key
    with SqliteStore.open(path) as store, pytest.raises(CalyxError), store.writer(key.sign) as writer:
        assert writer.head == patient.head
        raise CalyxError("enough", "the caches were believed")


def test_connection_that_waited_does_not_write_to_the_old_file(patient: Patient, path: Path) -> None:
    edit(path, "DELETE FROM node")
    kept = path.with_name("second-name")
    kept.hardlink_to(path)
    assert repair(patient, path).repaired
    connection = sqlite3.connect(kept)
    assert connection.execute("PRAGMA application_id").fetchone() == (0,)
    connection.close()
