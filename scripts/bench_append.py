"""The rows of appending: one entry a commit, and batches."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench_big import Big, Ledgers
from bench_measure import JOBS, Row, Spread, VerifyLimit, timed

from ledger.memory import HeadMemory
from ledger.record import Record
from ledger.sqlite.store import SqliteStore
from policies.batch_ahead import WORTH_START
from policies.pin import Pin
from policies.registrar import Registrar

BATCH: Final = 256
BATCHES: Final = 8
"""Batches in a row between two looks at the limit, as of one who keeps appending."""


@dataclass
class Times:
    """A clock that says of each record what the factory said."""

    records: dict[int, int] = field(default_factory=dict)
    registrar: Registrar | None = None

    def __call__(self) -> int:
        """Seconds since 1970."""
        head = 0 if self.registrar is None else self.registrar.head.size
        found = self.records.get(head)
        return max(self.records.values(), default=0) if found is None else found


@contextmanager
def appending(big: Big, memory: Path | None, jobs: int = 1) -> Iterator[tuple[Registrar, Times, float]]:
    """A registrar that has read the whole ledger, its clock, and the seconds that reading took. `memory`: where it
    remembers heads, None for nowhere. `jobs`: processes that check signatures of big batches.
    """
    times = Times()
    with SqliteStore.open(big.path) as store:
        pin = None if memory is None else Pin(HeadMemory(memory), str(big.path))
        objects, log_key = big.factory.objects, big.factory.log_key
        with Registrar(store, objects, log_key, pin, clock=times, random=os.urandom, jobs=jobs) as registrar:
            seconds = timed(registrar.sync)
            times.registrar = registrar
            yield registrar, times, seconds


def append_all(registrar: Registrar, times: Times, records: Sequence[Record]) -> float:
    """Seconds to append these in one commit."""
    times.records = {record.seq: record.seconds for record in records}
    envelopes = [record.envelope for record in records]
    return timed(lambda: registrar.append(envelopes))


class Bare:
    """What SQLite alone needs: one row a commit, WAL and FULL, no law, no signature, no tree. `used`: its log has the
    length that it needs, so that commits write over what is there, and wait for less.
    """

    def __init__(self, path: Path, *, used: bool = False) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE row (seq INTEGER PRIMARY KEY, data BLOB NOT NULL)")
        if used:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO row (data) VALUES (?)", [(bytes(3_000),)] * 2_000)
            self._connection.execute("COMMIT")

    def append(self, data: bytes) -> None:
        """One row, durable."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO row (data) VALUES (?)", (data,))
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def append_one_row(ledgers: Ledgers, entries: int, rounds: int) -> Row:
    """One entry a commit, in turn with a bare commit on the same disk."""
    big = ledgers.of(entries)
    ours, bare, used = [], [], []
    other, third = Bare(ledgers.root / "bare.db"), Bare(ledgers.root / "used.db", used=True)
    try:
        with appending(big, ledgers.root / "memory") as (registrar, times, _):
            for _ in range(rounds):
                (record,) = big.factory.more(1)
                ours.append(append_all(registrar, times, [record]))
                bare.append(timed(lambda: other.append(record.data)))  # noqa: B023  # called at once
                used.append(timed(lambda: third.append(record.data)))  # noqa: B023
        with appending(big, None) as (registrar, times, _):
            without = [append_all(registrar, times, big.factory.more(1)) for _ in range(rounds)]
    finally:
        other.close()
        third.close()
    return Row(
        "append-one",
        "append, one entry a commit, durable, law and signature checked, new head remembered",
        "ms",
        _ms(ours),
        _ms(bare),
        "ms for a row of the same bytes in a bare SQLite table, WAL and FULL, same disk",
        Spread.of([b / o for o, b in zip(ours, bare, strict=True)]),
        (0.5, 0.8),
        note="the entry's signing is not counted; one process; each commit is followed by a bare one into a log that "
        "grows, as SQLite's does at first, and by one into a log that was as long before, as a busy ledger's is",
        detail={
            "head_not_remembered_ms": _ms(without).to_json(),
            "bare_with_a_used_log_ms": _ms(used).to_json(),
            "ratio_to_that": Spread.of([b / o for o, b in zip(ours, used, strict=True)]).to_json(),
            "entries": entries,
        },
    )


def append_batch_row(ledgers: Ledgers, entries: int, rounds: int) -> Row:
    """Rows of batches of 256, in turn with the limit of one core."""
    big = ledgers.of(entries)
    rates, limits, ratios = [], [], []
    with (
        VerifyLimit(big.samples(ledgers.root / "samples.json"), 1) as limit,
        appending(big, ledgers.root / "memory", JOBS) as (registrar, times, _),
    ):
        # The helpers are there after these.
        for _ in range(WORTH_START // BATCH + 1):
            append_all(registrar, times, big.factory.more(BATCH))
        for _ in range(rounds):
            records = big.factory.more(BATCHES * BATCH)
            before = limit.rate(0.2)
            seconds = [append_all(registrar, times, records[at : at + BATCH]) for at in range(0, len(records), BATCH)]
            rates.append(len(records) / sum(seconds))
            limits.append((before + limit.rate(0.2)) / 2)
            ratios.append(rates[-1] / limits[-1])
    return Row(
        "append-batch",
        f"append, batches of {BATCH}, durable, law and signatures checked, of all kinds of entries",
        "entries/s",
        Spread.of(rates),
        Spread.of(limits),
        "signatures/s that libsodium checks in one process, over messages of this ledger's sizes",
        Spread.of(ratios),
        (0.6, 0.8),
        note=f"signing is not counted; {JOBS} processes: one judges and appends, "
        f"{JOBS - 1} check signatures, and were begun before, as they are after {WORTH_START} entries",
    )


def _ms(seconds: Sequence[float]) -> Spread:
    return Spread.of([each * 1e3 for each in seconds])
