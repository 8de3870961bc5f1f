"""Several processes append at once: nothing is lost, doubled or out of order, and readers see whole prefixes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ledgers import LOG_KEY, make_ledger, signed

from ledger.chain import Chain
from ledger.checkpoint import parse_checkpoint
from ledger.sqlite.check import check_store
from ledger.sqlite.store import SqliteStore

APPENDER = """
import sys
from pathlib import Path
from ledgers import LOG_KEY, START, KEYID
from ledger.envelope import Envelope
from ledger.head import Head
from ledger.record import make_record
from ledger.sqlite.store import SqliteStore
from ledger.store import HeadMoved
path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = SqliteStore.open(path)
for number in range(count):
    envelope = Envelope(f"{name} {number}".encode(), KEYID, b"s" * 64)
    if number % 2:
        with store.writer(LOG_KEY.sign) as writer:
            writer.append(make_record(writer.head.size, writer.head.hash, START, envelope))
    else:
        while True:
            head = store.head()
            try:
                store.append(head, [make_record(head.size, head.hash, START, envelope)], LOG_KEY.sign)
                break
            except HeadMoved:
                pass
"""


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    SqliteStore.create(path).close()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    names, count = ["a", "b", "c"], 40
    running = [
        subprocess.Popen([sys.executable, "-c", APPENDER, str(path), name, str(count)], env=environment)
        for name in names
    ]
    with SqliteStore.open(path, read_only=True) as reader:
        while any(process.poll() is None for process in running):
            tip = reader.tip()
            if tip.head.size:
                checkpoint = parse_checkpoint(tip.checkpoint, LOG_KEY.vkey)
                seen = list(Chain().replay(reader.read(0, tip.head.size), checkpoint))
                assert seen[-1].leaf == tip.head.hash
    assert [process.wait() for process in running] == [0, 0, 0]
    with SqliteStore.open(path, read_only=True) as store:
        bodies = [entry.record.envelope.body.decode() for entry in Chain().replay(store.read(), signed(store))]
    for name in names:
        assert [body for body in bodies if body.startswith(name)] == [f"{name} {number}" for number in range(count)]
    assert len(bodies) == len(names) * count
    assert check_store(path) == []


def test_busy_ledger_says_so(tmp_path: Path) -> None:
    import pytest

    from keys.errors import Unavailable

    path = tmp_path / "ledger.db"
    with make_ledger(path, 1) as store, SqliteStore.open(path) as other:
        other._connection.execute("PRAGMA busy_timeout = 0")
        with store.writer(LOG_KEY.sign), pytest.raises(Unavailable) as caught, other.writer(LOG_KEY.sign):
            pass
        assert caught.value.code == "ledger_busy"
        with other.writer(LOG_KEY.sign):
            pass
