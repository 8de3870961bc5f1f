"""Proving records: which of the bytes that were found, at which position, are under a checkpoint that the log signed.

Each record names the leaf of the one before it, so from the last record back there is one right choice at each
position. Where a record is lost, its leaf is known from the record after it, so that all the others can still be
proved: the leaves must give the root that the checkpoint signs. The log's key is that of record 0, and record 0 is the
one that the reader remembers, or that the damaged ledger itself has or names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from keys.errors import CalyxError, FormatError
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.fsck_source import Source
from ledger.head import Head
from ledger.memory import HeadContradicted, Remembered
from ledger.merkle import Frontier
from ledger.note import VerifierKey, parse_vkey
from ledger.record import Record, parse_record
from ledger.statement import GENESIS, parse_statement

HERE: Final = 0
"""The first source: the ledger that is examined."""
LOST: Final = -1


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint, verified with the log's key, and the note that it was read from."""

    checkpoint: Checkpoint
    note: bytes


@dataclass(frozen=True, slots=True)
class Assembly:
    """Which source has each record of `signed`: its number, or LOST. `proved`: the leaves give the signed root, so
    every record that is not lost is the one that was appended.
    """

    signed: Signed
    choice: list[int]
    leaves: list[bytes]
    proved: bool
    lost: list[int] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Nothing is lost."""
        return self.proved and not self.lost

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


@dataclass(slots=True)
class _Stock:
    """What one source has: leaf and `prev` of each record that parses, and the hints."""

    leaves: list[bytes | None] = field(default_factory=list)
    prevs: list[bytes | None] = field(default_factory=list)
    hints: list[bytes | None] = field(default_factory=list)
    first: Record | None = None


class Evidence:
    """The sources, read once: the ledger that is examined, and after it the copies that a person named.

    `ledger`: leaf of record 0, 64 hex digits; "" when nothing says which ledger this is. `signed`: each source's
    checkpoint, None where it is not the log's. `held`: positions at the ledger's own place that hold a record.
    """

    def __init__(self, sources: Sequence[Source], remembered: Remembered | None) -> None:
        self._sources: Final = sources
        self._stocks: Final = [_read(source) for source in sources]
        self.remembered: Final = remembered
        self.ledger, self.key = self._find_ledger()
        self.signed: Final = [self._open(source.note) for source in sources]
        here = self._stocks[HERE].leaves
        self.held: Final = max((seq + 1 for seq, leaf in enumerate(here) if leaf is not None), default=0)

    def changed(self, assembly: Assembly) -> list[int]:
        """Entries that the ledger's own place does not hold, or holds otherwise."""
        return [seq for seq, number in enumerate(assembly.choice) if number != HERE]

    def assemble(self, signed: Signed) -> Assembly:
        """Choose the records under a checkpoint.

        Raises: HeadContradicted when they do not extend what is remembered; CalyxError (`head_contradicted`) when two
        checkpoints of this log contradict each other.
        """
        last = signed.checkpoint.size - 1
        options = list(dict.fromkeys(leaf for stock in self._stocks if (leaf := _at(stock.leaves, last)) is not None))
        hints = [self._sources[number].last for number, each in enumerate(self.signed) if each == signed]
        tries: list[bytes | None] = [hint for hint in dict.fromkeys([*hints, *self._hints(last), *options]) if hint]
        best: Assembly | None = None
        for wanted in tries or [None]:
            found = self._walk_back(signed, wanted)
            if best is None or (found.proved, -len(found.lost)) > (best.proved, -len(best.lost)):
                best = found
            if found.proved:
                break
        if best is None:
            raise FormatError("a checkpoint covers no record")
        if best.proved:
            self._check(best)
        return best

    def _walk_back(self, signed: Signed, wanted: bytes | None) -> Assembly:
        size = signed.checkpoint.size
        choice, leaves, lost = [LOST] * size, [b""] * size, []
        for seq in reversed(range(size)):
            picked = self._pick(seq, wanted)
            leaf = wanted
            if picked != LOST:
                choice[seq], leaf = picked, self._stocks[picked].leaves[seq]
                wanted = self._stocks[picked].prevs[seq]
            else:
                lost.append(seq)
                leaf = leaf or next(iter(self._hints(seq)), None)
                wanted = None
            leaves[seq] = leaf or b""
        proved = all(leaves) and _root(leaves) == signed.checkpoint.root
        return Assembly(signed, choice, leaves, proved, sorted(lost))

    def _pick(self, seq: int, wanted: bytes | None) -> int:
        """The source with the wanted leaf; where no later record says which, one that a hint agrees with, or any."""
        having = [number for number, stock in enumerate(self._stocks) if _at(stock.leaves, seq) is not None]
        if wanted is not None:
            return next((number for number in having if self._stocks[number].leaves[seq] == wanted), LOST)
        hints = self._hints(seq)
        return next((number for number in having if self._stocks[number].leaves[seq] in hints), (having or [LOST])[0])

    def _hints(self, seq: int) -> list[bytes]:
        return [hint for stock in self._stocks if (hint := _at(stock.hints, seq)) is not None]

    def _check(self, assembly: Assembly) -> None:
        for each in self.signed:
            if each is None or not 0 < each.checkpoint.size <= len(assembly.leaves):
                continue
            if _root(assembly.leaves[: each.checkpoint.size]) != each.checkpoint.root:
                raise CalyxError(
                    "head_contradicted",
                    f"the log signed two histories: their first {each.checkpoint.size} entries differ",
                    hint="do not sign or deploy; keep both copies and find out who has the log's key",
                )
        remembered = self.remembered
        if remembered is None or not 0 < remembered.size <= len(assembly.leaves):
            return
        if assembly.leaves[remembered.size - 1].hex() != remembered.hash:
            found = Head(len(assembly.leaves), assembly.leaves[-1].hex())
            raise HeadContradicted(remembered, self.ledger, found, "the history was rewritten")

    def _find_ledger(self) -> tuple[str, VerifierKey | None]:
        here = self._stocks[HERE]
        known = {self.remembered.ledger} if self.remembered is not None else set()
        if not known:
            known = {leaf.hex() for leaf in (_at(here.leaves, 0), _at(here.prevs, 1)) if leaf is not None}
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


def _read(source: Source) -> _Stock:
    stock = _Stock()
    for seq, row in enumerate(source.rows()):
        record = None
        if row.data is not None:
            with suppress(CalyxError):
                record = parse_record(row.data)
        good = record if record is not None and record.seq == seq else None
        if seq == 0:
            stock.first = good
        stock.leaves.append(None if good is None else bytes.fromhex(good.leaf))
        stock.prevs.append(None if good is None else bytes.fromhex(good.prev))
        stock.hints.append(row.hint)
    return stock


def _log_key(first: Record) -> VerifierKey:
    statement = parse_statement(first.envelope.body)
    key = statement.predicate.get("log_key")
    if statement.kind != GENESIS or not isinstance(key, str):
        raise FormatError("record 0 is no genesis")
    return parse_vkey(key)


def _at(values: list[bytes | None], seq: int) -> bytes | None:
    return values[seq] if 0 <= seq < len(values) else None


def _root(leaves: list[bytes]) -> bytes:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()
