"""Objects: content that is too large for an entry, kept under its SHA-256.

    objects/ab/cdef...      the first byte of the digest, in hex, then the other 31; mode 0444

A name is only where to look: what is read is hashed, and what has another hash is not given out. A missing or damaged
object stops what needs it; putting the same content again mends it. What a killed process left half-written is removed
by a put long after.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from keys.canonical import MAX_INTEGER
from keys.errors import CalyxError, FormatError, Unavailable, UsageError
from keys.plain import Plain
from keys.regular import open_regular
from keys.values import Count, Hash
from keys.words import counted
from ledger.durable import hidden_file, make_directory, sync_directory, sync_file
from ledger.place import held, remove_left

MAX_IN_MEMORY: Final = 64 * 1024 * 1024
CHUNK: Final = 1024 * 1024
OBJECT_CODES: Final = frozenset({"object_missing", "object_mismatch", "object_unreadable"})
"""Codes that say that an object is lost, and nothing against what names it."""
_DIGEST: Final = re.compile("[0-9a-f]{64}")


class ObjectRef(Plain, frozen=True):
    """An object as entries carry it. `size`: bytes.

    Raises: FormatError when it is made of something else; its digest becomes the name of a file.
    """

    sha256: Hash
    size: Count

    def __post_init__(self) -> None:
        if (
            type(self.sha256) is not str
            or type(self.size) is not int
            or not _DIGEST.fullmatch(self.sha256)
            or not 0 <= self.size <= MAX_INTEGER
        ):
            raise FormatError("an object is named by 64 lower-case hex digits and a size")


class ObjectStore(Protocol):
    """Where objects are kept. Every read is verified against the reference."""

    def has(self, ref: ObjectRef) -> bool:
        """Whether something of this size is there under this name. Proves nothing about its content."""
        ...

    def get(self, ref: ObjectRef) -> bytes:
        """The object's content, at most 64 MiB. Raises: Unavailable (`object_missing`, `object_unreadable`); CalyxError
        (`object_mismatch`); FormatError (`too_large`).
        """
        ...

    def find(self, digest: str) -> ObjectRef | None:
        """The reference of what is stored under a SHA-256, where only that is known. Proves nothing, as `has`.

        Raises: FormatError for what is no SHA-256.
        """
        ...

    def check(self, ref: ObjectRef) -> None:
        """Prove that the object is here and whole, whatever its size. Raises: as `get`, but for `too_large`."""
        ...

    def copy_to(self, ref: ObjectRef, path: Path) -> None:
        """Write the object's content to the new file `path`, of any size; the file is there only if it is whole.

        Raises: as `get`; UsageError (`file_exists`); Unavailable (`file_write_failed`).
        """
        ...

    def put(self, data: bytes) -> ObjectRef:
        """Keep content, durable on return. Raises: Unavailable (`object_write_failed`)."""
        ...

    def put_file(self, path: Path) -> ObjectRef:
        """Keep what is read from a file, of any size, durable on return. Raises: as `put`; Unavailable."""
        ...


class DirectoryObjects:
    """`ObjectStore` in a directory of this machine."""

    def __init__(self, root: Path) -> None:
        self._root: Final = root
        self._cleared = False

    def has(self, ref: ObjectRef) -> bool:
        try:
            status = self._path(ref).lstat()
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == ref.size

    def get(self, ref: ObjectRef) -> bytes:
        if ref.size > MAX_IN_MEMORY:
            raise FormatError(f"an object of {counted(ref.size, 'byte')} is not read into memory", code="too_large")
        return b"".join(self.stream(ref))

    def find(self, digest: str) -> ObjectRef | None:
        # The reference is made first, so that only a digest ever becomes a path.
        path = self._path(ObjectRef(sha256=digest, size=0))
        try:
            status = path.lstat()
        except OSError:
            return None
        return ObjectRef(sha256=digest, size=status.st_size) if stat.S_ISREG(status.st_mode) else None

    def check(self, ref: ObjectRef) -> None:
        for _ in self.stream(ref):
            pass

    def copy_to(self, ref: ObjectRef, path: Path) -> None:
        try:
            with hidden_file(path.parent, 0o600) as (file, hidden):
                for chunk in self.stream(ref):
                    file.write(chunk)
                _finish(file)
                os.link(hidden, path)
            sync_directory(path.parent)
        except FileExistsError:
            raise UsageError("file_exists", f"{path} exists", hint="choose another name") from None
        except OSError as error:
            raise Unavailable("file_write_failed", f"cannot write {path}: {error.strerror}") from None

    def put(self, data: bytes) -> ObjectRef:
        with self._incoming() as (file, hidden):
            file.write(data)
            return self._keep(file, hidden, ObjectRef(sha256=sha256(data).hexdigest(), size=len(data)))

    def put_file(self, path: Path) -> ObjectRef:
        try:
            source = os.fdopen(open_regular(path), "rb")
        except OSError as error:
            raise Unavailable("file_unreadable", f"cannot read {path}: {error.strerror}") from None
        # What is hashed is what is written, so a file that changes meanwhile cannot get another content's name.
        digest, size = sha256(), 0
        with source, self._incoming() as (file, hidden):
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
            return self._keep(file, hidden, ObjectRef(sha256=digest.hexdigest(), size=size))

    def _path(self, ref: ObjectRef) -> Path:
        return self._root / ref.sha256[:2] / ref.sha256[2:]

    def stream(self, ref: ObjectRef) -> Iterator[bytes]:
        """The content in pieces; raises at the end if they were not the object's, so act on none before that."""
        path = self._path(ref)
        digest, left = sha256(), ref.size
        try:
            # A link, a FIFO or a device in an object's place is not an object.
            descriptor = os.open(
                path,
                os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0),
            )
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_size != ref.size:
                    raise _mismatch(ref)
                while left:
                    chunk = os.read(descriptor, min(CHUNK, left))
                    if not chunk:
                        break
                    digest.update(chunk)
                    left -= len(chunk)
                    yield chunk
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            raise Unavailable(
                "object_missing",
                f"object {ref.sha256[:16]} is not in the store",
                hint="fetch it from whoever proposed it, or from a copy, and put it in",
                object=ref.sha256,
            ) from None
        except OSError as error:
            # What opening a link gives. Whether it is one may not be asked of what this user may not see.
            if error.errno == errno.ELOOP:
                raise _mismatch(ref) from None
            raise Unavailable(
                "object_unreadable", f"object {ref.sha256[:16]} cannot be read: {error.strerror}", object=ref.sha256
            ) from None
        if left or digest.hexdigest() != ref.sha256:
            raise _mismatch(ref)

    @contextmanager
    def _incoming(self) -> Iterator[tuple[BinaryIO, Path]]:
        try:
            make_directory(self._root)
            with hidden_file(self._root, 0o600) as (file, hidden), held(file):
                if not self._cleared:
                    remove_left(self._root, os.fstat(file.fileno()).st_mtime)
                    self._cleared = True
                yield file, hidden
        except OSError as error:
            raise Unavailable(
                "object_write_failed", f"cannot keep an object in {self._root}: {error.strerror}"
            ) from None

    def _keep(self, file: BinaryIO, hidden: Path, ref: ObjectRef) -> ObjectRef:
        path = self._path(ref)
        hidden.chmod(0o444)
        _finish(file)
        make_directory(path.parent)
        # Replacing what is there does no harm if it is whole, and mends it if it is not.
        hidden.replace(path)
        sync_directory(path.parent)
        return ref


def _finish(file: BinaryIO) -> None:
    file.flush()
    sync_file(file.fileno())
    file.close()


def _mismatch(ref: ObjectRef) -> CalyxError:
    return CalyxError(
        "object_mismatch",
        f"what is stored as object {ref.sha256[:16]} is something else",
        hint="put the right content in again; it replaces the wrong one",
        object=ref.sha256,
    )
