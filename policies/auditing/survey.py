"""What can still be said of entries once the law cannot decide: their bytes, their places and their signatures.

After an entry that is broken or unlawful nothing counts, but an auditor wants to know whether the rest was touched too.
Neighbours that contradict each other are judged as in `ledger.chain`: the earlier one was changed if the later one
agrees with what follows it, else the later one. Where an entry was changed, the `prev` of the next one still says which
leaf it had, so the checkpoint can confirm all the others.

Source: docs/FORMAT.md, checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from keys.errors import CalyxError, FormatError, LawRefused
from keys.values import ZERO_HASH
from ledger.chain import Chain, Entry
from ledger.checkpoint import Checkpoint
from ledger.record import Record, parse_record
from ledger.statement import Statement, parse_statement
from ledger.store import Reader
from ledger.verified import VerifiedSignature, open_envelope
from policies.fold.digests import hex_rows
from policies.fold.scratch import IN_MEMORY, Column, Scratch, ScratchFailed
from policies.fold.state import State
from policies.law.position import find_holder, parse_predicate

Report = Callable[[str, int, str], None]
"""Takes a finding: code, entry, message."""

BROKEN: Final = "broken_chain"


class Survey:
    """Goes on behind the last entry that the law decided. `state`: the one after that entry; it stays as it is.

    `unknown`: entries whose signature could not be checked, because a key may have been enrolled meanwhile.
    """

    def __init__(
        self,
        state: State,
        report: Report,
        visit: Callable[[int, Statement], None],
        scratch: Scratch = IN_MEMORY,
    ) -> None:
        self._state = state
        self._report = report
        self._visit = visit
        self._later = _Leaves(scratch)
        self._broken: set[int] = set()
        self._left_out: set[int] = set()
        self.unknown = 0

    def flag(self, seq: int) -> None:
        """Take note that an entry was reported already."""
        self._broken.add(seq)

    def leave_out(self, seq: int) -> None:
        """Do not look at what an entry says: that was reported already. Its place and leaf are still compared."""
        self._left_out.add(seq)

    def take(self, entry: Entry, ahead: VerifiedSignature | None = None) -> None:
        """Look at an entry that stands in an unbroken chain. `ahead`: its signature, where that was verified before."""
        self._look(entry.seq, entry.record, ahead)
        self._later.append(entry.leaf)

    def run(self, reader: Reader, chain: Chain, checkpoint: Checkpoint | None, end: int) -> bool | None:
        """Look at every entry behind `chain` up to `end`.

        True when the checkpoint confirms every entry that was not reported, None when there is nothing to confirm by.
        """
        seq = chain.head.size
        before: str | None = chain.head.hash
        seconds = chain.seconds
        rest = self._records(reader, seq, end)
        held = next(rest, None)
        while held is not None:
            (record,), following = held, next(rest, None)
            after = None if following is None else following[0]
            if record is not None:
                self._place(seq, record, before, after, chain=chain, checkpoint=checkpoint)
                if seconds is not None and record.seconds < seconds:
                    self._break(seq, "its time is before that of the entry before it")
                seconds = record.seconds if seq not in self._broken else seconds
                self._look(seq, record)
            if record is not None and seq not in self._broken:
                before = record.leaf
            else:
                # What the next entry names is the leaf that this one had.
                before = None if after is None else after.prev
            self._later.append(before)
            held, seq = following, seq + 1
        return self._confirm(chain, checkpoint)

    def _place(
        self,
        seq: int,
        record: Record,
        before: str | None,
        after: Record | None,
        *,
        chain: Chain,
        checkpoint: Checkpoint | None,
    ) -> None:
        if record.seq != seq:
            self._break(seq, f"the record in its place says it is entry {record.seq}")
        elif before is not None and record.prev != before:
            earlier = after is not None and after.prev == record.leaf
            if checkpoint is not None and checkpoint.size == seq + 1:
                earlier = self._root(chain, record.prev, record.leaf) == checkpoint.root
            if earlier and len(self._later):
                self._break(seq - 1, "it was changed: the next entry names another leaf")
                self._later.mend(record.prev)
            else:
                self._break(seq, "it was changed: it does not name the leaf of the entry before it")

    def _break(self, seq: int, message: str) -> None:
        if seq not in self._broken:
            self._broken.add(seq)
            self._report(BROKEN, seq, message)

    def _records(self, reader: Reader, start: int, end: int) -> Iterator[tuple[Record | None]]:
        """Each record, None for one that is missing or is no record; those are reported."""
        at = start
        while at < end:
            try:
                for data in reader.read(at, end):
                    yield (self._parse(at, data),)
                    at += 1
            except CalyxError as error:
                self._break(at, error.message)
            else:
                if at < end:
                    self._break(at, "it is missing, and so is what followed it")
                return
            yield (None,)
            at += 1

    def _parse(self, seq: int, data: bytes) -> Record | None:
        try:
            return parse_record(data)
        except FormatError as error:
            self._break(seq, f"its bytes are not a record ({error.message})")
            return None

    def _look(self, seq: int, record: Record, ahead: VerifiedSignature | None = None) -> None:
        """Check what a record says by itself: its statement, its signature, and the head inside it. `seq`: its place,
        whatever it says of that. `ahead`: as `take` has it.
        """
        if seq in self._broken or seq in self._left_out:
            return
        try:
            statement = parse_statement(record.envelope.body)
            self._visit(seq, statement)
            predicate = parse_predicate(statement)
            holder = find_holder(self._state, statement, predicate, record.envelope.keyid)
            open_envelope(record.envelope, statement, holder.enrolled, ahead)
        except LawRefused:
            self.unknown += 1
            return
        except ScratchFailed:
            raise
        except CalyxError as error:
            if error.code in {"unknown_key", "wrong_signer"}:
                self.unknown += 1
            else:
                self._report(error.code, seq, error.message)
            return
        head = statement.head
        known = self._leaf(head.size - 1) if 0 < head.size <= seq else None
        if head.size > seq or (known is not None and known != head.hash):
            self._report("head_contradicted", seq, f"its signer had verified {head}, which is no prefix of this ledger")

    def _leaf(self, seq: int) -> str | None:
        history = self._state.history
        if seq < history.size:
            return history.leaf(seq)
        at = seq - history.size
        return self._later[at] if at < len(self._later) else None

    def _confirm(self, chain: Chain, checkpoint: Checkpoint | None) -> bool | None:
        return None if checkpoint is None else self._root(chain) == checkpoint.root

    def _root(self, chain: Chain, *instead: str) -> bytes | None:
        """Root over the chain and what came behind it; None where a leaf is not known. `instead`: leaves in place
        of the last.
        """
        tree = chain.frontier.copy()
        for leaf in self._later.after(chain.head.size - self._state.history.size, instead):
            if leaf is None:
                return None
            tree.append(bytes.fromhex(leaf))
        return tree.root()


class _Leaves:
    """The leaf of each entry behind the last that the law decided, None where it is not known. Few are not."""

    def __init__(self, scratch: Scratch) -> None:
        self._rows = hex_rows(32, Column(scratch))
        self._unknown: set[int] = set()
        self._mended: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: int) -> str | None:
        return None if at in self._unknown else self._mended.get(at) or self._rows[at]

    def append(self, leaf: str | None) -> None:
        """Add the next one."""
        if leaf is None:
            self._unknown.add(len(self))
        self._rows.append(leaf or ZERO_HASH)

    def mend(self, leaf: str) -> None:
        """Change the last one."""
        at = len(self) - 1
        self._unknown.discard(at)
        self._mended[at] = leaf

    def after(self, begin: int, instead: tuple[str, ...] = ()) -> Iterator[str | None]:
        """Those from `begin` on; with `instead`, these in place of the last."""
        end = max(len(self) - 1, 0) if instead else len(self)
        for at in range(begin, end):
            yield self[at]
        yield from instead[max(begin - end, 0) :]
