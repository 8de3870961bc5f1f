from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from folders import open_folder
from ledgers import LOG_KEY, checkpoint_of, make_ledger, make_records, next_record, signed

from keys.errors import CalyxError, Refused, Unavailable
from ledger.chain import Chain
from ledger.head import EMPTY_HEAD, Head
from ledger.merkle import Frontier, check_inclusion, prove_inclusion
from ledger.sqlite.check import check_store
from ledger.sqlite.store import SqliteStore
from ledger.store import HeadMoved, Store


def audit(store: SqliteStore) -> int:
    return len(list(Chain().replay(store.read(), signed(store))))


def edit(path: Path, sql: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    connection.execute(sql, values)
    connection.commit()
    connection.close()


def refusal(code: str, action: Callable[[], object]) -> CalyxError:
    with pytest.raises(CalyxError) as caught:
        action()
    assert caught.value.code == code
    assert "\n" not in caught.value.message
    return caught.value


def test_store_is_a_store(tmp_path: Path) -> None:
    store: Store = SqliteStore.create(tmp_path / "ledger.db")
    assert store.head() == EMPTY_HEAD
    assert store.checkpoint() == b""
    assert list(store.read()) == []


def test_appended_records_come_back_with_head_and_checkpoint(tmp_path: Path) -> None:
    records = make_records(5)
    with SqliteStore.create(tmp_path / "ledger.db") as store:
        head = store.append(EMPTY_HEAD, records[:2], LOG_KEY.sign)
        assert head == Head(2, records[1].leaf)
        assert store.append(head, records[2:], LOG_KEY.sign) == store.head() == Head(5, records[4].leaf)
        assert signed(store) == checkpoint_of(records)
    with SqliteStore.open(tmp_path / "ledger.db", read_only=True) as store:
        assert list(store.read()) == [record.data for record in records]
        assert list(store.read(1, 3)) == [record.data for record in records[1:3]]
        assert store.leaf(3) == records[3].leaf
        assert store.tip().head == Head(5, records[4].leaf)
        assert audit(store) == 5


def test_append_to_a_moved_head_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    records = make_records(3)
    with SqliteStore.create(tmp_path / "ledger.db") as store:
        store.append(EMPTY_HEAD, records[:2], LOG_KEY.sign)
        with pytest.raises(HeadMoved):
            store.append(EMPTY_HEAD, records[:1], LOG_KEY.sign)
        with pytest.raises(HeadMoved):
            store.append(store.head(), records[:1], LOG_KEY.sign)
        assert store.head().size == 2


def test_exception_in_the_writer_undoes_everything(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 3) as store:
        before = store.tip()
        with pytest.raises(KeyboardInterrupt), store.writer(LOG_KEY.sign) as writer:
            writer.append(next_record(writer.head))
            raise KeyboardInterrupt
        with pytest.raises(ZeroDivisionError), store.writer(lambda size, root: bytes(1 // 0)) as writer:
            writer.append(next_record(writer.head))
        assert store.tip() == before
        assert len(list(store.read())) == 3
        store.append(before.head, [next_record(before.head)], LOG_KEY.sign)


def test_writer_that_appends_nothing_signs_nothing(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 1) as store:
        before = store.tip()
        with store.writer(lambda size, root: pytest.fail("signed")):
            pass
        assert store.tip() == before


def test_one_checkpoint_for_a_batch(tmp_path: Path) -> None:
    sizes: list[int] = []

    def sign(size: int, root: bytes) -> bytes:
        sizes.append(size)
        return LOG_KEY.sign(size, root)

    with SqliteStore.create(tmp_path / "ledger.db") as store:
        store.append(EMPTY_HEAD, make_records(1300), sign)
        assert sizes == [1300]
        assert audit(store) == 1300


def test_reader_sees_the_old_head_until_the_commit_and_does_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with make_ledger(path, 2) as store, SqliteStore.open(path, read_only=True) as reader:
        with store.writer(LOG_KEY.sign) as writer:
            writer.append(next_record(writer.head))
            assert reader.head().size == 2
            assert len(list(reader.read())) == 2
        assert reader.head().size == 3


def test_proofs_read_from_the_store_check_against_its_checkpoint(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 777) as store:
        root = signed(store).root
        for index in (0, 255, 256, 511, 512, 776):
            proof = prove_inclusion(index, 777, store)
            check_inclusion(index, 777, bytes.fromhex(store.leaf(index)), root, proof)
        assert Frontier.load(777, store).format() == store.frontier().format()


def test_missing_ledger_is_unavailable(tmp_path: Path) -> None:
    assert isinstance(refusal("ledger_missing", lambda: SqliteStore.open(tmp_path / "ledger.db")), Unavailable)
    assert not (tmp_path / "ledger.db").exists()


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("read_only", [True, False])
def test_nobody_waits_at_a_pipe_beside_the_file(tmp_path: Path, suffix: str, read_only: bool) -> None:
    path = tmp_path / "ledger.db"
    make_ledger(path, 2).close()
    os.mkfifo(f"{path}{suffix}")
    refusal("ledger_unreadable", lambda: SqliteStore.open(path, read_only=read_only))
    refusal("ledger_unreadable", lambda: check_store(path))


def test_create_never_overwrites_and_leaves_nothing_behind(tmp_path: Path) -> None:
    make_ledger(tmp_path / "ledger.db", 2).close()
    assert isinstance(refusal("ledger_exists", lambda: SqliteStore.create(tmp_path / "ledger.db")), Refused)
    assert [each.name for each in tmp_path.iterdir()] == ["ledger.db"]
    assert stat.S_IMODE((tmp_path / "ledger.db").stat().st_mode) == 0o644
    refusal("ledger_write_failed", lambda: SqliteStore.create(tmp_path / "no" / "ledger.db"))


def test_other_files_are_not_ledgers(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"SQLite format 3? No, just text that is long enough to be read as a header" * 9)
    refusal("ledger_corrupt", lambda: SqliteStore.open(path))
    path.write_bytes(b"")
    assert refusal("ledger_corrupt", lambda: SqliteStore.open(path)).message.endswith("it is empty")
    path.unlink()
    edit(path, "CREATE TABLE record (seq INTEGER PRIMARY KEY, leaf BLOB, data BLOB)")
    refusal("ledger_corrupt", lambda: SqliteStore.open(path, read_only=True))


def test_other_schema_version_is_refused(tmp_path: Path) -> None:
    make_ledger(tmp_path / "ledger.db", 1).close()
    edit(tmp_path / "ledger.db", "PRAGMA user_version = 2")
    refusal("ledger_version", lambda: SqliteStore.open(tmp_path / "ledger.db"))


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER t AFTER INSERT ON record BEGIN DELETE FROM record; END",
        "CREATE VIEW more AS SELECT * FROM record",
        "CREATE INDEX leaf ON record (leaf)",
    ],
)
def test_schema_with_more_than_ours_is_refused(tmp_path: Path, sql: str) -> None:
    make_ledger(tmp_path / "ledger.db", 1).close()
    edit(tmp_path / "ledger.db", sql)
    refusal("ledger_corrupt", lambda: SqliteStore.open(tmp_path / "ledger.db"))


def test_deleted_row_is_named(tmp_path: Path) -> None:
    make_ledger(tmp_path / "ledger.db", 200).close()
    edit(tmp_path / "ledger.db", "DELETE FROM record WHERE seq = 150")
    with SqliteStore.open(tmp_path / "ledger.db", read_only=True) as store:
        error = refusal("ledger_corrupt", lambda: list(store.read()))
    assert error.fields["entry"] == 150


def test_row_before_the_first_is_named(tmp_path: Path) -> None:
    make_ledger(tmp_path / "ledger.db", 2).close()
    edit(tmp_path / "ledger.db", "INSERT INTO record VALUES (-1, zeroblob(32), zeroblob(9))")
    with SqliteStore.open(tmp_path / "ledger.db", read_only=True) as store:
        error = refusal("ledger_corrupt", lambda: list(store.read()))
        assert len(list(store.read(1))) == 1
    assert error.fields["entry"] == 0


def test_rows_after_the_head_stop_an_append(tmp_path: Path) -> None:
    make_ledger(tmp_path / "ledger.db", 2).close()
    edit(tmp_path / "ledger.db", "INSERT INTO record VALUES (2, zeroblob(32), zeroblob(9))")
    with SqliteStore.open(tmp_path / "ledger.db") as store:
        head = store.head()
        refusal("ledger_corrupt", lambda: store.append(head, [next_record(head)], LOG_KEY.sign))


@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("UPDATE record SET leaf = zeroblob(32) WHERE seq = 7", "leaf"),
        ("UPDATE node SET hash = zeroblob(32) WHERE level = 8", "node"),
        ("UPDATE tip SET hash = zeroblob(32)", "tip"),
        ("INSERT INTO node VALUES (8, 9, zeroblob(32))", "rows"),
        ("INSERT INTO record VALUES (-3, zeroblob(32), zeroblob(9))", "record"),
        ("DELETE FROM node", "record"),
        ("DELETE FROM tip", "record"),
    ],
)
def test_damaged_cache_is_found_although_audit_does_not_need_it(tmp_path: Path, sql: str, where: str) -> None:
    make_ledger(tmp_path / "ledger.db", 300).close()
    assert check_store(tmp_path / "ledger.db") == []
    edit(tmp_path / "ledger.db", sql)
    assert where in {finding.where for finding in check_store(tmp_path / "ledger.db")}


