"""Tree manifests as an audit reads them: the one that a tree digest stands for, or none.

    manifest = canonical JSON ["calyx-tree-v1", [path, "file" | "exec", sha256, size], [path, "link", target],
                               [path, "dir"], ...]

Rows are sorted by the UTF-8 bytes of their paths, each path once, each in a directory that is listed. Where links lead
is followed before anything is deployed (`executor.trees.tree`), and not here.

Source: docs/FORMAT.md, tree digest.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Final, NoReturn

from keys.canonical import parse_json
from keys.errors import FormatError
from ledger.objects import ObjectRef

TREE_MAGIC: Final = "calyx-tree-v1"
MAX_MANIFEST: Final = 64 * 1024 * 1024
MAX_PATH: Final = 4_095
"""Bytes of a path or a link's target."""
MAX_NAME: Final = 255
"""Bytes of a segment."""
MAX_DEPTH: Final = 64
"""Segments."""


def manifest_files(data: bytes) -> Iterator[ObjectRef]:
    """The files that a tree manifest lists.

    Raises: FormatError (`bad_format`, `too_large`, `not_canonical`; `bad_path`, `bad_tree`) when the bytes are not the
    manifest of a tree.
    """
    value = parse_json(data, limit=MAX_MANIFEST)
    if not isinstance(value, list) or value[:1] != [TREE_MAGIC]:
        raise FormatError("an object that should be a tree manifest is something else")
    files: list[ObjectRef] = []
    directories = {""}
    last = b""
    for item in value[1:]:
        match item:
            case [str(path), "file" | "exec", digest, size]:
                files.append(ObjectRef.from_json({"sha256": digest, "size": size}))
            case [str(path), "link", str(target)]:
                _check_target(path, target)
            case [str(path), "dir"]:
                directories.add(path)
            case _:
                raise FormatError("a tree manifest lists something that is no file, link or directory")
        _check_path(path)
        if path.encode() <= last:
            raise FormatError(f"a tree manifest lists {_shown(path)} out of order or twice", code="bad_tree")
        last = path.encode()
        if path.rpartition("/")[0] not in directories:
            raise FormatError(f"a tree manifest lists {_shown(path)} in no listed directory", code="bad_tree")
    return iter(files)


def _check_path(path: str) -> None:
    segments = path.split("/")
    if not {"", ".", ".."}.isdisjoint(segments):
        _refuse(path, "is not a plain relative path")
    if len(segments) > MAX_DEPTH or any(len(segment.encode()) > MAX_NAME for segment in segments):
        _refuse(path, "is longer or deeper than a file system allows")
    _check_text(path, path)


def _check_target(path: str, target: str) -> None:
    if not target or target.startswith("/"):
        _refuse(path, "is a link with no relative target")
    _check_text(path, target)


def _check_text(path: str, text: str) -> None:
    if len(text.encode()) > MAX_PATH:
        _refuse(path, "is longer or deeper than a file system allows")
    if not text.isprintable() and any(unicodedata.category(char) == "Cc" for char in text):
        _refuse(path, "holds a control character")


def _refuse(path: str, why: str) -> NoReturn:
    raise FormatError(f"{_shown(path)} in a tree manifest {why}", code="bad_path")


def _shown(path: str) -> str:
    text = path[:200]
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
