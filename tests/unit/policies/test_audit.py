"""What an audit finds: every changed byte, cut, swap, forgery and missing object, by the entry concerned."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from governing import revoke
from refusal import refused
from station import Station, new_station, tree_digest

from keys.errors import CalyxError
from ledger.head import Head
from ledger.objects import ObjectRef
from ledger.record import make_record, parse_record
from ledger.remembered import Remembered
from ledger.sqlite.store import SqliteStore
from ledger.store import Reader, Tip
from policies.auditing.accounts import unaccounted
from policies.auditing.audit import audit
from policies.auditing.report import Report
from policies.submitter import Draft

FLIPS = 300


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """A ledger with a completed deployment, all of it folded into one file. Tests work on copies."""
    root = tmp_path_factory.mktemp("finished")
    station = new_station(root)
    lease = station.propose()
    station.begin(lease)
    station.complete(lease)
    station.store.close()
    with closing(sqlite3.connect(root / "ledger.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return station


@pytest.fixture
def copied(finished: Station, tmp_path: Path) -> Path:
    """A copy of the finished ledger's file."""
    return Path(shutil.copy(finished.root / "ledger.db", tmp_path / "ledger.db"))


def run(path: Path, station: Station, remembered: Remembered | None = None) -> Report:
    with SqliteStore.open(path, read_only=True) as store:
        return audit(store, station.objects, remembered=remembered, store_path=path)


def broken(report: Report) -> list[int | None]:
    return [finding.entry for finding in report.findings if finding.code == "broken_chain"]


def rewrite(path: Path, seq: int, data: bytes) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE record SET data = ? WHERE seq = ?", (data, seq))
        connection.commit()


def records(path: Path) -> list[bytes]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT data FROM record ORDER BY seq")]


def test_whole_ledger(finished: Station, copied: Path) -> None:
    report = run(copied, finished)
    assert report.ok
    assert not report.findings
    assert report.size == report.decided == len(records(copied))
    assert report.origin == finished.log_key.origin
    assert f"consistent to {report.size}; a cut after {report.size} is not excluded" in report.notes


