"""An audit of what is new costs what is new, finds there what a whole one finds, and starts from nothing else."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import auditing
import pytest
from auditing import NOW, Auditor, counting, put
from bench_big import Endless
from station import Station, new_station

from keys.errors import Unavailable
from ledger.record import make_record, parse_record
from ledger.remembered import Remembered
from ledger.sqlite.store import SqliteStore
from ledger.verified import sign_statement
from policies.auditing import accounts
from policies.auditing.again import Before
from policies.auditing.report import Report
from policies.fold import digests, snapshots
from policies.fold.scratch import Scratch
from policies.registrar import Registrar
from policies.submitter import Draft

BEFORE = 130
ADDED = 45
MESSAGE = Draft("message", {"type": "question", "to": None, "reply_to": None, "text": "Who is there?"})
Spoil = Callable[[Path], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Endless]:
    """A ledger of `BEFORE` entries, that an auditor found whole, and what that auditor keeps."""
    root = tmp_path_factory.mktemp("made")
    factory = Endless(root)
    factory.fill(BEFORE)
    assert Auditor(root / "user", root / "ledger.db", factory.objects).whole().ok
    return root, factory


@pytest.fixture(scope="module")
def more(made: tuple[Path, Endless]) -> list[bytes]:
    """What was said in it afterwards."""
    return [record.data for record in made[1].more(ADDED)]


@pytest.fixture
def user(made: tuple[Path, Endless], tmp_path: Path) -> Auditor:
    """Who audited that ledger."""
    root, factory = made
    shutil.copy(root / "ledger.db", tmp_path / "ledger.db")
    shutil.copytree(root / "user", tmp_path / "user")
    return Auditor(tmp_path / "user", tmp_path / "ledger.db", factory.objects)


@pytest.fixture
def grown(user: Auditor, made: tuple[Path, Endless], more: list[bytes]) -> Auditor:
    """The same, after more was said."""
    put(user.path, [parse_record(data) for data in more], made[1].log_key.sign)
    return user


def rewrite(path: Path, seq: int, change: Callable[[bytes], bytes]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (data,) = connection.execute("SELECT data FROM record WHERE seq = ?", (seq,)).fetchone()
        connection.execute("UPDATE record SET data = ? WHERE seq = ?", (change(data), seq))
        connection.commit()


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def said(report: Report) -> tuple[Any, ...]:
    return report.ok, report.size, report.decided, report.head, report.root, report.findings


def test_only_new_entries_are_judged(grown: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    with counting(monkeypatch) as judged:
        report, before = grown.new()
    assert judged == list(range(BEFORE, BEFORE + ADDED))
    assert report.ok
    assert report.first == BEFORE
    assert before == Before(BEFORE, BEFORE, "2027-01-15T08:00:00Z")
    assert report.notes[0].startswith(f"entries 0 to {BEFORE - 1} were audited before, on 2027-01-15T08:00:00Z; what")
    assert f"and with the head remembered at {BEFORE}" in " ".join(report.notes)
    # That one is where the next one goes on, and the date stays that of the whole audit.
    with counting(monkeypatch) as judged:
        again, before = grown.new(now=NOW + 86_400)
    assert judged == []
    assert said(again) == said(report) == said(grown.whole())
    assert before == Before(BEFORE + ADDED, BEFORE, "2027-01-15T08:00:00Z")
    assert f"the first {BEFORE} on 2027-01-15T08:00:00Z" in again.notes[0]


def test_whole_audit_reads_all_of_it_whatever_is_kept(grown: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    with counting(monkeypatch) as judged:
        assert grown.whole().ok
    assert judged == list(range(BEFORE + ADDED))
    rewrite(grown.path, 40, flipped(60))
    with counting(monkeypatch) as judged:
        assert grown.new()[0].ok
    assert judged == []
    report = grown.whole()
    assert [(finding.code, finding.entry) for finding in report.findings] == [("broken_chain", 40)]


@pytest.mark.parametrize("seq", [BEFORE, BEFORE + 7, BEFORE + ADDED - 1])
def test_changed_new_entry_is_found_as_by_a_whole_audit(grown: Auditor, seq: int) -> None:
    rewrite(grown.path, seq, flipped(60))
    report, before = grown.new()
    assert before is not None
    assert [finding.entry for finding in report.findings] == [seq]
    assert said(report) == said(grown.whole())
    # What is wrong is not taken for audited.
    assert grown.new()[0].findings == report.findings


def test_two_new_entries_swapped_and_one_behind_the_end(grown: Auditor, more: list[bytes]) -> None:
    rewrite(grown.path, BEFORE + 3, lambda _: more[9])
    rewrite(grown.path, BEFORE + 9, lambda _: more[3])
    report, _ = grown.new()
    assert [finding.entry for finding in report.findings] == [BEFORE + 3, BEFORE + 9]
    assert said(report) == said(grown.whole())
    rewrite(grown.path, BEFORE + 3, lambda _: more[3])
    rewrite(grown.path, BEFORE + 9, lambda _: more[9])
    with closing(sqlite3.connect(grown.path)) as connection:
        row = (BEFORE + ADDED, more[-1])
        connection.execute("INSERT INTO record (seq, leaf, data) VALUES (?, zeroblob(32), ?)", row)
        connection.commit()
    report, _ = grown.new()
    assert [(finding.code, finding.entry) for finding in report.findings] == [("broken_chain", BEFORE + ADDED)]
    assert said(report) == said(grown.whole())


def test_first_new_entry_does_not_follow_the_audited_ones(
    user: Auditor, made: tuple[Path, Endless], more: list[bytes]
) -> None:
    """Its checkpoint is the log's: whoever has the log's key forked the ledger before the cut, and left the cut as it
    was.
    """
    old = parse_record(more[0])
    forged = make_record(BEFORE, "ab" * 32, old.seconds, old.envelope)
    with closing(sqlite3.connect(user.path)) as connection:
        connection.execute("INSERT INTO record VALUES (?, zeroblob(32), ?)", (BEFORE, forged.data))
        connection.execute(
            "UPDATE tip SET size = ?, hash = ?, checkpoint = ?",
            (BEFORE + 1, bytes.fromhex(forged.leaf), made[1].log_key.sign(BEFORE + 1, bytes(32))),
        )
        connection.execute("UPDATE tip SET frontier = ?", (_frontier(BEFORE + 1),))
        connection.commit()
    report, before = user.new()
    assert before is not None
    assert {(finding.code, finding.entry) for finding in report.findings} == {("broken_chain", BEFORE)}
    assert report.findings == user.whole().findings


def _frontier(size: int) -> bytes:
    return size.to_bytes(8, "big") + bytes(32 * size.bit_count())


def test_older_ledger_than_the_one_audited(user: Auditor, grown: Auditor, made: tuple[Path, Endless]) -> None:
    assert grown.new()[0].ok
    shutil.copy(made[0] / "ledger.db", user.path)
    report, before = user.new()
    assert before is None
    (finding,) = report.findings
    assert finding.code == "head_contradicted"
    assert f"remembered {BEFORE + ADDED} entries" in finding.message
    assert f"found {BEFORE} entries" in finding.message
    assert report.notes[0].startswith("a whole audit, because entries are missing at the end")


def test_ledger_forked_before_the_audited_head(tmp_path: Path) -> None:
    station = new_station(tmp_path / "here")
    station.store.backup(tmp_path / "other.db")
    station.say("ada", MESSAGE.kind, MESSAGE.fields)
    user = Auditor(tmp_path / "user", tmp_path / "here" / "ledger.db", station.objects)
    assert user.whole().ok
    head = station.store.head()
    shutil.copy(tmp_path / "other.db", user.path.with_name("fork.db"))
    with SqliteStore.open(user.path.with_name("fork.db")) as store:
        for text in ("one", "two"):
            envelope = _signed(station, store, text)
            at = store.head()
            store.append(at, [make_record(at.size, at.hash, station.clock.now, envelope)], station.log_key.sign)
        forked = store.head()
    user.path = user.path.with_name("fork.db")
    report, before = user.new()
    assert before is None
    (finding,) = report.findings
    assert finding.code == "head_contradicted"
    assert str(head) in finding.message
    assert str(forked) in finding.message
    # A whole audit that remembers nothing has no reason to doubt it, and the next one goes on from there.
    assert user.whole().ok
    assert user.new()[1] is not None


def _signed(station: Station, store: SqliteStore, text: str) -> Any:
    registrar = Registrar(store, station.objects, station.log_key, None, clock=station.clock, random=station.random)
    registrar.sync()
    statement = registrar.draft_statement("ada", Draft("message", {**MESSAGE.fields, "text": text}), machine=False)
    return sign_statement(statement, station.signer("ada"))


def test_remembered_head_that_is_newer_than_the_audited_one(grown: Auditor, made: tuple[Path, Endless]) -> None:
    whole = grown.whole()
    remembered = Remembered(home="h", ledger=whole.ledger, size=whole.size + 1, hash="ab" * 32)
    report, before = grown.new(remembered=remembered)
    assert before is not None
    assert [finding.code for finding in report.findings] == ["head_contradicted"]


def test_unlawful_forged_and_dangling_new_entries(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    user = Auditor(tmp_path / "user", tmp_path / "ledger.db", station.objects)
    assert user.whole().ok
    cut = station.store.head().size
    lease = station.state.leases[station.propose()[1]]
    artifact = station.root / "objects" / lease.lease.artifact.sha256[:2] / lease.lease.artifact.sha256[2:]
    content = artifact.read_bytes()
    artifact.unlink()
    good, bad = station.sign("ada", MESSAGE), station.sign("ben", MESSAGE)
    term = station.force(station.sign("cp20", Draft("term", {"epoch": 7, "reason": "jump"})))
    station.force(good)
    forged = station.force(type(bad)(bad.body, bad.keyid, good.sig))
    report, before = user.new()
    assert before is not None
    assert report.first == cut
    found = [(finding.code, finding.entry) for finding in report.findings]
    assert found == [("object_missing", lease.seq), ("unlawful_entry", term), ("wrong_key", forged)]
    assert said(report) == said(user.whole())
    assert user.new()[1] == before
    station.objects.put(content)


def test_deployment_that_new_entries_moved_accounts_for_its_instances(
    grown: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "unaccounted", lambda deployment: ["web-07"])
    report, _ = grown.new()
    # Entries 124 to 175 are of the third lease; what the first two did was judged before.
    found = {finding.entry for finding in report.findings}
    assert {finding.code for finding in report.findings} == {"unaccounted"}
    whole = {finding.entry for finding in grown.whole().findings}
    # What the first two leases did was judged before.
    assert len(whole) == 3
    assert found == {max(entry for entry in whole if entry is not None)}


def _flip(at: float) -> Spoil:
    def spoil(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[int(at * (len(data) - 1))] ^= 1
        file.write_bytes(data)

    return spoil


def _replace(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _written(change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(file: Path) -> None:
        file.write_bytes(change(file.read_bytes()))

    return spoil


SPOILS: dict[str, Spoil] = {
    **{f"flipped at {at}": _flip(at) for at in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)},
    "cut": _written(lambda data: data[:-1]),
    "longer": _written(lambda data: data + bytes(1)),
    "empty": _written(lambda _: b""),
    "gone": Path.unlink,
    "a directory": _replace,
    "a pipe": _pipe,
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_damaged_snapshot_is_ignored_and_made_again(
    grown: Auditor, spoil: Spoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(grown.file)
    with counting(monkeypatch) as judged:
        report, before = grown.new()
    assert before is None
    assert judged == list(range(BEFORE + ADDED))
    assert report.ok
    assert report.notes[0].startswith("a whole audit, because the snapshot ")
    if grown.file.is_dir():
        assert "nothing is kept for a later audit --new" in " ".join(report.notes)
    else:
        assert grown.new()[1] is not None


def test_snapshot_of_another_ledger_in_its_place(grown: Auditor, tmp_path: Path) -> None:
    station = new_station(tmp_path / "other")
    other = Auditor(tmp_path / "else", tmp_path / "other" / "ledger.db", station.objects)
    assert other.whole().ok
    shutil.copy(other.file, grown.file)
    report, before = grown.new()
    assert report.ok
    assert before is None
    # With its note too, which only this user could have put there, it is another ledger.
    shutil.copy(other.file, grown.file)
    (note,) = (other.root / "memory").glob("*.json")
    shutil.copy(note, grown.root / "memory" / note.name)
    report, before = grown.new()
    assert before is None
    assert [finding.code for finding in report.findings] == ["head_contradicted"]
    # Unless what is remembered of the home says that it is this one: then the note is stale.
    remembered = Remembered(home="h", ledger=report.ledger, size=report.size, hash=report.head.hash)
    report, before = grown.new(remembered=remembered)
    assert report.ok
    assert before is None
    assert report.notes[0].startswith("a whole audit, because the snapshot is of another ledger")


def test_snapshot_of_another_user_is_none_of_mine(grown: Auditor, tmp_path: Path) -> None:
    other = Auditor(tmp_path / "other", grown.path, grown.objects)
    shutil.copytree(grown.root / "cache", other.root / "cache")
    report, before = other.new()
    assert report.ok
    assert before is None
    assert report.notes[0] == "a whole audit, because no snapshot of an earlier audit is kept"


def test_snapshot_of_another_home_is_not_that_of_this_one(grown: Auditor) -> None:
    other = Auditor(grown.root, grown.path, grown.objects, home="/srv/other")
    mine, theirs = grown.snapshots(), other.snapshots()
    shutil.copy(mine._note, theirs._note)
    shutil.copy(mine._file, theirs._file)
    report, before = other.new()
    assert before is None
    assert report.notes[0] == "a whole audit, because no snapshot of an earlier audit is kept"


def test_snapshot_by_other_code_is_made_again(grown: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "fingerprint_code", lambda: "ab" * 32)
        report, before = grown.new()
        assert report.ok
        assert before is None
        assert "another version of calyx" in report.notes[0]
        assert grown.new()[1] is not None
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "fingerprint_code", lambda: None)
        report, before = grown.new()
        assert report.ok
        assert before is None
        assert "nothing is kept for a later audit --new" in " ".join(report.notes)


def test_nothing_is_kept_of_an_audit_that_found_something(user: Auditor, tmp_path: Path) -> None:
    rewrite(user.path, 40, flipped(60))
    fresh = Auditor(tmp_path / "fresh", user.path, user.objects)
    assert not fresh.whole().ok
    assert not list(tmp_path.glob("fresh/*/*.*"))
    assert fresh.new()[1] is None


def test_nothing_can_be_kept_and_the_audit_is_as_good(user: Auditor, tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir()
    for name in ("cache", "scratch"):
        (tmp_path / "fresh" / name).write_bytes(b"")
    fresh = Auditor(tmp_path / "fresh", user.path, user.objects)
    report = fresh.whole()
    assert report.ok
    assert any(note.startswith("nothing is kept for a later audit --new") for note in report.notes)


def test_what_is_kept_is_the_users_alone(user: Auditor) -> None:
    assert user.new()[1] is not None
    (note,) = (user.root / "memory").glob("*.json")
    for path, mode in ((user.file, 0o600), (note, 0o600), (note.parent, 0o700), (user.file.parent, 0o700)):
        assert path.stat().st_mode & 0o777 == mode
    assert not list((user.root / "scratch").iterdir())


def test_object_that_new_entries_name_is_looked_at_though_old_ones_named_it(tmp_path: Path) -> None:
    """A whole audit names the first entry that refers to it, one of what is new the first new one."""
    station = new_station(tmp_path)
    user = Auditor(tmp_path / "user", tmp_path / "ledger.db", station.objects)
    first = station.state.leases[station.propose()[1]]
    assert user.whole().ok
    second = station.state.leases[station.propose("LEASE-20260105-090001")[1]]
    assert first.lease.artifact == second.lease.artifact
    name = first.lease.artifact.sha256
    (tmp_path / "objects" / name[:2] / name[2:]).unlink()
    assert [(f.code, f.entry) for f in user.new()[0].findings] == [("object_missing", second.seq)]
    assert [(f.code, f.entry) for f in user.whole().findings] == [("object_missing", first.seq)]


def test_disk_that_is_full_ends_the_audit_and_proves_nothing(user: Auditor) -> None:
    class Full(Scratch):
        def open(self) -> IO[bytes]:
            raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests, "FULL", 32)
        patch.setattr(auditing, "Scratch", Full)
        with pytest.raises(Unavailable, match="No space left") as error:
            user.whole()
    assert error.value.code == "scratch_failed"
