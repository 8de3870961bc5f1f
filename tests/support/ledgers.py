"""Small ledgers for tests of bytes, chain and tree: well-formed envelopes that nobody verifies."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.envelope import Envelope
from ledger.head import EMPTY_HEAD, Head
from ledger.log_key import LogKey
from ledger.merkle import Frontier
from ledger.record import Record, make_record
from ledger.sqlite.store import SqliteStore

START = 1_700_000_000
KEYID = "SHA256:" + "A" * 43
LOG_KEY = LogKey.generate("station.calyx/test", lambda count: sha256(b"log key of the tests").digest()[:count])


def make_envelope(number: int = 0, size: int = 40) -> Envelope:
    return Envelope(b"%d " % number + b"x" * size, KEYID, b"s" * 64)


def next_record(head: Head, *, size: int = 40) -> Record:
    return make_record(head.size, head.hash, START + head.size, make_envelope(head.size, size))


def make_records(count: int, *, size: int = 40) -> list[Record]:
    records: list[Record] = []
    head = EMPTY_HEAD
    for _ in range(count):
        record = next_record(head, size=size)
        records.append(record)
        head = Head(record.seq + 1, record.leaf)
    return records


def checkpoint_of(records: list[Record]) -> Checkpoint:
    frontier = Frontier()
    for record in records:
        frontier.append(bytes.fromhex(record.leaf))
    return Checkpoint(LOG_KEY.origin, len(records), frontier.root())


def make_ledger(path: Path, count: int, *, size: int = 40) -> SqliteStore:
    store = SqliteStore.create(path)
    with store.writer(LOG_KEY.sign) as writer:
        for _ in range(count):
            writer.append(next_record(writer.head, size=size))
    return store


def signed(store: SqliteStore) -> Checkpoint:
    return parse_checkpoint(store.checkpoint(), LOG_KEY.vkey)
