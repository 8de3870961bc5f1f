"""A home on another machine: its host gives bytes and takes signed statements; this machine verifies, shows and signs.

The same `Replay` that reads a ledger here reads that one, over a `Reader` and objects that ask the host, so that bytes,
chain, checkpoint, signatures and law are verified here. The head of each such home is remembered here, under its
address: a host that shows a shorter, forked or other ledger later contradicts it. Keys and settings are this machine's.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from executor.home import Home
from executor.remote.address import Address
from executor.remote.client import Client, Connect, Expected, Limits, Take, expect_object
from executor.remote.frames import BadFrame, ConnectionLost, PeerSilent
from executor.remote.messages import (
    CHUNK,
    MAX_BATCH,
    MAX_ENVELOPES,
    MAX_PUT,
    MAX_RECORDS,
    AskRecords,
    AskTip,
    FindObject,
    GetObject,
    PutObject,
    SaidDone,
    SaidFound,
    SaidObject,
    SaidReceipt,
    SaidRecords,
    SaidSubmitted,
    SaidTip,
    Submit,
)
from keys.errors import CalyxError, FormatError, Unavailable, UsageError
from ledger.durable import hidden_file, sync_directory, sync_file
from ledger.envelope import Envelope, format_envelope_bytes
from ledger.head import EMPTY_HEAD, Head
from ledger.memory import HeadMemory
from ledger.objects import MAX_IN_MEMORY, ObjectRef, ObjectStore
from ledger.record import MAX_RECORD
from ledger.statement import parse_statement
from ledger.store import Reader, Tip
from policies.registrar import Clock, Receipt, Submitter
from policies.replay import Pin

MAX_KEPT: Final = 32 * 1024 * 1024
"""Bytes of objects that are kept in memory, so that they are not asked for again."""


class RemoteHome(Home):
    """The home at an address. `named`: the address as the person wrote it. `connect`: makes a connection to its host.

    What needs the home's own directory raises UsageError (`home_not_here`).
    """

    def __init__(self, address: Address, named: str, connect: Connect, limits: Limits | None = None) -> None:
        super().__init__(None)
        self._address = address
        self._named = named
        self._client = Client(connect, limits)
        self._opened.callback(self._client.close)
        self._objects = RemoteObjects(self._client)

    @property
    def name(self) -> str:
        """Its address."""
        return str(self._address)

    @property
    def settings(self) -> Path:
        """This machine's settings for that home: who sits here, and where their key is."""
        from platformdirs import user_config_path

        return user_config_path("calyx") / "homes" / f"{sha256(self._address.identity.encode()).hexdigest()}.json"

    def pin(self) -> Pin:
        from platformdirs import user_state_path

        return Pin(HeadMemory(user_state_path("calyx") / "heads"), self._address.identity, self._named)

    def open_store(self) -> Reader:
        """The ledger, for reading. Nothing that it gives is verified: `open_replay` does that."""
        return RemoteReader(self._client)

    def open_objects(self) -> ObjectStore:
        return self._objects

    def running(self, principals: Sequence[str]) -> list[str] | None:
        del principals
        return None

    def find_key(self, principal: str) -> Path | None:
        """The file with a principal's private key, where the settings on this machine name one."""
        named = self.load_settings().keys.get(principal)
        return None if named is None else Path(named)

    def _open_submitter(self, clock: Clock, *, accept_clock: bool) -> Submitter:
        return RemoteSubmitter(self._client, self._objects, self.pin(), clock=clock, accept_clock=accept_clock)


