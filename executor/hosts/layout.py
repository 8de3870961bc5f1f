"""Where things lie below an instance's root, and the locks that hold them together.

`lock` guards the check of the fence and the flip and is held for milliseconds; `stage.lock` guards `staging/` and is
held while a release is built, so that a rollback never waits for one; `service.lock` guards starting and stopping.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from keys.errors import CalyxError, Unavailable
from ledger.durable import lock_file, make_directory, sync_directory
from policies.fleet import Instance
from policies.kinds import ABSENT

_CURRENT: Final = re.compile(r"releases/([0-9a-f]{64})", re.ASCII)
_AT_FDCWD: Final = -100
_EXCHANGE: Final = 2


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one instance on this machine."""

    root: Path

    @property
    def current(self) -> Path:
        return self.root / "current"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def shared(self) -> Path:
        return self.root / "shared"

    @property
    def private(self) -> Path:
        return self.root / ".calyx"

    @property
    def staging(self) -> Path:
        return self.private / "staging"

    def release(self, tree: str) -> Path:
        return self.releases / tree

    def manifest(self, tree: str) -> Path:
        return self.private / "manifests" / tree


def layout_of(instance: Instance) -> Layout:
    """The layout of an instance. Raises: CalyxError `bad_root` for a root that is not a plain absolute path."""
    root = Path(instance.root)
    if ".." in root.parts or str(root) in ("/", "//"):
        raise CalyxError("bad_root", f"the root {instance.root} is not a plain absolute path", instance=instance.name)
    return Layout(root)


def prepare(layout: Layout) -> None:
    """Make the directories of an instance, each on the disk. Raises: OSError."""
    for path in (layout.releases, layout.shared, layout.private / "manifests", layout.staging):
        make_directory(path)


def read_current(layout: Layout) -> str | Literal["adoptable"]:
    """The tree digest that `current` leads to, `absent`, or `adoptable` when it is a directory.

    Raises: CalyxError `current_unknown` for anything else.
    """
    try:
        status = layout.current.lstat()
        if stat.S_ISDIR(status.st_mode):
            return "adoptable"
        found = _CURRENT.fullmatch(str(layout.current.readlink()))
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        found = None
    if found is None:
        raise CalyxError(
            "current_unknown",
            f"{layout.current} is not a link to a release",
            hint="find out who made it; a first deployment takes over a directory or an empty place",
        )
    return found[1]


@contextmanager
def locked(layout: Layout, name: str, wait_s: float) -> Iterator[None]:
    """Hold one of the instance's locks. The kernel gives it back when the process ends, however it ends.

    Raises: Unavailable `host_busy` when another process holds it for longer than `wait_s` seconds.
    """
    descriptor = os.open(layout.private / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            lock_file(descriptor, wait_s)
        except TimeoutError:
            raise Unavailable(
                "host_busy",
                f"another executor works on {layout.root}",
                hint="wait, or end the process that holds the lock",
                lock=name,
            ) from None
        yield
    finally:
        os.close(descriptor)


def point_current(layout: Layout, new: str) -> None:
    """Let `current` lead to the release `new`, or be gone for `absent`, in one step. The caller holds `lock`.

    A crash before the rename leaves a link that nothing reads; one before the sync may undo the step, and then the
    next flip does it again.

    Raises: OSError.
    """
    if new == ABSENT:
        layout.current.unlink(missing_ok=True)
    else:
        pending = layout.private / "current.new"
        pending.unlink(missing_ok=True)
        pending.symlink_to(f"releases/{new}")
        pending.rename(layout.current)
    sync_directory(layout.root)


def exchange(one: Path, other: Path) -> None:
    """Swap two names in one step, whatever they are. Raises: OSError, with EINVAL where the file system cannot.

    Source: rename(2), RENAME_EXCHANGE.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(one))
    sync_directory(one.parent)
    sync_directory(other.parent)
