"""A repair is killed at every step that it takes on the disk: the ledger is the damaged one or the rebuilt one, never
another, and the next repair finishes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from damaging import edit, new_patient

from ledger.repair.fsck import check_ledger, repair_ledger

REPAIRER = """
import os, signal, sys
from pathlib import Path
import ledger.repair.replace, ledger.sqlite.file
from ledger.repair.fsck import repair_ledger
left = int(sys.argv[2])

def deadly(function):
    def call(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call

for module in (ledger.repair.replace, ledger.sqlite.file):
    module.sync_file = deadly(module.sync_file)
    module.sync_directory = deadly(module.sync_directory)
Path.rename = deadly(Path.rename)
Path.unlink = deadly(Path.unlink)
Path.mkdir = deadly(Path.mkdir)
Path.chmod = deadly(Path.chmod)
repair_ledger(Path(sys.argv[1]), remembered=None, copy=None)
"""
DAMAGED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("UPDATE record SET leaf = zeroblob(32) WHERE seq = 7")
os._exit(0)
"""


def run(script: str, *arguments: str) -> int:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, check=False, capture_output=True, timeout=60).returncode


def test_repair_killed_at_any_step(tmp_path: Path) -> None:
    patient = new_patient(tmp_path, 60)
    steps = 0
    outcomes = set()
    while True:
        steps += 1
        path = patient.lay(tmp_path / "home")
        edit(path, "DELETE FROM node")
        # Some of the damage is in the log alone, which a crash between two files must not lend to the new one.
        assert run(DAMAGED, str(path)) == 0
        assert path.with_name("ledger.db-wal").stat().st_size
        ended = run(REPAIRER, str(path), str(steps))
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        assert path.is_file(), f"the ledger is gone after step {steps}"
        checked = check_ledger(path, remembered=patient.remembered)
        outcomes.add(checked.whole)
        # The leaf that is wrong is seen in both: from the log, or from the file that the log was folded into.
        assert checked.whole or checked.damage[0].entry == 7, (steps, checked.damage)
        assert repair_ledger(path, remembered=patient.remembered, copy=None).whole, steps
        report = patient.audit(path)
        assert report.ok, (steps, report.findings)
        assert report.head == patient.head
        left = {each.name for each in path.parent.iterdir() if each.name.startswith(".")}
        assert not left, f"step {steps} left {left}"
    assert steps > 12
    assert outcomes == {True, False}
