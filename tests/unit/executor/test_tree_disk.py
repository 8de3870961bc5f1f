from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from instances import write_files

from executor.trees.materialise import discard, materialise
from executor.trees.scan import ingest, scan, scan_release, scan_source
from executor.trees.tree import Directory, File, Link, parse_manifest, shared_target
from keys.errors import CalyxError
from ledger.objects import DirectoryObjects, ObjectRef


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = write_files(tmp_path / "source", {"run*": "#!/bin/sh\n", "conf/a": "a", "conf/b": b"\0\xff", "empty/": ""})
    (root / "link").symlink_to("conf/a")
    return root


def refused(code: str, path: str, root: Path) -> None:
    with pytest.raises(CalyxError) as error:
        scan(root)
    assert (error.value.code, error.value.fields.get("path")) == (code, path)


def test_ingested_tree_comes_back_from_objects_alone(source: Path, objects: DirectoryObjects, tmp_path: Path) -> None:
    tree = ingest(source, objects, ())
    assert parse_manifest(objects.get(tree.ref)) == tree
    materialise(tree, objects, tmp_path / "out")
    assert scan_release(tmp_path / "out") == tree == scan(source)
    modes = {p.name: stat.S_IMODE(p.lstat().st_mode) for p in (tmp_path / "out").rglob("*") if not p.is_symlink()}
    assert modes == {"run": 0o555, "conf": 0o555, "a": 0o444, "b": 0o444, "empty": 0o555}


def test_release_shares_no_inode_with_objects_or_another_release(
    source: Path, objects: DirectoryObjects, tmp_path: Path
) -> None:
    tree = ingest(source, objects, ())
    materialise(tree, objects, tmp_path / "one")
    materialise(tree, objects, tmp_path / "two")
    files = [
        p
        for top in ("objects", "one", "two")
        for p in (tmp_path / top).rglob("*")
        if p.is_file() and not p.is_symlink()
    ]
    assert len({p.stat().st_ino for p in files}) == len(files)
    assert {p.stat().st_nlink for p in files} == {1}


def test_owner_times_and_other_modes_are_not_carried(source: Path) -> None:
    before = scan(source).digest
    os.utime(source / "run", (1, 1))
    (source / "run").chmod(0o700)
    (source / "conf").chmod(0o750)
    assert scan(source).digest == before


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda root: (root / "conf/a").write_text("b"), "conf/a"),
        (lambda root: (root / "run").chmod(0o644), "run"),
        (lambda root: (root / "conf/__pycache__").mkdir(), "conf/__pycache__"),
        (lambda root: (root / "empty").rmdir(), "empty"),
    ],
)
def test_every_change_changes_the_digest(source: Path, change: Callable[[Path], object], path: str) -> None:
    before = scan(source)
    change(source)
    after = scan(source)
    assert after.digest != before.digest
    assert path in {entry.path for entry in set(before.entries) ^ set(after.entries)}


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "\x7f"])
def test_name_with_a_control_character_is_refused(source: Path, name: str) -> None:
    (source / name).write_text("")
    with pytest.raises(CalyxError) as error:
        scan(source)
    assert error.value.code == "bad_path"
    assert str(error.value).isprintable()
    assert str(error.value.fields["path"]).isprintable()


def test_name_that_is_not_utf8_is_refused(source: Path) -> None:
    (source / os.fsdecode(b"a\xff")).mkdir()
    with pytest.raises(CalyxError) as error:
        scan(source)
    assert (error.value.code, error.value.fields["path"]) == ("bad_path", "a\\udcff")


def test_link_target_that_is_not_utf8_is_refused(source: Path) -> None:
    (source / "bad").symlink_to(os.fsdecode(b"\xff"))
    refused("bad_path", "bad", source)


@pytest.mark.parametrize("bits", [stat.S_ISUID, stat.S_ISGID])
def test_set_id_bit_is_refused(source: Path, bits: int) -> None:
    (source / "run").chmod(0o755 | bits)
    refused("set_id", "run", source)


def test_set_group_id_directory_is_refused(source: Path) -> None:
    (source / "conf").chmod(0o2755)
    refused("set_id", "conf", source)


