"""Trees: what a release holds, as a manifest whose SHA-256 is the tree digest.

    ["calyx-tree-v1",["bin","dir"],["bin/run","exec","<sha256>",512],["etc","link","conf"],["readme","file","<sha256>",9]]

The manifest is canonical JSON, its entries sorted by the bytes of their whole path; each directory is listed, empty or
not, the root is not. A manifest is itself an object, so the tree digest is also the name under which it is kept.

A link must not lead out of the tree, also not through other links. The exception are the fleet's `shared` paths: there
the tree holds exactly the link that leads from `root/releases/<digest>/<path>` to `root/shared/<path>`
(`shared_target`). Shared links are part of the digest, so anyone can compute it from the disk alone; what they lead to
is not. Where `shared` is asked for, None accepts such a link at any path, as one reads a tree without its fleet; a set
demands that links of that form, and nothing else, stand at its paths, and accepts them nowhere else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeAlias

from keys.canonical import Json, format_json, parse_json
from keys.errors import CalyxError, FormatError, Unavailable
from keys.values import ZERO_HASH
from ledger.objects import ObjectRef, ObjectStore

MAGIC: Final = "calyx-tree-v1"
MAX_MANIFEST: Final = 64 * 1024 * 1024
"""Bytes of a manifest."""
MAX_PATH: Final = 4095
"""Bytes of a path or a link's target; one less than Linux's PATH_MAX, which counts the NUL."""
MAX_NAME: Final = 255
MAX_DEPTH: Final = 64
"""Segments of a path. A walk holds one file descriptor for each."""
_MAX_HOPS: Final = 40
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class File:
    """A regular file. `executable`: listed as `exec`. `size`: bytes."""

    path: str
    sha256: str
    size: int
    executable: bool


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link and its text."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory below the root."""

    path: str


Entry: TypeAlias = File | Link | Directory


@dataclass(frozen=True, slots=True)
class Tree:
    """A lawful tree. Made by `make_tree` and `parse_manifest` only. `manifest`: its canonical bytes."""

    entries: tuple[Entry, ...]
    manifest: bytes
    digest: str

    @property
    def ref(self) -> ObjectRef:
        """The manifest as an object."""
        return ObjectRef(sha256=self.digest, size=len(self.manifest))

    def files(self) -> tuple[ObjectRef, ...]:
        """The content of every file, as objects, in the manifest's order; the same one may be there more than once."""
        return tuple(ObjectRef(sha256=e.sha256, size=e.size) for e in self.entries if isinstance(e, File))


def make_tree(entries: Iterable[Entry], shared: Collection[str] | None = None) -> Tree:
    """The tree of these entries, in any order.

    Raises: CalyxError (`bad_path`, `bad_tree`, `link_escapes`, `bad_shared`, `too_large`) that names the path.
    """
    ordered = tuple(sorted(entries, key=lambda entry: entry.path.encode("utf-8", "surrogateescape")))
    check_entries(ordered, shared)
    manifest = format_manifest(ordered)
    return Tree(ordered, manifest, sha256(manifest).hexdigest())


def format_manifest(entries: Iterable[Entry]) -> bytes:
    """The manifest of sorted entries. Inverse of `parse_manifest`. Raises: FormatError (`too_large`)."""
    items: list[Json] = [MAGIC]
    items.extend(_item(entry) for entry in entries)
    manifest = format_json(items)
    if len(manifest) > MAX_MANIFEST:
        raise FormatError("a tree's manifest is over 64 MiB", code="too_large", limit=MAX_MANIFEST)
    return manifest


def parse_manifest(data: bytes, shared: Collection[str] | None = None) -> Tree:
    """Parse a manifest; the tree's digest is the SHA-256 of `data`.

    Raises: FormatError (`too_large`, `not_canonical`, `bad_format`); CalyxError as `make_tree`.
    """
    value = parse_json(data, limit=MAX_MANIFEST)
    if not isinstance(value, list) or not value or value[0] != MAGIC:
        raise FormatError(f"a tree's manifest begins with {MAGIC}")
    entries = tuple(_entry(item) for item in value[1:])
    check_entries(entries, shared)
    return Tree(entries, data, sha256(data).hexdigest())


