"""Read a tar archive as a tree and keep its content as objects. Nothing is ever written under a name out of it.

Plain, gzip, bzip2 or xz. It is read twice: once for everything that it says, so that what is refused costs nothing, and
once for its content. An archive is a way to hand in a directory, and what is deployed is the directory: links and modes
count, owners and times do not.

Refused are names and links that leave the tree, names that are there twice, devices and pipes, set-id bits, sparse
files, more than the limits below, and whatever does not end as an archive ends.

Source: POSIX pax(1), "ustar Interchange Format"; Python's tarfile reads the headers.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from executor.trees.archive_headers import Archive, Member, bad_archive
from executor.trees.scan import MAX_ENTRIES, with_shared
from executor.trees.tree import Directory, Entry, File, Link, Tree, check_path, check_shared, make_tree, parents, shown
from keys.errors import CalyxError, UsageError
from ledger.objects import MAX_IN_MEMORY, ObjectRef, ObjectStore

MAX_CONTENT: Final = 4 * 1024 * 1024 * 1024
"""Bytes that an archive may unpack to, headers and padding included; and its files, each second name of one counted."""
_XZ_MEMORY: Final = 128 * 1024 * 1024
_CHUNK: Final = 1024 * 1024
_BLOCK: Final = 512
_SET_ID: Final = 0o6000
_DAMAGE: Final = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, RecursionError, ValueError)


def ingest_archive(path: Path, objects: ObjectStore, shared: Collection[str]) -> tuple[Tree, str]:
    """The tree of an archive, as `executor.trees.scan.ingest` gives that of a directory, and the archive's own SHA-256.
    Files and manifest are objects on return.

    Raises: CalyxError that names the path: as `make_tree`; `bad_archive`, `bad_file_type`, `set_id`, `too_large`,
    `tree_changed`; UsageError (`source_missing`); as `ObjectStore.put`.
    """
    if not path.is_file():
        raise UsageError("source_missing", f"{shown(str(path))} is not a file")
    skip = check_shared(shared)
    with path.open("rb") as file:
        digest = _digest(file)
        # What it is said to hold must be a tree before anything of it is kept.
        _tree(file, skip, lambda _, content: _pass_over(content))
        with tempfile.TemporaryDirectory(prefix="calyx-archive-") as scratch:
            tree = _tree(file, skip, lambda entry, content: _keep(entry, content, objects, Path(scratch)))
        if _digest(file) != digest:
            raise CalyxError("tree_changed", f"{shown(str(path))} changed while it was read", hint="try again")
    if not objects.has(tree.ref):
        objects.put(tree.manifest)
    return tree, digest


def _tree(file: BinaryIO, skip: frozenset[str], keep: Callable[[str, BinaryIO], ObjectRef]) -> Tree:
    """The tree that an archive holds; `keep` takes each file's content, by its path."""
    entries: dict[str, Entry] = {}
    file.seek(0)
    with _reading(), Archive.open(fileobj=_Limited(_unpacked(file)), mode="r|", tarinfo=Member) as archive:
        count = size = 0
        while (member := archive.next()) is not None:
            # It would keep each one.
            cast("Any", archive).members.clear()
            archive.headers = 0
            count += 1
            if count > MAX_ENTRIES:
                raise CalyxError("too_large", f"the archive has more than {MAX_ENTRIES} entries", limit=MAX_ENTRIES)
            if member.size and (member.isdir() or member.issym() or member.islnk()):
                # Programs differ in whether it is there, and so in what comes next.
                raise bad_archive(f"says that {shown(member.name)} has content, and it is no file")
            path = _path(member.name)
            if path is None:
                if not member.isdir():
                    raise bad_archive("holds something without a name")
                continue
            if path in entries:
                raise bad_archive(f"holds {shown(path)} twice", path)
            entry = entries[path] = _entry(archive, member, path, entries, keep)
            size += entry.size if isinstance(entry, File) else 0
            if size > MAX_CONTENT:
                raise _too_large()
        _check_end(archive)
    kept = {path: entry for path, entry in entries.items() if path not in skip and skip.isdisjoint(parents(path))}
    for path in list(kept):
        for parent in parents(path):
            kept.setdefault(parent, Directory(parent))
    return make_tree(with_shared(list(kept.values()), skip), skip)


