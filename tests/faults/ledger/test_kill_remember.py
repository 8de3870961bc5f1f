"""A registrar is killed around the moment at which it notes the head of what it committed."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from keys.errors import CalyxError
from ledger.memory import HeadMemory
from ledger.objects import DirectoryObjects
from ledger.sqlite.check import check_store
from ledger.sqlite.store import SqliteStore
from policies.pin import Pin
from policies.replay import Replay

APPENDER = """
import os, sys
from pathlib import Path
from station import new_station
from ledger.memory import HeadMemory
moment, real, left = sys.argv[2], HeadMemory.note, 6
def note(self, *said):
    global left
    left -= 1
    if not left and moment == "before":
        os.kill(os.getpid(), 9)
    real(self, *said)
    if not left:
        os.kill(os.getpid(), 9)
station = new_station(Path(sys.argv[1]))
HeadMemory.note = note
fields = {"type": "question", "to": None, "reply_to": None, "text": "there?"}
while True:
    receipt = station.say("cbo", "message", fields)
    print(receipt.seq, receipt.leaf, flush=True)
"""


def read(root: Path, memory: HeadMemory) -> int:
    with SqliteStore.open(root / "ledger.db", read_only=True) as store:
        return Replay(store, DirectoryObjects(root / "objects"), Pin(memory, str(root))).sync().size


@pytest.mark.parametrize("moment", ["before", "after"])
def test_registrar_killed_between_commit_and_answer_remembers_a_true_head(tmp_path: Path, moment: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        [sys.executable, "-c", APPENDER, str(tmp_path), moment],
        env=environment,
        check=False,
        timeout=120,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.returncode == -signal.SIGKILL
    acknowledged = [(int(seq), leaf) for seq, leaf in map(str.split, process.stdout.splitlines())]
    assert len(acknowledged) == 5
    remembered = HeadMemory(tmp_path / "memory").load(str(tmp_path))
    assert remembered is not None
    with SqliteStore.open(tmp_path / "ledger.db", read_only=True) as store:
        for seq, leaf in acknowledged:
            assert store.leaf(seq) == leaf
        head = store.head()
        # The sixth is committed, and nobody was told so.
        assert head.size == acknowledged[-1][0] + 2
        assert remembered.size == head.size - (moment == "before")
        assert store.leaf(remembered.size - 1) == remembered.hash
    assert check_store(tmp_path / "ledger.db") == []
    shutil.copytree(tmp_path / "memory", tmp_path / "memory of that moment")
    assert read(tmp_path, HeadMemory(tmp_path / "memory")) == head.size
    # A cut is seen by whoever comes then, although no disk was waited for.
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.execute("DELETE FROM record")
        connection.execute("UPDATE tip SET size = 0, hash = ?, frontier = ?, checkpoint = x''", (bytes(32), bytes(8)))
        connection.commit()
    with pytest.raises(CalyxError) as caught:
        read(tmp_path, HeadMemory(tmp_path / "memory of that moment"))
    assert caught.value.code == "head_contradicted"
    assert caught.value.fields["remembered_size"] == remembered.size
