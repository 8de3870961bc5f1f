"""The ledger's rows: audit, append, proof, memory, and how each grows with the ledger."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench_audits import audit_again, detail
from bench_measure import JOBS, Audited, Row, Spread, VerifyLimit, audit_apart, timed
from ledger_factory import Factory

from keys.ed25519 import SigningKey
from ledger.checkpoint import parse_checkpoint
from ledger.envelope import pae
from ledger.head import Head
from ledger.memory import HeadMemory
from ledger.proof import format_proof, make_inclusion
from ledger.record import Record
from ledger.sqlite_store import SqliteStore
from policies.batch_ahead import WORTH_START
from policies.registrar import Registrar
from policies.replay import Pin, Replay

SAMPLES: Final = 500
BATCH: Final = 256
BATCHES: Final = 8
"""Batches in a row between two looks at the limit, as of one who keeps appending."""


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
            self.audited[entries] = _whole(audit_apart(self.of(entries).directory, JOBS))
        return self.audited[entries]


@dataclass
class _Times:
    """A clock that says of each record what the factory said."""

    records: dict[int, int] = field(default_factory=dict)
    registrar: Registrar | None = None

    def __call__(self) -> int:
        """Seconds since 1970."""
        head = 0 if self.registrar is None else self.registrar.head.size
        found = self.records.get(head)
        return max(self.records.values(), default=0) if found is None else found


@contextmanager
def appending(big: Big, memory: Path | None, jobs: int = 1) -> Iterator[tuple[Registrar, _Times, float]]:
    """A registrar that has read the whole ledger, its clock, and the seconds that reading took. `memory`: where it
    remembers heads, None for nowhere. `jobs`: processes that check signatures of big batches.
    """
    times = _Times()
    with SqliteStore.open(big.path) as store:
        pin = None if memory is None else Pin(HeadMemory(memory), str(big.path))
        objects, log_key = big.factory.objects, big.factory.log_key
        with Registrar(store, objects, log_key, pin, clock=times, random=os.urandom, jobs=jobs) as registrar:
            seconds = timed(registrar.sync)
            times.registrar = registrar
            yield registrar, times, seconds


def append_all(registrar: Registrar, times: _Times, records: Sequence[Record]) -> float:
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


def audit_row(ledgers: Ledgers, entries: int, runs: int) -> Row:
    """A whole audit, in turn with the limit before and after it."""
    big = ledgers.of(entries)
    rates, limits, ratios, audits = [], [], [], []
    with VerifyLimit(big.samples(ledgers.root / "samples.json"), JOBS) as limit:
        before = limit.rate()
        for _ in range(runs):
            audits.append(_whole(audit_apart(big.directory, JOBS)))
            after = limit.rate()
            rates.append(audits[-1].entries / audits[-1].seconds)
            limits.append((before + after) / 2)
            ratios.append(rates[-1] / limits[-1])
            before = after
    return Row(
        "audit",
        f"full audit of {entries} entries: every byte, signature, rule and object",
        "entries/s",
        Spread.of(rates),
        Spread.of(limits),
        f"signatures/s that libsodium checks in {JOBS} processes at once, over messages of this ledger's sizes",
        Spread.of(ratios),
        (0.6, 0.85),
        note=f"{JOBS} processes asked for; nothing remembered; the file was in the page cache",
        detail={"seconds": Spread.of([each.seconds for each in audits]).to_json(), "entries": entries},
    )


def follow_row(ledgers: Ledgers, entries: int, runs: int) -> Row:
    """What only the new entries cost a reader that verified the rest."""
    big = ledgers.of(entries)
    with SqliteStore.open(big.path, read_only=True) as reader, SqliteStore.open(big.path) as store:
        replay = Replay(reader, big.factory.objects, None)
        whole = timed(replay.sync) / replay.head.size
        new = []
        for _ in range(runs):
            _write(store, big, BATCH)
            new.append(timed(replay.sync) / BATCH)
    return Row(
        "follow",
        f"{BATCH} new entries, behind {entries} that were verified before: cost of each",
        "us/entry",
        Spread.of([each * 1e6 for each in new]),
        Spread.of([whole * 1e6]),
        "us an entry, by the same reader over all of them from the first",
        Spread.of([each / whole for each in new]),
        note="one process; a ratio near 1 says that the entries before cost nothing",
    )


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


def memory_row(ledgers: Ledgers, small: int, large: int) -> Row:
    """The peak of an audit, small and large, and what it grows by."""
    audits = {str(entries): ledgers.audit(entries) for entries in (small, large)}
    peaks = {each: {"peak_mib": found.peak_kib / 1024, "processes": found.processes} for each, found in audits.items()}
    least, most = (float(peaks[str(entries)]["peak_mib"]) for entries in (small, large))
    return Row(
        "memory",
        f"greatest resident set of an audit of {large} entries, its helpers added",
        "MiB",
        Spread.of([most]),
        Spread.of([least]),
        f"MiB of an audit of {small} entries",
        bars=(200.0,),
        over=False,
        note="pages that the processes share are counted once for each; flat is what an entry more adds",
        detail={
            **peaks,
            "bytes_per_entry": max(most - least, 0.0) * 2**20 / (large - small),
            "own_mib": {each: found.own_kib / 1024 for each, found in audits.items()},
        },
    )


def proof_row(ledgers: Ledgers, entries: int, runs: int) -> Row:
    """An inclusion proof, made and checked."""
    seconds, asked = prove_some(ledgers.of(entries), runs)
    return Row(
        "proof",
        f"inclusion proof at {entries} entries: made from the ledger, checked, as a file",
        "ms",
        _ms(seconds),
        bars=(5.0, 1.0),
        over=False,
        note="the checkpoint was opened before",
        detail={"nodes_asked_for": asked.to_json()},
    )


def prove_some(big: Big, runs: int) -> tuple[list[float], Spread]:
    """Seconds of proofs of entries drawn at random, and how many nodes of the tree each asked for."""
    seconds, asked = [], []
    with SqliteStore.open(big.path, read_only=True) as store:
        note = store.checkpoint()
        checkpoint = parse_checkpoint(note, big.factory.log_key.vkey)
        for _ in range(runs):
            nodes = _Counted(store)
            seq = big.draw.randrange(checkpoint.size)
            start = time.perf_counter()
            record = next(iter(store.read(seq, seq + 1)))
            format_proof(make_inclusion(seq, record, note, checkpoint, nodes))
            seconds.append(time.perf_counter() - start)
            asked.append(nodes.count)
    return seconds, Spread.of(asked)


def growth_row(ledgers: Ledgers, sizes: Sequence[int], runs: int) -> Row:
    """What an entry costs as the ledger grows."""
    table = []
    for entries in sizes:
        big = ledgers.of(entries)
        found = ledgers.audit(entries)
        proofs, _ = prove_some(big, runs)
        with appending(big, ledgers.root / "memory") as (registrar, times, sync):
            size = registrar.head.size
            ones = [append_all(registrar, times, big.factory.more(1)) for _ in range(runs)]
            batches = [append_all(registrar, times, big.factory.more(BATCH)) / BATCH for _ in range(3)]
        table.append(
            {
                "entries": size,
                "audit_us_per_entry": found.seconds / found.entries * 1e6,
                "audit_again": detail(audit_again(big, 3, JOBS)),
                "sync_us_per_entry": sync / size * 1e6,
                "append_one_ms": _ms(ones).to_json(),
                "append_batch_us_per_entry": Spread.of([each * 1e6 for each in batches]).to_json(),
                "proof_ms": _ms(proofs).to_json(),
                "file_bytes_per_entry": big.path.stat().st_size / size,
            }
        )
    first, last = table[0], table[-1]
    return Row(
        "growth",
        f"an entry's cost in an audit at {sizes[-1]} entries",
        "us",
        Spread.of([_number(last["audit_us_per_entry"])]),
        Spread.of([_number(first["audit_us_per_entry"])]),
        f"us at {sizes[0]} entries",
        note="sync: one process reads and judges all, as every command does that is not following already",
        detail={"sizes": table},
    )


class _Counted:
    """Nodes, and how many were asked for."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.count = 0

    def node(self, level: int, index: int) -> bytes:
        """See `ledger.merkle.Nodes`."""
        self.count += 1
        return self._store.node(level, index)


def _write(store: SqliteStore, big: Big, count: int) -> None:
    store.append(store.head(), big.factory.more(count), big.factory.log_key.sign)


def _whole(found: Audited) -> Audited:
    if not found.ok:
        raise RuntimeError("the audit found something in a ledger that should be lawful")
    return found


def _ms(seconds: Sequence[float]) -> Spread:
    return Spread.of([each * 1e3 for each in seconds])


def _number(value: Any) -> float:
    return float(value)


def _body(data: bytes) -> bytes:
    from ledger.record import parse_record

    return parse_record(data).envelope.body
