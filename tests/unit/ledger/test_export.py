"""Writing an export, and reading it back: what it costs, what it never overwrites, what it refuses to continue."""

from __future__ import annotations

import os
import shutil
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import pytest
from ledgers import LOG_KEY, make_ledger, next_record, signed
from refusal import refused

from keys.errors import CalyxError
from ledger import durable
from ledger.chain import Chain
from ledger.exports.export import Exported, export_log
from ledger.exports.reader import ExportReader, read_bounded
from ledger.exports.tile_check import check_tiles
from ledger.log_key import LogKey
from ledger.merkle import check_inclusion, prove_inclusion
from ledger.record import parse_record
from ledger.sqlite.store import SqliteStore
from ledger.tiles import Tile, bundles_of, format_path, parse_bundle, parse_path, tiles_of

SMALL = 40


def export(store: SqliteStore, root: Path, *, full: bool = False) -> Exported:
    return export_log(store, LOG_KEY.vkey, root, lambda seq, data: None, full=full)


def grow(store: SqliteStore, count: int, size: int = SMALL) -> None:
    with store.writer(LOG_KEY.sign) as writer:
        for _ in range(count):
            writer.append(next_record(writer.head, size=size))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def check(root: Path, store: SqliteStore) -> None:
    """The export is that of the store: entries, chain, tiles."""
    reader = ExportReader(root)
    assert list(reader.read()) == list(store.read())
    assert reader.tip() == store.tip()
    assert len(list(Chain().replay(reader.read(), signed(store)))) == reader.size
    assert not list(check_tiles(reader, ()))


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 600])
def test_export_holds_what_the_specification_asks_for_and_nothing_else(tmp_path: Path, size: int) -> None:
    with make_ledger(tmp_path / "ledger.db", size, size=SMALL) as store:
        done = export(store, tmp_path / "out")
        assert (done.old, done.size) == (0, size)
        paths = set(map(format_path, tiles_of(size))) | set(map(format_path, bundles_of(size)))
        assert set(files(tmp_path / "out")) == {"checkpoint", *paths}
        assert (tmp_path / "out" / "checkpoint").read_bytes() == store.checkpoint()
        check(tmp_path / "out", store)


def test_export_across_two_levels_of_tiles(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 65_530, size=1) as store:
        export(store, tmp_path / "out")
        for _ in range(3):
            grow(store, 5, size=1)
            export(store, tmp_path / "out")
        reader = ExportReader(tmp_path / "out")
        assert not list(check_tiles(reader, ()))
        assert (tmp_path / "out" / "tile" / "2" / "000.p" / "1").is_file()
        for seq in (0, 65_535, 65_536, 65_544):
            proof = prove_inclusion(seq, reader.size, reader)
            check_inclusion(seq, reader.size, bytes.fromhex(store.leaf(seq)), signed(store).root, proof)


def test_next_export_costs_the_new_entries_and_changes_no_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with make_ledger(tmp_path / "ledger.db", 1000, size=SMALL) as store:
        export(store, out)
        before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}
        assert export(store, out).files == 0
        grow(store, 3)
        seen: list[int] = []
        reads: list[tuple[int, int | None]] = []
        read = store.read

        def counted(start: int = 0, stop: int | None = None) -> object:
            reads.append((start, stop))
            return read(start, stop)

        store.read = counted  # type: ignore[method-assign, assignment]  # counts what is read
        done = export_log(store, LOG_KEY.vkey, out, lambda seq, data: seen.append(seq))
        store.read = read  # type: ignore[method-assign]  # as it was
        assert (done.old, done.size, seen) == (1000, 1003, [1000, 1001, 1002])
        assert min(start for start, _ in reads) == 768
        for path, (inode, changed) in before.items():
            if path.name != "checkpoint":
                assert (path.stat().st_ino, path.stat().st_mtime_ns) == (inode, changed)
        check(out, store)


