"""A home on another machine: its host gives bytes and takes signed statements; this machine verifies, shows and signs.

The same `Replay` that reads a ledger here reads that one, over a `Reader` and objects that ask the host, so that bytes,
chain, checkpoint, signatures and law are verified here. The head of each such home is remembered here, under its
address: a host that shows a shorter, forked or other ledger later contradicts it. Keys and settings are this machine's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from executor.homes.home import Home
from executor.remote.address import Address
from executor.remote.client import Client, Connect, Limits
from executor.remote.frames import BadFrame, ConnectionLost, PeerSilent
from executor.remote.kept import KeptRecords
from executor.remote.messages import (
    MAX_ENVELOPES,
    HostRefused,
    SaidReceipt,
    SaidSubmitted,
    Submit,
)
from executor.remote.reading import RemoteObjects, RemoteReader
from executor.user_paths import user_path
from keys.ahead import usable_cores
from keys.errors import CalyxError, FormatError, Unavailable
from ledger.envelope import Envelope, format_envelope_bytes
from ledger.head import Head
from ledger.memory import HeadMemory
from ledger.objects import ObjectStore
from ledger.statement import parse_statement
from ledger.store import Reader
from policies.fold.snapshots import Snapshots
from policies.pin import Pin
from policies.submitter import Clock, Receipt, Submitter


@dataclass(frozen=True, slots=True)
class FirstSightPin(Pin):
    """A pin that says so when a ledger is remembered for the first time: until then any ledger would have done."""

    tell: Callable[[str], None] = lambda _: None
    verified: Callable[[int], None] = lambda _: None
    """Called with the size of a ledger that was verified and did not contradict what was remembered."""

    def store(self, ledger: str, head: Head) -> None:
        if self.load() is None:
            self.tell(
                f"note: {self.home} is new to this machine; its ledger {ledger[:16]} is remembered from now on. "
                "Is that the one that you mean? calyx init said so, and calyx status says it there"
            )
        Pin.store(self, ledger, head)
        self.verified(head.size)


class RemoteHome(Home):
    """The home at an address. `named`: the address as the person wrote it. `connect`: makes a connection to its host.
    `tell`: shows a line to the person.

    What needs the home's own directory raises UsageError (`home_not_here`).
    """

    def __init__(
        self,
        address: Address,
        named: str,
        connect: Connect,
        tell: Callable[[str], None],
        limits: Limits | None = None,
    ) -> None:
        super().__init__(None)
        self._address = address
        self._named = named
        self._tell = tell
        self._client = Client(connect, limits)
        self._opened.callback(self._client.close)
        self._objects = RemoteObjects(self._client)
        self._kept: KeptRecords | None = None

    @property
    def name(self) -> str:
        """Its address."""
        return str(self._address)

    @property
    def settings(self) -> Path:
        """This machine's settings for that home: who sits here, and where their key is."""
        return user_path("config") / "homes" / f"{sha256(self._address.identity.encode()).hexdigest()}.json"

    def pin(self) -> Pin:
        memory = HeadMemory(user_path("state") / "heads")
        return FirstSightPin(memory, self._address.identity, self._named, self._tell, self._verified)

    def open_store(self) -> Reader:
        """The ledger, for reading. Nothing that it gives is verified: `open_replay` does that."""
        return RemoteReader(self._client)

    def open_objects(self) -> ObjectStore:
        return self._objects

    def _open_reader(self) -> Reader:
        return RemoteReader(self._client, self._kept_records)

    def _verified(self, size: int) -> None:
        if self._kept is not None:
            self._kept.commit(size)

    def _kept_records(self) -> KeptRecords:
        if self._kept is None:
            self._kept = KeptRecords(user_path("cache") / "records", self._address.identity)
            self._opened.callback(self._kept.close)
        return self._kept

    def running(self, principals: Sequence[str]) -> list[str] | None:
        del principals
        return None

    def find_key(self, principal: str) -> Path | None:
        """The file with a principal's private key, where the settings on this machine name one."""
        named = self.load_settings().keys.get(principal)
        return None if named is None else Path(named)

    def _open_submitter(self, clock: Clock, *, accept_clock: bool) -> Submitter:
        reader, pin = RemoteReader(self._client, self._kept_records), self.pin()
        submitter = RemoteSubmitter(
            self._client, reader, self._objects, pin, clock=clock, accept_clock=accept_clock, snapshots=self._folds(pin)
        )
        self._opened.callback(self._keep, submitter)
        return submitter


class RemoteSubmitter(Submitter):
    """Has statements appended by the host's registrar, and believes in an entry only when it stands in the ledger under
    a checkpoint that was verified here.
    """

    def __init__(
        self,
        client: Client,
        reader: RemoteReader,
        objects: RemoteObjects,
        pin: Pin,
        *,
        clock: Clock,
        accept_clock: bool = False,
        snapshots: Snapshots | None = None,
    ) -> None:
        super().__init__(reader, objects, pin, clock=clock, random=os.urandom, snapshots=snapshots, jobs=usable_cores())
        self._client = client
        self._client.submits = True
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
        except (Unavailable, HostRefused) as error:
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
        except (Unavailable, HostRefused):
            raise _lost("whether it was appended is not known", error) from error
        proven = [receipt for digest in digests if (receipt := self._find(digest)) is not None]
        if len(proven) != len(digests):
            raise _lost("it is not in the ledger now, and may still come", error) from error
        return proven

    def _find(self, digest: str) -> Receipt | None:
        history = self.state.history
        seq = history.find(digest)
        return None if seq is None else Receipt(seq, digest, history.leaf(seq), history.time(seq))


def _said(receipt: Receipt) -> SaidReceipt:
    return SaidReceipt(seq=receipt.seq, digest=receipt.digest, leaf=receipt.leaf, time=receipt.time)


def _lost(what: str, error: CalyxError) -> Unavailable:
    return Unavailable(
        "answer_lost",
        f"the statement was sent, and {what}: {error.message}",
        hint="look with calyx ledger log before you sign again",
    )
