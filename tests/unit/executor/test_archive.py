"""Tar archives: what real tar writes becomes the tree of the directory, and what is hostile is refused by its path."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from instances import write_files
from programs import require_program

import executor.trees.archive
from executor.trees.archive import ingest_archive
from executor.trees.archive_headers import MAX_HEADER
from executor.trees.scan import ingest
from keys.errors import CalyxError
from ledger.objects import DirectoryObjects

FILES: dict[str, str | bytes] = {
    "bin/run*": "#!/bin/sh\n",
    "empty": "",
    "an empty directory/": "",
    'é ü/back\\slash "q"': "odd\n",
    "deep/" + "/".join(["d" * 40] * 8) + "/f": "long name\n",
    "blob": bytes(range(256)) * 300,
    "data/kept out": "of the tree\n",
}


def member(name: str, data: bytes = b"x", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as made:
        for info, data in members:
            made.addfile(info, io.BytesIO(data))
    return path


def refuse(code: str, path: Path, objects: DirectoryObjects, shared: tuple[str, ...] = ()) -> CalyxError:
    """The refusal, before anything was kept."""
    with pytest.raises(CalyxError) as error:
        ingest_archive(path, objects, shared)
    assert error.value.code == code
    assert not [path for path in objects._root.rglob("*") if path.is_file()]
    return error.value


@pytest.mark.parametrize("style", ["gnu", "pax", "ustar", "v7"])
@pytest.mark.parametrize(("option", "where"), [("", "."), ("-z", "."), ("-j", "."), ("-J", "*")])
def test_what_tar_writes_is_the_directory(
    tmp_path: Path, objects: DirectoryObjects, style: str, option: str, where: str
) -> None:
    require_program("tar")
    files = {name: data for name, data in FILES.items() if style not in {"ustar", "v7"} or not name.startswith("deep")}
    root = write_files(tmp_path / "root", files)
    (root / "link").symlink_to("bin/run")
    (root / "same").hardlink_to(root / "blob")
    made = tmp_path / "made.tar"
    command = f"tar {option} --format={style} -cf {made} {where}"
    subprocess.run(["sh", "-c", command], cwd=root, check=True, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"})
    tree, digest = ingest_archive(made, objects, ("data",))
    assert tree == ingest(root, DirectoryObjects(tmp_path / "other"), ("data",))
    assert digest == subprocess.run(["sha256sum", made], capture_output=True, check=True).stdout[:64].decode()
    assert objects.get(tree.ref) == tree.manifest
    for ref in tree.files():
        objects.check(ref)


def test_what_git_archives_is_the_directory(tmp_path: Path, objects: DirectoryObjects) -> None:
    require_program("git")
    root = write_files(tmp_path / "root", {"bin/run*": "#!/bin/sh\n", "f": "x\n"})
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a"], ["archive", "-o", "../made.tar", "HEAD"]):
        subprocess.run([*git, *words], cwd=root, check=True)
    subprocess.run(["rm", "-rf", str(root / ".git")], check=True)
    tree, _ = ingest_archive(tmp_path / "made.tar", objects, ())
    assert tree == ingest(root, DirectoryObjects(tmp_path / "other"), ())


def test_directories_that_an_archive_leaves_out_are_there(tmp_path: Path, objects: DirectoryObjects) -> None:
    tree, _ = ingest_archive(archive(tmp_path / "a", member("a/b/c")), objects, ())
    assert [entry.path for entry in tree.entries] == ["a", "a/b", "a/b/c"]


def test_large_file_is_kept_without_being_held_in_memory(
    tmp_path: Path, objects: DirectoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor.trees.archive, "MAX_IN_MEMORY", 1000)
    data = bytes(range(250)) * 4
    tree, _ = ingest_archive(archive(tmp_path / "a", member("big", data * 3), member("even", data)), objects, ())
    assert [objects.get(ref) for ref in tree.files()] == [data * 3, data]


LINK = {"type": tarfile.SYMTYPE}
HARD = {"type": tarfile.LNKTYPE}
HOSTILE: dict[str, tuple[str, list[tuple[tarfile.TarInfo, bytes]]]] = {
    "absolute": ("bad_path", [member("/etc/passwd")]),
    "absolute after a dot": ("bad_path", [member(".//../etc/passwd")]),
    "parent": ("bad_path", [member("../out")]),
    "parent within": ("bad_path", [member("a/../../out")]),
    "dot within": ("bad_path", [member("a/./b")]),
    "control character": ("bad_path", [member("a\nb")]),
    "escape": ("bad_path", [member("a\x1b[2J")]),
    "deep": ("bad_path", [member("d/" * 70 + "f")]),
    "long": ("bad_path", [member("n" * 300)]),
    "link out": ("link_escapes", [member("l", b"", linkname="../../etc", **LINK)]),
    "link absolute": ("link_escapes", [member("l", b"", linkname="/etc", **LINK)]),
    "link out by another": (
        "link_escapes",
        [member("d/l", b"", linkname="..", **LINK), member("m", b"", linkname="d/l/../x", **LINK)],
    ),
    "file through a link": ("bad_tree", [member("l", b"", linkname="d", **LINK), member("l/f")]),
    "file below a file": ("bad_tree", [member("f"), member("f/g")]),
    "link to itself": ("link_escapes", [member("l", b"", linkname="l", **LINK)]),
    "hard link out": ("bad_path", [member("h", b"", linkname="/etc/shadow", **HARD)]),
    "hard link to nothing": ("bad_archive", [member("h", b"", linkname="later", **HARD), member("later")]),
    "hard link to a link": (
        "bad_archive",
        [member("l", b"", linkname="f", **LINK), member("h", b"", linkname="l", **HARD)],
    ),
    "character device": ("bad_file_type", [member("null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)]),
    "block device": ("bad_file_type", [member("sda", b"", type=tarfile.BLKTYPE, devmajor=8)]),
    "pipe": ("bad_file_type", [member("pipe", b"", type=tarfile.FIFOTYPE)]),
    "unknown type": ("bad_file_type", [member("odd", b"", type=b"Z")]),
    "set user id": ("set_id", [member("su", mode=0o4755)]),
    "set group id of a directory": ("set_id", [member("d", b"", type=tarfile.DIRTYPE, mode=0o2755)]),
    "twice": ("bad_archive", [member("f", b"one"), member("f", b"two")]),
    "twice in two spellings": ("bad_archive", [member("f", b"one"), member("./f", b"two")]),
    "directory twice": (
        "bad_archive",
        [member("d", b"", type=tarfile.DIRTYPE), member("d/", b"", type=tarfile.DIRTYPE)],
    ),
    "file and link of one name": ("bad_archive", [member("f"), member("f", b"", linkname="g", **LINK)]),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_member_is_refused_before_anything_is_kept(
    tmp_path: Path, objects: DirectoryObjects, hostile: str
) -> None:
    code, members = HOSTILE[hostile]
    error = refuse(code, archive(tmp_path / "a", member("good"), *members), objects)
    assert error.message.isprintable()
    assert not (tmp_path / "out").exists()


def test_link_at_a_shared_path_is_the_one_that_belongs_there(tmp_path: Path, objects: DirectoryObjects) -> None:
    out = member("data", b"", linkname="/etc", **LINK)
    tree, _ = ingest_archive(archive(tmp_path / "a", out, member("f")), objects, ("data",))
    assert tree == ingest(write_files(tmp_path / "root", {"f": "x"}), objects, ("data",))


def test_sparse_file_is_refused(tmp_path: Path, objects: DirectoryObjects) -> None:
    require_program("tar")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(50_000_000)
        file.seek(49_000_000)
        file.write(b"x")
    for style in ("gnu", "pax"):
        command = ["tar", "-S", f"--format={style}", "-cf", "made.tar", "hole"]
        subprocess.run(command, cwd=tmp_path, check=True)
        assert "hole" in refuse("bad_file_type", tmp_path / "made.tar", objects).message


PACKED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("how", PACKED)
def test_bomb_is_refused_while_it_is_read(
    tmp_path: Path, objects: DirectoryObjects, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(executor.trees.archive, "MAX_CONTENT", 1_000_000)
    plain = archive(tmp_path / "plain", member("good"), member("zeros", bytes(20_000_000)))
    (tmp_path / "bomb").write_bytes(PACKED[how](plain.read_bytes()))
    refuse("too_large", tmp_path / "bomb", objects)


def test_bomb_of_second_names_is_refused(
    tmp_path: Path, objects: DirectoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor.trees.archive, "MAX_CONTENT", 1_000_000)
    names = [member(f"h{number}", b"", linkname="f", **HARD) for number in range(10)]
    refuse("too_large", archive(tmp_path / "a", member("f", bytes(100_000)), *names), objects)
    ingest_archive(archive(tmp_path / "b", member("f", bytes(100_000)), *names[:-1]), objects, ())


def test_archive_of_too_many_entries_is_refused(
    tmp_path: Path, objects: DirectoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor.trees.archive, "MAX_ENTRIES", 3)
    refuse("too_large", archive(tmp_path / "a", *(member(f"f{n}") for n in range(4))), objects)


def test_long_name_without_end_is_not_read_into_memory(tmp_path: Path, objects: DirectoryObjects) -> None:
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE):
        info = tarfile.TarInfo("././@LongLink")
        info.type, info.size = kind, 8 * 1024 * MAX_HEADER
        (tmp_path / "a").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
        assert "header of" in refuse("bad_archive", tmp_path / "a", objects).message


def test_headers_of_headers_do_not_exhaust_the_stack(tmp_path: Path, objects: DirectoryObjects) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 4
    nested = (info.tobuf(tarfile.GNU_FORMAT) + b"abc\0" + bytes(508)) * 5000
    (tmp_path / "a").write_bytes(nested + bytes(10_240))
    refuse("bad_archive", tmp_path / "a", objects)


def record(keyword: str, value: str) -> bytes:
    rest = f" {keyword}={value}\n".encode()
    length = len(rest) + 1
    while len(f"{length}") + len(rest) != length:
        length = len(f"{length}") + len(rest)
    return f"{length}".encode() + rest


def header(kind: bytes, data: bytes) -> bytes:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def file_of(name: str = "f", data: bytes = b"x") -> bytes:
    info, _ = member(name, data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


END = bytes(1024)


def test_header_of_digits_takes_no_time(tmp_path: Path, objects: DirectoryObjects) -> None:
    """The library would search them for half an hour."""
    digits = header(tarfile.XHDTYPE, record("comment", "1" * (MAX_HEADER - 20)))
    (tmp_path / "a").write_bytes(digits + file_of() + END)
    tree, _ = ingest_archive(tmp_path / "a", objects, ())
    assert [entry.path for entry in tree.entries] == ["f"]


def test_headers_for_all_members_are_not_gathered(
    tmp_path: Path, objects: DirectoryObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has other keywords, and what they say would be kept for every member to come."""
    # What a file is read with would hide what the headers take.
    monkeypatch.setattr(executor.trees.archive, "MAX_IN_MEMORY", 4096)
    data = header(tarfile.XGLTYPE, b"".join(record(f"k{n}", "") for n in range(5000)))
    several = b"".join(data.replace(b" k", b" %c" % letter) + file_of(f"f{letter}") for letter in range(97, 102))
    (tmp_path / "a").write_bytes(several + END)
    tracemalloc.start()
    try:
        ingest_archive(tmp_path / "a", objects, ())
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_sparse_map_without_end_is_not_read_into_memory(tmp_path: Path, objects: DirectoryObjects) -> None:
    info = tarfile.TarInfo("hole")
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[482] = 1
    block[148:156] = b"%06o\0 " % sum(block[:148] + b" " * 8 + block[156:])
    (tmp_path / "a").write_bytes(bytes(block) + (b"00000000001\0" * 42 + b"\1" + bytes(7)) * 1000)
    assert "hole is a sparse file" in refuse("bad_file_type", tmp_path / "a", objects).message


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"12 path=a",
        b"4 path=a\n",
        b"0 path=a\n",
        b"-9 path=a\n",
        b"99 path=a\n",
        b"9 path=ab\n",
        b"9999999999999999999999 path=a\n",
        b"\xd9\xa9 path=a\n",
        b"5 a\nx",
        record("", "a"),
        record("path", ""),
        record("path", "a") + record("path", "b"),
        record("size", "-1"),
        record("size", "+1"),
        record("size", "1" * 16),
        record("size", "\u0661"),
    ],
)
def test_header_that_is_no_list_of_records_is_refused(tmp_path: Path, objects: DirectoryObjects, data: bytes) -> None:
    (tmp_path / "a").write_bytes(header(tarfile.XHDTYPE, data) + file_of() + END)
    refuse("bad_archive", tmp_path / "a", objects)


