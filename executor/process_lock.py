"""One process at a time: a lock that the kernel lets go when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from keys.errors import Unavailable

LOOKS: Final = 5
LOOK_S: Final = 0.02
LOOKERS: Final = 500
"""Looks that who only looks may keep somebody from the lock: a machine may stall in the instant that it has it."""


class ProcessLock:
    """An exclusive `flock` on a file. Use it as a context, or `acquire` and `release`."""

    def __init__(self, path: Path, what: str) -> None:
        self._path: Final = path
        self._what: Final = what
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock at once. Raises: Unavailable (`already_running`, `lock_failed`)."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed(error) from None
        if not _take(descriptor):
            os.close(descriptor)
            raise Unavailable(
                "already_running", f"{self._what} runs already", hint="one is enough; stop that one first"
            )
        self._descriptor = descriptor
        # Who holds it is for people to read, and a full disk is when an executor is needed most.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let it go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def held(self) -> bool:
        """Whether some process holds the lock now. Raises: Unavailable (`lock_failed`)."""
        try:
            # A pipe in its place would be waited for.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._failed(error) from None
        try:
            return not _look(descriptor)
        finally:
            os.close(descriptor)

    def _failed(self, error: OSError) -> Unavailable:
        return Unavailable(
            "lock_failed",
            f"cannot tell whether {self._what} runs: {self._path}: {error.strerror}",
            hint="check the home's owner and the disk",
        )

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _take(descriptor: int) -> bool:
    # Who only looks (`held`) has the lock for an instant, so one failure is not yet an answer.
    looks, lookers = LOOKS, LOOKERS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            # Beside one that holds it nobody can look.
            if _look(descriptor):
                lookers -= 1
            else:
                looks -= 1
        if not looks or not lookers:
            return False
        time.sleep(LOOK_S)


def _look(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True
