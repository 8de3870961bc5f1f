"""One bit of a ledger's files is turned over, thousands of times: the audit names the entry, or the bit says nothing.

What a byte is comes from the file formats (`sqlite_pages`), not from the audit. Of each bit it is known beforehand
whether it carries something. One that does is found, and at its entry where it is an entry's. After a flip of one that
does not, the audit says what it said before, and the same entries, head and checkpoint come out.

The bits are drawn anew in each run, from each part of a file alike, and from the whole file. CALYX_FLIP_SEED draws
those of an earlier run again; CALYX_FLIPS says how many of each draw.
"""

from __future__ import annotations

import bisect
import itertools
import os
import random
import secrets
import shutil
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest
from nacl.bindings import crypto_sign_open
from sqlite_pages import Place, map_bytes
from station import Station, new_station

from keys.errors import CalyxError
from ledger.exports.reader import ExportReader
from ledger.objects import DirectoryObjects
from ledger.remembered import Remembered
from ledger.sqlite.check import FRAME_HEADER, HEADER, WAL_HEADER, check_store
from ledger.sqlite.file import TABLES
from ledger.sqlite.store import SqliteStore
from ledger.store import Tip
from policies.auditing.audit import audit
from policies.auditing.export import export_ledger
from policies.auditing.exported import audit_export

FLIPS = int(os.environ.get("CALYX_FLIPS") or 0)
SEED = os.environ.get("CALYX_FLIP_SEED") or secrets.token_hex(4)

CARRIES_NOTHING = {
    # By these SQLite knows whether what it has in memory is old, and nobody has a ledger in memory that is a file at
    # rest. Where the two differ, the size of the file counts as the number of pages, and that is what it is.
    ("", "change counter"),
    ("", "version-valid-for"),
    # Which release of SQLite wrote last.
    ("", "writer's version"),
    # Whether prepared statements are still good. What the schema says is compared to the letter.
    ("", "schema cookie"),
    # Between a page's cell pointers and its cells, behind the last row's end, and pieces of less than four bytes.
    ("sqlite_schema", "unused space"),
    ("record", "unused space"),
    ("node", "unused space"),
    ("tip", "unused space"),
    # Where a row was. The header of the block is not in here.
    ("record", "free block"),
    ("node", "free block"),
    ("tip", "free block"),
}
"""Parts of the file that SQLite, and so whoever reads the ledger, gets nothing from."""
MAY_CARRY_NOTHING = {
    # Nobody asks for it; but the numbers rise.
    ("sqlite_schema", "row's number"),
}


def carries_nothing(place: Place, byte: int, bit: int) -> bool:
    """Whether a bit of the file says nothing, with which its byte is now `byte`."""
    if place.part == "type of the row's number":
        # The number stands before the row, and its column is empty: 0, "null". 8 is "zero", which is as long, and
        # SQLite does not look. Any other type takes something away from the columns behind it.
        return byte ^ 1 << bit == 8
    return (place.table, place.part) in CARRIES_NOTHING


@dataclass(frozen=True, slots=True)
class Seen:
    """What a whole audit said. `entries`: those that findings name. `codes`: of all findings, or of the refusal."""

    codes: frozenset[str]
    entries: frozenset[int | None]
    content: tuple[tuple[bytes, ...], Tip] | None


@pytest.fixture(autouse=True)
def _say_seed() -> None:
    sys.stdout.write(f"CALYX_FLIP_SEED={SEED}\n")


@pytest.fixture(autouse=True)
def _remember_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    # A verdict on a signature depends on its bytes alone, and most signatures are as they were before the flip.
    monkeypatch.setattr("keys.ed25519.crypto_sign_open", lru_cache(maxsize=4096)(crypto_sign_open))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """A whole deployment, and an entry that is longer than a page."""
    station = new_station(tmp_path_factory.mktemp("story"))
    station.say(
        "cbo", "intent", {"id": "INT-20260105-080000", "target": "web", "what": "much", "why": "because " * 500}
    )
    lease = station.propose()
    station.begin(lease)
    station.complete(lease)
    station.store.close()
    return station


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """So many entries that the tree has a cached node, and the records' table pages above its leaves."""
    station = new_station(tmp_path_factory.mktemp("crowd"))
    for number in range(4):
        terms = [("term", {"epoch": 64 * number + each + 1, "reason": "start"}) for each in range(64)]
        for kind, fields in terms:
            station.say("cp20", kind, fields)
    station.store.close()
    return station


