"""A process that exports is killed at random moments: what is published stays whole, and the next export goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from ledgers import LOG_KEY, make_ledger, next_record

from ledger.exports.export import export_log
from ledger.exports.reader import ExportReader
from ledger.exports.tile_check import check_tiles
from ledger.sqlite.store import SqliteStore

EXPORTER = """
import sys
from pathlib import Path
from ledgers import LOG_KEY
from ledger.exports.export import export_log
from ledger.sqlite.store import SqliteStore
store = SqliteStore.open(Path(sys.argv[1]), read_only=True)
sys.stdout.write("ready\\n")
sys.stdout.flush()
export_log(store, LOG_KEY.vkey, Path(sys.argv[2]), lambda seq, data: None)
sys.stdout.write("done\\n")
sys.stdout.flush()
"""
PUBLISHED = ("checkpoint", "tile", "objects")


def kill_export(ledger: Path, out: Path, after: float) -> bool:
    """Whether the export was killed before it said that it was done."""
    process = subprocess.Popen(
        [sys.executable, "-c", EXPORTER, str(ledger), str(out)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    said = process.stdout.read()
    process.stdout.close()
    process.wait()
    return said != "done\n"


def test_killed_export_leaves_what_was_published_whole_and_is_taken_up_again(tmp_path: Path) -> None:
    ledger, out = tmp_path / "ledger.db", tmp_path / "out"
    moments = random.Random(3)
    published, killed = 0, 0
    with make_ledger(ledger, 700) as store:
        for tries in range(60):
            if tries >= 6 and killed >= 2:
                break
            # An export may be done before its killer has come round.
            killed += kill_export(ledger, out, moments.uniform(0, 0.04))
            if (out / "checkpoint").exists():
                reader = ExportReader(out)
                assert reader.size >= published
                published = reader.size
                assert not list(check_tiles(reader, ()))
                assert list(reader.read()) == list(store.read(0, published))
            with store.writer(LOG_KEY.sign) as writer:
                for _ in range(300):
                    writer.append(next_record(writer.head, size=900))
        assert killed >= 2
        export_log(store, LOG_KEY.vkey, out, lambda seq, data: None)
        assert list(ExportReader(out).read()) == list(store.read())
        assert not list(check_tiles(ExportReader(out), ()))
    assert {path.name for path in out.iterdir()} <= set(PUBLISHED), "a hidden file was left behind"


def test_export_killed_before_its_checkpoint_is_replaced(tmp_path: Path) -> None:
    ledger, out = tmp_path / "ledger.db", tmp_path / "out"
    script = EXPORTER.replace(
        "from ledger.sqlite.store import SqliteStore",
        "import ledger.exports.export, os\nledger.exports.export.replace_file = lambda *_: os.kill(os.getpid(), 9)\n"
        "from ledger.sqlite.store import SqliteStore",
    )
    make_ledger(ledger, 600).close()
    ended = subprocess.run(
        [sys.executable, "-c", script, str(ledger), str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert ended.returncode == -signal.SIGKILL
    assert not (out / "checkpoint").exists()
    with SqliteStore.open(ledger) as store:
        done = export_log(store, LOG_KEY.vkey, out, lambda seq, data: None)
    # Every tile was there and durable; the checkpoint alone was missing.
    assert done.files == 1
    assert not list(check_tiles(ExportReader(out), ()))
