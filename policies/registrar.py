"""The registrar: the only way into the ledger. It verifies, asks the law, and only then appends.

One submission, and what a crash leaves at each point:

    sync            nothing
    sign            nothing: a signature that was never appended
    writer          the SQLite write lock, which the kernel lets go
    judge, append   nothing: the transaction is not committed
    commit          the entry, with the checkpoint that covers it; durable before `submit` returns
    remember        the entry; a head that was remembered before, which it extends

Submitting the same statement again, after a crash that hid the answer, gives the entry that it already made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol, Self

from keys.ahead import WorkerFailed
from keys.errors import CalyxError, Unavailable, UsageError
from keys.signer import Signer
from keys.values import ZERO_HASH, format_time
from ledger.chain import Entry
from ledger.envelope import Envelope
from ledger.head import EMPTY_HEAD, Head
from ledger.log_key import LogKey
from ledger.record import Record, make_record
from ledger.sqlite_store import SqliteStore
from ledger.statement import Statement, make_statement, parse_statement
from ledger.store import DISK_FULL, Reader, Store
from ledger.verified import sign_statement
from policies.batch_ahead import BatchAhead
from policies.law.step import foresee
from policies.names import Objects
from policies.replay import Pin, Replay
from policies.safety import leads_back
from policies.scratch import ScratchFailed
from policies.snapshots import Snapshots
from policies.state import State

MAX_BEHIND_S: Final = 5
MAX_AHEAD_S: Final = 30 * 86_400
MAX_TRIES: Final = 20

Clock = Callable[[], int]
"""Seconds since 1970, UTC."""


class Random(Protocol):
    """Random bytes fit for nonces, such as os.urandom."""

    def __call__(self, size: int, /) -> bytes:
        """Give `size` bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Draft:
    """What someone wants to say. `fields`: the predicate without `by`, `ledger`, `head`, `nonce` and `made_at`.
    `subject`: name and digest of the statement it is about, for the kinds that are about one.
    """

    kind: str
    fields: dict[str, Any]
    subject: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry that is durable. `digest`: the statement's. `time`: seconds since 1970."""

    seq: int
    digest: str
    leaf: str
    time: int


class Reserve(Protocol):
    """Room on the ledger's disk that is kept for what leads toward safety; `executor.reserve` has it."""

    def low(self) -> bool:
        """Whether the disk is nearly full."""
        ...

    def give_up(self) -> bool:
        """Make room; whether there was any to give up."""
        ...


