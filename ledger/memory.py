"""The remembered head: the newest head of a ledger that this user has verified, kept outside the ledger's own
directory.

    <directory>/<SHA-256 of the home>.json      {"hash":HEX,"home":HOME,"ledger":HEX,"size":N}
    <directory>/<SHA-256 of the home>.recent    two slots (`ledger.recent`)

A rewritten history contradicts the signatures inside it, but a cut of the end does not: only what a reader remembers
tells the difference. So it is written before its reader signs or acts, and it never goes back.

The first file is replaced whole, and is on the disk before `remember` returns. Whoever appends entry after entry notes
each head in the second one, in place and without a sync. That outlives the process, however it ends. A machine that
loses its power may lose what the system had not written by itself yet: then an older head is remembered, which protects
less and is never wrong. What is remembered is the higher of the two.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from keys.canonical import parse_json
from keys.errors import FormatError, Unavailable
from keys.regular import open_regular
from ledger.durable import SyncFailed, lock_file, make_directory, replace_file, sync_file
from ledger.head import Head
from ledger.recent import SLOT_SIZE, SLOTS_SIZE, Slots, format_slot, parse_slots
from ledger.remembered import HeadContradicted, Remembered

MAX_FILE: Final = 32_768
MAX_RECENT: Final = 1_024
"""Entries by which the head on the disk may be behind what was noted."""

MEMORY_FULL: Final = "memory_full"
"""The code of a head that is not remembered because there is no room for it. What was remembered before stands."""
MEMORY_BUSY: Final = "memory_busy"
"""The code of one that is not remembered because another process holds the lock, and does not let go of it."""
LOCK_WAIT_S: Final = 4.0
"""It is held for a moment, or for as long as a disk takes to sync."""

_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class _Files(NamedTuple):
    """Where a home's head is. `name`: SHA-256 of the home."""

    name: str
    whole: str
    recent: str
    lock: str


class _Found(NamedTuple):
    """What the two files say. `free`: the slot to be written next."""

    whole: Remembered | None
    recent: Remembered | None
    free: int

    @property
    def newest(self) -> Remembered | None:
        """The higher head."""
        if self.whole is None or (self.recent is not None and self.recent.size > self.whole.size):
            return self.recent
        return self.whole