def test_damaged_frontier_never_gets_signed(tmp_path: Path) -> None:
    make_ledger(tmp_path / "ledger.db", 2).close()
    other = Frontier()
    other.append(bytes(32))
    other.append(bytes(32))
    edit(tmp_path / "ledger.db", "UPDATE tip SET frontier = ?", other.format())
    with SqliteStore.open(tmp_path / "ledger.db") as store:
        head = store.head()
        refusal(
            "ledger_corrupt",
            lambda: store.append(head, [next_record(head)], lambda size, root: pytest.fail("signed a wrong tree")),
        )


def test_changed_record_bytes_in_the_file_are_named(tmp_path: Path) -> None:
    make_ledger(tmp_path / "ledger.db", 40, size=400).close()
    whole = (tmp_path / "ledger.db").read_bytes()
    for entry, record in enumerate(make_records(40, size=400)):
        at = whole.index(record.data[:200]) + 100
        (tmp_path / "changed.db").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with SqliteStore.open(tmp_path / "changed.db", read_only=True) as store:
            error = refusal("broken_chain", partial(audit, store))
        assert error.fields["entry"] == entry


def test_damaged_pages_are_corruption_and_not_a_traceback(tmp_path: Path) -> None:
    make_ledger(tmp_path / "ledger.db", 60, size=400).close()
    whole = (tmp_path / "ledger.db").read_bytes()
    for page in range(len(whole) // 4096):
        for at in (0, 3, 5, 8, 9):
            spot = page * 4096 + at
            data = whole[:spot] + bytes([whole[spot] ^ 0x55]) + whole[spot + 1 :]
            (tmp_path / "changed.db").write_bytes(data)
            try:
                with SqliteStore.open(tmp_path / "changed.db", read_only=True) as store:
                    assert audit(store) == 60
            except CalyxError as error:
                assert error.code in {"ledger_corrupt", "broken_chain", "ledger_unreadable", "ledger_version"}


def test_backup_is_a_whole_ledger(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 20) as store:
        store.backup(tmp_path / "copy.db")
        refusal("ledger_exists", lambda: store.backup(tmp_path / "copy.db"))
    with SqliteStore.open(tmp_path / "copy.db", read_only=True) as copy:
        assert audit(copy) == 20


def test_backup_on_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_up(path: Path) -> sqlite3.Connection:
        # SQLite cannot finish, nor take back, what it began, and leaves its journal.
        path.with_name(f"{path.name}-journal").write_bytes(b"half")
        raise sqlite3.OperationalError("database or disk is full")

    (tmp_path / "disk").mkdir()
    with make_ledger(tmp_path / "ledger.db", 3) as store, monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", fill_up)
        refusal("ledger_write_failed", lambda: store.backup(tmp_path / "disk" / "copy.db"))
    assert list((tmp_path / "disk").iterdir()) == []


def sealed_audit(folder: Path) -> str:
    """Audit a copy as a user who may write neither it nor its folder (root ignores modes, so a child gives root up)."""
    folder.chmod(0o555)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            assert not os.access(folder, os.W_OK)
            with SqliteStore.open(folder / "ledger.db", read_only=True) as store:
                os.write(writing, f"{audit(store)} {len(check_store(folder / 'ledger.db'))}".encode())
        except BaseException as error:  # noqa: BLE001  # reported through the pipe
            os.write(writing, repr(error).encode()[:4000])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    folder.chmod(0o755)
    return said


@pytest.mark.parametrize("with_log", [True, False])
def test_sealed_copy_is_read_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_log: bool) -> None:
    with open_folder() as place, make_ledger(tmp_path / "ledger.db", 30) as store:
        folder, passing = place / "copy", place / "passing"
        folder.mkdir()
        passing.mkdir()
        passing.chmod(0o777)
        monkeypatch.setattr(tempfile, "tempdir", str(passing))
        if with_log:
            for part in ("ledger.db", "ledger.db-wal"):
                shutil.copyfile(tmp_path / part, folder / part)
        else:
            store.backup(folder / "ledger.db")
        for each in folder.iterdir():
            each.chmod(0o444)
        before = sorted(each.name for each in folder.iterdir())
        assert sealed_audit(folder) == "30 0"
        assert sorted(each.name for each in folder.iterdir()) == before
        assert list(passing.iterdir()) == []


