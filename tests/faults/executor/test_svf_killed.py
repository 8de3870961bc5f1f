"""The real exporter of the feed is killed: wherever that is, the next one goes on to the files of a rebuild."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from children import running
from station import Station, new_station

from executor.homes.home import Home
from executor.svf.files import LOCK, SvfFiles
from executor.svf.lines import Feed

CHECKOUT = Path(__file__).parents[3]
DAY = 86_400

# Counts what the exporter does to files of the feed and to their directory, and dies before, in or after one of them.
# A warm process forks for each: the imports are most of an export's time.
KILLER = """
import os, signal, sys
from executor.command_line import app
import executor.commands.svf, executor.svf.files, policies.replay

points, arguments = int(sys.argv[1]), sys.argv[2:]
real = {name: getattr(os, name) for name in ("open", "write", "fsync", "ftruncate", "close")}
ours, done = set(), 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def around(name, wanted, half=None):
    def call(*args, **kwargs):
        global done
        if not wanted(*args):
            return real[name](*args, **kwargs)
        done += 1
        if done == point:
            die()
        if half is not None:
            done += 1
            if done == point:
                half(*args)
                die()
        result = real[name](*args, **kwargs)
        if name == "open":
            ours.add(result)
        elif name == "close":
            ours.discard(args[0])
        done += 1
        if done == point:
            die()
        return result
    setattr(os, name, call)

around("open", lambda path, *_: "svf-" in str(path) or str(path).endswith("/feed"))
around("write", lambda fd, *_: fd in ours, half=lambda fd, data: real["write"](fd, data[: len(data) // 2]))
for name in ("fsync", "ftruncate", "close"):
    around(name, lambda fd, *_: fd in ours)

for point in range(1, points + 1):
    child = os.fork()
    if child == 0:
        sys.argv[1:] = [each.replace("POINT", str(point)) for each in arguments]
        app(prog_name="calyx")
    _, status = os.waitpid(child, 0)
    print("ended", os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status), flush=True)
    if status == 0:
        break  # it came to its end before that point
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}


def calyx(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "executor", *map(str, arguments)]


def export(home: Path, directory: Path) -> None:
    done = subprocess.run(
        calyx("svf", "export", directory, "--home", home),
        cwd=CHECKOUT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.name != LOCK}


def run_again(home: Path, directory: Path) -> dict[str, bytes]:
    """The export in this process, which spares the imports."""
    feed = Feed()
    with Home(home) as place, SvfFiles(directory) as files:
        place.open_replay(feed).sync()
        files.take(feed.take())
    return contents(directory)


def propose_and_refuse(station: Station, number: int) -> None:
    """Three lines, and a day between them and the next."""
    lease = station.propose(f"LEASE-20260105-{number:06}")
    station.vote("ada", lease, "approver")
    station.say("ada", "objection", {"verb": "deny", "reason": "not today"}, lease)


@pytest.fixture
def station(tmp_path: Path) -> Station:
    station = new_station(tmp_path / "home")
    for number in range(3):
        propose_and_refuse(station, number)
        station.clock.tick(DAY)
    return station


def run_killer(tmp_path: Path, home: Path, points: int, feed: str) -> int:
    """Kill exports, each one call later, until one comes to its end; how many were killed."""
    script = tmp_path / "killer.py"
    script.write_text(KILLER)
    done = subprocess.run(
        [sys.executable, str(script), str(points), "svf", "export", feed, "--home", str(home)],
        cwd=CHECKOUT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = [int(line.removeprefix("ended ")) for line in done.stdout.splitlines() if line.startswith("ended ")]
    assert ends == [signal.SIGKILL] * (len(ends) - 1) + [0], done.stderr
    return len(ends) - 1


def test_killed_at_each_system_call_the_next_export_goes_on(tmp_path: Path, station: Station) -> None:
    home = tmp_path / "home"
    export(home, tmp_path / "rebuilt")
    rebuilt = contents(tmp_path / "rebuilt")
    kills = run_killer(tmp_path, home, 60, str(tmp_path / "POINT" / "feed"))
    assert kills >= 30, "the exporter did less to its files than was expected"
    left = [contents(tmp_path / str(point) / "feed") for point in range(1, kills + 1)]
    assert len({tuple(sorted(each.items())) for each in left}) >= 8, "the kills left the same again and again"
    for point in range(1, kills + 1):
        assert run_again(home, tmp_path / str(point) / "feed") == rebuilt, f"killed at {point}"


def test_killed_again_and_again_it_still_comes_to_its_end(tmp_path: Path, station: Station) -> None:
    home, feed = tmp_path / "home", tmp_path / "feed"
    export(home, tmp_path / "rebuilt")
    assert run_killer(tmp_path, home, 60, str(feed)) >= 8
    export(home, feed)
    assert contents(feed) == contents(tmp_path / "rebuilt")


def test_follower_killed_at_random_moments_loses_and_repeats_nothing(tmp_path: Path, station: Station) -> None:
    home, feed = tmp_path / "home", tmp_path / "feed"
    moments = random.Random(5)
    for round_ in range(4):
        with running(
            calyx("svf", "export", feed, "--follow", "--home", home),
            cwd=CHECKOUT,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            assert "following" in process.stderr.readline()
            propose_and_refuse(station, 100 + round_)
            station.clock.tick(DAY)
            time.sleep(moments.uniform(0, 0.7))  # the kill comes at a moment of chance
    export(home, feed)
    export(home, tmp_path / "rebuilt")
    assert contents(feed) == contents(tmp_path / "rebuilt")
    assert len(contents(feed)) == 3 + 4
