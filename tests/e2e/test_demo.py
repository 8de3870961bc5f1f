"""The demo, as a person runs it: real services, real traffic, real processes, killed and gone on."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import demo_play
import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
CALYX = [sys.executable, "-B", "-m", "executor"]


def demo(*arguments: str, timeout: int = 400) -> subprocess.CompletedProcess[str]:
    # The script sets up an environment first; here that is the one the tests run in.
    command = [sys.executable, "-B", str(ROOT / "scripts" / "demo_play.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


def calyx(*arguments: str, timeout: int = 200) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CALYX, *arguments], capture_output=True, text=True, check=False, timeout=timeout)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "station"
    demo("--home", str(tmp_path / "station"), "--stop")


def processes_of(home: Path) -> list[str]:
    """Command lines of processes that work for this home."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            line = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = str((each / "cwd").readlink())
        except OSError:
            continue
        if str(home) in line or place.startswith(str(home)):
            found.append(line)
    return [line for line in found if "pytest" not in line]


def test_whole_story_ends_as_promised_and_leaves_nothing_running(home: Path) -> None:
    done = demo("--home", str(home), "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert said["good"] == {"outcome": "COMPLETED", "instances": 20}
    assert said["bad"]["outcome"] == "ROLLED_BACK"
    assert said["bad"]["tier"] == 5
    assert said["bad"]["halt_to_restored_s"] < 30
    assert said["refused"] == {
        "human_only": "quorum_unmet",
        "agents_only": "quorum_unmet",
        "swapped_artifact": "object_mismatch",
    }
    assert said["audit"]["ok"] is True
    assert said["audit"]["size"] > 100
    assert processes_of(home) == []


def test_executor_killed_at_five_percent_goes_on_and_a_changed_byte_is_named(home: Path) -> None:
    stopped = demo("--home", str(home), "--stop-at", "5", "--json")
    assert stopped.returncode == 0, stopped.stderr
    assert json.loads(stopped.stdout.splitlines()[-1])["stopped"]["tier"] == 5
    gone_on = calyx("executor", "run", "--home", str(home), "--until-idle")
    assert gone_on.returncode == 0, gone_on.stdout + gone_on.stderr
    assert "COMPLETED" in gone_on.stdout
    ports = json.loads((home / "demo.json").read_text())["ports"]
    assert {httpx.get(f"http://127.0.0.1:{port}/health", timeout=60).text for port in ports} == {"2"}
    assert len({link.readlink() for link in home.glob("hosts/*/current")}) == 1
    assert demo("--home", str(home), "--stop").returncode == 0
    assert processes_of(home) == []
    assert calyx("audit", "--home", str(home)).returncode == 0
    for entry in (0, 7, 40):
        check_changed_byte(home, entry)


def check_changed_byte(home: Path, entry: int) -> None:
    """Change one byte of a record in the file, and have the audit name that entry."""
    path = home / "ledger.db"
    whole = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        (data,) = connection.execute("SELECT data FROM record WHERE seq = ?", (entry,)).fetchone()
    position = random.Random(entry).randrange(len(data))
    changed = bytearray(data)
    changed[position] ^= 0x01
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE record SET data = ? WHERE seq = ?", (bytes(changed), entry))
        connection.commit()
    try:
        audit = calyx("audit", "--home", str(home))
        assert audit.returncode == 1
        assert f"entry {entry}:" in audit.stdout + audit.stderr
    finally:
        path.write_bytes(whole)


def test_demo_in_a_temporary_place_keeps_nothing_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = list[dict[str, str]]()

    def perform(play: demo_play.Play) -> dict[str, Any]:
        asked.append(play.world.environment)
        return {}

    monkeypatch.setattr(demo_play, "perform", perform)
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path / "place"))
    for name in ("signal.signal", "demo_world.World.stop", "demo_world.World.remove"):
        monkeypatch.setattr(name, lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["demo_play.py", "--json"])
    assert demo_play.main() == 0
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        assert Path(asked[0][name]).is_relative_to(tmp_path / "place")


def test_demo_refuses_a_home_that_is_taken(home: Path) -> None:
    home.mkdir()
    (home / "ledger.db").write_bytes(b"")
    refused = demo("--home", str(home))
    assert refused.returncode == 1
    assert "holds a ledger already" in refused.stderr
