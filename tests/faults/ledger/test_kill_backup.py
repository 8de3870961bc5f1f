"""A backup is killed while SQLite writes it, and at each step after that: none is in the way of the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from ledgers import LOG_KEY, make_ledger
from refusal import refused

from ledger.repair.backup import check_place, copy_ledger
from ledger.sqlite.check import check_store
from ledger.sqlite.store import SqliteStore

BACKUP = """
import os, signal, sqlite3, sys
from pathlib import Path

left = int(sys.argv[3])

def step(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

class Deadly(sqlite3.Connection):
    def backup(self, target):
        super().backup(target, pages=8, progress=step)

connect = sqlite3.connect
sqlite3.connect = lambda *arguments, **named: connect(*arguments, factory=Deadly, **named)

def deadly(function):
    def call(*arguments, **named):
        step()
        return function(*arguments, **named)
    return call

for name in ("chmod", "rename", "unlink"):
    setattr(Path, name, deadly(getattr(Path, name)))
os.link = deadly(os.link)

from ledger.repair.backup import copy_ledger
from ledgers import LOG_KEY
with copy_ledger(Path(sys.argv[1]), Path(sys.argv[2]), LOG_KEY.vkey) as made:
    made.replace()
"""


def backup(ledger: Path, out: Path, left: int) -> int:
    return subprocess.run(
        [sys.executable, "-c", BACKUP, str(ledger), str(out), str(left)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        timeout=60,
    ).returncode


def refuse(ledger: Path, out: Path, code: str) -> None:
    """A backup there is refused before it is handed to anyone."""
    with ExitStack() as opened, refused(code):
        opened.enter_context(copy_ledger(ledger, out, LOG_KEY.vkey))


def test_backup_killed_at_any_step_is_in_nobody_s_way(tmp_path: Path) -> None:
    ledger, out = tmp_path / "ledger.db", tmp_path / "backup" / "ledger.db"
    make_ledger(ledger, 150, size=400).close()
    left, beside = 0, set()
    while True:
        left += 1
        ended = backup(ledger, out, left)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        beside |= {path.name.rpartition("-")[2] for path in out.parent.iterdir() if "-" in path.name}
        check_place(out.parent)
        assert not out.exists() or not check_store(out)
    assert left > 8
    assert "journal" in beside, "it was never killed while SQLite wrote"
    assert not [path.name for path in out.parent.iterdir() if path.name.startswith(".")]
    with SqliteStore.open(out, read_only=True) as copy:
        assert copy.head().size == 150


def test_two_backups_to_one_place_are_made_one_after_the_other(tmp_path: Path) -> None:
    """Else the slower one could put an older copy over a newer one."""
    ledger, out = tmp_path / "ledger.db", tmp_path / "backup" / "ledger.db"
    make_ledger(ledger, 3).close()
    with copy_ledger(ledger, out, LOG_KEY.vkey) as made:
        refuse(ledger, out, "backup_busy")
        made.replace()
    with copy_ledger(ledger, out, LOG_KEY.vkey) as again:
        assert again.old == 3


def test_backup_over_a_damaged_one_says_so(tmp_path: Path) -> None:
    ledger, out = tmp_path / "ledger.db", tmp_path / "backup" / "ledger.db"
    make_ledger(ledger, 3).close()
    out.parent.mkdir()
    out.write_bytes(b"SQLite format 3\x00" + bytes(9_000))
    refuse(ledger, out, "backup_damaged")
    assert [path.name for path in out.parent.iterdir()] == ["ledger.db"]


def test_backup_is_not_written_through_a_link(tmp_path: Path) -> None:
    ledger, out = tmp_path / "ledger.db", tmp_path / "backup" / "ledger.db"
    make_ledger(ledger, 3).close()
    out.parent.mkdir()
    hidden = tmp_path / "home" / f".{'0' * 24}.tmp"
    hidden.parent.mkdir()
    hidden.write_bytes(b"somebody is writing this")
    (out.parent / "objects").symlink_to(hidden.parent)
    refuse(ledger, out, "not_a_directory")
    assert hidden.exists()
