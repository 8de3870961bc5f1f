"""An export from the ledger to its auditor: published, mirrored, audited; and every way in which it can be wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from base64 import b64decode
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import publishing
import pytest
from console import Console
from publishing import Publisher, export_in_two_steps, published
from station import Station, new_station, talk

from executor.homes.home import Home
from keys.ed25519 import SigningKey
from keys.errors import CalyxError
from ledger.exports.export import OBJECTS
from ledger.exports.mirror_objects import MirrorObjects
from ledger.exports.mirror_source import Allowance, DirectorySource
from ledger.exports.reader import ExportReader
from ledger.log_key import LogKey
from ledger.objects import DirectoryObjects
from ledger.record import parse_record
from ledger.statement import parse_statement
from ledger.tiles import Bundle, format_path, parse_bundle, parse_path
from policies.auditing.export import export_ledger
from policies.auditing.exported import audit_export
from policies.auditing.objects import ObjectAudit
from policies.auditing.report import Report

FLIPS = 24
"""In each file of the export."""


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """A ledger with a completed deployment and more entries than a bundle holds. Read it only."""
    found = new_station(tmp_path_factory.mktemp("station"))
    lease = found.propose()
    found.begin(lease)
    found.complete(lease)
    talk(found, 270)
    return found


@pytest.fixture(scope="module")
def exported(station: Station, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export. Tests that change it work on copies."""
    root = tmp_path_factory.mktemp("export") / "log"
    done = export_ledger(station.store, station.objects, root, remembered=None)
    assert not done.missing
    return root


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """An export of the deployment alone, in two steps, so that older partial files lie beside the newest."""
    return export_in_two_steps(tmp_path / "short")


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "log"))


@pytest.fixture
def publisher(copied: Path) -> Iterator[Publisher]:
    with published(copied) as server:
        yield server


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    return Console(tmp_path, monkeypatch)


def run(root: Path) -> Report:
    return audit_export(ExportReader(root), DirectoryObjects(root / OBJECTS), remembered=None)


def first_uses(root: Path) -> dict[str, int]:
    """Each object's digest, with the first entry that refers to it."""
    found: dict[str, int] = {}

    class Asked:
        def __init__(self) -> None:
            self.seq = 0
            self.kept = DirectoryObjects(root / OBJECTS)

        def get(self, ref: object) -> bytes:
            self.check(ref)
            return self.kept.get(ref)  # type: ignore[arg-type]  # passed on

        def check(self, ref: object) -> None:
            found.setdefault(ref.sha256, self.seq)  # type: ignore[attr-defined]  # passed on

        def find(self, digest: str) -> object:
            return self.kept.find(digest)

    asked = Asked()
    walk = ObjectAudit(asked, lambda seq, error: None)  # type: ignore[arg-type]  # a spy
    for seq, data in enumerate(ExportReader(root).read()):
        asked.seq = seq
        walk.visit(seq, parse_statement(parse_record(data).envelope.body))
    return found


def test_good_export(exported: Path, station: Station) -> None:
    report = run(exported)
    assert report.ok, report.findings
    assert (report.head, report.decided) == (station.store.head(), 270)
    assert "5 objects checked" in report.notes