def load_tree(digest: str, objects: ObjectStore) -> Tree:
    """The tree of a digest, from its manifest. Raises: Unavailable (`object_missing`); CalyxError of the manifest."""
    ref = objects.find(digest)
    if ref is None:
        raise Unavailable("object_missing", f"the manifest of tree {digest[:16]} is not in the store", object=digest)
    return parse_manifest(objects.get(ref))


def changed_paths(before: Tree | None, after: Tree) -> tuple[str, ...]:
    """Every path whose entry differs, sorted by its bytes; an added or removed directory has a `/` at its end."""
    old, new = (set(before.entries) if before else set()), set(after.entries)
    paths = {f"{entry.path}/" if isinstance(entry, Directory) else entry.path for entry in old ^ new}
    return tuple(sorted(paths, key=str.encode))


def shared_target(path: str) -> str:
    """The text of the link that stands at the shared path `path` of a release."""
    return "../" * (path.count("/") + 2) + "shared/" + path


def check_shared(shared: Collection[str]) -> frozenset[str]:
    """The shared paths, none of which is a bad path or lies in another.

    Raises: CalyxError (`bad_shared`).
    """
    paths = frozenset(shared)
    for path in paths:
        try:
            check_path(path)
        except CalyxError as error:
            raise CalyxError("bad_shared", f"shared {error.message}", path=shown(path)) from None
        if any(parent in paths for parent in parents(path)):
            raise CalyxError("bad_shared", f"shared path {shown(path)} lies in another one", path=shown(path))
    return paths


def check_path(path: str) -> None:
    """Accept a relative path of plain names: UTF-8, no control characters, no `.`, `..` or empty segment.

    Raises: CalyxError (`bad_path`).
    """
    if not path.isascii() or not path.isprintable():
        _check_text(path, path)
    segments = path.split("/")
    # A character is at most four bytes.
    if len(path) > MAX_NAME // 4 and (
        len(path.encode()) > MAX_PATH or any(len(segment.encode()) > MAX_NAME for segment in segments)
    ):
        raise _bad_path(path, "is longer than a file system allows")
    if len(segments) > MAX_DEPTH:
        raise _bad_path(path, f"is deeper than {MAX_DEPTH} directories")
    if "" in segments or "." in segments or ".." in segments:
        raise _bad_path(path, "is not a plain relative path")


def parents(path: str) -> Iterable[str]:
    """The directories above a path, the root left out, nearest first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def shown(path: str) -> str:
    """A path as it can be printed: what is not printable is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in path)


def check_entries(entries: tuple[Entry, ...], shared: Collection[str] | None) -> None:
    """Accept entries that form a tree: sorted, unique, lawful paths, directories listed, links that stay inside.

    Raises: CalyxError (`bad_path`, `bad_tree`, `link_escapes`, `bad_shared`) that names the path.
    """
    if shared is None:
        shared = [
            entry.path for entry in entries if isinstance(entry, Link) and entry.target == shared_target(entry.path)
        ]
    shared = check_shared(shared)
    last = b""
    known: dict[str, Entry] = {}
    for entry in entries:
        path = entry.path
        check_path(path)
        encoded = path.encode()
        if encoded <= last:
            raise CalyxError("bad_tree", f"entry {shown(path)} is out of order or there twice", path=shown(path))
        last = encoded
        parent = path.rpartition("/")[0]
        if parent and not isinstance(known.get(parent), Directory):
            raise CalyxError("bad_tree", f"{shown(path)} is not in a listed directory", path=shown(path))
        if path in shared and (not isinstance(entry, Link) or entry.target != shared_target(path)):
            raise CalyxError(
                "bad_shared", f"{shown(path)} is a shared path and must be the link to it", path=shown(path)
            )
        known[path] = entry
    links = _Links(known, shared)
    for entry in entries:
        if isinstance(entry, Link) and entry.path not in shared:
            links.end(entry)


