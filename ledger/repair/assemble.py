"""Proving records: which of the bytes that were found, at which position, are under a checkpoint that the log signed.

Each record names the leaf of the one before it, so from the last record back there is one right choice at each
position. Where a record is lost, its leaf is known from the record after it, so that all the others can still be
proved: the leaves must give the root that the checkpoint signs. The log's key is that of record 0, and record 0 is the
one that the reader remembers, or that the damaged ledger itself has or names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import Final, Self

from keys.errors import CalyxError, FormatError
from keys.words import counted
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.hash_column import HashColumn
from ledger.head import Head
from ledger.merkle import Frontier
from ledger.note import VerifierKey, parse_vkey
from ledger.record import Record, parse_record
from ledger.remembered import HeadContradicted, Remembered
from ledger.repair.source import Source
from ledger.sqlite.check import Progress
from ledger.statement import GENESIS, parse_statement

HERE: Final = 0
"""The first source: the ledger that is examined."""
LOST: Final = 255


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint, verified with the log's key, and the note that it was read from."""

    checkpoint: Checkpoint
    note: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring entries that the ledger's own place does not hold as they were, both ends included. `lost`: at least
    one of them is nowhere.
    """

    first: int
    last: int
    lost: bool


@dataclass(frozen=True, slots=True)
class Assembly:
    """Which source has each record of `signed`: its number, or LOST. `choice` ends where all sources do, and what lies
    behind that is lost too. `proved`: the leaves give the signed root, so every record that is not lost is the one that
    was appended. `lost`: how many are.
    """

    signed: Signed
    choice: bytearray
    leaves: HashColumn
    proved: bool
    lost: int

    @property
    def size(self) -> int:
        """Entries under the checkpoint."""
        return self.signed.checkpoint.size

    @property
    def whole(self) -> bool:
        """Nothing is lost."""
        return self.proved and not self.lost

    def changed(self) -> Iterator[Run]:
        """Entries that the ledger's own place does not hold, or holds otherwise."""
        first: int | None = None
        lost = False
        for seq, number in enumerate(self.choice):
            if number != HERE:
                first, lost = seq if first is None else first, lost or number == LOST
            elif first is not None:
                yield Run(first, seq - 1, lost)
                first, lost = None, False
        if len(self.choice) < self.size:
            yield Run(len(self.choice) if first is None else first, self.size - 1, lost=True)
        elif first is not None:
            yield Run(first, self.size - 1, lost)

    def records(self, sources: Sequence[Source]) -> Iterator[Record]:
        """The records, from the sources again. Only of a whole assembly.

        Raises: FormatError when they are not what they were.
        """
        readers = [source.rows() for source in sources]
        for seq, number in enumerate(self.choice):
            rows = [next(reader, None) for reader in readers]
            row = rows[number]
            record = parse_record((row.data if row is not None else None) or b"")
            if bytes.fromhex(record.leaf) != self.leaves[seq]:
                raise FormatError(f"entry {seq} changed while it was copied", code="ledger_corrupt")
            yield record


class _Stock:
    """What one source has: leaf and `prev` of each record that parses, and the hints."""

    def __init__(self, source: Source, opened: ExitStack, progress: Progress | None) -> None:
        self.leaves, self.prevs, self.hints = (opened.enter_context(closing(HashColumn())) for _ in range(3))
        self.first: Record | None = None
        self.end = 0
        self.held = 0
        for seq, row in enumerate(source.rows()):
            record = None
            if row.data is not None:
                with suppress(CalyxError):
                    record = parse_record(row.data)
            good = record if record is not None and record.seq == seq else None
            if seq == 0:
                self.first = good
            self.end = seq + 1
            if progress is not None:
                progress(self.end, source.end)
            self.hints[seq] = row.hint
            if good is not None:
                self.leaves[seq], self.prevs[seq] = bytes.fromhex(good.leaf), bytes.fromhex(good.prev)
                self.held = self.end


