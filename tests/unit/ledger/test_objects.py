from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from keys.errors import CalyxError, FormatError, Unavailable
from ledger.objects import MAX_IN_MEMORY, DirectoryObjects, ObjectRef, ObjectStore
from ledger.place import STRAY_AFTER_S


def place(root: Path, ref: ObjectRef) -> Path:
    return root / ref.sha256[:2] / ref.sha256[2:]


def refused(code: str, action: Callable[[], object]) -> None:
    with pytest.raises(CalyxError) as caught:
        action()
    assert caught.value.code == code


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(3_000_000)])
def test_put_and_get(tmp_path: Path, data: bytes) -> None:
    objects: ObjectStore = DirectoryObjects(tmp_path / "objects")
    ref = objects.put(data)
    assert ref == ObjectRef(sha256=sha256(data).hexdigest(), size=len(data))
    assert objects.has(ref)
    assert objects.get(ref) == data
    (tmp_path / "source").write_bytes(data)
    assert objects.put_file(tmp_path / "source") == ref
    objects.copy_to(ref, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    path = place(tmp_path / "objects", ref)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert [each for each in (tmp_path / "objects").rglob("*") if each.is_file()] == [path]


def test_missing_object_is_unavailable(tmp_path: Path) -> None:
    objects = DirectoryObjects(tmp_path)
    ref = ObjectRef(sha256="ab" * 32, size=3)
    assert not objects.has(ref)
    refused("object_missing", lambda: objects.get(ref))
    refused("object_missing", lambda: objects.copy_to(ref, tmp_path / "copy"))
    with pytest.raises(Unavailable):
        objects.get(ref)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"abcdefgi", b"abc", b"abcdefghi"])
def test_changed_object_is_refused_and_mended_by_putting_it_again(tmp_path: Path, content: bytes) -> None:
    objects = DirectoryObjects(tmp_path / "objects")
    ref = objects.put(b"abcdefgh")
    path = place(tmp_path / "objects", ref)
    path.chmod(0o644)
    path.write_bytes(content)
    refused("object_mismatch", lambda: objects.get(ref))
    refused("object_mismatch", lambda: objects.copy_to(ref, tmp_path / "copy"))
    assert [each.name for each in tmp_path.iterdir()] == ["objects"]
    objects.put(b"abcdefgh")
    assert objects.get(ref) == b"abcdefgh"


def test_wrong_size_in_the_reference_is_refused(tmp_path: Path) -> None:
    objects = DirectoryObjects(tmp_path)
    ref = objects.put(b"abc")
    for size in (0, 2, 4):
        wrong = ObjectRef(sha256=ref.sha256, size=size)
        refused("object_mismatch", partial(objects.get, wrong))


def test_link_or_pipe_in_an_objects_place_is_not_followed(tmp_path: Path) -> None:
    objects = DirectoryObjects(tmp_path / "objects")
    ref = objects.put(b"abc")
    path = place(tmp_path / "objects", ref)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused("object_mismatch", lambda: objects.get(ref))
    path.unlink()
    path.mkdir()
    refused("object_mismatch", lambda: objects.get(ref))
    path.rmdir()
    os.mkfifo(path)
    refused("object_mismatch", lambda: objects.get(ref))


def test_reference_cannot_name_a_path() -> None:
    for text in ("../" * 21 + "x", "AB" * 32, "ab" * 31, "ab" * 32 + "\n"):
        with pytest.raises(FormatError):
            ObjectRef.from_json({"sha256": text, "size": 1})
        with pytest.raises(FormatError):
            ObjectRef(sha256=text, size=1)


@pytest.mark.parametrize("size", [True, 1.0, "1", None, -1, 2**53])
def test_reference_that_was_made_here_has_a_size(size: Any) -> None:
    with pytest.raises(FormatError):
        ObjectRef(sha256="ab" * 32, size=size)


def test_reference_that_was_made_here_has_a_digest() -> None:
    digests: list[Any] = [b"ab" * 32, None]
    for digest in digests:
        with pytest.raises(FormatError):
            ObjectRef(sha256=digest, size=1)


def test_huge_object_is_not_read_into_memory(tmp_path: Path) -> None:
    refused(
        "too_large",
        lambda: DirectoryObjects(tmp_path).get(ObjectRef(sha256="ab" * 32, size=MAX_IN_MEMORY + 1)),
    )


def test_copy_never_overwrites(tmp_path: Path) -> None:
    objects = DirectoryObjects(tmp_path / "objects")
    ref = objects.put(b"abc")
    (tmp_path / "taken").write_bytes(b"mine")
    refused("file_exists", lambda: objects.copy_to(ref, tmp_path / "taken"))
    assert (tmp_path / "taken").read_bytes() == b"mine"


def test_failed_sync_keeps_nothing_and_acknowledges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = DirectoryObjects(tmp_path)

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("ledger.durable.os.fsync", fail)
    refused("object_write_failed", lambda: objects.put(b"abc"))
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


def test_object_found_by_its_digest_alone(tmp_path: Path) -> None:
    objects = DirectoryObjects(tmp_path / "objects")
    ref = objects.put(b"content")
    assert objects.find(ref.sha256) == ref
    assert objects.find("ab" * 32) is None
    objects.check(ref)
    refused("object_missing", partial(objects.check, ObjectRef(sha256="ab" * 32, size=7)))
    for name in ("../../etc/passwd", "", "ab" * 31, "AB" * 32):
        refused("bad_format", partial(objects.find, name))


def test_damaged_object_is_found_and_not_whole(tmp_path: Path) -> None:
    objects = DirectoryObjects(tmp_path / "objects")
    ref = objects.put(b"content")
    path = place(tmp_path / "objects", ref)
    path.chmod(0o644)
    path.write_bytes(b"Content")
    assert objects.find(ref.sha256) == ref
    refused("object_mismatch", partial(objects.check, ref))


KILLED = """
import os, signal, sys
from pathlib import Path
from ledger.objects import DirectoryObjects
with DirectoryObjects(Path(sys.argv[1]))._incoming():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def hidden_in(root: Path) -> list[Path]:
    return [each for each in root.iterdir() if each.name.startswith(".")]


def make_old(path: Path) -> None:
    before = time.time() - STRAY_AFTER_S - 60
    os.utime(path, (before, before), follow_symlinks=False)


def test_what_a_killed_put_left_is_removed_by_a_put_long_after(tmp_path: Path) -> None:
    root = tmp_path / "objects"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    (left,) = hidden_in(root)
    DirectoryObjects(root).put(b"soon after")
    assert left.exists()
    make_old(left)
    DirectoryObjects(root).put(b"long after")
    assert not left.exists()


def test_what_a_frozen_process_writes_is_left_to_it(tmp_path: Path) -> None:
    """Also once its content is whole, and only its name is missing."""
    objects = DirectoryObjects(tmp_path)
    with objects._incoming() as (file, hidden):
        file.write(b"frozen")
        make_old(hidden)
        DirectoryObjects(tmp_path).put(b"other")
        assert hidden.exists()
        file.close()
        make_old(hidden)
        DirectoryObjects(tmp_path).put(b"another")
        assert hidden.exists()
    assert not hidden_in(tmp_path)


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "other name"])
def test_nothing_else_is_removed_by_a_put(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "objects"
    root.mkdir()
    path = root / (".notes.tmp" if kind == "other name" else f".{'ab' * 12}.tmp")
    if kind == "link":
        (tmp_path / "file").touch()
        path.symlink_to(tmp_path / "file")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.touch()
    make_old(path)
    DirectoryObjects(root).put(b"content")
    assert hidden_in(root) == [path]