class _Links:
    """Follows links as the kernel would, so that a `..` behind another link is taken from where that link leads.

    Behind a name that is not in the tree nothing can be reached; it counts as a directory, which only makes the check
    stricter. Each link is followed once, so the work grows with the manifest and no faster.
    """

    def __init__(self, known: dict[str, Entry], shared: Collection[str]) -> None:
        self._known = known
        self._shared = shared
        self._ends: dict[str, tuple[tuple[str, ...] | None, int]] = {}
        self._open: set[str] = set()

    def end(self, link: Link) -> tuple[tuple[str, ...] | None, int]:
        """Where a link leads, None for below a shared path, and through how many links.

        Raises: CalyxError (`link_escapes`, `bad_path`).
        """
        if link.path in self._ends:
            return self._ends[link.path]
        if link.path in self._open or len(self._open) >= _MAX_HOPS:
            raise _escapes(link, "leads through too many links")
        self._open.add(link.path)
        end = self._ends[link.path] = self._follow(link)
        self._open.remove(link.path)
        return end

    def _follow(self, link: Link) -> tuple[tuple[str, ...] | None, int]:
        text = link.target
        _check_text(text, link.path)
        if not text or len(text.encode()) > MAX_PATH:
            raise CalyxError("bad_path", f"the link {shown(link.path)} has no lawful target", path=shown(link.path))
        if text.startswith("/"):
            raise _escapes(link)
        place: list[str] | None = link.path.split("/")[:-1]
        hops = 1
        for segment in text.split("/"):
            if segment in ("", "."):
                continue
            if segment == "..":
                if not place:
                    raise _escapes(link)
                place.pop()
                continue
            if place is None:
                continue
            path = "/".join([*place, segment])
            found = self._known.get(path)
            if path in self._shared:
                place = None
            elif isinstance(found, Link):
                end, more = self.end(found)
                place = None if end is None else list(end)
                hops += more
            else:
                place.append(segment)
            if hops > _MAX_HOPS or len(place or ()) > MAX_DEPTH:
                raise _escapes(link, "leads through too many links")
        return (None if place is None else tuple(place)), hops


def _escapes(link: Link, why: str = "leads out of the tree") -> CalyxError:
    return CalyxError(
        "link_escapes",
        f"the link {shown(link.path)} {why}",
        hint="replace it by what it leads to, or name it in the fleet's shared paths",
        path=shown(link.path),
    )


def _bad_path(path: str, why: str) -> CalyxError:
    return CalyxError("bad_path", f"path {shown(path)[:200]} {why}", path=shown(path)[:4096])


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _bad_path(path, "is not UTF-8") from None
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise _bad_path(path, "holds a control character")


def _item(entry: Entry) -> list[Json]:
    match entry:
        case File(path, digest, size, executable):
            return [path, "exec" if executable else "file", digest, size]
        case Link(path, target):
            return [path, "link", target]
        case Directory(path):
            return [path, "dir"]


def _entry(item: Json) -> Entry:
    match item:
        case [str(path), "file" | "exec" as kind, str(digest), int(size)] if not isinstance(size, bool):
            if len(digest) != len(ZERO_HASH) or not _HEX.issuperset(digest):
                raise FormatError("a manifest's file has no SHA-256 in lower-case hex", path=shown(path))
            return File(path, digest, size, kind == "exec")
        case [str(path), "link", str(target)]:
            return Link(path, target)
        case [str(path), "dir"]:
            return Directory(path)
        case _:
            raise FormatError("a manifest holds something that is not a file, exec, link or dir entry")