def remembered_of(station: Station) -> Remembered:
    state = station.registrar.state
    return Remembered(
        home="copy", ledger=state.ledger, size=station.registrar.head.size, hash=station.registrar.head.hash
    )


def see_store(path: Path, station: Station, *, caches: bool = True) -> Seen:
    try:
        with SqliteStore.open(path, read_only=True) as store:
            compared = path if caches else None
            report = audit(store, station.objects, remembered=remembered_of(station), store_path=compared)
            codes = frozenset(finding.code for finding in report.findings)
            entries = frozenset(finding.entry for finding in report.findings)
            content = None if report.findings else (tuple(store.read()), store.tip())
    except CalyxError as error:
        entry = error.fields.get("entry")
        return Seen(frozenset({error.code}), frozenset({entry if isinstance(entry, int) else None}), None)
    assert report.ok == (not report.findings)
    return Seen(codes, entries, content)


def see_export(root: Path, station: Station) -> Seen:
    try:
        reader = ExportReader(root)
        report = audit_export(reader, DirectoryObjects(root / "objects"), remembered=remembered_of(station))
        content = None if report.findings else (tuple(reader.read()), reader.tip())
    except CalyxError as error:
        return Seen(frozenset({error.code}), frozenset({None}), None)
    return Seen(
        frozenset(finding.code for finding in report.findings),
        frozenset(finding.entry for finding in report.findings),
        content,
    )


