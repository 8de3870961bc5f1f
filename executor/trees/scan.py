"""Read a directory on disk as a tree, and keep its content as objects.

Every name is opened relative to its directory's descriptor and never through a link, so nothing outside the root can
be read, whatever is renamed meanwhile. What changes while it is read is refused, not guessed at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

from executor.trees.tree import (
    MAX_DEPTH,
    Directory,
    Entry,
    File,
    Link,
    Tree,
    check_shared,
    make_tree,
    shared_target,
    shown,
)
from keys.errors import CalyxError, Unavailable
from ledger.objects import ObjectRef, ObjectStore

FILE_MODES: Final = frozenset({0o444, 0o555})
DIRECTORY_MODE: Final = 0o555
MAX_ENTRIES: Final = 1_000_000
_CHUNK: Final = 1024 * 1024
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


def scan(root: Path, shared: Collection[str] | None = None) -> Tree:
    """The tree below `root`, every byte read. `shared`: as executor.trees.tree says.

    Raises: CalyxError that names the path: `bad_path`, `bad_tree`, `link_escapes`, `bad_shared` (see `make_tree`);
    `bad_file_type`; `set_id`; `tree_changed` when something changed while it was read; Unavailable `tree_unreadable`.
    """
    with _root(root) as descriptor:
        return make_tree(_Walk(frozenset(), sealed=False).entries(descriptor), shared)


def scan_release(root: Path) -> Tree:
    """As `scan`, of a release: files have mode 0444 or 0555, directories 0555. It stays the same tree when the fleet's
    shared paths change. Raises: also CalyxError `bad_mode`.
    """
    with _root(root) as descriptor:
        return make_tree(_Walk(frozenset(), sealed=True).entries(descriptor))


def scan_source(root: Path, shared: Collection[str]) -> Tree:
    """The tree that a release made from `root` has: as `scan`, with the link to it at each shared path, whatever is
    there in `root`. What lies at a shared path is not read and does not become part of the tree.

    Raises: as `scan`.
    """
    paths = check_shared(shared)
    with _root(root) as descriptor:
        entries = list(_Walk(paths, sealed=False).entries(descriptor))
    return make_tree(with_shared(entries, paths), paths)


def ingest(root: Path, objects: ObjectStore, shared: Collection[str]) -> Tree:
    """`scan_source`, and every file and the manifest kept as objects, durable on return.

    Raises: as `scan`; as `ObjectStore.put_file`.
    """
    tree = scan_source(root, shared)
    for entry in tree.entries:
        if isinstance(entry, File):
            ref = ObjectRef(sha256=entry.sha256, size=entry.size)
            if not objects.has(ref) and objects.put_file(root / entry.path) != ref:
                raise _changed(entry.path)
    if not objects.has(tree.ref):
        objects.put(tree.manifest)
    return tree


def with_shared(entries: list[Entry], shared: frozenset[str]) -> list[Entry]:
    """Entries and, where they lack them, the shared links and the directories above them."""
    have = {entry.path: entry for entry in entries}
    for path in shared:
        parent = path
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            have.setdefault(parent, Directory(parent))
        have.setdefault(path, Link(path, shared_target(path)))
    return list(have.values())


@contextmanager
def _root(root: Path) -> Iterator[int]:
    # The root itself may be reached through a link: it is the caller's path, not the tree's.
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable("tree_unreadable", f"cannot read {root}: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Walk:
    """One reading of a directory. `skip`: paths left out. `sealed`: modes must be a release's."""

    def __init__(self, skip: frozenset[str], *, sealed: bool) -> None:
        self._skip = skip
        self._sealed = sealed
        self._count = 0

    def entries(self, root: int) -> Iterator[Entry]:
        return self._directory(root, "", 1)

    def _directory(self, descriptor: int, prefix: str, depth: int) -> Iterator[Entry]:
        if depth > MAX_DEPTH + 1:
            raise CalyxError("bad_path", f"{shown(prefix)} is deeper than {MAX_DEPTH} directories", path=shown(prefix))
        before = os.fstat(descriptor)
        try:
            with os.scandir(descriptor) as listing:
                names = [(item.name, item.is_file(follow_symlinks=False)) for item in listing]
        except OSError as error:
            raise _unreadable(prefix, error) from None
        self._count += len(names)
        if self._count > MAX_ENTRIES:
            raise CalyxError("too_large", f"the tree has more than {MAX_ENTRIES} entries", limit=MAX_ENTRIES)
        for name, regular in names:
            path = prefix + name
            if path in self._skip:
                continue
            try:
                if regular:
                    yield self._file(descriptor, name, path)
                else:
                    yield from self._other(descriptor, name, path, depth)
            except FileNotFoundError:
                raise _changed(path) from None
            except OSError as error:
                raise _unreadable(path, error) from None
        # A name that came or went after the listing changes the directory's time.
        if _identity(before) != _identity(os.fstat(descriptor)):
            raise _changed(prefix or ".")

    def _file(self, directory: int, name: str, path: str) -> Entry:
        descriptor = os.open(name, _OPEN_FILE, dir_fd=directory)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise _changed(path)
            self._check_mode(before.st_mode, path, FILE_MODES)
            # One byte more than it should have, so that growth is seen.
            left = before.st_size + 1
            digest = sha256()
            while left > 0:
                chunk = os.read(descriptor, min(left, _CHUNK))
                if not chunk:
                    break
                left -= len(chunk)
                digest.update(chunk)
            if left != 1 or _identity(before) != _identity(os.fstat(descriptor)):
                raise _changed(path)
        finally:
            os.close(descriptor)
        return File(path, digest.hexdigest(), before.st_size, bool(before.st_mode & 0o111))

    def _other(self, directory: int, name: str, path: str, depth: int) -> Iterator[Entry]:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            yield Link(path, os.readlink(name, dir_fd=directory))
        elif stat.S_ISDIR(status.st_mode):
            self._check_mode(status.st_mode, path, frozenset({DIRECTORY_MODE}))
            descriptor = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
            try:
                yield Directory(path)
                yield from self._directory(descriptor, path + "/", depth + 1)
            finally:
                os.close(descriptor)
        elif stat.S_ISREG(status.st_mode):
            raise _changed(path)
        else:
            raise CalyxError(
                "bad_file_type", f"{shown(path)} is neither a file, a directory nor a link", path=shown(path)
            )

    def _check_mode(self, mode: int, path: str, sealed_modes: frozenset[int]) -> None:
        if mode & _SET_ID:
            raise CalyxError(
                "set_id", f"{shown(path)} has a set-user-id or set-group-id bit", hint="remove it", path=shown(path)
            )
        if self._sealed and stat.S_IMODE(mode) not in sealed_modes:
            raise CalyxError(
                "bad_mode", f"{shown(path)} has mode {stat.S_IMODE(mode):04o}, which no release has", path=shown(path)
            )


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)


def _changed(path: str) -> CalyxError:
    return CalyxError(
        "tree_changed",
        f"{shown(path)} changed while it was read",
        hint="stop what writes there and try again",
        path=shown(path),
    )


def _unreadable(path: str, error: OSError) -> CalyxError:
    return Unavailable("tree_unreadable", f"cannot read {shown(path) or '.'}: {error.strerror}", path=shown(path))
