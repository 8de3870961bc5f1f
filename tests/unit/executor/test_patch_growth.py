"""Small patches that would make large trees."""

from __future__ import annotations

import base64
import subprocess
import zlib
from hashlib import sha1
from pathlib import Path

import pytest
from programs import require_program

from executor.trees.patch import apply_patch
from executor.trees.patch_format import MAX_CONTENT, parse_patch
from keys.errors import CalyxError

BLOCK = b"A" * 65_536


def number(value: int) -> bytes:
    """A size as a delta spells it."""
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def armoured(data: bytes) -> bytes:
    """Bytes in the lines of a binary patch."""
    lines = []
    for at in range(0, len(data), 52):
        part = data[at : at + 52]
        length = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[len(part) - 1 : len(part)]
        lines.append(length + base64.b85encode(part + bytes(-len(part) % 4)))
    return b"\n".join(lines)


def blob(content: bytes) -> bytes:
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest().encode()


def delta_patch(blocks: int, target: bytes = b"", *, copies: int = 1, word: bytes = b"delta %d") -> bytes:
    """A patch that makes files of so many 64 KiB blocks out of one, by a delta of a byte for each block."""
    delta = number(len(BLOCK)) + number(blocks * len(BLOCK)) + b"\x80" * blocks
    part = (word % len(delta)) + b"\n" + armoured(zlib.compress(delta, 9)) + b"\n"
    new = blob(target) if target else b"1" * 40
    return b"".join(
        b"diff --git a/base b/copy%d\nsimilarity index 1%%\ncopy from base\ncopy to copy%d\n"
        b"index %b..%b 100644\nGIT binary patch\n%b\n%b\n" % (n, n, blob(BLOCK), new, part, part)
        for n in range(copies)
    )


def refused(patch: bytes, tree: Path) -> str:
    (tree.parent / "patch").write_bytes(patch)
    with pytest.raises(CalyxError) as caught:
        apply_patch(tree.parent / "patch", tree)
    assert sorted(path.name for path in tree.iterdir()) == ["base"]
    return caught.value.code


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    require_program("git")
    root = tmp_path / "tree"
    root.mkdir()
    (root / "base").write_bytes(BLOCK)
    return root


def test_size_of_a_delta_is_that_of_the_file_it_makes(tree: Path) -> None:
    patch = delta_patch(3, BLOCK * 3)
    assert [change.size for change in parse_patch(patch)] == [3 * len(BLOCK)]
    (tree.parent / "patch").write_bytes(patch)
    apply_patch(tree.parent / "patch", tree)
    assert (tree / "copy0").read_bytes() == BLOCK * 3


def test_size_of_a_delta_that_git_wrote_is_read(tmp_path: Path) -> None:
    require_program("git")
    # Not compressible, so that git writes a delta and its deflate header is a long one.
    content = b"".join(sha1(b"%d" % n, usedforsecurity=False).digest() for n in range(4000))
    for name, data in (("a", content), ("b", content[:30_000] + b"\0changed\0" + content[30_000:])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(data)
    made = subprocess.run(
        ["git", "diff", "--no-index", "--no-prefix", "--binary", "a", "b"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert b"\ndelta " in made.stdout
    assert [change.size for change in parse_patch(made.stdout)] == [len(content) + 9]


def test_small_delta_that_makes_a_large_file_is_refused(tree: Path) -> None:
    patch = delta_patch(MAX_CONTENT // len(BLOCK) // 2, copies=2)
    assert len(patch) < 2000
    assert refused(patch, tree) == "too_large"


@pytest.mark.parametrize("word", [b"delta  %d", b"delta +%d", b"delta %d ", b"delta %dx", b"Delta %d"])
def test_delta_whose_size_git_reads_otherwise_is_refused(tree: Path, word: bytes) -> None:
    assert refused(delta_patch(3, BLOCK * 3, word=word), tree) == "bad_patch"


@pytest.mark.parametrize("lines", [b"", b"!!", b"zabcde", b"A"])
def test_delta_that_cannot_be_read_is_refused(tree: Path, lines: bytes) -> None:
    patch = b"diff --git a/base b/base\nindex 1..2 100644\nGIT binary patch\ndelta 9\n%b\n\n" % lines
    assert refused(patch, tree) == "bad_patch"


def test_copies_that_would_fill_the_disk_are_refused(tree: Path) -> None:
    count = MAX_CONTENT // len(BLOCK) + 2
    patch = b"".join(
        b"diff --git a/base b/c%d\nsimilarity index 100%%\ncopy from base\ncopy to c%d\n" % (n, n) for n in range(count)
    )
    assert refused(patch, tree) == "too_large"