class HeadMemory:
    """The remembered heads of one user, in `directory`: files for each home, mode 0600, changed under a lock, for which
    `wait_s` seconds are waited: `memory_busy` after that.
    """

    def __init__(self, directory: Path, wait_s: float = LOCK_WAIT_S) -> None:
        self._directory: Final = directory
        self._wait_s: Final = wait_s
        self._files: dict[str, _Files] = {}
        # The slots of a home as they were read last, and what both files said then. Whoever replaces the other file
        # empties the slots, so while there are the same slots, there is the same other file.
        self._seen: dict[str, tuple[bytes, _Found]] = {}

    def load(self, home: str) -> Remembered | None:
        """What is remembered of `home`, its real path or another lasting identity; None for a home never seen.

        Raises: Unavailable (`memory_unreadable`): then nothing must be signed, for the memory may have been damaged.
        """
        try:
            return self._find(home).newest
        except Unavailable as error:
            # It may have been read in the middle of somebody's writing.
            try:
                with self._locked(home):
                    return self._find(home).newest
            except Unavailable as again:
                raise (again if again.code == error.code else error) from None

    def remember(self, home: str, ledger: str, head: Head) -> Remembered:
        """Remember a head that was verified to extend the one remembered before; what is remembered then, durable. A
        smaller head changes nothing.

        Raises: HeadContradicted for another ledger, or another hash at the same size; Unavailable.
        """
        with self._locked(home):
            found = self._find(home)
            before = _check_extends(found.newest, ledger, head)
            if before is not None:
                if found.whole is not None and found.whole.size >= before.size:
                    return before
                head = before.head
            return self._store(home, ledger, head)

    def note(self, home: str, ledger: str, head: Head) -> Remembered:
        """Remember as `remember` does, but wait for no disk: it outlives this process, and after a loss of power it may
        be an older head that is remembered, by at most `MAX_RECENT` entries.

        Raises: as `remember`.
        """
        with self._locked(home), self._slots(home) as descriptor:
            found = self._find(home, descriptor)
            before = _check_extends(found.newest, ledger, head)
            if before is not None:
                return before
            if found.whole is None or head.size - found.whole.size > MAX_RECENT:
                return self._store(home, ledger, head)
            return self._put(home, descriptor, found, ledger, head)

    def replace(self, home: str, ledger: str, head: Head) -> Remembered:
        """Forget what was remembered of `home`, by a person's decision, and remember this instead. Raises:
        Unavailable.
        """
        with self._locked(home):
            # First, and on the disk: what was noted of the old one must not stand beside the new one.
            self._empty(home, sync=True)
            return self._store(home, ledger, head)

    def _find(self, home: str, descriptor: int | None = None) -> _Found:
        files = self._name(home)
        # The slots first. Whoever reads old ones, and then a file that was replaced meanwhile, still finds the newer.
        recent = _read(files.recent) if descriptor is None else os.read(descriptor, SLOTS_SIZE + 1)
        seen = self._seen.get(home)
        if seen is not None and seen[0] == recent:
            return seen[1]
        found = _parse(files, home, _read(files.whole), recent)
        self._keep(home, recent, found)
        return found

    def _keep(self, home: str, recent: bytes | None, found: _Found) -> None:
        if recent is not None and found.recent is not None:
            self._seen[home] = recent, found
        else:
            self._seen.pop(home, None)

    def _store(self, home: str, ledger: str, head: Head) -> Remembered:
        remembered = _make(home, ledger, head)
        path = Path(self._name(home).whole)
        try:
            replace_file(path, remembered.canonical(), 0o600)
        except OSError as error:
            raise _unwritten(path, error) from None
        # A crash before this leaves slots that say no more than the file does.
        self._empty(home, sync=False)
        return remembered

    def _put(self, home: str, descriptor: int, found: _Found, ledger: str, head: Head) -> Remembered:
        files = self._name(home)
        slot = format_slot(files.name, ledger, head)
        try:
            if found.recent is None:
                # No other slot stands in for a torn one yet, so the file comes whole. It brings the place of the second
                # slot along, so that it never grows again.
                data, at = slot.ljust(SLOTS_SIZE, b"\0"), 0
                _replace(files.recent, data)
            else:
                before, _ = self._seen[home]
                at = found.free * SLOT_SIZE
                data = before[:at] + slot + before[at + SLOT_SIZE :]
                os.lseek(descriptor, at, os.SEEK_SET)
                _write(descriptor, slot)
        except OSError as error:
            raise _unwritten(files.recent, error) from None
        # Their form was judged where they were verified, and is judged again by whoever reads them.
        remembered = Remembered.model_construct(home=home, ledger=ledger, size=head.size, hash=head.hash)
        self._keep(home, data, _Found(found.whole, remembered, (at // SLOT_SIZE) ^ 1))
        return remembered

    def _empty(self, home: str, *, sync: bool) -> None:
        files = self._name(home)
        self._seen.pop(home, None)
        try:
            descriptor = os.open(files.recent, os.O_RDWR | _CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unwritten(files.recent, error) from None
        try:
            os.ftruncate(descriptor, 0)
            if sync:
                sync_file(descriptor)
        except OSError as error:
            raise _unwritten(files.recent, error) from None
        finally:
            os.close(descriptor)

    @contextmanager
    def _slots(self, home: str) -> Iterator[int]:
        """The file with the slots, open."""
        path = self._name(home).recent
        try:
            descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise _unwritten(path, error) from None
        try:
            yield descriptor
        except OSError as error:
            raise _unwritten(path, error) from None
        finally:
            os.close(descriptor)

    def _name(self, home: str) -> _Files:
        files = self._files.get(home)
        if files is None:
            name = sha256(home.encode("utf-8", "surrogateescape")).hexdigest()
            stem = str(self._directory / name)
            files = self._files[home] = _Files(name, f"{stem}.json", f"{stem}.recent", f"{stem}.lock")
        return files

    @contextmanager
    def _locked(self, home: str) -> Iterator[None]:
        path = self._name(home).lock
        try:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _CLOEXEC, 0o600)
            except FileNotFoundError:
                make_directory(self._directory, 0o700)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritten(path, error) from None
        try:
            try:
                lock_file(descriptor, self._wait_s)
            except TimeoutError:
                raise Unavailable(
                    MEMORY_BUSY,
                    f"another process holds {path}, and does not let go of it",
                    hint="try again; if it stays so, end that process: it is stopped, or its disk does not answer",
                ) from None
            except OSError as error:
                raise _unwritten(path, error) from None
            yield
        finally:
            os.close(descriptor)


def _replace(path: str, data: bytes) -> None:
    """Put a file in the place of `path` without waiting for the disk. Raises: OSError."""
    beside = f"{path}.new"
    descriptor = open_regular(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        _write(descriptor, data)
    finally:
        os.close(descriptor)
    Path(beside).replace(path)


def _write(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) != len(data):
        raise OSError(errno.ENOSPC, "the disk is full")


def _check_extends(before: Remembered | None, ledger: str, head: Head) -> Remembered | None:
    """What was remembered before, where it is as high as `head`, else None. Raises: HeadContradicted."""
    if before is None:
        return None
    if before.ledger != ledger:
        raise HeadContradicted(before, ledger, head, "this is another ledger")
    if before.size == head.size and before.hash != head.hash:
        raise HeadContradicted(before, ledger, head, "the history was rewritten")
    return before if before.size >= head.size else None


def _parse(files: _Files, home: str, whole: bytes | None, recent: bytes | None) -> _Found:
    first = None
    try:
        if whole is not None:
            first = Remembered.from_json(parse_json(whole))
            if first.home != home:
                raise FormatError("it is about another home")
    except FormatError as error:
        raise _unreadable(files.whole, error) from None
    try:
        slots = Slots(None, None, 0) if recent is None else parse_slots(files.name, recent)
        if slots.ledger is None or slots.head is None:
            return _Found(first, None, slots.free)
        second = _make(home, slots.ledger, slots.head)
        if first is not None and (
            first.ledger != second.ledger or (first.size == second.size and first.hash != second.hash)
        ):
            raise FormatError("it contradicts the other file of this name")
    except FormatError as error:
        raise _unreadable(files.recent, error) from None
    return _Found(first, second, slots.free)


def _make(home: str, ledger: str, head: Head) -> Remembered:
    return Remembered.from_json(
        {"home": home, "ledger": ledger, "size": head.size, "hash": head.hash}, what="remembered head"
    )


def _read(path: str) -> bytes | None:
    """A file's bytes, None when there is no file. Raises: Unavailable."""
    try:
        descriptor = open_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        return os.read(descriptor, MAX_FILE)
    except OSError as error:
        raise _unreadable(path, error) from None
    finally:
        os.close(descriptor)


def _unreadable(path: str, error: Exception) -> Unavailable:
    return Unavailable(
        "memory_unreadable",
        f"the remembered head in {path} cannot be read: {error}",
        hint="if you know why, verify the ledger against another copy and remove the file",
    )


def _unwritten(path: Path | str, error: OSError) -> Unavailable:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT} and not isinstance(error, SyncFailed)
    return Unavailable(
        MEMORY_FULL if full else "memory_write_failed",
        f"cannot write {path}: {error.strerror}",
        hint="make room there, then go on" if full else "look at the disk and at who may write there, then start again",
    )
