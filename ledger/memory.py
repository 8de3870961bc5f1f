"""The remembered head: the newest head of a ledger that this user has verified, kept outside the ledger's own
directory.

    <directory>/<SHA-256 of the home>.json      {"hash":HEX,"home":HOME,"ledger":HEX,"size":N}

A rewritten history contradicts the signatures inside it, but a cut of the end does not: only what a reader remembers
tells the difference. So it is written before its reader signs or acts, and it never goes back.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from keys.canonical import parse_json
from keys.errors import CalyxError, FormatError, Unavailable
from keys.values import Count, Hash, Model
from ledger.durable import make_directory, replace_file
from ledger.head import Head

MAX_HOME: Final = 4_096


class Remembered(Model):
    """What a user remembers of the ledger at `home`. `ledger`: leaf of record 0. `hash`: leaf of record `size - 1`."""

    home: Annotated[str, Field(max_length=MAX_HOME)]
    ledger: Hash
    size: Count
    hash: Hash

    @property
    def head(self) -> Head:
        """The remembered head."""
        return Head(self.size, self.hash)


class HeadContradicted(CalyxError):
    """The ledger shows a shorter or another history than its reader has verified before. Stop."""

    def __init__(self, remembered: Remembered, ledger: str, head: Head, why: str) -> None:
        super().__init__(
            "head_contradicted",
            f"{why}: remembered {remembered.head} of ledger {remembered.ledger[:16]}, "
            f"found {head} of ledger {ledger[:16]}",
            hint="do not sign or deploy; compare with another copy of the ledger",
            remembered_ledger=remembered.ledger,
            remembered_size=remembered.size,
            remembered_hash=remembered.hash,
            found_ledger=ledger,
            found_size=head.size,
            found_hash=head.hash,
        )


def check_remembered(remembered: Remembered, ledger: str, head: Head, leaf_at: Callable[[int], str]) -> None:
    """Prove that a verified history, of `ledger` up to `head`, extends what is remembered.

    `leaf_at`: gives the verified leaf of a seq.

    Raises: HeadContradicted.
    """
    if ledger != remembered.ledger:
        raise HeadContradicted(remembered, ledger, head, "this is another ledger")
    if head.size < remembered.size:
        raise HeadContradicted(remembered, ledger, head, "entries are missing at the end")
    if remembered.size and leaf_at(remembered.size - 1) != remembered.hash:
        raise HeadContradicted(remembered, ledger, head, "the history was rewritten")


class HeadMemory:
    """The remembered heads of one user, in `directory`: a file for each home, mode 0600, changed under a lock."""

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory

    def load(self, home: str) -> Remembered | None:
        """What is remembered of `home`, its real path or another lasting identity; None for a home never seen.

        Raises: Unavailable (`memory_unreadable`): then nothing must be signed, for the memory may have been damaged.
        """
        path = self._path(home)
        try:
            data = path.read_bytes()
            remembered = Remembered.from_json(parse_json(data))
        except FileNotFoundError:
            return None
        except (OSError, FormatError) as error:
            raise _unreadable(path, error) from None
        if remembered.home != home:
            raise _unreadable(path, FormatError("it is about another home"))
        return remembered

    def remember(self, home: str, ledger: str, head: Head) -> Remembered:
        """Remember a head that was verified to extend the one remembered before; what is remembered then, durable. A
        smaller head changes nothing.

        Raises: HeadContradicted for another ledger, or another hash at the same size; Unavailable.
        """
        with self._locked(home):
            before = self.load(home)
            if before is not None:
                if before.ledger != ledger:
                    raise HeadContradicted(before, ledger, head, "this is another ledger")
                if before.size == head.size and before.hash != head.hash:
                    raise HeadContradicted(before, ledger, head, "the history was rewritten")
                if before.size >= head.size:
                    return before
            return self._store(home, ledger, head)

    def replace(self, home: str, ledger: str, head: Head) -> Remembered:
        """Forget what was remembered of `home`, by a person's decision, and remember this instead. Raises:
        Unavailable.
        """
        with self._locked(home):
            return self._store(home, ledger, head)

    def _store(self, home: str, ledger: str, head: Head) -> Remembered:
        remembered = Remembered.from_json(
            {"home": home, "ledger": ledger, "size": head.size, "hash": head.hash}, what="remembered head"
        )
        path = self._path(home)
        try:
            replace_file(path, remembered.canonical(), 0o600)
        except OSError as error:
            raise Unavailable("memory_write_failed", f"cannot write {path}: {error.strerror}") from None
        return remembered

    def _path(self, home: str) -> Path:
        return self._directory / f"{sha256(home.encode('utf-8', 'surrogateescape')).hexdigest()}.json"

    @contextmanager
    def _locked(self, home: str) -> Iterator[None]:
        path = self._path(home).with_suffix(".lock")
        try:
            make_directory(self._directory, 0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise Unavailable("memory_write_failed", f"cannot lock {path}: {error.strerror}") from None
        try:
            _lock(descriptor)
            yield
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    # Held until the descriptor is closed, also by a crash.
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _unreadable(path: Path, error: Exception) -> Unavailable:
    return Unavailable(
        "memory_unreadable",
        f"the remembered head in {path} cannot be read: {error}",
        hint="if you know why, verify the ledger against another copy and remove the file",
    )