def _entry(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    path: str,
    earlier: dict[str, Entry],
    keep: Callable[[str, BinaryIO], ObjectRef],
) -> Entry:
    if member.mode & _SET_ID:
        raise CalyxError(
            "set_id", f"{shown(path)} has a set-user-id or set-group-id bit", hint="remove it", path=shown(path)
        )
    if member.isdir():
        return Directory(path)
    if member.issym():
        return Link(path, member.linkname)
    if member.islnk():
        # A second name of a file that came before is a copy of it.
        first = earlier.get(_path(member.linkname) or "")
        if not isinstance(first, File):
            raise bad_archive(f"makes {shown(path)} a second name of what is no file before it", path)
        return File(path, first.sha256, first.size, first.executable)
    content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
    if content is None:
        raise CalyxError(
            "bad_file_type", f"{shown(path)} is neither a plain file, a directory nor a link", path=shown(path)
        )
    ref = keep(path, cast("BinaryIO", content))
    if ref.size != member.size:
        raise bad_archive(f"ends within {shown(path)}", path)
    return File(path, ref.sha256, ref.size, bool(member.mode & 0o111))


def _path(name: str) -> str | None:
    """A member's name as a path of a tree; None for the root itself. Raises: CalyxError `bad_path`."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    if name in ("", "."):
        return None
    check_path(name)
    return name


def _pass_over(content: BinaryIO) -> ObjectRef:
    size = 0
    while chunk := content.read(_CHUNK):
        size += len(chunk)
    return ObjectRef(sha256="0" * 64, size=size)


def _keep(path: str, content: BinaryIO, objects: ObjectStore, scratch: Path) -> ObjectRef:
    del path
    data = content.read(MAX_IN_MEMORY)
    if len(data) < MAX_IN_MEMORY:
        return objects.put(data)
    copy = scratch / "file"
    with copy.open("wb") as file:
        while data:
            file.write(data)
            data = content.read(_CHUNK)
    try:
        return objects.put_file(copy)
    finally:
        copy.unlink()


def _check_end(archive: tarfile.TarFile) -> None:
    """Prove that an archive ends with empty blocks and nothing after them: what else follows some programs would read,
    and an archive that was cut between two members has none.
    """
    rest = cast("Any", archive.fileobj)
    size = 0
    while chunk := rest.read(_CHUNK):
        size += len(chunk)
        if chunk.strip(b"\0"):
            raise bad_archive("goes on after its end")
    if size < _BLOCK:
        raise bad_archive("ends too early")


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        # A decompressor's OSError has no number; a disk's has.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise bad_archive(f"cannot be read: {shown(str(error))[:200] or type(error).__name__}") from None


class _Limited(io.RawIOBase):
    """Bytes of another file, at most `MAX_CONTENT`."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._left = MAX_CONTENT

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large()
        return data


def _too_large() -> CalyxError:
    return CalyxError("too_large", f"the archive unpacks to more than {MAX_CONTENT} bytes", limit=MAX_CONTENT)


class _Xz(io.RawIOBase):
    """What an xz file holds, unpacked within limits of memory that the file does not choose."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._stream = self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int = -1) -> bytes:
        while True:
            given = b""
            if self._stream.eof:
                # Streams may follow each other, with zeros between them.
                given = self._stream.unused_data.lstrip(b"\0") or self._source.read(_CHUNK).lstrip(b"\0")
                if not given:
                    return b""
                self._stream = self._new()
            elif self._stream.needs_input:
                given = self._source.read(_CHUNK)
                if not given:
                    raise EOFError("it ends within a compressed stream")
            data = self._stream.decompress(given, size)
            if data:
                return data


def _unpacked(file: BinaryIO) -> Any:
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(file)
    return _Xz(file) if magic == b"\xfd7zXZ\0" else file


def _digest(file: BinaryIO) -> str:
    file.seek(0, os.SEEK_SET)
    digest = sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
