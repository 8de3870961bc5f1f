"""A mirror that is kept: what it fetches again, what it lets go of, and who else writes to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
from disk_steps import watch_disk
from ledgers import LOG_KEY, make_ledger, next_record
from refusal import refused

from ledger.checkpoint import parse_checkpoint
from ledger.exports.export import export_log
from ledger.exports.mirror import Mirror
from ledger.exports.mirror_objects import MirrorObjects
from ledger.exports.mirror_source import Allowance, DirectorySource
from ledger.exports.reader import ExportReader
from ledger.exports.tile_check import check_tiles
from ledger.objects import DirectoryObjects, ObjectRef
from ledger.sqlite.store import SqliteStore
from ledger.tiles import bundles_of, format_path, tiles_of

PLENTY = 2**30


class Asked(DirectorySource):
    """A source that notes what it is asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.names: list[str] = []

    def fetch(self, path: str, limit: int) -> bytes | None:
        self.names.append(path)
        return super().fetch(path, limit)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """An export of 600 entries."""
    with make_ledger(tmp_path / "ledger.db", 600) as store:
        export_log(store, LOG_KEY.vkey, tmp_path / "out", lambda seq, data: None)
    return tmp_path / "out"


def grow(published: Path, count: int) -> None:
    with SqliteStore.open(published.with_name("ledger.db")) as store:
        with store.writer(LOG_KEY.sign) as writer:
            for _ in range(count):
                writer.append(next_record(writer.head))
        export_log(store, LOG_KEY.vkey, published, lambda seq, data: None)


def verify(reader: ExportReader) -> None:
    parse_checkpoint(reader.note, LOG_KEY.vkey)


def mirrored(published: Path, root: Path) -> list[str]:
    """Mirror, check and keep; what the source was asked for."""
    source = Asked(published)
    with Mirror(source, root, Allowance(PLENTY)) as mirror:
        reader = mirror.fetch(verify)
        assert not list(check_tiles(reader, ()))
        assert list(reader.read()) == list(ExportReader(published).read())
        mirror.keep(reader.note)
    return source.names


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("steps", [[1, 10, 100, 1], [168, 1], [167, 1, 1], [300, 300]])
def test_kept_mirror_holds_what_its_checkpoint_asks_for_and_nothing_else(
    published: Path, tmp_path: Path, steps: list[int]
) -> None:
    size = 600
    for step in (0, *steps):
        if step:
            grow(published, step)
        size += step
        mirrored(published, tmp_path / "mine")
        asked = {*map(format_path, bundles_of(size)), *map(format_path, tiles_of(size))}
        assert names(tmp_path / "mine") == {"checkpoint", *asked}


def test_mirror_that_was_not_kept_still_holds_what_it_kept_before(published: Path, tmp_path: Path) -> None:
    mirrored(published, tmp_path / "mine")
    note = (tmp_path / "mine" / "checkpoint").read_bytes()
    for step in (1, 200, 1):
        grow(published, step)
        with Mirror(DirectorySource(published), tmp_path / "mine", Allowance(PLENTY)) as mirror:
            mirror.fetch(verify)
        reader = ExportReader(tmp_path / "mine")
        assert reader.note == note
        assert not list(check_tiles(reader, ()))
    mirrored(published, tmp_path / "mine")
    assert "tile/entries/002.p/88" not in names(tmp_path / "mine")


@pytest.mark.parametrize("grown", [0, 5])
@pytest.mark.parametrize("name", ["tile/entries/000", "tile/entries/001", "tile/0/001", "tile/1/000.p/2"])
def test_file_that_a_mirror_lost_is_fetched_again(published: Path, tmp_path: Path, name: str, grown: int) -> None:
    mine = tmp_path / "mine"
    mirrored(published, mine)
    if grown:
        grow(published, grown)
    (mine / name).unlink()
    assert name in mirrored(published, mine)
    if name.startswith("tile/0"):
        (mine / name).write_bytes(b"cut")
        assert name in mirrored(published, mine)
    assert name not in mirrored(published, mine)


def test_file_that_was_missing_at_the_source_is_fetched_when_it_is_there(published: Path, tmp_path: Path) -> None:
    away = published / "tile" / "0" / "001"
    away.rename(tmp_path / "away")
    with Mirror(DirectorySource(published), tmp_path / "mine", Allowance(PLENTY)) as mirror:
        found = list(check_tiles(mirror.fetch(verify), ()))
    assert [(each.code, each.entry) for each in found] == [("tile_missing", 256)]
    (tmp_path / "away").rename(away)
    mirrored(published, tmp_path / "mine")