@pytest.mark.parametrize("said", [record("path", "f"), record("linkpath", "f"), record("size", "1")])
def test_header_that_names_every_member_is_refused(tmp_path: Path, objects: DirectoryObjects, said: bytes) -> None:
    (tmp_path / "a").write_bytes(header(tarfile.XGLTYPE, said) + file_of() + END)
    refuse("bad_archive", tmp_path / "a", objects)
    comment = header(tarfile.XGLTYPE, record("comment", "of git archive"))
    (tmp_path / "a").write_bytes(comment + file_of() + END)
    ingest_archive(tmp_path / "a", objects, ())


def test_header_names_and_measures_the_member_behind_it(tmp_path: Path, objects: DirectoryObjects) -> None:
    body = b"y" * 1500
    said = header(tarfile.XHDTYPE, record("path", "other") + record("size", "1500") + record("mtime", "1.5"))
    (tmp_path / "a").write_bytes(said + file_of("f", b"") + body + bytes(-1500 % 512) + file_of("last") + END)
    tree, _ = ingest_archive(tmp_path / "a", objects, ())
    assert tree == ingest(write_files(tmp_path / "root", {"other": body, "last": "x"}), objects, ())


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_header_of_nothing_is_refused(tmp_path: Path, objects: DirectoryObjects, kind: bytes) -> None:
    (tmp_path / "a").write_bytes(file_of() + header(kind, record("comment", "a")) + END)
    assert "behind a header" in refuse("bad_archive", tmp_path / "a", objects).message


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("how", ["header", "extended header"])
def test_content_of_what_is_no_file_is_refused(
    tmp_path: Path, objects: DirectoryObjects, kind: bytes, how: str
) -> None:
    """One program skips it, another reads it as the next member: each sees another tree."""
    inner = archive(tmp_path / "inner", member("hidden")).read_bytes()[:1024]
    info, _ = member("d", b"", type=kind, linkname="f")
    if how == "header":
        info.size = len(inner)
    else:
        info.pax_headers = {"size": str(len(inner))}
    start = archive(tmp_path / "f", member("f")).read_bytes()[:1024]
    (tmp_path / "a").write_bytes(start + info.tobuf(tarfile.PAX_FORMAT) + inner + bytes(1024))
    assert "is no file" in refuse("bad_archive", tmp_path / "a", objects).message