def test_damaged_log_that_hides_commits_is_found(tmp_path: Path) -> None:
    path, log = tmp_path / "ledger.db", tmp_path / "ledger.db-wal"
    with make_ledger(path, 1) as store:
        for _ in range(6):
            store.append(store.head(), [next_record(store.head())], LOG_KEY.sign)
        (tmp_path / "copy").mkdir()
        for each in (path, log):
            shutil.copyfile(each, tmp_path / "copy" / each.name)
    copy = tmp_path / "copy" / "ledger.db"
    assert check_store(copy) == []
    data = bytearray((tmp_path / "copy" / "ledger.db-wal").read_bytes())
    # In the page of the second frame: SQLite reads the first only.
    data[32 + 24 + 4096 + 24 + 2000] ^= 1
    (tmp_path / "copy" / "ledger.db-wal").write_bytes(data)
    (tmp_path / "copy" / "ledger.db-shm").unlink(missing_ok=True)
    findings = check_store(copy)
    assert [finding.where for finding in findings][:1] == ["log"]


def test_full_database_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 2) as store:
        head = store.head()
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        big = [next_record(head, size=30_000)]
        assert isinstance(refusal("disk_full", lambda: store.append(head, big, LOG_KEY.sign)), Unavailable)
        assert store.head() == head
        store._connection.execute("PRAGMA max_page_count = 100000")
        assert store.append(head, big, LOG_KEY.sign).size == 3
        assert audit(store) == 3


