"""Records and objects of a home elsewhere, as its host gives them: within limits, and objects by their hash."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from executor.remote.client import Client, Expected, Take, expect_object
from executor.remote.frames import BadFrame
from executor.remote.kept import KeptRecords
from executor.remote.messages import (
    CHUNK,
    MAX_BATCH,
    MAX_PUT,
    MAX_RECORDS,
    AskRecords,
    AskTip,
    FindObject,
    GetObject,
    PutObject,
    SaidFound,
    SaidObject,
    SaidRecords,
    SaidTip,
)
from keys.errors import CalyxError, FormatError, Unavailable, UsageError
from keys.regular import read_regular
from keys.words import counted
from ledger.durable import hidden_file, sync_directory, sync_file
from ledger.head import EMPTY_HEAD, Head
from ledger.objects import MAX_IN_MEMORY, ObjectRef
from ledger.record import MAX_RECORD
from ledger.store import Tip

MAX_KEPT: Final = 32 * 1024 * 1024
"""Bytes of objects that are kept in memory, so that they are not asked for again."""


class RemoteReader:
    """`ledger.store.Reader` of a ledger elsewhere. `open_kept`: gives verified records that need not come again. To
    open them is to read all of them, so they are of use to whoever begins at the first entry only.
    """

    def __init__(self, client: Client, open_kept: Callable[[], KeptRecords] | None = None) -> None:
        self._client = client
        self._open_kept = open_kept
        self._kept: KeptRecords | None = None
        self._compared = False

    def tip(self) -> Tip:
        said = self._client.ask(AskTip(verb="tip"), SaidTip)
        head = Head(said.size, said.hash)
        if (said.size == 0) != (head == EMPTY_HEAD) or (said.size == 0) != (not said.checkpoint):
            raise BadFrame("the host's head is no head")
        return Tip(head, said.checkpoint.encode("utf-8", "replace"))

    def head(self) -> Head:
        return self.tip().head

    def checkpoint(self) -> bytes:
        return self.tip().checkpoint

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        at, end = start, self.head().size if stop is None else stop
        if start == 0 and self._open_kept is not None:
            self._kept = self._open_kept()
        if self._kept is not None and at < self._kept.count:
            self._compare(self._kept)
            for data in self._kept.read(at, end):
                yield data
                at += 1
        if self._kept is not None and at < self._kept.added:
            self._kept.rewind()
        while at < end:
            batch = _Collected()
            expected = Expected(min(MAX_RECORDS, end - at), MAX_RECORD, MAX_BATCH + MAX_RECORD)
            request = AskRecords(verb="read", start=at, stop=end)
            said = self._client.ask(request, SaidRecords, expected=expected, taker=batch.begin)
            if said.count != len(batch.pieces):
                raise BadFrame("other records came than were counted")
            if not batch.pieces:
                return  # the chain says which entry is missing
            # Whole batches, because whoever reads them may ask for objects in between.
            for data in batch.pieces:
                yield data
                if self._kept is not None:
                    self._kept.add(at, data)
                at += 1

    def _compare(self, kept: KeptRecords) -> None:
        """Use what is kept only where the host has the same: a record pins all that are before it."""
        if self._compared:
            return
        self._compared = True
        last = kept.count - 1
        mine = next(kept.read(last, last + 1), None)
        theirs = next(RemoteReader(self._client).read(last, last + 1), None)
        if mine is None or mine != theirs:
            kept.drop()

    def leaf(self, seq: int) -> str:
        from ledger.chain import leaf_of

        # One leaf is not worth opening what is kept.
        reader = RemoteReader(self._client) if self._kept is None else self
        for data in reader.read(seq, seq + 1):
            return leaf_of(data)
        raise CalyxError("ledger_corrupt", f"the host does not give entry {seq}", entry=seq)

    def node(self, level: int, index: int) -> bytes:
        del level, index
        raise UsageError(
            "home_not_here", "a ledger elsewhere gives no tree nodes", hint="make the proof on its machine"
        )


class RemoteObjects:
    """`ledger.objects.ObjectStore` of a home elsewhere; what comes is hashed here."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: OrderedDict[ObjectRef, bytes] = OrderedDict()

    def has(self, ref: ObjectRef) -> bool:
        return self.find(ref.sha256) == ref

    def find(self, digest: str) -> ObjectRef | None:
        said = self._client.ask(FindObject(verb="find", sha256=digest), SaidFound)
        return None if said.size is None else ObjectRef(sha256=digest, size=said.size)

    def get(self, ref: ObjectRef) -> bytes:
        if ref.size > MAX_IN_MEMORY:
            raise FormatError(f"an object of {counted(ref.size, 'byte')} is not read into memory", code="too_large")
        if ref in self._kept:
            self._kept.move_to_end(ref)
            return self._kept[ref]
        collected = _Collected()
        self._fetch(ref, collected.begin)
        data = b"".join(collected.pieces)
        self._keep(ref, data)
        return data

    def check(self, ref: ObjectRef) -> None:
        self._fetch(ref, lambda: lambda _chunk: None)

    def copy_to(self, ref: ObjectRef, path: Path) -> None:
        try:
            with hidden_file(path.parent, 0o600) as (file, hidden):

                def begin() -> Take:
                    file.seek(0)
                    file.truncate()
                    return file.write

                self._fetch(ref, begin)
                file.flush()
                sync_file(file.fileno())
                os.link(hidden, path)
            sync_directory(path.parent)
        except FileExistsError:
            raise UsageError("file_exists", f"{path} exists", hint="choose another name") from None
        except OSError as error:
            raise Unavailable("file_write_failed", f"cannot write {path}: {error.strerror}") from None

    def put(self, data: bytes) -> ObjectRef:
        """Bring content that a following statement names; the host keeps it once that is signed. At most 16 MiB."""
        if len(data) > MAX_PUT:
            raise FormatError(
                f"an object of {counted(len(data), 'byte')} is over the {MAX_PUT} that another machine may bring",
                code="too_large",
                hint="do it on the home's machine",
            )
        ref = ObjectRef(sha256=sha256(data).hexdigest(), size=len(data))
        request = PutObject(verb="put", sha256=ref.sha256, size=ref.size)
        self._client.bring(request, [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)])
        self._keep(ref, data)
        return ref

    def put_file(self, path: Path) -> ObjectRef:
        try:
            return self.put(read_regular(path, MAX_PUT))
        except OSError as error:
            raise Unavailable("file_unreadable", f"cannot read {path}: {error.strerror}") from None

    def _fetch(self, ref: ObjectRef, begin: Callable[[], Take]) -> None:
        """Ask for an object; raises at the end if what came is not it, so act on nothing before that."""
        digest, size = sha256(), 0

        def begin_hashed() -> Take:
            nonlocal digest, size
            digest, size, take = sha256(), 0, begin()

            def hashed(chunk: bytes) -> None:
                nonlocal size
                digest.update(chunk)
                size += len(chunk)
                take(chunk)

            return hashed

        request = GetObject(verb="get", sha256=ref.sha256, size=ref.size)
        self._client.ask(request, SaidObject, expected=expect_object(ref.size), taker=begin_hashed)
        if size != ref.size or digest.hexdigest() != ref.sha256:
            raise CalyxError(
                "object_mismatch",
                f"what the host gives as object {ref.sha256[:16]} is something else",
                hint="put the right content in again on its machine",
                object=ref.sha256,
            )

    def _keep(self, ref: ObjectRef, data: bytes) -> None:
        # What is brought is among them, whole: the host gives it back only once it is named by an entry.
        if len(data) > max(MAX_KEPT // 4, MAX_PUT):
            return
        self._kept[ref] = data
        while sum(kept.size for kept in self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)


class _Collected:
    """The pieces of one answer; begun anew when the question is asked again."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def begin(self) -> Take:
        """Forget what came before."""
        self.pieces = []
        return self.pieces.append
