"""Where a process of a home works out what it throws away again: whole trees, for a moment.

    run/work/cp20/               of the executor; those of the agents that review lie beside it
    run/work/cp20/p-…/           of one process, which holds a lock on it for as long as it lives
    run/work/cp20/p-…/w-…/       one piece of work

A process that is killed leaves its folder behind, and so does a loss of power. Whoever begins removes what nobody
holds: the kernel lets a lock go with its process, however that ends, so no number of a process has to be believed. One
that was frozen and wakes up late still has its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Final

from executor.logbook import warning_line
from executor.trees.materialise import discard
from executor.trees.tree import shown
from keys.errors import Unavailable
from ledger.durable import make_directory

if TYPE_CHECKING:
    from executor.logbook import Log

NewFolder = Callable[[], AbstractContextManager[Path]]
"""Makes an empty private folder that is gone at the context's end. Raises: OSError."""

_OWN: Final = "p-"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES: Final = 10


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """One below TMPDIR, for who is not killed and started again for months."""
    with TemporaryDirectory(prefix="calyx-work-") as name:
        yield Path(name)


def nowhere(what: str, error: OSError) -> Unavailable:
    """The refusal (`scratch_failed`) of what cannot be done because a folder cannot be made or filled."""
    where = f" at {shown(str(error.filename))}" if error.filename else ""
    return Unavailable(
        "scratch_failed",
        f"{what}: {error.strerror or error}{where}",
        hint="make room there, and see that it can be written to",
    )


class Workplace:
    """The folders of one process below `directory`, which is this principal's alone. Threads may share it."""

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory
        self._making: Final = threading.Lock()
        self._own: tuple[Path, int] | None = None

    def clear(self, log: Log) -> None:
        """Remove what processes left here that live no more. What cannot be removed is said to `log`, and stays.

        Raises nothing: a rollback must not wait for a disk to be in order.
        """
        try:
            names = sorted(os.listdir(self._directory))  # noqa: PTH208  # names, not paths
        except FileNotFoundError:
            return
        except OSError as error:
            _say(log, self._directory, error)
            return
        for name in names:
            # What somebody else put here is not ours to remove.
            if name.startswith(_OWN):
                try:
                    _remove(self._directory / name)
                except OSError as error:
                    _say(log, self._directory / name, error)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """As `NewFolder` says."""
        with TemporaryDirectory(prefix="w-", dir=self._place()) as name:
            yield Path(name)

    def close(self) -> None:
        """Leave nothing behind. Raises nothing."""
        with self._making:
            own, self._own = self._own, None
            if own is not None:
                # Removed while it is held: nobody else begins to.
                with suppress(OSError):
                    discard(own[0])
                os.close(own[1])

    def _place(self) -> Path:
        with self._making:
            if self._own is not None and _leads_to(*self._own):
                return self._own[0]
            if self._own is not None:
                # Somebody tidied up.
                os.close(self._own[1])
                self._own = None
            self._own = self._make()
            return self._own[0]

    def _make(self) -> tuple[Path, int]:
        make_directory(self._directory.parent, 0o700)
        make_directory(self._directory, 0o700)
        for _ in range(_TRIES):
            path = Path(mkdtemp(prefix=_OWN, dir=self._directory))
            # Between its making and its lock it looks like one that was left, and another process may be clearing.
            with suppress(FileNotFoundError):
                descriptor = os.open(path, _DIRECTORY)
                if _lock(descriptor) and _leads_to(path, descriptor):
                    return path, descriptor
                os.close(descriptor)
        raise OSError(errno.EAGAIN, "somebody removes each new folder", str(self._directory))


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    try:
        descriptor = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        if not _lock(descriptor):
            return
        # A git that outlived the one that started it may still be making and removing files in there.
        for left in reversed(range(_TRIES)):
            try:
                discard(path)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY or not left:
                    raise
            if not _leads_to(path, descriptor):
                return
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
    finally:
        os.close(descriptor)


def _say(log: Log, path: Path, error: OSError) -> None:
    text = f"{path} was left by an earlier run and cannot be removed: {error.strerror or error}"
    log(warning_line(text))