def test_flipped_bit_in_any_file_is_found_with_its_entry(short: Path) -> None:
    uses = first_uses(short)
    chance = random.Random(5)
    flipped = 0
    for path in sorted(short.rglob("*")):
        if not path.is_file():
            continue
        name, whole = str(path.relative_to(short)), path.read_bytes()
        path.chmod(0o644)
        for at in {0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(FLIPS))}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << chance.randrange(8))]) + whole[at + 1 :])
            try:
                report = run(short)
            except CalyxError:
                assert name == "checkpoint", name
                continue
            assert not report.ok, (name, at)
            named = {finding.entry for finding in report.findings}
            if name == "checkpoint":
                continue
            if name.startswith(OBJECTS):
                digest = name.removeprefix(OBJECTS).replace("/", "")
                assert uses[digest] in named, (name, at, report.findings)
            else:
                place = parse_path(name)
                if isinstance(place, Bundle):
                    ends = list(accumulate(2 + len(record) for record in parse_bundle(whole, place.width)))
                    expected = place.start + bisect_right(ends, at)
                else:
                    expected = (place.index * 256 + at // 32) << 8 * place.level
                assert named == {expected}, (name, at, report.findings)
            flipped += 1
        path.write_bytes(whole)
    assert flipped > 150
    assert run(short).ok


def test_missing_files_are_found(short: Path) -> None:
    for path in sorted(short.rglob("*")):
        older = path.parent.suffix == ".p" and path.name != "56"
        if path.is_file() and path.name != "checkpoint" and not older:
            path.rename(short.parent / "away")
            report = run(short)
            # A tree from before a change is named by its digest; whether its manifest is kept is only counted.
            assert not report.ok or any("no manifest of them is kept" in text for text in report.notes), path
            (short.parent / "away").rename(path)
    assert run(short).ok


def test_nothing_but_entries_tiles_and_objects_leaves_the_home(console: Console, tmp_path: Path) -> None:
    console.begin()
    console.propose()
    out = tmp_path / "out"
    console.done("ledger", "export", str(out))
    secrets = [path.read_bytes() for path in (console.home / "keys").iterdir() if path.suffix == ".key"]
    assert secrets
    for path in out.rglob("*"):
        if path.is_file():
            parts = path.relative_to(out).parts
            assert parts[0] in {"checkpoint", "tile", "objects"}
            assert not [secret for secret in secrets if secret.strip() in path.read_bytes()]
            assert b"PRIVATE" not in path.read_bytes()
            assert path.stat().st_mode & 0o444 == 0o444, "a web server of another user could not read it"
    console.done("audit", "--from", str(out))


def test_export_goes_on_where_it_was(console: Console, tmp_path: Path) -> None:
    console.begin()
    out = tmp_path / "out"
    first = json.loads(console.done("ledger", "export", str(out), "--json"))
    assert (first["ok"], first["new"]) == (True, first["size"])
    assert json.loads(console.done("ledger", "export", str(out), "--json"))["files"] == 0
    console.propose()
    again = json.loads(console.done("ledger", "export", str(out), "--json"))
    assert again["new"] == again["size"] - first["size"] > 0
    assert "ok:" in console.done("audit", "--from", str(out))


def test_missing_object_is_said_and_comes_with_the_next_export(console: Console, tmp_path: Path) -> None:
    console.begin()
    console.propose()
    out = tmp_path / "out"
    kept = next(path for path in (console.home / "objects").rglob("*") if path.is_file())
    kept.rename(tmp_path / "away")
    said = console.run("ledger", "export", str(out))
    assert said.code == 1
    assert "object_missing" in said.out
    assert console.run("audit", "--from", str(out)).code == 1
    assert console.run("ledger", "export", str(out)).code == 1
    (tmp_path / "away").rename(kept)
    assert json.loads(console.done("ledger", "export", str(out), "--json"))["objects"] >= 1
    assert "ok:" in console.done("audit", "--from", str(out))


def test_object_of_an_export_that_cannot_be_read_is_a_finding_and_not_the_end(copied: Path) -> None:
    """Also a tree's manifest that is looked for by its digest alone."""
    uses = first_uses(copied)
    for digest, entry in uses.items():
        path = copied / OBJECTS / digest[:2] / digest[2:]
        whole = path.read_bytes()
        path.unlink()
        path.mkdir()
        source = DirectorySource(copied)
        report = audit_export(
            ExportReader(copied), MirrorObjects(source, copied.parent / "mine", Allowance(2**30)), remembered=None
        )
        assert {(finding.code, finding.entry) for finding in report.findings} == {("object_unreadable", entry)}
        path.rmdir()
        path.write_bytes(whole)
        shutil.rmtree(copied.parent / "mine")


def test_directory_is_audited_and_its_head_remembered(console: Console, copied: Path, tmp_path: Path) -> None:
    older = Path(shutil.copytree(copied, tmp_path / "older"))
    for path in (older / "tile").rglob("*.p/*"):
        path.chmod(0o644)
    assert "is not excluded" in console.done("audit", "--from", str(copied))
    assert "with the head remembered at 270" in console.done("audit", "--from", str(copied))
    # The same address shows another ledger now.
    other = new_station(tmp_path / "other", seed=2)
    shutil.rmtree(copied)
    export_ledger(other.store, other.objects, copied, remembered=None)
    said = console.run("audit", "--from", str(copied))
    assert said.code == 1
    assert "head_contradicted: this is another ledger" in said.out
    assert "270 entries" in said.out and f"{other.store.head()}" in said.out


def test_cut_export_is_noticed_by_who_saw_it_longer(console: Console, tmp_path: Path) -> None:
    station = new_station(tmp_path / "station")
    out = tmp_path / "out"
    export_ledger(station.store, station.objects, out, remembered=None)
    shorter = Path(shutil.copytree(out, tmp_path / "shorter"))
    before = station.store.head()
    station.propose()
    export_ledger(station.store, station.objects, out, remembered=None)
    with published(out) as publisher:
        console.done("audit", "--from", publisher.address, "--mirror", str(tmp_path / "mirror"))
        publisher.root = shorter
        said = console.run("audit", "--from", publisher.address)
        assert said.code == 1
        assert "head_contradicted" in said.out
        assert str(station.store.head()) in said.out and str(before) in said.out
        # The mirror knows it even before it fetches an entry.
        asked = len(publisher.asked)
        kept = console.run("audit", "--from", publisher.address, "--mirror", str(tmp_path / "mirror"))
        assert kept.code == 1
        assert "error: head_contradicted" in kept.err
        assert len(publisher.asked) == asked + 1


def test_web_address_is_mirrored_and_audited(console: Console, publisher: Publisher, station: Station) -> None:
    said = console.run("audit", "--from", publisher.address, "--json")
    assert said.code == 0, said.out + said.err
    assert said.json["ok"] and said.json["size"] == 270
    assert said.json["head"]["hash"] == station.store.head().hash
    assert sorted(publisher.asked) == sorted(
        str(path.relative_to(publisher.root)) for path in publisher.root.rglob("*") if path.is_file()
    )


def test_mirror_fetches_only_what_is_new_and_is_an_export_itself(console: Console, tmp_path: Path) -> None:
    station = new_station(tmp_path / "station")
    out, mirror = tmp_path / "out", tmp_path / "mirror"
    export_ledger(station.store, station.objects, out, remembered=None)
    with published(out) as publisher:
        console.done("audit", "--from", publisher.address, "--mirror", str(mirror))
        station.propose()
        export_ledger(station.store, station.objects, out, remembered=None)
        publisher.asked.clear()
        console.done("audit", "--from", publisher.address, "--mirror", str(mirror))
        assert len([name for name in publisher.asked if name.startswith("objects/")]) < 5
        publisher.asked.clear()
        console.done("audit", "--from", publisher.address, "--mirror", str(mirror))
        assert not [name for name in publisher.asked if name.startswith(("objects/", "tile/0"))]
    console.done("audit", "--from", str(mirror))
    assert run(mirror).ok


def test_mirror_that_was_damaged_at_its_publisher_is_mended_by_the_next_fetch(
    console: Console, publisher: Publisher, tmp_path: Path
) -> None:
    def lie(handler: publishing.Handler, data: bytes | None) -> bool:
        if data is None or handler.path.endswith("checkpoint"):
            return False
        handler.answer(200, data[:-1] + bytes([data[-1] ^ 1]))
        return True

    publisher.fault = lie
    said = console.run("audit", "--from", publisher.address, "--mirror", str(tmp_path / "mirror"))
    assert said.code == 1
    assert not (tmp_path / "mirror" / "checkpoint").exists()
    publisher.fault = None
    console.done("audit", "--from", publisher.address, "--mirror", str(tmp_path / "mirror"))
    assert run(tmp_path / "mirror").ok


def test_publisher_that_rewrites_what_was_mirrored(console: Console, tmp_path: Path) -> None:
    station = new_station(tmp_path / "station")
    station.store.backup(tmp_path / "fork.db")
    out, mirror = tmp_path / "out", tmp_path / "mirror"
    station.propose()
    export_ledger(station.store, station.objects, out, remembered=None)
    with published(out) as publisher:
        console.done("audit", "--from", publisher.address, "--mirror", str(mirror))
        kept = (mirror / "checkpoint").read_bytes()
        shutil.rmtree(out)
        # The same log key signs another continuation of an earlier state.
        fork = new_station(tmp_path / "fork", seed=station.seed)
        fork.clock.tick(5)
        for _ in range(30):
            fork.say("ada", "message", {"type": "question", "text": "fork", "to": None, "reply_to": None})
        export_ledger(fork.store, fork.objects, out, remembered=None)
        said = console.run("audit", "--from", publisher.address, "--mirror", str(mirror))
        assert said.code == 1
        assert "head_contradicted" in said.err
        assert (mirror / "checkpoint").read_bytes() == kept


@pytest.mark.parametrize("fault", ["flood", "cut", "redirect", "fail", "bomb", "nested", "noise"])
def test_server_that_misbehaves_gets_one_line(console: Console, publisher: Publisher, fault: str) -> None:
    publisher.fault = getattr(publishing, fault)
    said = console.run("audit", "--from", publisher.address)
    assert said.code in {1, 5}
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err + said.out


@pytest.mark.parametrize("fault", ["flood", "cut", "redirect", "fail", "bomb", "noise"])
@pytest.mark.parametrize("part", ["tile/entries", "tile/0", "objects"])
def test_server_that_misbehaves_on_a_part_is_refused(
    console: Console, publisher: Publisher, part: str, fault: str
) -> None:
    misbehave: publishing.Fault = getattr(publishing, fault)

    def partly(handler: publishing.Handler, data: bytes | None) -> bool:
        return f"/{part}/" in handler.path and misbehave(handler, data)

    publisher.fault = partly
    said = console.run("audit", "--from", publisher.address)
    assert said.code in {1, 5}
    assert said.err.startswith("error: ") or "NOT OK" in said.out
    assert "Traceback" not in said.err + said.out


def test_checkpoint_that_claims_a_flood_of_entries(console: Console, publisher: Publisher, station: Station) -> None:
    (publisher.root / "checkpoint").write_bytes(station.log_key.sign(2**53 - 1, b"\1" * 32))
    said = console.run("audit", "--from", publisher.address)
    assert said.code == 5
    assert "error: export_missing" in said.err
    said = console.run("audit", "--from", str(publisher.root))
    assert said.code == 1


def test_checkpoint_of_another_key_gets_no_further_than_the_first_bundle(
    console: Console, publisher: Publisher, station: Station
) -> None:
    forger = LogKey(station.log_key.origin, SigningKey(b"\7" * 32))
    (publisher.root / "checkpoint").write_bytes(forger.sign(2**40, b"\1" * 32))
    said = console.run("audit", "--from", publisher.address)
    assert said.code == 1
    assert "error: unknown_key" in said.err
    assert publisher.asked == ["checkpoint", "tile/entries/000"]


@pytest.mark.parametrize("fault", ["gone", "noise", "flipped"])
def test_publisher_without_a_first_entry_gets_no_further_than_the_first_bundle(
    console: Console, publisher: Publisher, station: Station, fault: str
) -> None:
    # Nothing says whose checkpoint it is, so nothing may be fetched because it asks for it.
    forger = LogKey(station.log_key.origin, SigningKey(b"\7" * 32))
    (publisher.root / "checkpoint").write_bytes(forger.sign(2**40, b"\1" * 32))
    first = publisher.root / "tile/entries/000"
    if fault == "gone":
        first.unlink()
    else:
        data = first.read_bytes()
        first.write_bytes(bytes(len(data)) if fault == "noise" else data[:40] + bytes([data[40] ^ 1]) + data[41:])
    said = console.run("audit", "--from", publisher.address)
    assert said.code == 1
    assert said.err.startswith("error: ") and "(entry 0)" in said.err
    assert publisher.asked == ["checkpoint", "tile/entries/000"]


def test_mirror_has_a_limit(console: Console, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.commands.audit_from.GIB", 1000)
    said = console.run("audit", "--from", publisher.address, "--max-gib", "1")
    assert said.code == 5
    assert "error: mirror_too_large" in said.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--from", "gopher://example.org"), "bad_address"),
        (("--from", "https://ada:pw@example.org"), "bad_address"),
        (("--from", ""), "bad_address"),
        (("--mirror", "x"), "no_source"),
        (("--max-gib", "3"), "no_source"),
        (("--from", "x", "--home", "y"), "bad_option"),
        (("--from", "x", "--mirror", ""), "no_path"),
        (("--home", ""), "no_path"),
        (("--from", "x", "--full"), "bad_option"),
        (("--from", "nowhere"), "export_missing"),
    ],
)
def test_address_that_leads_nowhere(console: Console, arguments: tuple[str, ...], code: str) -> None:
    said = console.run("audit", *arguments)
    assert said.code in {2, 5}
    assert f"error: {code}: " in said.err