def test_entry_that_was_incomplete_is_visited_again_until_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "out"
    lacking = {1, 5, 8}
    seen: list[int] = []

    def visit(seq: int, data: bytes) -> bool:
        assert parse_record(data).seq == seq
        seen.append(seq)
        return seq in lacking

    def again(store: SqliteStore, *, full: bool = False) -> list[int]:
        seen.clear()
        export_log(store, LOG_KEY.vkey, out, visit, full=full)
        return seen

    with make_ledger(tmp_path / "ledger.db", 9) as store:
        again(store)
        assert (out / "missing").read_text("ascii") == "1\n5\n8\n"
        assert again(store) == [1, 5, 8]
        lacking.discard(5)
        grow(store, 2)
        assert again(store) == [1, 5, 8, 9, 10]
        # What somebody wrote there costs no more than a look at entries that are there.
        lacking.add(10)
        (out / "missing").write_bytes(b"1\n1\n-3\n7\n10\n11\n9999999999999999\nx\n")
        assert again(store) == [1, 7, 10]
        assert (out / "missing").read_text("ascii") == "1\n10\n"
        lacking.clear()
        assert again(store) == [1, 10]
        assert not (out / "missing").exists()
        assert again(store) == []
        check(out, store)


def test_export_killed_after_what_it_lacked_was_noted_visits_the_new_entries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    written: list[Path] = []

    def dies(path: Path, data: bytes, mode: int) -> None:
        written.append(path)
        if path.name == "checkpoint":
            raise OSError(28, "No space left on device")
        durable.replace_file(path, data, mode)

    with make_ledger(tmp_path / "ledger.db", 3) as store:
        export(store, out)
        grow(store, 2)
        monkeypatch.setattr("ledger.exports.export.replace_file", dies)
        with refused("export_write_failed"):
            export_log(store, LOG_KEY.vkey, out, lambda seq, data: seq == 4)
        monkeypatch.undo()
        assert [path.name for path in written] == ["missing", "checkpoint"]
        seen: list[int] = []
        export_log(store, LOG_KEY.vkey, out, lambda seq, data: seen.append(seq))
        assert seen == [3, 4]
        assert not (out / "missing").exists()


def test_more_incomplete_entries_than_are_remembered(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with make_ledger(tmp_path / "ledger.db", 1_100, size=SMALL) as store:
        assert export_log(store, LOG_KEY.vkey, out, lambda seq, data: seq >= 100).forgotten is False
        done = export_log(store, LOG_KEY.vkey, out, lambda seq, data: True, full=True)
        assert done.forgotten
        assert len((out / "missing").read_bytes().split()) == 1_000


@pytest.mark.parametrize("name", ["tile", "tile/entries", "tile/0", "objects"])
def test_link_in_a_directory_s_place_is_not_written_through(tmp_path: Path, name: str) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ("." + "0" * 24 + ".tmp")).write_bytes(b"somebody is writing this")
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(elsewhere)
    with make_ledger(tmp_path / "ledger.db", 3) as store, refused("not_a_directory"):
        export(store, out)
    assert [path.name for path in elsewhere.iterdir()] == ["." + "0" * 24 + ".tmp"]


def test_many_small_exports_are_one_large_one(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 1, size=SMALL) as store:
        for step in (1, 7, 100, 147, 1, 255, 256, 257, 1):
            export(store, tmp_path / "out")
            check(tmp_path / "out", store)
            grow(store, step)
        export(store, tmp_path / "out")
        export(store, tmp_path / "whole")
        whole = files(tmp_path / "whole")
        assert {name: data for name, data in files(tmp_path / "out").items() if name in whole} == whole


