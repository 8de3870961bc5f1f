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

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, Self

from keys.errors import CalyxError, Refused, Unavailable
from keys.signer import Signer
from keys.values import format_time
from ledger.chain import Entry
from ledger.envelope import Envelope
from ledger.head import EMPTY_HEAD, Head
from ledger.log_key import LogKey
from ledger.memory import MEMORY_FULL
from ledger.record import make_record
from ledger.sqlite.store import SqliteStore
from ledger.statement import Statement
from ledger.store import DISK_FULL, Store
from ledger.verified import open_envelope, sign_statement
from policies.batch_ahead import BatchAhead
from policies.fold.snapshots import Snapshots
from policies.fold.state import State
from policies.law.position import find_holder, parse_predicate, read_statement
from policies.law.safety import leads_back
from policies.law.step import judge
from policies.names import Objects
from policies.pin import Pin
from policies.submitter import Clock, Draft, Random, Receipt, Submitter

MAX_BEHIND_S: Final = 5
MAX_AHEAD_S: Final = 30 * 86_400


class Reserve(Protocol):
    """Room on the ledger's disk that is kept for what leads toward safety; `executor.homes.reserve` has it."""

    def low(self) -> bool:
        """Whether the disk is nearly full."""
        ...

    def give_up(self) -> bool:
        """Make room; whether there was any to give up."""
        ...


class Registrar(Submitter):
    """Appends to one ledger. Not shared between threads; any number of processes may have one each. A context: it ends
    what it started, and has the head that it noted on the disk.

    `accept_clock`: append even though the clock contradicts the ledger's last record. `reserve`: given up for what
    leads toward safety where the disk is full. `snapshots`, `jobs`: as `policies.replay.Replay` has them; this process
    and `jobs - 1` others check the signatures of big batches.
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
        reserve: Reserve | None = None,
        snapshots: Snapshots | None = None,
        jobs: int = 1,
    ) -> None:
        super().__init__(store, objects, pin, clock=clock, random=random, snapshots=snapshots, jobs=jobs)
        self._store = store
        self._log_key = log_key
        self._vkey = str(log_key.vkey)
        self._pin = pin
        self._accept_clock = accept_clock
        self._reserve = reserve
        self._batch = BatchAhead(jobs - 1)
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

        Raises: as `policies.replay.Replay.sync`; Refused (`wrong_log_key`) when this registrar could never append.
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
                # Whoever goes on all the same reads it again, and has it remembered before anything follows from it.
                self._replay.forget()
                raise Unavailable(
                    "head_not_remembered",
                    f"entry {receipts[-1].seq} is in the ledger, and its head is not remembered: {error.message}",
                    hint="mend that, then go on; do not say it again",
                    entry=receipts[-1].seq,
                    cause=error.code,
                ) from error
        return receipts

    def create(self, signer: Signer, draft: Draft) -> Receipt:
        """Make record 0 of an empty ledger, and remember its identity in place of what was remembered of this home.

        Raises: as `submit`; Refused (`ledger_exists`).
        """
        if self.head != EMPTY_HEAD:
            raise _exists()
        statement = self.draft_statement(signer.principal, draft, machine=False)
        return self._append([sign_statement(statement, signer)], empty=True)[0]

    def _make_room(self, envelopes: Sequence[Envelope]) -> bool:
        """Give up the reserve for what leads toward safety, is signed, is new, and would be appended if there were
        room; whether there is more room now.
        """
        if self._reserve is None:
            return False
        try:
            wanted = self._deserve_room(envelopes)
        except CalyxError:
            return False
        return wanted and self._reserve.give_up()

    def _deserve_room(self, envelopes: Sequence[Envelope]) -> bool:
        try:
            self.sync()
        except Unavailable as error:
            if error.code != MEMORY_FULL:
                raise
            # What is remembered lies on that disk, too. It will be, before anything is appended.
            with self._replay.glance() as state:
                self._check_log_key(state)
                return self._lead_back(envelopes)
        return self._lead_back(envelopes)

    def _lead_back(self, envelopes: Sequence[Envelope]) -> bool:
        """Whether all of them do, and there is something to append. Raises: CalyxError where that is not lawful."""
        history = self.state.history
        new = [each for each in envelopes if history.find(sha256(each.body).hexdigest()) is None]
        if not new:
            return False
        # What follows the first is lawful only behind it, so of that the signature has to do.
        record = make_record(self.head.size, self.head.hash, self._record_time(), new[0])
        judge(self.state, Entry(record.seq, record, record.leaf), self._objects)
        return all(leads_back(self._open(each)) for each in new)

    def _open(self, envelope: Envelope) -> Statement:
        """The statement of an envelope, signed by who may sign now. Raises: CalyxError."""
        statement, predicate = read_statement(envelope.body)
        if predicate is None:
            predicate = parse_predicate(statement)
        holder = find_holder(self.state, statement, predicate, envelope.keyid)
        return open_envelope(envelope, statement, holder.enrolled).statement

    def _append(self, envelopes: Sequence[Envelope], *, empty: bool = False) -> list[Receipt]:
        before: Head | None = None
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
                before = self.head
                receipts = []
                for envelope, signature in self._batch.read(envelopes, lambda: self.state.trust):
                    digest, head = sha256(envelope.body).hexdigest(), writer.head
                    try:
                        record = make_record(head.size, head.hash, self._record_time(), envelope)
                        entry = self._replay.take(record, signature)
                    except CalyxError:
                        # What was said before is refused, by one rule or another. Looking for it only then spares a
                        # long ledger the look for what is new.
                        history = self.state.history
                        seq = history.find(digest)
                        if seq is None:
                            raise
                        receipts.append(Receipt(seq, digest, history.leaf(seq), history.time(seq)))
                        continue
                    writer.append(record)
                    receipts.append(Receipt(entry.seq, digest, entry.leaf, record.seconds))
                if empty and self._pin is not None:
                    # Before the commit: a crash between them leaves an empty ledger, which the next init begins anew,
                    # and never a ledger that what is remembered contradicts.
                    self._pin.replace(self.state.ledger, self.head)
        except BaseException:
            # The state holds entries that were not committed, or may not have been: read again what is durable.
            if before is not None and self.head != before:
                self._replay.forget()
            raise
        return receipts

    def _check_log_key(self, state: State) -> None:
        if state.log_key != self._vkey:
            raise Refused(
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
    jobs: int = 1,
    create: bool = False,
) -> Iterator[Registrar]:
    """The registrar of a ledger file, for as long as the context lasts. `create`: make the empty file where there is
    none, for `Registrar.create`.

    Raises: as `ledger.sqlite.store.SqliteStore.open` and `create`.
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
            jobs=jobs,
        )
        with registrar:
            yield registrar


def _exists() -> Refused:
    return Refused("ledger_exists", "the ledger has a genesis already", hint="use another --home")
