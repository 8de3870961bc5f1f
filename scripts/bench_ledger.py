"""The ledger's rows that read: audit, proof, memory, and how each grows with the ledger."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from bench_append import BATCH, append_all, appending
from bench_audits import audit_again, detail
from bench_big import Big, Ledgers, whole
from bench_measure import JOBS, Row, Spread, VerifyLimit, audit_apart, timed

from ledger.checkpoint import parse_checkpoint
from ledger.proof import format_proof, make_inclusion
from ledger.sqlite.store import SqliteStore
from policies.replay import Replay


def audit_row(ledgers: Ledgers, entries: int, runs: int) -> Row:
    """A whole audit, in turn with the limit before and after it."""
    big = ledgers.of(entries)
    rates, limits, ratios, audits = [], [], [], []
    with VerifyLimit(big.samples(ledgers.root / "samples.json"), JOBS) as limit:
        before = limit.rate()
        for _ in range(runs):
            audits.append(whole(audit_apart(big.directory, JOBS)))
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


def memory_row(ledgers: Ledgers, small: int, large: int) -> Row:
    """The peak of an audit, small and large, and what it grows by."""
    audits = [ledgers.audit(entries) for entries in (small, large)]
    small, large = (found.entries for found in audits)
    least, most = (found.peak_kib / 1024 for found in audits)
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
            **{
                str(found.entries): {"peak_mib": found.peak_kib / 1024, "processes": found.processes}
                for found in audits
            },
            "bytes_per_entry": max(most - least, 0.0) * 2**20 / (large - small),
            "own_mib": {str(found.entries): found.own_kib / 1024 for found in audits},
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


def _number(value: Any) -> float:
    return float(value)


def _ms(seconds: Sequence[float]) -> Spread:
    return Spread.of([each * 1e3 for each in seconds])
