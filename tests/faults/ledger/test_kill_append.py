"""A process that appends is killed at random moments: what it acknowledged is there, and the rest is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ledgers import LOG_KEY, make_ledger, signed

from ledger.chain import Chain
from ledger.sqlite.check import check_store
from ledger.sqlite.store import SqliteStore

APPENDER = """
import sys
from pathlib import Path
from ledgers import LOG_KEY, next_record
from ledger.sqlite.store import SqliteStore
store = SqliteStore.open(Path(sys.argv[1]))
batch = int(sys.argv[2])
while True:
    with store.writer(LOG_KEY.sign) as writer:
        for _ in range(batch):
            writer.append(next_record(writer.head, size=1500))
    head = store.head()
    sys.stdout.write(f"{head.size} {head.hash}\\n")
    sys.stdout.flush()
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.parametrize("batch", [1, 40])
def test_killed_appender_loses_nothing_it_acknowledged(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "ledger.db"
    make_ledger(path, 1).close()
    moments = random.Random(batch)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(path), str(batch)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert process.stdout is not None
        # Waits for the first acknowledgement, then lets it run into the kill at a moment of chance.
        lines = [process.stdout.readline()]
        time.sleep(moments.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
        process.stdout.close()
        process.wait()
        acknowledged = [line.split() for line in lines if len(line.split()) == 2 and len(line.split()[1]) == 64]
        assert acknowledged
        with SqliteStore.open(path, read_only=True) as store:
            leaves = [entry.leaf for entry in Chain().replay(store.read(), signed(store))]
            assert len(leaves) == store.head().size
        for size, leaf in acknowledged:
            assert leaves[int(size) - 1] == leaf
        assert check_store(path) == []


def test_appender_killed_inside_its_transaction_leaves_the_old_head(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with make_ledger(path, 3) as store:
        before = store.tip()
    script = APPENDER.replace(
        "LOG_KEY.sign)", "lambda size, root: __import__('os').kill(__import__('os').getpid(), 9))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, str(path), "600"], env=environment(), check=False, timeout=60
    )
    assert process.returncode == -signal.SIGKILL
    with SqliteStore.open(path) as store:
        assert store.tip() == before
        assert len(list(Chain().replay(store.read(), signed(store)))) == 3
        with store.writer(LOG_KEY.sign) as writer:
            assert writer.head == before.head