FAILING_WRITES = """
import resource, sys
from pathlib import Path
from ledgers import LOG_KEY, next_record
from keys.errors import Unavailable
from ledger.sqlite.store import SqliteStore
store = SqliteStore.open(Path(sys.argv[1]))
head = store.head()
codes = []
def append():
    global head
    try:
        head = store.append(head, [next_record(head, size=3000)], LOG_KEY.sign)
    except Unavailable as error:
        codes.append(error.code)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
while not codes:
    append()
# The disk works again, and what it holds is no better known for that.
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
append()
print(head.size, *codes, flush=True)
import os; os._exit(0)
"""


def test_write_error_stops_the_store_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    make_ledger(path, 1).close()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", FAILING_WRITES, str(path)],
        capture_output=True, text=True, timeout=60, check=True, env=environment,
    )  # fmt: skip
    acknowledged, *codes = done.stdout.split()
    assert codes == ["ledger_write_failed", "ledger_write_failed"]
    with SqliteStore.open(path) as store:
        assert store.head().size >= int(acknowledged) > 1
        assert audit(store) == store.head().size
        assert check_store(path) == []


def test_header_that_keeps_everybody_from_appending_is_found(tmp_path: Path) -> None:
    """SQLite reads a file of a later write version, and writes none."""
    path = tmp_path / "ledger.db"
    make_ledger(path, 3).close()
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x03")
    with SqliteStore.open(path) as store, pytest.raises(Unavailable) as refused:
        store.append(store.head(), [next_record(store.head())], LOG_KEY.sign)
    assert refused.value.code == "ledger_read_only"
    assert [finding.where for finding in check_store(path)] == ["page"]


def test_check_gives_back_no_lock_of_this_process(tmp_path: Path) -> None:
    """Whoever takes a reader for gone may begin the log anew under it, or put another file in the place."""
    path = tmp_path / "ledger.db"
    make_ledger(path, 3).close()
    script = (
        "import sys; from pathlib import Path; from ledger.repair.replace import alone\n"
        "with alone(Path(sys.argv[1])): pass"
    )
    command = [sys.executable, "-c", script, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with SqliteStore.open(path, read_only=True) as reader:
        assert reader.head().size == 3
        assert check_store(path) == []
        done = subprocess.run(command, env=environment, check=False, capture_output=True, timeout=60)
        assert b"ledger_busy" in done.stderr or b"another program has" in done.stderr
    assert subprocess.run(command, env=environment, check=False, timeout=60).returncode == 0


def test_copy_that_is_not_in_wal_mode_is_whole(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    make_ledger(path, 3).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", [str(copy)])
    assert copy.read_bytes()[18:20] == b"\x01\x01"
    assert check_store(copy) == []


def test_file_alone_is_the_whole_ledger_once_a_writer_has_closed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with SqliteStore.create(path) as writer, SqliteStore.open(path, read_only=True) as reader:
        writer.append(EMPTY_HEAD, make_records(5), LOG_KEY.sign)
        assert reader.head().size == 5
        writer.close()
        # A reader is still there, so SQLite alone would have left everything in the log.
        shutil.copyfile(path, tmp_path / "copy.db")
        with SqliteStore.open(tmp_path / "copy.db", read_only=True) as copy:
            assert copy.head() == reader.head()