def test_fifo_is_refused_and_not_waited_for(source: Path) -> None:
    os.mkfifo(source / "pipe")
    refused("bad_file_type", "pipe", source)


def test_socket_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        refused("bad_file_type", "sock", source)


def test_link_out_of_the_tree_is_refused(source: Path) -> None:
    (source / "conf/out").symlink_to("../../secret")
    refused("link_escapes", "conf/out", source)


def test_file_that_grows_while_it_is_read_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.read

    def growing(descriptor: int, count: int) -> bytes:
        with (source / "conf/a").open("ab") as file:
            file.write(b"more")
        return real(descriptor, count)

    monkeypatch.setattr(os, "read", growing)
    refused("tree_changed", "conf/a", source)


def test_file_added_behind_the_listing_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.read

    def adding(descriptor: int, count: int) -> bytes:
        (source / "late").write_text("x")
        return real(descriptor, count)

    monkeypatch.setattr(os, "read", adding)
    refused("tree_changed", ".", source)


def test_directory_swapped_for_a_link_is_not_followed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing said directory; before it is opened it leads elsewhere."""
    secret = write_files(tmp_path / "secret", {"key": "secret"})
    real = os.open

    def swapping(path: str, flags: int, *args: int, dir_fd: int | None = None) -> int:
        if path == "conf":
            (source / "conf").rename(source / "moved")
            (source / "conf").symlink_to(secret)
        return real(path, flags, *args, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapping)
    with pytest.raises(CalyxError) as error:
        scan(source)
    assert error.value.code in {"tree_unreadable", "tree_changed"}


def test_object_that_is_another_content_is_not_materialised(
    source: Path, objects: DirectoryObjects, tmp_path: Path
) -> None:
    tree = ingest(source, objects, ())
    digest = next(entry.sha256 for entry in tree.entries if isinstance(entry, File) and entry.path == "run")
    stored = tmp_path / "objects" / digest[:2] / digest[2:]
    stored.chmod(0o644)
    stored.write_bytes(b"#!/bin/ev\n")
    with pytest.raises(CalyxError) as error:
        materialise(tree, objects, tmp_path / "out")
    assert error.value.code == "object_mismatch"


def test_file_changed_between_scan_and_keeping_is_refused(source: Path, tmp_path: Path) -> None:
    class Racing(DirectoryObjects):
        def put_file(self, path: Path) -> ObjectRef:
            path.write_text("changed")
            return super().put_file(path)

    with pytest.raises(CalyxError) as error:
        ingest(source, Racing(tmp_path / "objects"), ())
    assert error.value.code == "tree_changed"


def test_shared_paths_of_a_source_become_links_and_are_not_read(source: Path, objects: DirectoryObjects) -> None:
    write_files(source, {"logs/old.log": "private"})
    os.mkfifo(source / "logs/pipe")
    tree = ingest(source, objects, ("logs", "var/cache"))
    entries = {entry.path: entry for entry in tree.entries}
    assert entries["logs"] == Link("logs", shared_target("logs"))
    assert entries["var"] == Directory("var")
    assert entries["var/cache"] == Link("var/cache", "../../../shared/var/cache")
    assert not [path for path in entries if path.startswith("logs/")]
    assert scan_source(source, ("logs", "var/cache")) == tree


@pytest.mark.parametrize("mode", [0o644, 0o544, 0o400, 0o777])
def test_release_with_a_mode_that_no_release_has_is_refused(
    source: Path, objects: DirectoryObjects, tmp_path: Path, mode: int
) -> None:
    materialise(ingest(source, objects, ()), objects, tmp_path / "out")
    (tmp_path / "out/conf/a").chmod(mode)
    with pytest.raises(CalyxError) as error:
        scan_release(tmp_path / "out")
    assert (error.value.code, error.value.fields["path"]) == ("bad_mode", "conf/a")


def test_discard_removes_a_sealed_release_and_nothing_behind_its_links(
    source: Path, objects: DirectoryObjects, tmp_path: Path
) -> None:
    materialise(ingest(source, objects, ()), objects, tmp_path / "out")
    (tmp_path / "out/away").symlink_to(source)
    discard(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (source / "conf/a").read_text() == "a"
    discard(tmp_path / "out")