def test_partial_files_stay_for_readers_of_the_checkpoint_before(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with make_ledger(tmp_path / "ledger.db", 250, size=SMALL) as store:
        export(store, out)
        shutil.copytree(out, tmp_path / "seen")
        grow(store, 10)
        export(store, out)
        assert (out / "tile" / "entries" / "000.p" / "250").is_file()
        old = ExportReader(out, (tmp_path / "seen" / "checkpoint").read_bytes())
        assert not list(check_tiles(old, ()))
        grow(store, 10)
        export(store, out)
        assert not (out / "tile" / "entries" / "000.p").exists()
        assert not (out / "tile" / "0" / "000.p").exists()
        # The full files stand in for them.
        assert list(old.read()) == list(store.read(0, 250))
        assert not list(check_tiles(old, ()))
        check(out, store)


def test_shorter_ledger_is_not_exported_over_a_longer_one(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 10) as store:
        store.backup(tmp_path / "older.db")
        grow(store, 2)
        export(store, tmp_path / "out")
    before = files(tmp_path / "out")
    with SqliteStore.open(tmp_path / "older.db") as store:
        with refused("head_contradicted", exported=12, found=10):
            export(store, tmp_path / "out")
        # The same key, other entries, and as many or more of them.
        grow(store, 2, size=SMALL + 1)
        with refused("head_contradicted"):
            export(store, tmp_path / "out")
        grow(store, 1)
        for full in (False, True):
            with refused("export_differs"):
                export(store, tmp_path / "out", full=full)
    assert files(tmp_path / "out") == before


def test_other_ledger_is_not_exported_over_this_one(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 3) as store:
        export(store, tmp_path / "out")
    other = LogKey.generate("station.calyx/other", lambda count: b"\7" * count)
    with SqliteStore.create(tmp_path / "other.db") as store:
        with store.writer(other.sign) as writer:
            writer.append(next_record(writer.head))
        with refused("not_an_export"):
            export_log(store, other.vkey, tmp_path / "out", lambda seq, data: None)


def test_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work", "utf-8")
    with make_ledger(tmp_path / "ledger.db", 3) as store, refused("not_an_export"):
        export(store, tmp_path / "out")
    assert files(tmp_path / "out") == {"thesis.txt": b"years of work"}


def test_file_that_is_there_with_another_content_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with make_ledger(tmp_path / "ledger.db", 3) as store:
        place = out / "tile" / "entries" / "000.p" / "3"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"another")
        with refused("export_differs"):
            export(store, out)
        assert place.read_bytes() == b"another"
        assert not (out / "checkpoint").exists()
        place.unlink()
        export(store, out)
        check(out, store)


