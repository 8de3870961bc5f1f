"""The lawful ledgers that are measured, of any size, and what says more in them."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench_measure import JOBS, Audited, audit_apart, timed
from ledger_factory import Factory

from keys.ed25519 import SigningKey
from ledger.envelope import pae
from ledger.head import Head
from ledger.record import Record
from ledger.sqlite.store import SqliteStore

SAMPLES: Final = 500


class _Kept:
    """A writer that keeps what it is given: what the factory says next, without a ledger to say it in."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.records: list[Record] = []

    def append(self, record: Record) -> None:
        """Keep it."""
        self.records.append(record)
        self.head = Head(record.seq + 1, record.leaf)


class Endless(Factory):
    """A factory whose story goes on after `fill`."""

    def fill(self, entries: int) -> Path:
        """Make the ledger, of exactly `entries` entries."""
        self.steps = self._story()
        path = self.root / "ledger.db"
        with SqliteStore.create(path) as store:
            while self.head.size < entries:
                with store.writer(self.log_key.sign) as writer:
                    self.writer = writer
                    for _ in range(min(4_096, entries - self.head.size)):
                        next(self.steps)
        return path

    def more(self, count: int) -> list[Record]:
        """The next records, which whoever asked must append before the next `more`."""
        kept = _Kept(self.head)
        self.writer = kept
        for _ in range(count):
            next(self.steps)
        return kept.records


@dataclass
class Big:
    """A lawful ledger of some size, on disk, and what says more in it."""

    directory: Path
    entries: int
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True)
        self.factory = Endless(self.directory)
        self.draw = random.Random(1)  # noqa: S311  # which entries are looked at is no secret
        self.seconds = timed(lambda: self.factory.fill(self.entries))

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self.directory / "ledger.db"

    def samples(self, path: Path) -> Path:
        """Write messages as long as those of this ledger, with a key and signature of each, for `VerifyLimit`."""
        key = SigningKey(os.urandom(32))
        with SqliteStore.open(self.path, read_only=True) as store:
            at = self.draw.sample(range(self.entries), min(SAMPLES, self.entries))
            bodies = [_body(next(iter(store.read(seq, seq + 1)))) for seq in at]
        signed = [(key.sign(pae(body)) + pae(body)).hex() for body in bodies]
        path.write_text(json.dumps([(each, key.public.hex()) for each in signed]))
        return path


@dataclass
class Ledgers:
    """The ledgers of a run, each made once."""

    root: Path
    made: dict[int, Big] = field(default_factory=dict)
    audited: dict[int, Audited] = field(default_factory=dict)

    def of(self, entries: int) -> Big:
        """The ledger of so many entries; what is appended in a measurement stays in it."""
        if entries not in self.made:
            self.made[entries] = Big(self.root / f"ledger-{entries}", entries)
        return self.made[entries]

    def audit(self, entries: int) -> Audited:
        """One whole audit of the ledger of so many entries; of a big one every row uses the same."""
        if entries not in self.audited:
            self.audited[entries] = whole(audit_apart(self.of(entries).directory, JOBS))
        return self.audited[entries]


def whole(found: Audited) -> Audited:
    """What was found of a lawful ledger. Raises: RuntimeError when that is more than nothing."""
    if not found.ok:
        raise RuntimeError("the audit found something in a ledger that should be lawful")
    return found


def _body(data: bytes) -> bytes:
    from ledger.record import parse_record

    return parse_record(data).envelope.body
