"""Reading a ledger as the law does: every reader replays bytes, chain, signatures and law, and trusts no cache.

`Replay` keeps the state between calls, so that following a live ledger costs only its new entries. The head that a
reader verified is remembered outside the ledger's directory before the state is handed out (`ledger.memory`). Given
`snapshots`, it may begin behind entries that the same user verified before (`policies.fold.snapshots`), instead of at
the first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from keys.errors import CalyxError
from keys.values import ZERO_HASH, format_time
from ledger.chain import Chain, Entry
from ledger.checkpoint import parse_checkpoint
from ledger.head import EMPTY_HEAD, Head
from ledger.note import parse_vkey
from ledger.objects import OBJECT_CODES
from ledger.record import Record
from ledger.remembered import Remembered, check_remembered
from ledger.store import Reader, Tip
from ledger.verified import VerifiedSignature
from policies.fold.scratch import Scratch, ScratchFailed
from policies.fold.shelf import shelved_state
from policies.fold.snapshot import Folded
from policies.fold.snapshots import Note, Snapshots
from policies.fold.state import State
from policies.law.step import enact, judge, step
from policies.names import Objects
from policies.pin import Pin
from policies.read_ahead import read_ahead, signatures_ahead


class Unlawful(CalyxError):
    """An entry in the ledger that the law refuses: it was written past the registrar. Nothing may follow it."""

    def __init__(self, entry: int, cause: CalyxError) -> None:
        fields = {name: value for name, value in cause.fields.items() if name not in {"entry", "cause"}}
        # A lost object says nothing against the entry that names it: with the object it is as lawful as it was.
        lost = cause.code in OBJECT_CODES
        super().__init__(
            "unlawful_entry",
            f"entry {entry} is not lawful ({cause.code}): {cause.message}",
            hint="restore the objects from a copy of the home"
            if lost
            else "restore the ledger from before it, or begin a ledger that continues this one",
            entry=entry,
            cause=cause.code,
            **fields,
        )
        self.entry: Final = entry
        self.cause: Final = cause


class Observer(Protocol):
    """Whoever wants to see each entry with the state after it, such as a log or a progress bar."""

    def __call__(self, entry: Entry, state: State) -> None:
        """Take note of an entry."""
        ...


class Replay:
    """A state that follows a ledger. Not shared between threads.

    `snapshots`: where to begin, if there is one that may be believed; entries before it are not read, and `observer`
    does not see them. `scratch`: where what the state seldom needs lies, None for memory. With either, its leases,
    deployments and messages are shelves: one is made when it is asked for, and all of them take long. `jobs`: how many
    processes work where much is new, this one included; what is read does not depend on it.
    """

    def __init__(
        self,
        reader: Reader,
        objects: Objects,
        pin: Pin | None,
        observer: Observer | None = None,
        snapshots: Snapshots | None = None,
        scratch: Scratch | None = None,
        jobs: int = 1,
    ) -> None:
        self._reader = reader
        self._objects = objects
        self._pin = pin
        self._observer = observer
        self._snapshots = snapshots
        self._scratch = snapshots.scratch if scratch is None and snapshots is not None else scratch
        self._jobs = jobs
        self._kept = 0
        self._unfit: Note | None = None
        self.forget()

    def forget(self) -> None:
        """Drop the state, so that the next `sync` reads the ledger from its start, or from the snapshot."""
        self._state = State() if self._scratch is None else shelved_state(self._scratch)
        self._chain = Chain()
        self._checkpoint = b""
        self._begun: Note | None = None

    @property
    def state(self) -> State:
        """The state after what was read. Read it, do not change it."""
        return self._state

    @property
    def head(self) -> Head:
        """The head of what was read."""
        return self._chain.head

    @property
    def checkpoint(self) -> bytes:
        """The log's signed checkpoint over exactly what was read, verified; b"" before the first `sync`."""
        return self._checkpoint

    @property
    def seconds(self) -> int | None:
        """Time of the newest entry read."""
        return self._chain.seconds

    def sync(self) -> State:
        """Read what is new, and remember the head. The state is the replay's own: read it, do not change it.

        Raises: ChainBroken, Unlawful, HeadContradicted; CalyxError (`tip_mismatch`), and of the store and the memory.
        """
        return self._sync(remember=True)

    @contextmanager
    def glance(self) -> Iterator[State]:
        """The state as `sync` gives it, where its head cannot be remembered: to decide whether to make room for that.
        Nothing is said or done on it, and it is forgotten after.

        Raises: as `sync`, but for what cannot be written to the memory.
        """
        try:
            yield self._sync(remember=False)
        finally:
            self.forget()

    def _sync(self, *, remember: bool) -> State:
        tip = self._reader.tip()
        begun = self._begin(tip)
        if tip.head == self.head and tip.head != EMPTY_HEAD and not begun:
            return self.state
        if tip.head.size < self.head.size:
            self.check_remembered()
            # Nothing was remembered that says so, and still the store is shorter than what this process read.
            raise CalyxError(
                "head_contradicted",
                f"the ledger had {self.head} and has {tip.head} now",
                hint="find out who replaced the ledger before you go on",
                remembered=self.head.size,
                found=tip.head.size,
            )
        if tip.head.size == 0:
            self.check_remembered()
            return self.state
        try:
            if (self._read(tip) or begun) and self._pin is not None:
                self._catch_up(self._pin)
                if remember:
                    self._pin.store(self.state.ledger, self.head)
        except BaseException:
            # The chain may be ahead of the state, and neither may be believed: the next call judges all of it again.
            self.forget()
            raise
        return self.state

    def keep(self, snapshots: Snapshots, whole: int, whole_at: str) -> None:
        """Keep what the last `sync` read, for later readers; not between `take` and the commit. `whole`, `whole_at`: as
        in `policies.fold.snapshots.Note`. Raises: as `Snapshots.save`.
        """
        snapshots.save(Folded(self.state, self._chain), whole, whole_at)

    @property
    def begun(self) -> Note | None:
        """The snapshot that this one went on from; None where it read every entry itself."""
        return self._begun

    @property
    def refused(self) -> str | None:
        """Why a snapshot that was kept was not gone on from, in one line; None where none was, or it was."""
        return None if self._snapshots is None else self._snapshots.refused

    def keep_new(self, least: int, now: int) -> bool:
        """Keep what was read for later readers where it is `least` entries more than what is kept; whether that was
        done. When it fails it is tried again so many entries later. Not between `take` and the commit. `now`: seconds
        since 1970.

        Raises: Unavailable (`snapshot_write_failed`); ScratchFailed.
        """
        size = self.head.size
        if self._snapshots is None or size < self._kept + least:
            return False
        # Another process may have done it, and read on; but where this one could not begin, nobody can.
        found = self._snapshots.note()
        if found is not None and found != self._unfit and found.ledger == self.state.ledger:
            self._kept = found.size
            if size < self._kept + least:
                return False
        begun, self._kept = self._begun, size
        whole = (size, format_time(now)) if begun is None else (begun.whole, begun.whole_at)
        self._snapshots.save(Folded(self.state, self._chain), *whole)
        return True

    def take(self, record: Record, ahead: VerifiedSignature | None = None) -> Entry:
        """Judge a record that is about to be appended, and go on from the state after it. When the append fails in the
        end, `forget`.

        `ahead`: its signature, where that was verified before.

        Raises: CalyxError of the law; then the state is as it was. After anything else, such as an
        interrupt, this one begins anew.
        """
        entry = Entry(record.seq, record, record.leaf)
        change, verified = judge(self.state, entry, self._objects, ahead)
        try:
            self._state = enact(self.state, entry, change, verified)
            return self._chain.extend(record)
        except BaseException:
            # Half of a change must be neither gone on from nor kept for later readers.
            self.forget()
            raise

    def _begin(self, tip: Tip) -> bool:
        """Take up the snapshot where nothing was read yet and one is fit; whether it was."""
        if self._snapshots is None or self.head != EMPTY_HEAD or tip.head == EMPTY_HEAD:
            return False
        kept = self._snapshots.find(self._reader, None if self._pin is None else self._pin.load())
        if kept is None or kept.note.size > tip.head.size:
            self._unfit = self._snapshots.note()
            return False
        self._state = kept.folded.state
        self._chain = kept.folded.chain
        self._begun, self._kept = kept.note, kept.note.size
        return True

    def _catch_up(self, pin: Pin) -> None:
        remembered = pin.load()
        while remembered is not None and remembered.size > self.head.size:
            # Another process may have appended, and remembered that, after this one had looked at the tip. What is
            # remembered was durable before, so a whole ledger holds it by now: read on, for as long as there is more.
            tip = self._reader.tip()
            if tip.head.size <= self.head.size:
                break
            self._read(tip)
            remembered = pin.load()
        self._check(remembered)

    def _read(self, tip: Tip) -> bool:
        """Go on to a tip; whether there was anything new."""
        before = self.head
        self._replay(tip.head.size, tip.checkpoint)
        if self.head != tip.head:
            raise CalyxError(
                "tip_mismatch",
                f"the store says {tip.head}, its records are {self.head}",
                hint="calyx ledger fsck says what is lost; with --repair --from a copy it comes back",
            )
        self._checkpoint = tip.checkpoint
        return self.head != before

    def _replay(self, size: int, note: bytes) -> None:
        chain, records = self._chain, self._reader.read(self.head.size, size)
        checkpoint = None
        if self.state.log_key:
            checkpoint = parse_checkpoint(note, parse_vkey(self.state.log_key))
            entries = chain.replay(records, checkpoint)
        else:
            # The log's key stands in record 0, so the checkpoint can be judged only after it.
            first = next(iter(self._reader.read(0, 1)), None)
            for entry in Chain().replay([] if first is None else [first], None):
                probe = self._step(State(), entry)
                checkpoint = parse_checkpoint(note, parse_vkey(probe.log_key))
            entries = chain.replay(records, checkpoint)
        with signatures_ahead(self._jobs, size - self.head.size, required=False) as ahead:
            for entry, signature in read_ahead(entries, ahead, lambda: self.state.trust):
                self._state = self._step(self._state, entry, signature)
                if self._observer is not None:
                    self._observer(entry, self.state)

    def _step(self, state: State, entry: Entry, ahead: VerifiedSignature | None = None) -> State:
        try:
            return step(state, entry, self._objects, ahead)
        except ScratchFailed:
            raise
        except CalyxError as error:
            raise Unlawful(entry.seq, error) from error

    def check_remembered(self) -> None:
        """Prove that what was read extends the remembered head. `sync` does so when it reads something; whoever is to
        append asks once more, because another process may have remembered a head that the store has lost since.

        Raises: HeadContradicted; Unavailable of the memory.
        """
        if self._pin is not None:
            self._check(self._pin.load())

    def _check(self, remembered: Remembered | None) -> None:
        if remembered is not None:
            check_remembered(remembered, self.state.ledger or ZERO_HASH, self.head, self.state.history.leaf)