def test_what_a_killed_mirror_left_is_removed(published: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mirrored(published, mine)
    (mine / "objects").mkdir()
    for place in (mine, mine / "objects"):
        (place / f".{'0' * 24}.tmp").write_bytes(b"half")
    mirrored(published, mine)
    assert not [name for name in names(mine) if name.endswith(".tmp")]


def test_directory_of_somebody_else_is_left_as_it_is(published: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    hidden = tmp_path / "theirs" / f".{'0' * 24}.tmp"
    for path in (hidden, tmp_path / "theirs" / "thesis.txt"):
        path.write_bytes(b"years of work")
    with Mirror(DirectorySource(published), tmp_path / "theirs", Allowance(PLENTY)) as mirror, refused("not_an_export"):
        mirror.fetch(verify)
    assert hidden.exists()


def test_another_log_at_the_address_is_contradicted_with_both(published: Path, tmp_path: Path) -> None:
    # Whoever takes an address over must not be excused as a mistake in the command line.
    mirrored(published, tmp_path / "mine")
    before = names(tmp_path / "mine")
    note = (published / "checkpoint").read_bytes()
    origin = LOG_KEY.vkey.name.encode()
    (published / "checkpoint").write_bytes(note.replace(origin, b"other.example/log"))
    mirror = Mirror(DirectorySource(published), tmp_path / "mine", Allowance(PLENTY))
    with mirror, refused("head_contradicted") as caught:
        mirror.fetch(verify)
    assert caught.value.exit_code == 1
    assert "of other.example/log" in caught.value.message
    assert f"of {LOG_KEY.vkey.name}" in caught.value.message
    assert names(tmp_path / "mine") == before


@pytest.mark.parametrize("page", [b"<html>It works!</html>", b"", b"a\n1\nb\n", b"\xff"])
def test_page_in_a_checkpoints_place_is_named(published: Path, tmp_path: Path, page: bytes) -> None:
    (published / "checkpoint").write_bytes(page)
    mirror = Mirror(DirectorySource(published), tmp_path / "mine", Allowance(PLENTY))
    reads: list[Callable[[], ExportReader]] = [partial(mirror.fetch, verify), partial(ExportReader, published)]
    for read in reads:
        with refused("bad_checkpoint") as caught:
            read()
        assert caught.value.message.startswith(f"{published}/checkpoint is no checkpoint of a log: ")
        assert caught.value.hint
    assert not (tmp_path / "mine").exists()


def test_two_audits_mirror_to_one_place_one_after_the_other(published: Path, tmp_path: Path) -> None:
    with Mirror(DirectorySource(published), tmp_path / "mine", Allowance(PLENTY)) as first:
        first.fetch(verify)
        with Mirror(DirectorySource(published), tmp_path / "mine", Allowance(PLENTY)) as second, refused("mirror_busy"):
            second.fetch(verify)
    mirrored(published, tmp_path / "mine")


def test_object_that_is_said_to_be_huge_uses_nothing_up(tmp_path: Path) -> None:
    """Nor one that is not there: what was not fetched is no reason to refuse the next one."""
    kept = DirectoryObjects(tmp_path / "out" / "objects").put(b"x" * 900)
    mine = MirrorObjects(DirectorySource(tmp_path / "out"), tmp_path / "mine", Allowance(1_000))
    with refused("object_unreadable"):
        mine.check(ObjectRef(sha256="ab" * 32, size=2**53 - 1))
    for _ in range(3):
        with refused("object_missing"):
            mine.check(ObjectRef(sha256="ab" * 32, size=500))
    mine.check(kept)
    with refused("object_unreadable"):
        mine.check(ObjectRef(sha256=sha256(b"y" * 101).hexdigest(), size=101))


def test_mirror_follows_no_link_at_its_source(published: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (published / "tile" / "0" / "001").unlink()
    (published / "tile" / "0" / "001").symlink_to(secret)
    with Mirror(DirectorySource(published), tmp_path / "mine", Allowance(PLENTY)) as mine, refused("export_unreadable"):
        mine.fetch(verify)
    assert not DirectorySource(published).fetch_to("nowhere", BytesIO(), 10)


def test_file_that_holds_more_than_it_said_is_not_read_to_its_end() -> None:
    """As one that grows: this one says that it is empty."""
    file = BytesIO()
    with refused("answer_too_large"):
        DirectorySource(Path("/proc/self")).fetch_to("status", file, 20)
    assert len(file.getvalue()) <= 20


def test_power_lost_after_a_mirror_was_kept_takes_back_nothing_that_its_checkpoint_asks_for(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch_disk(monkeypatch)
    mirrored(published, tmp_path / "mirror")
    assert tmp_path / "mirror" / "checkpoint" in {name for _, _, name in seen.named}
    assert seen.missing() == []
