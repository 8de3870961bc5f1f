"""Write a tree to disk as a release, and remove one.

A release is a copy: no file of it shares an inode with the object store or another release, so nothing that is served
can change behind its digest. Every name is made relative to its directory's descriptor, never through a link, and must
be new. Files are synced first, then directories from the deepest up, so a name on the disk has its content there too.

After an error of a sync the half-written tree is of no use: remove it and write another.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from executor.trees.tree import Directory, File, Link, Tree, shown
from keys.errors import CalyxError, Unavailable
from ledger.objects import MAX_IN_MEMORY, ObjectRef, ObjectStore

_NEW_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 8 * 1024 * 1024
_UNSUPPORTED: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM})


class Content(Protocol):
    """Where the bytes of files come from."""

    def write_to(self, file: File, descriptor: int) -> None:
        """Write a file's whole content to an empty file. Raises: CalyxError when the content is not that file's."""
        ...


class ObjectContent:
    """Content out of an object store. `scratch`: a private directory on the tree's disk, for large files."""

    def __init__(self, objects: ObjectStore, scratch: Path) -> None:
        self._objects = objects
        self._scratch = scratch

    def write_to(self, file: File, descriptor: int) -> None:
        ref = ObjectRef(sha256=file.sha256, size=file.size)
        if file.size <= MAX_IN_MEMORY:
            _write(descriptor, self._objects.get(ref))
            return
        copy = self._scratch / f"{secrets.token_hex(12)}.object"
        try:
            self._objects.copy_to(ref, copy)
            with copy.open("rb") as source:
                _copy(source.fileno(), descriptor)
        finally:
            copy.unlink(missing_ok=True)


class ReleaseContent:
    """Content out of a directory that was scanned as a tree with the same paths."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write_to(self, file: File, descriptor: int) -> None:
        with ExitStack() as stack:
            try:
                directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, directory)
                *above, name = file.path.split("/")
                for segment in above:
                    directory = os.open(segment, _DIRECTORY, dir_fd=directory)
                    stack.callback(os.close, directory)
                source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
                stack.callback(os.close, source)
            except OSError as error:
                raise Unavailable(
                    "tree_unreadable", f"cannot read {shown(file.path)}: {error.strerror}", path=shown(file.path)
                ) from None
            _copy(source, descriptor)
        # What counts is what was written, not what was read before.
        if _digest(descriptor) != file.sha256:
            raise CalyxError("tree_changed", f"{shown(file.path)} changed while it was copied", path=shown(file.path))


def materialise(tree: Tree, objects: ObjectStore, dest: Path) -> None:
    """Write `tree` as a release at the new directory `dest`, whole and durable except for the name `dest` itself.

    Its top keeps mode 0755, as a directory that its owner cannot write cannot be moved to another directory.

    Raises: CalyxError (`object_mismatch`); Unavailable (`object_missing`); OSError.
    """
    write_tree(tree, ObjectContent(objects, dest.parent), dest, sealed=True)


def write_tree(tree: Tree, content: Content, dest: Path, *, sealed: bool) -> None:
    """Write `tree` at the new directory `dest`; `sealed`: with a release's modes and on the disk, else to be changed.

    Raises: as `materialise`.
    """
    dest.mkdir(0o755)
    with _directories(dest) as directories:
        for entry in tree.entries:
            above, _, name = entry.path.rpartition("/")
            parent = directories.at(above)
            match entry:
                case Directory():
                    os.mkdir(name, 0o755, dir_fd=parent)
                case Link(_, target):
                    os.symlink(target, name, dir_fd=parent)
                case File():
                    descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
                    try:
                        content.write_to(entry, descriptor)
                        if not sealed:
                            os.fchmod(descriptor, 0o755 if entry.executable else 0o644)
                    finally:
                        os.close(descriptor)
    if sealed:
        seal(tree, dest)


def seal(tree: Tree, dest: Path) -> None:
    """Give what lies at `dest`, which is `tree`, a release's modes, and put it on the disk. Raises: OSError."""
    with _directories(dest) as directories:
        for entry in tree.entries:
            if isinstance(entry, File):
                above, _, name = entry.path.rpartition("/")
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directories.at(above))
                try:
                    os.fchmod(descriptor, 0o555 if entry.executable else 0o444)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        below = [entry.path for entry in tree.entries if isinstance(entry, Directory)]
        for path in reversed(below):
            os.fchmod(directories.at(path), 0o555)
            os.fsync(directories.at(path))
        os.fchmod(directories.at(""), 0o755)
        os.fsync(directories.at(""))


def discard(path: Path) -> None:
    """Remove a directory tree that may be a sealed release, or a file; links are removed, not followed.

    Raises: OSError.
    """
    with suppress(FileNotFoundError):
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            path.unlink()
            return
        descriptor = os.open(path, _DIRECTORY)
        try:
            _empty(descriptor)
        finally:
            os.close(descriptor)
        path.rmdir()


def _empty(directory: int) -> None:
    os.fchmod(directory, 0o700)
    with os.scandir(directory) as listing:
        names = [(item.name, item.is_dir(follow_symlinks=False)) for item in listing]
    for name, is_directory in names:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
            continue
        descriptor = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            _empty(descriptor)
        finally:
            os.close(descriptor)
        os.rmdir(name, dir_fd=directory)


class _Directories:
    """The descriptors of the directories on the way to the last path asked for, each opened in the one above it."""

    def __init__(self, root: int) -> None:
        self._names: list[str] = []
        self._open = [root]

    def at(self, path: str) -> int:
        names = path.split("/") if path else []
        same = 0
        while same < min(len(names), len(self._names)) and names[same] == self._names[same]:
            same += 1
        while len(self._names) > same:
            self._names.pop()
            os.close(self._open.pop())
        for name in names[same:]:
            self._open.append(os.open(name, _DIRECTORY, dir_fd=self._open[-1]))
            self._names.append(name)
        return self._open[-1]

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())


@contextmanager
def _directories(root: Path) -> Iterator[_Directories]:
    directories = _Directories(os.open(root, _DIRECTORY))
    try:
        yield directories
    finally:
        directories.close()


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _copy(source: int, target: int) -> None:
    # copy_file_range shares the blocks where the file system can (a reflink), and never the inode.
    try:
        while os.copy_file_range(source, target, _CHUNK):
            pass
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    while chunk := os.read(source, _CHUNK):
        _write(target, chunk)


def _digest(descriptor: int) -> str:
    digest = sha256()
    os.lseek(descriptor, 0, os.SEEK_SET)
    while chunk := os.read(descriptor, _CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