class RemoteReader:
    """`ledger.store.Reader` of a ledger elsewhere."""

    def __init__(self, client: Client) -> None:
        self._client = client

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
            yield from batch.pieces
            at += said.count

    def leaf(self, seq: int) -> str:
        from ledger.chain import leaf_of

        for data in self.read(seq, seq + 1):
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
            raise FormatError(f"an object of {ref.size} bytes is not read into memory", code="too_large")
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
                f"an object of {len(data)} bytes is over the {MAX_PUT} that another machine may bring",
                code="too_large",
                hint="do it on the home's machine",
            )
        ref = ObjectRef(sha256=sha256(data).hexdigest(), size=len(data))
        request = PutObject(verb="put", sha256=ref.sha256, size=ref.size)
        self._client.ask(request, SaidDone, data=[data[at : at + CHUNK] for at in range(0, len(data), CHUNK)])
        self._keep(ref, data)
        return ref

    def put_file(self, path: Path) -> ObjectRef:
        try:
            with path.open("rb") as file:
                return self.put(file.read(MAX_PUT + 1))
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
        if len(data) > MAX_KEPT // 4:
            return
        self._kept[ref] = data
        while sum(kept.size for kept in self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)


class RemoteSubmitter(Submitter):
    """Has statements appended by the host's registrar, and believes in an entry only when it stands in the ledger under
    a checkpoint that was verified here.
    """

    def __init__(
        self, client: Client, objects: RemoteObjects, pin: Pin, *, clock: Clock, accept_clock: bool = False
    ) -> None:
        super().__init__(RemoteReader(client), objects, pin, clock=clock, random=os.urandom)
        self._client = client
        self._accept_clock = accept_clock

    def append(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Have signed statements appended, and prove that they are.

        Raises: as `Submitter.append`; CalyxError (`receipt_false`) when the host says that it appended what is not
        there; Unavailable (`answer_lost`) when the connection broke, and the ledger cannot be seen or does not have the
        statement: it may still come.
        """
        if len(envelopes) > MAX_ENVELOPES:
            raise FormatError(f"at most {MAX_ENVELOPES} statements go together", code="too_large")
        digests = [parse_statement(envelope.body).digest for envelope in envelopes]
        request = Submit(verb="submit", envelopes=len(envelopes), accept_clock=self._accept_clock)
        data = [format_envelope_bytes(envelope) for envelope in envelopes]
        try:
            said = self._client.ask(request, SaidSubmitted, data=data).receipts
        except (ConnectionLost, PeerSilent, BadFrame) as error:
            return self._look_after(digests, error)
        try:
            self.sync()
        except Unavailable as error:
            raise _lost("the host says that it is appended, and that could not be verified", error) from error
        found = [self._find(digest) for digest in digests]
        proven = [receipt for receipt in found if receipt is not None]
        if [_said(receipt) for receipt in proven] != list(said):
            raise CalyxError(
                "receipt_false",
                "the host says that the statement is an entry, and the ledger that it shows does not have it there",
                hint="do not trust this host; compare its ledger with another copy",
            )
        return proven

    def _look_after(self, digests: Sequence[str], error: Unavailable) -> list[Receipt]:
        """What became of statements whose answer did not come."""
        try:
            self.sync()
        except Unavailable:
            raise _lost("whether it was appended is not known", error) from error
        proven = [receipt for digest in digests if (receipt := self._find(digest)) is not None]
        if len(proven) != len(digests):
            raise _lost("it is not in the ledger now, and may still come", error) from error
        return proven

    def _find(self, digest: str) -> Receipt | None:
        history = self.state.history
        seq = history.find(digest)
        return None if seq is None else Receipt(seq, digest, history.leaf(seq), history.time(seq))


class _Collected:
    """The pieces of one answer; begun anew when the question is asked again."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def begin(self) -> Take:
        """Forget what came before."""
        self.pieces = []
        return self.pieces.append


def _said(receipt: Receipt) -> SaidReceipt:
    return SaidReceipt(seq=receipt.seq, digest=receipt.digest, leaf=receipt.leaf, time=receipt.time)


def _lost(what: str, error: Unavailable) -> Unavailable:
    return Unavailable(
        "answer_lost",
        f"the statement was sent, and {what}: {error.message}",
        hint="look with calyx ledger log before you sign again",
    )
