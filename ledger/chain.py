"""The chain: raw records in, entries out, each one confirmed by what follows it.

An entry is given out only when the next record's `prev`, or for the last one the checkpoint's root, confirms its
bytes. So whoever folds over entries never acts on a changed one, and when two neighbours contradict each other the
changed one is named: it is the earlier one if the later one agrees with what follows it, else the later one.

Memory is flat: one entry, one frontier and at most 256 leaves that are not in it yet.

Source: docs/FORMAT.md, checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

from msgspec import Struct

from keys.errors import CalyxError, FormatError
from keys.words import counted
from ledger.checkpoint import Checkpoint
from ledger.head import EMPTY_HEAD, Head
from ledger.merkle import HASH_SIZE, Frontier, hash_leaf
from ledger.record import Record, parse_record

_MANY: Final = 256
"""Leaves that are put into the tree at once, which takes less than one by one."""

Reason = Literal["unreadable", "seq", "prev", "time", "root", "missing", "extra"]


class ChainBroken(CalyxError):
    """Entry `entry` is not what was appended there. `reason` says how that shows."""

    def __init__(self, entry: int, reason: Reason, message: str) -> None:
        super().__init__(
            "broken_chain",
            f"entry {entry}: {message}",
            hint="nothing after this entry counts; calyx ledger fsck --repair --from a copy brings back what was lost",
            entry=entry,
            reason=reason,
        )
        self.entry: Final = entry
        self.reason: Final[Reason] = reason


class Entry(Struct, frozen=True, gc=False):
    """A record at its place in an unbroken chain. Only `Chain`, who is about to append, and an audit of the one before
    a break make one.

    `leaf`: 64 hex digits.
    """

    seq: int
    record: Record
    leaf: str


class Chain:
    """How far a replay has come: the head, the last time, and the tree over everything confirmed so far.

    To go on from a prefix that was verified before, give its head, the time of its last record and its frontier. If
    that frontier was read from a cache, a contradicted root can also mean a damaged cache: replay from the start to
    tell.
    """

    def __init__(self, head: Head = EMPTY_HEAD, seconds: int | None = None, frontier: Frontier | None = None) -> None:
        self._size, self._leaf = head.size, head.hash
        self.seconds = seconds
        self._frontier = frontier or Frontier()
        self._pending: list[str] = []
        if self._frontier.size != head.size:
            raise ValueError("the frontier and the head are of different sizes")

    @property
    def frontier(self) -> Frontier:
        """The tree over the confirmed prefix."""
        if self._pending:
            leaves = bytes.fromhex("".join(self._pending))
            self._frontier.extend([leaves[at : at + HASH_SIZE] for at in range(0, len(leaves), HASH_SIZE)])
            self._pending.clear()
        return self._frontier

    @property
    def head(self) -> Head:
        """The prefix that is confirmed."""
        return Head(self._size, self._leaf)

    def replay(self, records: Iterable[bytes], checkpoint: Checkpoint | None) -> Iterator[Entry]:
        """Give out the entries that follow the present head, each once it is confirmed.

        `checkpoint`: verified by the caller; it confirms the last entry and that none is missing after it. None is
        for a reader that stops short of the end: then the last entry is given out unconfirmed.

        Raises: ChainBroken with the entry that was changed.
        """
        rest = iter(records)
        held: Record | None = None
        leaf, seconds = self._leaf, self.seconds
        seq = self._size
        for data in rest:
            if checkpoint is not None and seq >= checkpoint.size:
                self._check_root(held, checkpoint)
                raise ChainBroken(seq, "extra", f"the checkpoint covers {counted(checkpoint.size, 'entry')} only")
            record = _read(seq, data)
            if record.prev != leaf:
                raise self._contradiction(record, held, next(rest, None), checkpoint)
            if seconds is not None and record.seconds < seconds:
                raise ChainBroken(seq, "time", "its time is before that of the entry before it")
            if held is not None:
                yield self._confirm(held)
            held, leaf, seconds, seq = record, record.leaf, record.seconds, seq + 1
        if checkpoint is not None:
            if seq < checkpoint.size:
                raise ChainBroken(
                    seq, "missing", f"it is missing: the checkpoint covers {counted(checkpoint.size, 'entry')}"
                )
            self._check_root(held, checkpoint)
        if held is not None:
            yield self._confirm(held)

    def extend(self, record: Record) -> Entry:
        """Put a record of one's own after the head, for whoever holds the writer's place.

        Raises: ChainBroken when it does not follow the head.
        """
        if record.seq != self._size:
            raise ChainBroken(record.seq, "seq", f"the next entry is {self._size}")
        if record.prev != self._leaf:
            raise ChainBroken(record.seq, "prev", "it does not name the leaf of the entry before it")
        if self.seconds is not None and record.seconds < self.seconds:
            raise ChainBroken(record.seq, "time", "its time is before that of the entry before it")
        return self._confirm(record)

    def _confirm(self, record: Record) -> Entry:
        seq, leaf = record.seq, record.leaf
        pending = self._pending
        pending.append(leaf)
        if len(pending) >= _MANY:
            _ = self.frontier
        self._size, self._leaf, self.seconds = seq + 1, leaf, record.seconds
        return Entry(seq, record, leaf)

    def _check_root(self, held: Record | None, checkpoint: Checkpoint) -> None:
        if self._size > checkpoint.size:
            raise ChainBroken(
                checkpoint.size, "extra", f"the checkpoint covers {counted(checkpoint.size, 'entry')} only"
            )
        leaves = [] if held is None else [held.leaf]
        if self._root_with(leaves) != checkpoint.root:
            # Every earlier entry was confirmed by its successor, so only the last one can differ.
            raise ChainBroken(max(checkpoint.size - 1, 0), "root", "it is not the one that the checkpoint signs")

    def _contradiction(
        self, later: Record, earlier: Record | None, following: bytes | None, checkpoint: Checkpoint | None
    ) -> ChainBroken:
        if later.seq == 0:
            return ChainBroken(0, "prev", "the first entry names one before it")
        # `earlier` is None only for the last entry of a prefix that was verified before; the frontier holds it then.
        if checkpoint is not None and checkpoint.size == later.seq + 1:
            # What lies behind it is not the log's, and so says nothing of it.
            before = [[]] if earlier is None else [[later.prev], [earlier.leaf]]
            agrees = any(self._root_with([*leaves, later.leaf]) == checkpoint.root for leaves in before)
        else:
            agrees = following is not None and _names(following, later.leaf)
        if agrees:
            return ChainBroken(later.seq - 1, "prev", "it was changed: the next entry names another leaf")
        return ChainBroken(later.seq, "prev", "it was changed: it does not name the leaf of the entry before it")

    def _root_with(self, leaves: list[str]) -> bytes:
        tree = self.frontier.copy()
        for leaf in leaves:
            tree.append(bytes.fromhex(leaf))
        return tree.root()


def _read(seq: int, data: bytes) -> Record:
    try:
        record = parse_record(data)
    except FormatError as error:
        raise ChainBroken(seq, "unreadable", f"its bytes are not a record ({error.message})") from None
    if record.seq != seq:
        raise ChainBroken(seq, "seq", f"the record in its place says it is entry {record.seq}")
    return record


def _names(data: bytes, leaf: str) -> bool:
    """Whether these bytes are a record with this `prev`. Only for naming: it never makes an entry accepted."""
    try:
        return parse_record(data).prev == leaf
    except FormatError:
        return False


def leaf_of(data: bytes) -> str:
    """Leaf hash of a record's raw bytes, 64 hex digits."""
    return hash_leaf(data).hex()