@pytest.mark.parametrize("command", ["export", "backup"])
def test_empty_path_is_not_the_current_directory(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    console.begin()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    console.refused("ledger", command, "", code="no_path", ends=2)
    assert not list(here.iterdir())


def test_proof_is_made_here_and_checked_where_no_ledger_is(console: Console, tmp_path: Path) -> None:
    console.begin()
    console.done("ledger", "checkpoint")
    with Home(console.home) as home:
        store = home.open_store()
        kept = tmp_path / "kept"
        kept.write_bytes(store.checkpoint())
        old = store.head().size
        record = next(iter(store.read(1, 2)))
        (tmp_path / "record").write_bytes(record)
        vkey = str(home.open_replay().sync().log_key)
    console.propose()
    proofs = {"with": (), "without": ("--no-record",)}
    for name, more in proofs.items():
        console.done("ledger", "proof", "1", "--out", str(tmp_path / name), *more)
    made = console.run("ledger", "proof", "--consistency", str(old), "--out", str(tmp_path / "grown"))
    assert made.err.endswith(f"--key {vkey} --old CHECKPOINT\n"), made
    said = json.loads(console.done("ledger", "proof", "1", "--json"))
    assert (said["log_key"], said["proof"]) == (vkey, (tmp_path / "with").read_text("utf-8"))
    said = json.loads(console.done("ledger", "proof", "1", "--json", "--out", str(tmp_path / "again")))
    assert said == {"ok": True, "log_key": vkey, "file": str(tmp_path / "again")}
    console.refused("ledger", "proof", "1", "--out", str(tmp_path / "with"), code="file_exists", ends=2)
    console.refused("ledger", "proof", "1000", code="unknown_entry", ends=1)
    console.refused("ledger", "proof", "--consistency", "1000", code="unknown_entry", ends=1)
    console.refused("ledger", "proof", code="no_subject", ends=2)
    console.refused("ledger", "proof", "1", "--key", vkey, code="bad_option", ends=2)
    console.refused("ledger", "proof", "1", "--check", "x", "--key", vkey, code="bad_option", ends=2)
    shutil.rmtree(console.home)
    key = ("--key", vkey)
    check = ("ledger", "proof", "--check")
    said = json.loads(console.done(*check, str(tmp_path / "with"), *key, "--json"))
    assert (said["seq"], said["origin"]) == (1, vkey.partition("+")[0])
    assert "ok: entry 1" in console.done(*check, str(tmp_path / "without"), *key, "--record", str(tmp_path / "record"))
    grown = (*check, str(tmp_path / "grown"), *key)
    assert f"ok: the first {old} of the " in console.done(*grown, "--old", str(kept))
    console.refused(*grown, code="no_checkpoint", ends=2)
    # What was handed over to be compared is compared, or it is said that it is not.
    console.refused(*grown, "--old", str(kept), "--record", str(tmp_path / "record"), code="bad_option", ends=2)
    console.refused(*check, str(tmp_path / "with"), *key, "--old", str(kept), code="bad_option", ends=2)
    console.refused(*check, str(tmp_path / "without"), *key, code="record_missing", ends=1)
    console.refused(*check, str(tmp_path / "with"), code="bad_option", ends=2)
    console.refused(*check, str(tmp_path / "with"), "--key", "nonsense", code="bad_option", ends=2)
    console.refused(*check, str(tmp_path / "with"), *key, "--record", str(kept), code="bad_proof", ends=1)
    console.refused(*check, str(tmp_path / "nowhere"), *key, code="file_unreadable", ends=2)
    console.refused(*check, "/dev/zero", *key, code="file_unreadable", ends=2)
    os.mkfifo(tmp_path / "pipe")
    console.refused(*check, str(tmp_path / "pipe"), *key, code="file_unreadable", ends=2)
    console.refused(*grown, "--old", str(tmp_path / "pipe"), code="file_unreadable", ends=2)
    pipe = ("--record", str(tmp_path / "pipe"))
    console.refused(*check, str(tmp_path / "without"), *key, *pipe, code="file_unreadable", ends=2)
    whole = (tmp_path / "with").read_bytes()
    chance = random.Random(1)
    for _ in range(60):
        at = chance.randrange(len(whole))
        (tmp_path / "with").write_bytes(whole[:at] + bytes([whole[at] ^ (1 << chance.randrange(8))]) + whole[at + 1 :])
        changed = console.run(*check, str(tmp_path / "with"), *key)
        assert changed.code == 1, at
        assert changed.err.startswith("error: ")


def test_checkpoint_as_json_is_the_one_that_is_printed(console: Console) -> None:
    console.begin()
    said = json.loads(console.done("ledger", "checkpoint", "--json"))
    with Home(console.home) as home:
        store = home.open_store()
        note, size = store.checkpoint().decode("utf-8"), store.head().size
    origin, _, root, *_ = note.split("\n")
    assert said == {
        "ok": True, "checkpoint": note, "origin": origin, "size": size, "root": b64decode(root).hex()
    }  # fmt: skip


def test_proof_needs_no_room_but_its_own(tmp_path: Path, station: Station) -> None:
    """The check of a proof reads no home: there is none here, and none is made."""
    environment = {**os.environ, "CALYX_HOME": str(tmp_path / "none"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "executor", "ledger", "proof", "--check", "none", "--key", str(station.log_key.vkey)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: file_unreadable")
    assert not (tmp_path / "none").exists()
    assert format_path(Bundle(0)) == "tile/entries/000"