class Evidence:
    """The sources, read once: the ledger that is examined, and after it the copies that a person named. Use it as a
    context: it keeps a hash for each entry in files without a name.

    `ledger`: leaf of record 0, 64 hex digits; "" when nothing says which ledger this is. `signed`: each source's
    checkpoint, None where it is not the log's. `held`: positions at the ledger's own place that hold a record.
    """

    def __init__(
        self, sources: Sequence[Source], remembered: Remembered | None, progress: Progress | None = None
    ) -> None:
        self._sources: Final = sources
        self._opened: Final = ExitStack()
        try:
            self._stocks: Final = [_Stock(source, self._opened, progress) for source in sources]
        except BaseException:
            self._opened.close()
            raise
        self.remembered: Final = remembered
        self.ledger, self.key = self._find_ledger()
        self.signed: Final = [self._open(source.note) for source in sources]
        self.held: Final = self._stocks[HERE].held
        self._end: Final = max(stock.end for stock in self._stocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def assemble(self, signed: Signed) -> Assembly:
        """Choose the records under a checkpoint. The answer lasts as long as this context.

        Raises: HeadContradicted when they do not extend what is remembered; CalyxError (`head_contradicted`) when two
        checkpoints of this log contradict each other.
        """
        last = signed.checkpoint.size - 1
        options = list(dict.fromkeys(leaf for stock in self._stocks if (leaf := stock.leaves[last]) is not None))
        hints = [self._sources[number].last for number, each in enumerate(self.signed) if each == signed]
        tries: list[bytes | None] = [hint for hint in dict.fromkeys([*hints, *self._hints(last), *options]) if hint]
        found: list[Assembly] = []
        for wanted in tries or [None]:
            found.append(self._walk_back(signed, wanted))
            self._opened.enter_context(closing(found[-1].leaves))
            if found[-1].proved:
                self._check(found[-1])
                return found[-1]
        return min(found, key=lambda each: each.lost)

    def check_stranger(self) -> None:
        """Tell a damaged first entry from that of another ledger, whose own log signed all that lies here.

        Raises: HeadContradicted.
        """
        here, remembered = self._stocks[HERE], self.remembered
        if self.ledger or remembered is None or here.first is None:
            return
        try:
            checkpoint = parse_checkpoint(self._sources[HERE].note, _log_key(here.first))
        except CalyxError:
            return
        # A first entry that was changed may still name the key; the root is that of the one that was appended.
        if not 0 < checkpoint.size <= here.end or _root(here.leaves, checkpoint.size) != checkpoint.root:
            return
        found = Head(here.end, _hex(here.leaves[here.end - 1]))
        raise HeadContradicted(remembered, here.first.leaf, found, "this is another ledger")

    def _walk_back(self, signed: Signed, wanted: bytes | None) -> Assembly:
        # A checkpoint may claim any size; what no source can hold costs nothing here, and cannot be proved.
        size = min(signed.checkpoint.size, self._end)
        if size < signed.checkpoint.size:
            wanted = None
        choice, leaves, lost, known = bytearray(size), HashColumn(), signed.checkpoint.size - size, True
        for seq in reversed(range(size)):
            picked = self._pick(seq, wanted)
            leaf = wanted
            if picked != LOST:
                leaf = self._stocks[picked].leaves[seq]
                wanted = self._stocks[picked].prevs[seq]
            else:
                lost += 1
                leaf = leaf or next(iter(self._hints(seq)), None)
                wanted = None
            choice[seq], leaves[seq] = picked, leaf
            known = known and leaf is not None
        proved = known and size == signed.checkpoint.size and _root(leaves, size) == signed.checkpoint.root
        return Assembly(signed, choice, leaves, proved, lost)

    def _pick(self, seq: int, wanted: bytes | None) -> int:
        """The source with the wanted leaf; where no later record says which, one that a hint agrees with, or any."""
        having = [
            (number, leaf) for number, stock in enumerate(self._stocks) if (leaf := stock.leaves[seq]) is not None
        ]
        if wanted is not None:
            return next((number for number, leaf in having if leaf == wanted), LOST)
        hints = self._hints(seq)
        first = having[0][0] if having else LOST
        return next((number for number, leaf in having if leaf in hints), first)

    def _hints(self, seq: int) -> list[bytes]:
        return [hint for stock in self._stocks if (hint := stock.hints[seq]) is not None]

    def _check(self, assembly: Assembly) -> None:
        for each in self.signed:
            if each is None or not 0 < each.checkpoint.size <= assembly.size:
                continue
            if _root(assembly.leaves, each.checkpoint.size) != each.checkpoint.root:
                raise CalyxError(
                    "head_contradicted",
                    f"the log signed two histories: their first {counted(each.checkpoint.size, 'entry')} differ",
                    hint="do not sign or deploy; keep both copies and find out who has the log's key",
                )
        remembered = self.remembered
        if remembered is None or not 0 < remembered.size <= assembly.size:
            return
        if _hex(assembly.leaves[remembered.size - 1]) != remembered.hash:
            found = Head(assembly.size, _hex(assembly.leaves[assembly.size - 1]))
            raise HeadContradicted(remembered, self.ledger, found, "the history was rewritten")

    def _find_ledger(self) -> tuple[str, VerifierKey | None]:
        here = self._stocks[HERE]
        known = {self.remembered.ledger} if self.remembered is not None else set()
        if not known:
            known = {leaf.hex() for leaf in (here.leaves[0], here.prevs[1]) if leaf is not None}
        for stock in self._stocks:
            if stock.first is not None and stock.first.leaf in known:
                with suppress(CalyxError):
                    return stock.first.leaf, _log_key(stock.first)
        return "", None

    def _open(self, note: bytes) -> Signed | None:
        if self.key is None:
            return None
        try:
            checkpoint = parse_checkpoint(note, self.key)
        except CalyxError:
            return None
        return Signed(checkpoint, note) if checkpoint.size else None


def _log_key(first: Record) -> VerifierKey:
    statement = parse_statement(first.envelope.body)
    key = statement.predicate.get("log_key")
    if statement.kind != GENESIS or not isinstance(key, str):
        raise FormatError("record 0 is no genesis")
    return parse_vkey(key)


def _hex(leaf: bytes | None) -> str:
    return "" if leaf is None else leaf.hex()


def _root(leaves: HashColumn, size: int) -> bytes:
    frontier = Frontier()
    for leaf in leaves.first(size):
        frontier.append(leaf or b"")
    return frontier.root()
