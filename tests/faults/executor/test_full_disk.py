"""The ledger's disk fills up while a tier bakes: the way back works, and nothing new begins until there is room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import full_disk
from programs import missing, require_program

DISK = "72m"
LIMIT_S = 240
ENTER = 'mount -t tmpfs -o size="$1" tmpfs "$2" && exec "$3" "$4" "$2" "$5"'
"""In a mount namespace of its own, so that the disk is gone when the program ends, however it ends."""


def test_way_back_on_a_full_disk_uses_the_reserve_and_nothing_is_claimed_without_one(tmp_path: Path) -> None:
    unshare = require_program("unshare")
    require_program("mount")
    disk, root = tmp_path / "disk", tmp_path / "root"
    disk.mkdir()
    root.mkdir()
    if subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode != 0:
        missing("this user may not make a mount namespace")
    paths = os.pathsep.join([str(Path(full_disk.__file__).parent), *(path for path in sys.path if path)])
    result = subprocess.run(
        [unshare, "-m", "--", "sh", "-c", ENTER, "sh", DISK, str(disk), sys.executable, full_disk.__file__, str(root)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "reserve": True,
        "kept": True,
        "order": 0,
        "given_up": True,
        "alive": True,
        "refused": ["no_reserve"],
        "claimed": False,
        "again": True,
        "audit": True,
    }
    assert not list(disk.iterdir())