@dataclass
class Flipper:
    """A file whose bits are turned over one at a time, and back."""

    path: Path
    data: bytes

    def flips(self, spots: Sequence[int], count: int, draw: str) -> Iterator[tuple[int, int]]:
        """Turn over `count` bits of the bytes at `spots`; gives each byte's place, and the bit, while it is changed."""
        bits = range(8 * len(spots))
        drawn = random.Random(f"{SEED} {draw}").sample(bits, min(count and (FLIPS or count), len(bits)))
        with self.path.open("r+b", buffering=0) as file:
            for at, bit in ((spots[number // 8], number % 8) for number in drawn):
                file.seek(at)
                file.write(bytes([self.data[at] ^ 1 << bit]))
                try:
                    yield at, bit
                finally:
                    file.seek(at)
                    file.write(self.data[at : at + 1])


def copy_of(station: Station, root: Path) -> tuple[Path, Flipper, list[Place]]:
    path = root / "ledger.db"
    shutil.copyfile(station.root / "ledger.db", path)
    with closing(sqlite3.connect(path)) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE name IN (?, ?, ?)", [*TABLES]))
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    data = path.read_bytes()
    return path, Flipper(path, data), map_bytes(data, {"sqlite_schema": 1, **roots})


def parts_of(places: list[Place]) -> dict[tuple[str, str], list[int]]:
    parts = defaultdict(list)
    for at, place in enumerate(places):
        parts[place.table, place.part].append(at)
    return parts


def check_flips(station: Station, root: Path, wanted: Callable[[str, str], int], anywhere: int = 0) -> Counter[str]:
    """Turn over `wanted(table, part)` bits of each part of the file, and `anywhere` of all of it; how many were found,
    and how many say nothing.
    """
    path, flipper, places = copy_of(station, root)
    whole = see_store(path, station)
    assert whole.content is not None, whole.codes
    counts: Counter[str] = Counter()
    draws = [(spots, wanted(*part), " ".join(part)) for part, spots in sorted(parts_of(places).items())]
    for spots, count, draw in [*draws, (range(len(places)), anywhere, "anywhere")]:
        for at, bit in flipper.flips(spots, count, draw):
            seen, place = see_store(path, station), places[at]
            where = (SEED, at, bit, place, seen.codes)
            if (place.table, place.part) in MAY_CARRY_NOTHING:
                assert seen.codes or seen == whole, where
            elif carries_nothing(place, flipper.data[at], bit):
                assert seen == whole, where
                counts["says nothing"] += 1
            else:
                # What an entry says must be found at that entry. What holds its row together may hide rows, or belong
                # to SQLite alone.
                assert seen.codes, where
                assert place.part not in {"data", "leaf"} or place.entry in seen.entries, where
                counts["found"] += 1
    assert see_store(path, station) == whole
    return counts


def test_flip_in_an_entry_of_the_ledger_file_is_found_at_that_entry(story: Station, tmp_path: Path) -> None:
    counts = check_flips(story, tmp_path, lambda table, part: 500 if (table, part) == ("record", "data") else 0)
    assert counts["says nothing"] == 0


def test_flip_in_what_surrounds_the_entries_is_found_or_says_nothing(story: Station, tmp_path: Path) -> None:
    counts = check_flips(story, tmp_path, lambda table, part: 0 if part == "data" else 30 if table else 16)
    assert min(counts["found"], counts["says nothing"]) > 100


def test_flip_anywhere_in_the_ledger_file_is_found_or_says_nothing(story: Station, tmp_path: Path) -> None:
    counts = check_flips(story, tmp_path, lambda _table, _part: 0, 1200)
    assert counts["found"] > counts["says nothing"] > 100


def test_flip_that_only_the_caches_notice_leaves_what_the_ledger_says(story: Station, tmp_path: Path) -> None:
    """An audit that does not compare the caches sees less, and nothing else than before: what it misses says nothing,
    or follows from the entries.
    """
    path, flipper, places = copy_of(story, tmp_path)
    whole, missed = see_store(path, story, caches=False), 0
    for spots, draw in [
        ([at for at, place in enumerate(places) if place.part != "data"], "around"),
        (range(len(places)), ""),
    ]:
        for at, bit in flipper.flips(spots, 200, f"no caches {draw}"):
            seen, where = see_store(path, story, caches=False), (SEED, at, bit, places[at])
            assert seen.codes or seen == whole, where
            if not seen.codes and not carries_nothing(places[at], flipper.data[at], bit):
                assert check_store(path), where
                missed += 1
    assert missed > 10


def test_flip_in_the_caches_of_a_longer_ledger_is_found(crowd: Station, tmp_path: Path) -> None:
    wanted = {("node", "row"): 40, ("tip", "row"): 40, ("record", "leaf"): 20, ("record", "child pointer"): 20}
    counts = check_flips(crowd, tmp_path, lambda table, part: wanted.get((table, part), 0))
    assert counts["found"] == sum(counts.values())


def length_of(log: bytes) -> int:
    """Bytes of a log that hold frames. What is behind them carries nothing."""
    frame = FRAME_HEADER + int.from_bytes(log[8:12], "big")
    frames = range(WAL_HEADER, len(log) - frame + 1, frame)
    end = WAL_HEADER + frame * sum(log[at + 8 : at + 16] == log[16:24] for at in frames)
    assert not any(log[end:])
    return end


def test_flip_in_the_log_of_a_ledger_that_is_written_to_is_found(tmp_path: Path) -> None:
    live = new_station(tmp_path / "live")
    live.begin(live.propose())
    path = tmp_path / "ledger.db"
    for suffix in ("", "-wal"):
        shutil.copyfile(live.root / f"ledger.db{suffix}", tmp_path / f"ledger.db{suffix}")
    log = tmp_path / "ledger.db-wal"
    index = tmp_path / "ledger.db-shm"
    whole = see_store(path, live)
    assert whole.content is not None, whole.codes
    flipper = Flipper(log, log.read_bytes())
    end = length_of(flipper.data)
    for at, _ in flipper.flips(list(range(end)), 200, "log"):
        # The index says where in the log each page is; a whole machine that read a changed log would make it anew.
        index.unlink(missing_ok=True)
        # The rest of the log after a damaged frame counts for nothing, so that the end is cut. Who remembers, sees it.
        assert see_store(path, live).codes, at
    for at, _ in flipper.flips(list(range(end, len(flipper.data))), 40, "behind the log"):
        index.unlink(missing_ok=True)
        assert see_store(path, live) == whole, at
    index.unlink(missing_ok=True)
    assert see_store(path, live) == whole


def test_flip_in_the_file_beside_a_log_is_found_or_says_nothing(tmp_path: Path) -> None:
    live = new_station(tmp_path / "live")
    live.begin(live.propose())
    path, log = tmp_path / "ledger.db", tmp_path / "ledger.db-wal"
    for each in (path, log):
        shutil.copyfile(live.root / each.name, each)
    whole, written = see_store(path, live), log.read_bytes()
    assert whole.content is not None, whole.codes
    flipper = Flipper(path, path.read_bytes())
    page_size = int.from_bytes(written[8:12], "big")
    frames = range(WAL_HEADER, length_of(written), FRAME_HEADER + page_size)
    newer = {int.from_bytes(written[at : at + 4], "big") for at in frames}
    assert newer & set(range(2, len(flipper.data) // page_size + 1))
    replaced = 0
    for at, bit in flipper.flips(range(len(flipper.data)), 400, "file beside a log"):
        path.with_name("ledger.db-shm").unlink(missing_ok=True)
        seen = see_store(path, live)
        if at >= HEADER and at // page_size + 1 in newer:
            # SQLite reads the page from the log.
            assert seen == whole, (SEED, at, bit)
            replaced += 1
        assert seen.codes or seen == whole, (SEED, at, bit)
    assert replaced > 100


def test_flip_that_cuts_the_log_before_its_last_commits_is_found_without_a_memory(tmp_path: Path) -> None:
    live = new_station(tmp_path / "live")
    live.begin(live.propose())
    path, log = tmp_path / "ledger.db", tmp_path / "ledger.db-wal"
    for each in (path, log):
        shutil.copyfile(live.root / each.name, each)
    assert check_store(path) == []
    flipper = Flipper(log, log.read_bytes())
    frame = FRAME_HEADER + int.from_bytes(flipper.data[8:12], "big")
    first = range(WAL_HEADER, length_of(flipper.data) // 2, frame)
    # What a frame says of itself, and some of what it holds.
    spots = [at + offset for at in first for offset in (*range(FRAME_HEADER), 100, 1000)]
    for at, _ in flipper.flips(spots, 200, "frames"):
        path.with_name("ledger.db-shm").unlink(missing_ok=True)
        assert "log" in {finding.where for finding in check_store(path)}, at


def test_flip_in_an_export_is_found_at_the_entry_that_it_concerns(story: Station, tmp_path: Path) -> None:
    root = tmp_path / "export"
    with SqliteStore.open(story.root / "ledger.db", read_only=True) as store:
        export_ledger(store, story.objects, root, remembered=None)
    whole = see_export(root, story)
    assert whole.content is not None, whole.codes
    records = whole.content[0]
    starts = list(itertools.accumulate((2 + len(record) for record in records), initial=0))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    assert {"tile", "objects", "checkpoint"} == {path.relative_to(root).parts[0] for path in files}
    for path in files:
        name = path.relative_to(root).as_posix()
        flipper = Flipper(path, path.read_bytes())
        count = 300 if name.startswith("tile/entries") else 60 if name.startswith(("tile", "checkpoint")) else 4
        for at, _ in flipper.flips(list(range(len(flipper.data))), count, name):
            seen = see_export(root, story)
            assert seen.codes, (name, at)
            if name.startswith("tile/entries"):
                assert bisect.bisect_right(starts, at) - 1 in seen.entries, (name, at, seen)
            elif name.startswith("tile/0"):
                assert at // 32 in seen.entries, (name, at, seen)
            elif name.startswith("objects"):
                assert seen.entries - {None}, (name, at, seen)
    assert see_export(root, story) == whole