def test_file_without_a_name_is_refused(tmp_path: Path, objects: DirectoryObjects) -> None:
    refuse("bad_archive", archive(tmp_path / "a", member("."), member("f")), objects)
    root = member(".", b"", type=tarfile.DIRTYPE, mode=0o755)
    ingest_archive(archive(tmp_path / "b", root, member("f")), objects, ())


def test_xz_that_asks_for_more_memory_than_it_gets_is_refused(tmp_path: Path, objects: DirectoryObjects) -> None:
    wide = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    plain = archive(tmp_path / "plain", member("f")).read_bytes()
    (tmp_path / "a").write_bytes(lzma.compress(plain, filters=wide))
    refuse("bad_archive", tmp_path / "a", objects)


@pytest.mark.parametrize("how", ["plain", *PACKED])
def test_archive_that_was_cut_anywhere_is_refused(tmp_path: Path, objects: DirectoryObjects, how: str) -> None:
    data = archive(tmp_path / "plain", member("one", b"1" * 700), member("two", b"2" * 700)).read_bytes()
    end = len(data.rstrip(b"\0"))
    whole = PACKED[how](data) if how != "plain" else data[: -(-end // 512) * 512 + 1024]
    for at in {*range(0, len(whole) - 1, 97), *range(512, len(whole), 512), len(whole) - 1}:
        (tmp_path / "a").write_bytes(whole[:at])
        with pytest.raises(CalyxError) as error:
            ingest_archive(tmp_path / "a", objects, ())
        assert error.value.code == "bad_archive"
    (tmp_path / "a").write_bytes(whole)
    ingest_archive(tmp_path / "a", objects, ())


@pytest.mark.parametrize("at", [0, 100, 124, 150, 156])
def test_damaged_last_header_is_not_taken_for_the_end(tmp_path: Path, objects: DirectoryObjects, at: int) -> None:
    """What it headed has no content, so nothing but zeros is behind it."""
    data = bytearray(archive(tmp_path / "a", member("f"), member("l", b"", linkname="f", **LINK)).read_bytes())
    data[1024 + at] ^= 1
    (tmp_path / "a").write_bytes(data)
    assert "damaged header" in refuse("bad_archive", tmp_path / "a", objects).message
    data[1024:1536] = b"G" * 512
    (tmp_path / "a").write_bytes(data)
    refuse("bad_archive", tmp_path / "a", objects)


def test_second_archive_behind_the_end_is_refused(tmp_path: Path, objects: DirectoryObjects) -> None:
    one, two = (archive(tmp_path / name, member(name)).read_bytes() for name in ("one", "two"))
    (tmp_path / "a").write_bytes(one + two)
    assert "goes on after its end" in refuse("bad_archive", tmp_path / "a", objects).message
    for pack in PACKED.values():
        (tmp_path / "a").write_bytes(pack(one) + pack(two))
        refuse("bad_archive", tmp_path / "a", objects)


@pytest.mark.parametrize(
    "data", [b"", b"not a tar archive", bytes(512) + b"x" * 512, b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0"]
)
def test_what_is_no_archive_is_refused(tmp_path: Path, objects: DirectoryObjects, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    refuse("bad_archive", tmp_path / "a", objects)


def test_missing_archive_is_named(tmp_path: Path, objects: DirectoryObjects) -> None:
    refuse("source_missing", tmp_path / "none", objects)
    refuse("source_missing", tmp_path, objects)