def test_every_entry_changed_in_turn_is_the_one_that_is_named(finished: Station, copied: Path) -> None:
    for seq, data in enumerate(records(copied)):
        for at in (3, len(data) // 2, data.index(b'"prev"') + 12, len(data) - 6):
            rewrite(copied, seq, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            report = run(copied, finished)
            assert not report.ok
            named = [finding.entry for finding in report.findings if finding.code != "bad_checkpoint"]
            assert set(named) == {seq}, (seq, at, report.findings)
        rewrite(copied, seq, data)
    assert run(copied, finished).ok


def test_any_flipped_byte_of_the_file_shows(finished: Station, copied: Path) -> None:
    whole = copied.read_bytes()
    known = records(copied)
    # Deterministic and spread over the whole file: each page is hit, at another place.
    positions = [n * len(whole) // FLIPS + (n * 7919) % (len(whole) // FLIPS) for n in range(FLIPS)]
    silent: list[int] = []
    flipped = 0
    for at in positions:
        copied.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        hit = [seq for seq, data in enumerate(known) if holds(whole, data, at)]
        try:
            report = run(copied, finished)
        except CalyxError:
            # The file cannot be opened or read at all, which is as loud.
            continue
        if hit:
            assert not report.ok
            assert set(hit) == {f.entry for f in report.findings if f.code not in {"bad_checkpoint", "store_damaged"}}
            flipped += 1
        elif report.ok:
            silent.append(at)
    assert flipped > FLIPS // 4
    # What is left are bytes that hold nothing: no record, no cache, no page structure.
    assert not [at for at in silent if whole[at]], "a byte that means something was changed unseen"


def holds(whole: bytes, data: bytes, at: int) -> bool:
    """Whether a position of the file is inside a record that lies in one piece."""
    start = whole.find(data)
    return start != -1 and start <= at < start + len(data)


def test_cut_end_is_seen_by_who_remembers(finished: Station, copied: Path) -> None:
    size = len(records(copied))
    whole = run(copied, finished)
    remembered = Remembered(home="h", ledger=whole.ledger, size=size, hash=whole.head.hash)
    with closing(sqlite3.connect(copied)) as connection:
        connection.execute("DELETE FROM record WHERE seq >= ?", (size - 3,))
        connection.commit()
    report = run(copied, finished)
    assert broken(report) == [size - 3]
    assert not run(copied, finished, remembered).ok


def test_older_checkpoint_with_a_cut_passes_only_without_memory(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    station.store.backup(tmp_path / "older.db")
    station.propose()
    remembered = station.memory.load(str(tmp_path))
    report = run(tmp_path / "older.db", station)
    assert report.ok
    assert any("is not excluded" in note for note in report.notes)
    report = run(tmp_path / "older.db", station, remembered)
    assert [finding.code for finding in report.findings] == ["head_contradicted"]


def test_other_ledger_than_the_one_remembered(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    station, other = new_station(tmp_path), new_station(tmp_path / "other", seed=2)
    report = run(tmp_path / "ledger.db", station, other.memory.load(str(tmp_path / "other")))
    assert [finding.code for finding in report.findings] == ["head_contradicted"]


def test_two_records_swapped(finished: Station, copied: Path) -> None:
    known = records(copied)
    rewrite(copied, 10, known[20])
    rewrite(copied, 20, known[10])
    report = run(copied, finished)
    assert broken(report) == [10, 20]
    assert "the checkpoint confirms every entry that is not named in a finding" in report.notes


def test_record_duplicated_at_the_end(finished: Station, copied: Path) -> None:
    known = records(copied)
    with closing(sqlite3.connect(copied)) as connection:
        connection.execute("INSERT INTO record (seq, leaf, data) VALUES (?, zeroblob(32), ?)", (len(known), known[-1]))
        connection.commit()
    report = run(copied, finished)
    assert not report.ok
    assert {finding.code for finding in report.findings} == {"broken_chain", "store_damaged"}
    assert broken(report) == [len(known)]


def test_record_removed_from_the_middle(finished: Station, copied: Path) -> None:
    with closing(sqlite3.connect(copied)) as connection:
        connection.execute("DELETE FROM record WHERE seq = 10")
        connection.commit()
    report = run(copied, finished)
    assert [(f.code, f.entry) for f in report.findings if f.code != "store_damaged"] == [("ledger_corrupt", 10)]
    assert report.decided == 9


@pytest.mark.parametrize("damage", ["DELETE FROM tip", "UPDATE tip SET frontier = x'00'", "UPDATE tip SET size = 7"])
def test_damaged_tip_keeps_no_record_from_being_judged(finished: Station, copied: Path, damage: str) -> None:
    count = len(records(copied))
    with closing(sqlite3.connect(copied)) as connection:
        connection.execute(damage)
        connection.commit()
    report = run(copied, finished)
    assert [f.code for f in report.findings if f.code != "store_damaged"] == ["ledger_corrupt"]
    assert report.size == report.decided == count
    assert "no checkpoint confirms the last entry" in report.notes
    rewrite(copied, 12, records(copied)[12].replace(b'"payload":"ey', b'"payload":"eX'))
    assert broken(run(copied, finished)) == [12]


class Unreadable:
    """A store whose tip is damaged, and which gives no record from one on, whether there is one or not."""

    def __init__(self, known: list[bytes], end: int) -> None:
        self.known, self.end = known, end

    def tip(self) -> Tip:
        raise CalyxError("ledger_corrupt", "its tip is damaged")

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        yield from self.known[start : min(self.end, stop or self.end)]
        if stop is None or stop > self.end:
            raise CalyxError("ledger_corrupt", "it cannot be read", entry=max(start, self.end))


@pytest.mark.parametrize("end", [0, 20])
def test_end_that_cannot_be_read_is_named_once(finished: Station, copied: Path, end: int) -> None:
    """How many entries lie behind it, nobody knows."""
    reader = cast(Reader, Unreadable(records(copied), end))
    report = audit(reader, finished.objects, remembered=None)
    assert [(f.code, f.entry) for f in report.findings] == [("ledger_corrupt", None), ("ledger_corrupt", end)]


def test_record_removed_and_a_damaged_tip_are_both_found(finished: Station, copied: Path) -> None:
    with closing(sqlite3.connect(copied)) as connection:
        connection.executescript("DELETE FROM tip; DELETE FROM record WHERE seq = 10")
    report = run(copied, finished)
    found = [(f.code, f.entry) for f in report.findings if f.code != "store_damaged"]
    assert found == [("ledger_corrupt", None), ("ledger_corrupt", 10)]


def test_two_changed_records_are_both_named(finished: Station, copied: Path) -> None:
    for seq in (12, 30):
        rewrite(copied, seq, records(copied)[seq].replace(b'"payload":"ey', b'"payload":"eX'))
    report = run(copied, finished)
    assert broken(report) == [12, 30]
    assert any(note.startswith("the law is undecided from entry 12") for note in report.notes)


def test_rewritten_history_contradicts_the_heads_inside_it(tmp_path: Path) -> None:
    """Whoever holds the log key can chain other records, and not change what was signed in them."""
    station = new_station(tmp_path)
    lease = station.propose()
    station.approve(lease)
    known = records(tmp_path / "ledger.db")
    (tmp_path / "forged").mkdir()
    with SqliteStore.create(tmp_path / "forged" / "ledger.db") as store:
        head = Head(0, "0" * 64)
        for data in [*known[:4], *known[5:]]:
            old = parse_record(data)
            record = make_record(head.size, head.hash, old.seconds, old.envelope)
            head = store.append(head, [record], station.log_key.sign)
        report = audit(store, station.objects, remembered=None)
    assert not report.ok
    assert report.findings[0].entry == 4
    assert {finding.code for finding in report.findings} <= {"unlawful_entry", "head_contradicted"}


def test_unlawful_record_by_a_valid_key_past_the_registrar(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    lease = station.propose()
    station.approve(lease)
    term = station.sign("cp20", Draft("term", {"epoch": 7, "reason": "jump"}))
    seq = station.force(term)
    with refused("unlawful_entry", entry=seq, cause="wrong_epoch"):
        station.new_registrar().sync()
    report = run(tmp_path / "ledger.db", station)
    assert [(finding.code, finding.entry) for finding in report.findings] == [("unlawful_entry", seq)]
    # Nothing may follow it.
    question = Draft("message", {"type": "question", "to": None, "reply_to": None, "text": "?"})
    with refused("unlawful_entry"):
        station.new_registrar().submit(station.signer("ada"), question)


def test_entries_after_an_unlawful_one_are_still_looked_at(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    question = Draft("message", {"type": "question", "to": None, "reply_to": None, "text": "?"})
    good, bad = station.sign("ada", question), station.sign("ben", question)
    seq = station.force(station.sign("cp20", Draft("term", {"epoch": 7, "reason": "jump"})))
    station.force(good)
    forged = station.force(type(bad)(bad.body, bad.keyid, good.sig))
    report = run(tmp_path / "ledger.db", station)
    assert [(finding.code, finding.entry) for finding in report.findings] == [
        ("unlawful_entry", seq),
        ("wrong_key", forged),
    ]
    assert report.decided == seq
    assert report.size == forged + 1


def test_checkpoint_of_another_log(finished: Station, copied: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = new_station(tmp_path / "other", seed=2)
    with closing(sqlite3.connect(copied)) as connection:
        connection.execute("UPDATE tip SET checkpoint = ?", (other.store.checkpoint(),))
        connection.commit()
    report = run(copied, finished)
    assert "bad_checkpoint" in {finding.code for finding in report.findings}


def test_changed_caches_are_found(finished: Station, copied: Path) -> None:
    with closing(sqlite3.connect(copied)) as connection:
        connection.execute("UPDATE record SET leaf = zeroblob(32) WHERE seq = 5")
        connection.commit()
    report = run(copied, finished)
    assert [(finding.code, finding.entry) for finding in report.findings] == [("store_damaged", 5)]


def test_empty_ledger(tmp_path: Path) -> None:
    station = Station(tmp_path)
    report = audit(station.store, station.objects, remembered=None)
    assert [finding.code for finding in report.findings] == ["no_genesis"]


def test_ledger_whose_every_record_was_removed_is_empty_whatever_its_tip_says(finished: Station, copied: Path) -> None:
    with closing(sqlite3.connect(copied)) as connection:
        connection.execute("DELETE FROM record")
        connection.commit()
    found = [f.code for f in run(copied, finished).findings if f.code != "store_damaged"]
    assert found == ["tip_mismatch", "no_genesis"]


def objects_of(station: Station) -> Iterator[tuple[str, Path]]:
    lease = next(iter(station.state.leases.values()))
    for digest in (lease.lease.artifact.sha256, tree_digest("v1")):
        yield digest, station.root / "objects" / digest[:2] / digest[2:]


def test_missing_and_damaged_objects_name_the_entry(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    name, digest = station.propose()
    lease = station.state.leases[digest]
    assert lease.lease.id == name
    places = dict(objects_of(station))
    artifact = places[lease.lease.artifact.sha256]
    content = artifact.read_bytes()
    artifact.unlink()
    report = run(tmp_path / "ledger.db", station)
    assert [(f.code, f.entry) for f in report.findings] == [("object_missing", lease.seq)]
    station.objects.put(content)
    assert run(tmp_path / "ledger.db", station).ok
    artifact.chmod(0o644)
    artifact.write_bytes(content[:-1] + b" ")
    report = run(tmp_path / "ledger.db", station)
    assert [(f.code, f.entry) for f in report.findings] == [("object_mismatch", lease.seq)]


def test_file_of_a_tree_is_missing(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    lease = station.state.leases[station.propose()[1]]
    file = station.objects.put(b"v2")
    (tmp_path / "objects" / file.sha256[:2] / file.sha256[2:]).unlink()
    report = run(tmp_path / "ledger.db", station)
    assert [(f.code, f.entry) for f in report.findings] == [("object_missing", lease.seq)]


def test_artifact_that_is_no_tree(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    ref = station.objects.put(b'["calyx-tree-v1",["x","socket"]]')
    names = sorted(i.name for i in station.state.fleets[station.state.fleet_digest].targets["web"].instances)
    change = {"before": tree_digest("v1"), "after": ref.sha256, "instances": names}
    artifact = {"type": "directory", "sha256": ref.sha256, "size": ref.size}
    lease = station.state.leases[station.propose(artifact=artifact, changes=[change])[1]]
    report = run(tmp_path / "ledger.db", station)
    assert [(f.code, f.entry) for f in report.findings] == [("bad_format", lease.seq)]


def test_fleet_body_that_is_gone_leaves_the_law_undecided(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    station.propose()
    fleet = next(iter(station.state.proposals.values())).proposal.to_json()
    assert isinstance(fleet, dict)
    ref = ObjectRef.from_json(fleet["fleet"])
    (tmp_path / "objects" / ref.sha256[:2] / ref.sha256[2:]).unlink()
    report = run(tmp_path / "ledger.db", station)
    assert ("object_missing", 1) in {(finding.code, finding.entry) for finding in report.findings}
    assert report.decided == 1
    assert report.size == len(records(tmp_path / "ledger.db"))


def test_what_a_compromised_key_brought_about_is_listed_as_tainted(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    lease = station.propose()
    station.begin(lease)
    revoke(station, "ada", 1)
    report = run(tmp_path / "ledger.db", station)
    assert report.ok
    tainted = [note for note in report.notes if note.startswith("tainted")]
    assert len(tainted) == 2
    assert any(lease[0] in note for note in tainted)
    assert any("the fleet in force" in note for note in tainted)


def test_finished_deployment_that_does_not_account_for_an_instance(finished: Station) -> None:
    deployment = next(iter(finished.registrar.state.deployments.values()))
    assert not unaccounted(deployment)
    deployment.applied.discard("web-07")
    assert unaccounted(deployment) == ["web-07"]
    deployment.applied.add("web-07")


def test_progress_is_told(finished: Station, copied: Path) -> None:
    seen: list[tuple[int, int]] = []
    with SqliteStore.open(copied, read_only=True) as store:
        audit(store, finished.objects, remembered=None, progress=lambda done, total: seen.append((done, total)))
    total = len(records(copied))
    assert seen == [(n, total) for n in range(1, total + 1)]


def test_row_put_behind_the_last_entry_is_named(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    size = station.state.size
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("INSERT INTO record SELECT ?, leaf, data FROM record WHERE seq = ?", (size, size - 1))
    connection.close()
    report = audit(station.store, station.objects, remembered=None)
    assert not report.ok
    assert [(finding.code, finding.entry) for finding in report.findings] == [("broken_chain", size)]


def test_record_over_every_limit_is_named_itself(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE record SET data = zeroblob(20000000) WHERE seq = 2")
    connection.close()
    report = audit(station.store, station.objects, remembered=None)
    assert report.findings[0].entry == 2