class Submitter(ABC):
    """Whoever drafts statements on a head that it verified, has them signed, and has them appended: a registrar on the
    ledger's own machine, or one that sends them there. Not shared between threads.
    """

    def __init__(
        self,
        reader: Reader,
        objects: Objects,
        pin: Pin | None,
        *,
        clock: Clock,
        random: Random,
        snapshots: Snapshots | None = None,
    ) -> None:
        self._clock = clock
        self._random = random
        self._objects = objects
        self._replay = Replay(reader, objects, pin, snapshots=snapshots)

    @property
    def state(self) -> State:
        """The state as of the last `sync` or `submit`. Read it, do not change it."""
        return self._replay.state

    @property
    def head(self) -> Head:
        """The head as of the last `sync` or `submit`."""
        return self._replay.head

    def now(self) -> int:
        """The clock."""
        return self._clock()

    def sync(self) -> State:
        """Verify and fold what is new. Raises: as `policies.replay.Replay.sync`."""
        return self._replay.sync()

    @property
    def refused(self) -> str | None:
        """As `policies.replay.Replay.refused`."""
        return self._replay.refused

    def keep_new(self, least: int, now: int) -> bool:
        """As `policies.replay.Replay.keep_new`."""
        return self._replay.keep_new(least, now)

    def draft_statement(self, principal: str, draft: Draft, *, machine: bool = True) -> Statement:
        """The statement of a draft on the head read last, for signing here or elsewhere.

        Raises: FormatError.
        """
        now = self._clock()
        head = self._replay.head
        if machine and head != EMPTY_HEAD:
            now = max(now, self._replay.state.history.time(head.size - 1))
        predicate = {
            **draft.fields,
            "by": principal,
            "head": {"hash": head.hash, "size": head.size},
            "ledger": self._replay.state.ledger if head != EMPTY_HEAD else ZERO_HASH,
            "made_at": format_time(now),
            "nonce": self._random(16).hex(),
        }
        return make_statement(draft.kind, predicate, draft.subject)

    def foresee(self, statement: Statement, keyid: str) -> None:
        """Spare a person the signing of what the law would refuse now, with that key. Raises: as
        `policies.law.step.foresee`.
        """
        now, last = self._clock(), self._replay.seconds
        foresee(self.state, statement, keyid, now if last is None else max(now, last), self._objects)

    def submit(self, signer: Signer, draft: Draft) -> Receipt:
        """Say something as `signer` and have it appended, durable on return.

        A `term` or `claim` names the whole ledger, so it is said again when another entry came first.

        Raises: CalyxError of the law, the signer or the store; then nothing was appended.
        """
        return self.submit_all(signer, [draft])[0]

    def submit_all(self, signer: Signer, drafts: Sequence[Draft]) -> list[Receipt]:
        """Say several things, appended together or not at all. Raises: as `submit`."""
        self.sync()
        principal = None if self.state.trust is None else self.state.trust.find_principal(signer.principal)
        machine = principal is not None and principal.kind != "human"
        for _ in range(MAX_TRIES):
            statements = [self.draft_statement(signer.principal, draft, machine=machine) for draft in drafts]
            try:
                return self.append([sign_statement(statement, signer) for statement in statements])
            except CalyxError as error:
                if error.code != "head_moved" or not machine:
                    raise
                self.sync()
        raise Unavailable("ledger_busy", "others kept appending first", hint="try again")

    @abstractmethod
    def append(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Have signed statements appended in one commit, after verification and law, durable on return.

        A statement that is in the ledger already is not appended again; its entry is returned.

        Raises: as `submit`.
        """


class Registrar(Submitter):
    """Appends to one ledger. Not shared between threads; any number of processes may have one each. A context: it ends
    what it started, and has the head that it noted on the disk.

    `accept_clock`: append even though the clock contradicts the ledger's last record. `helpers`: how many other
    processes may check the signatures of big batches; what is accepted does not depend on them. `reserve`: given up for
    what leads toward safety where the disk is full. `snapshots`: as `policies.replay.Replay` has them.
    """

    def __init__(
        self,
        store: Store,
        objects: Objects,
        log_key: LogKey,
        pin: Pin | None,
        *,
        clock: Clock,
        random: Random,
        accept_clock: bool = False,
        helpers: int = 0,
        reserve: Reserve | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        super().__init__(store, objects, pin, clock=clock, random=random, snapshots=snapshots)
        self._store = store
        self._log_key = log_key
        self._vkey = str(log_key.vkey)
        self._pin = pin
        self._accept_clock = accept_clock
        self._reserve = reserve
        self._batch = BatchAhead(helpers)
        self._noted: tuple[str, Head] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End other processes, and have the head that was noted last on the disk. If that fails it stays noted."""
        self._batch.close()
        noted, self._noted = self._noted, None
        if self._pin is not None and noted is not None:
            with suppress(CalyxError):
                self._pin.store(*noted)

    def sync(self) -> State:
        """Verify and fold what is new.

        Raises: as `policies.replay.Replay.sync`; UsageError (`wrong_log_key`) when this registrar could never append.
        """
        state = super().sync()
        if self._replay.head != EMPTY_HEAD:
            self._check_log_key(state)
        return state

    def append(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Append signed statements in one commit, after verification and law, durable on return.

        A statement that is in the ledger already is not appended again; its entry is returned.

        Raises: as `submit`; Unavailable (`head_not_remembered`) when the entries are durable and the new head could not
        be remembered: then nothing must be said again.
        """
        if self._reserve is not None and self._reserve.low():
            self._make_room(envelopes)
        try:
            receipts = self._append(envelopes)
        except Unavailable as error:
            if error.code != DISK_FULL or not self._make_room(envelopes):
                raise
            receipts = self._append(envelopes)
        if self._pin is not None:
            try:
                # The commit was waited for, and with it the ledger: for the memory to outlive this process is enough.
                self._pin.note(self.state.ledger, self.head)
                self._noted = self.state.ledger, self.head
            except Unavailable as error:
                raise Unavailable(
                    "head_not_remembered",
                    f"entry {receipts[-1].seq} is in the ledger, and its head is not remembered: {error.message}",
                    hint="mend that, then go on; do not say it again",
                    entry=receipts[-1].seq,
                ) from error
        return receipts

    def create(self, signer: Signer, draft: Draft) -> Receipt:
        """Make record 0 of an empty ledger, and remember its identity in place of what was remembered of this home.

        Raises: as `submit`; UsageError (`ledger_exists`).
        """
        if self.head != EMPTY_HEAD:
            raise _exists()
        statement = self.draft_statement(signer.principal, draft, machine=False)
        return self._append([sign_statement(statement, signer)], empty=True)[0]

    def _make_room(self, envelopes: Sequence[Envelope]) -> bool:
        """Give up the reserve for what leads toward safety; whether there is more room now."""
        if self._reserve is None or not all(leads_back(parse_statement(each.body)) for each in envelopes):
            return False
        return self._reserve.give_up()

    def _append(self, envelopes: Sequence[Envelope], *, empty: bool = False) -> list[Receipt]:
        taken = False
        try:
            with self._store.writer(self._log_key.sign) as writer:
                if empty:
                    if writer.head != EMPTY_HEAD:
                        raise _exists()
                else:
                    if writer.head != self.head or writer.head == EMPTY_HEAD:
                        self.sync()
                    if self.head != EMPTY_HEAD:
                        self._check_log_key(self.state)
                    # No other process can append meanwhile, so a longer memory is a cut, not a race.
                    self._replay.check_remembered()
                receipts = []
                for envelope in self._batch.read(envelopes, lambda: self.state.trust):
                    digest, head = sha256(envelope.body).hexdigest(), writer.head
                    try:
                        record = make_record(head.size, head.hash, self._record_time(), envelope)
                        entry = self._take(record)
                    except ScratchFailed:
                        # It may have been kept in part.
                        taken = True
                        raise
                    except CalyxError:
                        # What was said before is refused, by one rule or another. Looking for it only then spares a
                        # long ledger the look for what is new.
                        history = self.state.history
                        seq = history.find(digest)
                        if seq is None:
                            raise
                        receipts.append(Receipt(seq, digest, history.leaf(seq), history.time(seq)))
                        continue
                    taken = True
                    writer.append(record)
                    receipts.append(Receipt(entry.seq, digest, entry.leaf, record.seconds))
                if empty and self._pin is not None:
                    # Before the commit: a crash between them leaves an empty ledger, which the next init begins anew,
                    # and never a ledger that what is remembered contradicts.
                    self._pin.replace(self.state.ledger, self.head)
        except BaseException:
            # The state holds entries that were not committed, or may not have been: read again what is durable.
            if taken:
                self._replay.forget()
            raise
        return receipts

    def _take(self, record: Record) -> Entry:
        if self._batch.ahead is not None:
            try:
                return self._replay.take(record, self._batch.ahead)
            except WorkerFailed:
                # It judged nothing, and is not needed to.
                self._batch.give_up()
        return self._replay.take(record)

    def _check_log_key(self, state: State) -> None:
        if state.log_key != self._vkey:
            raise UsageError(
                "wrong_log_key",
                "the log key in this home is not the one that genesis names",
                hint="restore the log key of this ledger; no other can append",
            )

    def _record_time(self) -> int:
        """The time that the next record gets. Raises: CalyxError (`clock_suspect`)."""
        now, last = self._clock(), self._replay.seconds
        if last is None:
            return now
        if not self._accept_clock and not last - MAX_BEHIND_S <= now <= last + MAX_AHEAD_S:
            raise Unavailable(
                "clock_suspect",
                f"the clock says {format_time(now)}, and the last entry was made at {format_time(last)}",
                hint="set the clock; if it is right, say so with --accept-clock",
            )
        return max(now, last)


@contextmanager
def open_registrar(
    path: Path,
    objects: Objects,
    log_key: LogKey,
    pin: Pin | None,
    *,
    clock: Clock,
    random: Random,
    accept_clock: bool = False,
    reserve: Reserve | None = None,
    snapshots: Snapshots | None = None,
    create: bool = False,
) -> Iterator[Registrar]:
    """The registrar of a ledger file, for as long as the context lasts. `create`: make the empty file where there is
    none, for `Registrar.create`.

    Raises: as `ledger.sqlite_store.SqliteStore.open` and `create`.
    """
    with SqliteStore.create(path) if create and not path.exists() else SqliteStore.open(path) as store:
        registrar = Registrar(
            store,
            objects,
            log_key,
            pin,
            clock=clock,
            random=random,
            accept_clock=accept_clock,
            reserve=reserve,
            snapshots=snapshots,
        )
        with registrar:
            yield registrar


def _exists() -> UsageError:
    return UsageError("ledger_exists", "the ledger has a genesis already", hint="use another --home")
