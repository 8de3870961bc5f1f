"""Where one user keeps the snapshot of one ledger, and what makes it fit to be believed.

    <cache>/<SHA-256 of the home>.snapshot      the snapshot: may be deleted, damaged or exchanged by whoever can
    <memory>/<SHA-256 of the home>.json         {"bytes":N,"hash":HEX,"home":HOME,"ledger":HEX,"sha256":HEX,"size":N,
                                                 "whole":N,"whole_at":TIME}

The note lies with the remembered heads, in the user's own state, and was written only after this user had verified
every entry up to its head. A snapshot counts when its SHA-256 is the noted one, this code made it, and the ledger has
at that head the record that the note names. Anything else is as if there were none: the entries are folded again.

Readers that replay (`policies.replay`) have other directories than the audit, which looks at more than they do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Annotated, Final

from pydantic import Field

from keys.canonical import MAX_BYTES, parse_json
from keys.errors import FormatError, Unavailable
from keys.regular import open_regular, read_regular
from keys.values import Count, Hash, Model, Time
from ledger.durable import hidden_file, make_directory, replace_file, sync_file
from ledger.head import Head
from ledger.place import locked
from ledger.remembered import MAX_HOME, HeadContradicted, Remembered, check_remembered
from ledger.store import Reader
from policies.fold.code import fingerprint_code
from policies.fold.scratch import CHUNK, IN_MEMORY, Scratch, leave_room
from policies.fold.snapshot import Folded, SnapshotUnusable, copy_snapshot, read_snapshot, write_snapshot


class Note(Model):
    """What a user knows of the snapshot of the ledger at `home`. `sha256`, `bytes`: of its file. `size`, `hash`: the
    head that it stands at. `whole`: how many of these entries the newest whole audit looked at, at `whole_at`.
    """

    home: Annotated[str, Field(max_length=MAX_HOME)]
    ledger: Hash
    size: Annotated[Count, Field(ge=1)]
    hash: Hash
    sha256: Hash
    bytes: Count
    whole: Count
    whole_at: Time

    @property
    def remembered(self) -> Remembered:
        """The head, as a remembered one."""
        return Remembered(home=self.home, ledger=self.ledger, size=self.size, hash=self.hash)


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot that may be gone on from: the ledger has its head. `note`: what is known of it."""

    folded: Folded
    note: Note