def test_damaged_last_bundle_is_named_though_nothing_is_new(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with make_ledger(tmp_path / "ledger.db", 300) as store:
        export(store, out)
        assert export(store, out).files == 0
        bundle = out / "tile" / "entries" / "001.p" / "44"
        data = bundle.read_bytes()
        bundle.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with refused("export_differs", file="tile/entries/001.p/44"):
            export(store, out)
        bundle.unlink()
        assert export(store, out).files == 1
        assert bundle.read_bytes() == data


def test_full_export_names_a_damaged_file_and_writes_a_missing_one_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with make_ledger(tmp_path / "ledger.db", 300) as store:
        export(store, out)
        tile = out / "tile" / "0" / "000"
        tile.write_bytes(bytes(8192))
        assert export(store, out).files == 0
        with refused("export_differs", file="tile/0/000"):
            export(store, out, full=True)
        tile.unlink()
        assert export(store, out, full=True).files == 1
        check(out, store)


def test_nothing_is_written_of_a_store_whose_checkpoint_does_not_sign_its_entries(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 300) as store:
        store._connection.execute("UPDATE record SET data = (SELECT data FROM record WHERE seq = 4) WHERE seq = 5")
        with refused("ledger_corrupt"):
            export(store, tmp_path / "out")
        assert not files(tmp_path / "out")


def test_record_that_changed_since_it_was_exported_is_not_exported_again(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 300) as store:
        export(store, tmp_path / "out")
        grow(store, 1)
        store._connection.execute("UPDATE record SET data = (SELECT data FROM record WHERE seq = 4) WHERE seq = 290")
        with refused("ledger_corrupt", entry=290):
            export(store, tmp_path / "out")
        assert ExportReader(tmp_path / "out").size == 300


def test_damaged_node_cache_stops_the_export(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 600) as store:
        export(store, tmp_path / "out")
        grow(store, 1)
        store._connection.execute("UPDATE node SET hash = zeroblob(32) WHERE level = 8 AND idx = 1")
        with refused("export_differs"):
            export(store, tmp_path / "out")
        assert ExportReader(tmp_path / "out").size == 600


@pytest.mark.parametrize("size", [300, 512, 600])
def test_flipped_bit_in_any_tile_or_older_bundle_is_named(tmp_path: Path, size: int) -> None:
    out = tmp_path / "out"
    with make_ledger(tmp_path / "ledger.db", size - 30, size=SMALL) as store:
        export(store, out)
        grow(store, 30)
        export(store, out)
    reader = ExportReader(out)
    current = {format_path(bundle) for bundle in bundles_of(size)}
    for name, whole in files(out).items():
        if name == "checkpoint" or name in current:
            continue
        place = parse_path(name)
        for at in range(len(name) % 7, len(whole), max(1, len(whole) // 23)):
            (out / name).write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
            found = list(check_tiles(reader, ()))
            if isinstance(place, Tile):
                entry = (place.index * 256 + at // 32) << 8 * place.level
            else:
                ends = list(accumulate(2 + len(record) for record in parse_bundle(whole, place.width)))
                entry = place.start + bisect_right(ends, at)
            assert {finding.entry for finding in found} == {entry}, (name, at, found)
        (out / name).write_bytes(whole)
    assert not list(check_tiles(reader, ()))


def test_missing_tile_is_named(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 600, size=SMALL) as store:
        export(store, tmp_path / "out")
    for name, entry in (("tile/0/001", 256), ("tile/0/002.p/88", 512), ("tile/1/000.p/2", 0)):
        data = (tmp_path / "out" / name).read_bytes()
        for damage in (None, b"", data + b"x", data[:-1]):
            (tmp_path / "out" / name).unlink()
            if damage is not None:
                (tmp_path / "out" / name).write_bytes(damage)
            found = list(check_tiles(ExportReader(tmp_path / "out"), ()))
            code = "tile_missing" if damage is None else "tile_mismatch"
            assert [(finding.code, finding.entry) for finding in found] == [(code, entry)]
            (tmp_path / "out" / name).write_bytes(data)


def test_everything_is_on_the_disk_before_the_checkpoint_speaks_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    steps: list[tuple[str, Path]] = []

    def file(descriptor: int) -> None:
        steps.append(("file", Path(f"/proc/self/fd/{descriptor}").readlink()))

    def replaced(path: Path, data: bytes, mode: int) -> None:
        steps.append(("checkpoint", path))
        durable.replace_file(path, data, mode)

    monkeypatch.setattr("ledger.durable.sync_file", file)
    monkeypatch.setattr("ledger.exports.export.sync_directory", lambda path: steps.append(("directory", path)))
    monkeypatch.setattr("ledger.exports.export.replace_file", replaced)
    with make_ledger(tmp_path / "ledger.db", 600, size=SMALL) as store:
        done = export(store, out)
    kinds = [kind for kind, _ in steps]
    assert kinds == ["file"] * (done.files - 1) + ["directory"] * kinds.count("directory") + ["checkpoint", "file"]
    synced = {path for kind, path in steps if kind == "directory"}
    assert synced == {out, *(path for path in out.rglob("*") if path.is_dir())}


def test_two_exports_at_once(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 3) as store:

        def again(seq: int, data: bytes) -> None:
            with refused("export_busy"):
                export(store, tmp_path / "out")

        export_log(store, LOG_KEY.vkey, tmp_path / "out", again)
        check(tmp_path / "out", store)


def test_empty_ledger_is_not_exported(tmp_path: Path) -> None:
    with SqliteStore.create(tmp_path / "ledger.db") as store, refused("ledger_missing"):
        export(store, tmp_path / "out")


def test_what_fails_on_the_way_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with make_ledger(tmp_path / "ledger.db", 3) as store:
        export(store, out)
        note = (out / "checkpoint").read_bytes()
        grow(store, 300)

        def full_disk(seq: int, data: bytes) -> None:
            if seq == 290:
                raise OSError(28, "No space left on device")

        with refused("export_write_failed"):
            export_log(store, LOG_KEY.vkey, out, full_disk)
        assert (out / "checkpoint").read_bytes() == note
        assert not list(check_tiles(ExportReader(out), ()))
        export(store, out)
        check(out, store)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "large"])
def test_what_is_no_plain_file_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    if kind == "link":
        (tmp_path / "other").write_bytes(b"secret")
        path.symlink_to(tmp_path / "other")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(bytes(11))
    with refused("export_unreadable"):
        read_bounded(path, 10)
    assert read_bounded(tmp_path / "missing", 10) is None
    assert read_bounded(tmp_path / "other" / "below", 10) is None


def test_reader_ends_where_its_checkpoint_does(tmp_path: Path) -> None:
    with make_ledger(tmp_path / "ledger.db", 5) as store:
        export(store, tmp_path / "out")
        note = store.checkpoint()
        grow(store, 5)
        export(store, tmp_path / "out")
    reader = ExportReader(tmp_path / "out", note)
    assert len(list(reader.read())) == 5
    assert not list(reader.read(5, 6))
    with pytest.raises(CalyxError):
        reader.leaf(5)