class Snapshots:
    """The snapshot of the ledger at `home`. `memory`: a directory in the user's state, outside the ledger's own.
    `cache`: one in the user's cache. `scratch`: where what was read from it lies, and what follows.
    """

    def __init__(self, memory: Path, cache: Path, home: str, scratch: Scratch = IN_MEMORY) -> None:
        name = sha256(home.encode("utf-8", "surrogateescape")).hexdigest()
        self._note: Final = memory / f"{name}.json"
        self._file: Final = cache / f"{name}.snapshot"
        self._home: Final = home
        self.scratch: Final = scratch
        self.refused: str | None = None

    def note(self) -> Note | None:
        """What is known of the snapshot, None where nothing is that can be read."""
        try:
            note = Note.from_json(parse_json(read_regular(self._note, MAX_BYTES)), what="note")
        except (OSError, FormatError):
            return None
        return note if note.home == self._home else None

    def load(self, reader: Reader) -> Kept:
        """The snapshot, proved to be the one that was noted and to stand at a head of this ledger. The records before
        that head are not looked at again.

        Raises: SnapshotUnusable, which says why; HeadContradicted when the ledger does not have that head; CalyxError
        of the reader.
        """
        note = self.note()
        if note is None:
            raise SnapshotUnusable("no snapshot of an earlier audit is kept")
        code = fingerprint_code()
        if code is None:
            raise SnapshotUnusable("the source files of calyx cannot be read")
        check_head(note, reader)
        try:
            with os.fdopen(open_regular(self._file), "rb") as file:
                if file.seek(0, 2) != note.bytes:
                    raise SnapshotUnusable("the snapshot is not the one that was kept")
                file.seek(0)
                copy, digest = copy_snapshot(file, self.scratch)
        except FileNotFoundError:
            raise SnapshotUnusable("the snapshot is gone") from None
        except OSError as error:
            raise SnapshotUnusable(f"the snapshot cannot be read: {error.strerror}") from None
        if digest != note.sha256:
            raise SnapshotUnusable("the snapshot is not the one that was kept")
        folded = read_snapshot(copy, code, self.scratch)
        if folded.state.ledger != note.ledger or folded.chain.head != Head(note.size, note.hash):
            raise SnapshotUnusable("the snapshot stands at another head than the one that was kept")
        return Kept(folded, note)

    def save(self, folded: Folded, whole: int, whole_at: str) -> Note:
        """Keep the snapshot of a state that this user verified from the first entry to the last, in place of the one
        before. `whole`, `whole_at`: as in `Note`. The state stays as it is.

        Raises: Unavailable (`snapshot_write_failed`): then an earlier one may be there still, or none.
        """
        code = fingerprint_code()
        if code is None:
            raise Unavailable("snapshot_write_failed", "the source files of calyx cannot be read")
        head = folded.chain.head
        try:
            make_directory(self._file.parent, 0o700)
            make_directory(self._note.parent, 0o700)
            # Nobody waits for another one of this user's processes, which may be frozen.
            with locked(self._file.parent, "snapshot_write_failed", "another process keeps a snapshot just now"):
                # Whoever was killed while it wrote one left it.
                for left in self._file.parent.glob(".*.tmp"):
                    left.unlink(missing_ok=True)
                with hidden_file(self._file.parent, 0o600) as (file, hidden):
                    digest = write_snapshot(_Sparing(file), folded, code)
                    size = file.tell()
                    file.flush()
                    sync_file(file.fileno())
                    file.close()
                    # A crash between the two leaves a note that the file contradicts, and so none.
                    hidden.replace(self._file)
                note = Note(
                    home=self._home,
                    ledger=folded.state.ledger,
                    size=head.size,
                    hash=head.hash,
                    sha256=digest,
                    bytes=size,
                    whole=whole,
                    whole_at=whole_at,
                )
                replace_file(self._note, note.canonical(), 0o600)
        except OSError as error:
            text = f"the snapshot cannot be kept in {self._file.parent}: {error.strerror}"
            raise Unavailable("snapshot_write_failed", text) from None
        return note

    def drop(self) -> Path | None:
        """Go on from it no more: the entries before it are not what they were. Its head is remembered still.

        None when it is gone; else the file that this user may not remove.
        """
        try:
            self._file.unlink(missing_ok=True)
        except OSError:
            return self._file
        return None

    def find(self, reader: Reader, remembered: Remembered | None) -> Kept | None:
        """As `load`, for a reader who folds all of it again where that cannot be; then None, and `refused` says why.
        `remembered`: what this user remembers of the home, which decides which ledger it is.
        """
        self.refused = None
        note = self.note()
        if note is None:
            return None
        try:
            if remembered is not None and remembered.ledger != note.ledger:
                raise SnapshotUnusable("the snapshot is of another ledger than the one that is remembered of this home")
            return self.load(reader)
        except (SnapshotUnusable, HeadContradicted) as error:
            self.refused = error.message
            return None


class _Sparing:
    """Writes to a file, and leaves room on its disk."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._unasked = 0

    def write(self, data: bytes, /) -> int:
        self._unasked -= len(data)
        if self._unasked < 0:
            # There are many writes of a few bytes, so it is asked for ahead.
            self._unasked = CHUNK
            leave_room(self._file.fileno(), len(data) + CHUNK)
        return self._file.write(data)


def check_head(note: Note, reader: Reader) -> None:
    """Prove that a ledger has the noted head, from the bytes of its records.

    Raises: HeadContradicted; CalyxError of the reader.
    """
    tip = reader.tip().head
    check_remembered(note.remembered, reader.leaf(0) if tip.size else note.ledger, tip, reader.leaf)
