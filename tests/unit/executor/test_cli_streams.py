"""What a person does to the streams of `calyx` ends in a line, never in a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import running
from console import Console
from programs import missing

from executor.commands.running import log_line


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(tmp_path, monkeypatch, live=True)
    console.init()
    return console


def run(console: Console, shell: str) -> subprocess.CompletedProcess[str]:
    """A shell line in which `$CALYX` is the program."""
    calyx = f"{sys.executable} -m executor"
    environment = {**os.environ, "CALYX": calyx, "CALYX_HOME": str(console.home)}
    return subprocess.run(["sh", "-c", shell], env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("command", ["status", "ledger log", "ledger checkpoint"])
def test_full_disk_under_the_output_is_a_line(console: Console, command: str) -> None:
    if not Path("/dev/full").exists():
        missing("this system has no /dev/full")
    done = run(console, f"$CALYX {command} >/dev/full")
    assert done.returncode == 5, done.stderr
    assert done.stderr == "error: output_failed: cannot write what was asked for: No space left on device\n"
    done = run(console, "$CALYX ledger log --json >/dev/full")
    assert (done.returncode, json.loads(done.stderr)["code"]) == (5, "output_failed")


@pytest.mark.parametrize("command", ["--help", "--version", "audit --help", "ledger proof -h"])
def test_full_disk_or_closed_pipe_under_the_help_is_no_traceback(console: Console, command: str) -> None:
    done = run(console, f"$CALYX {command} >/dev/full")
    assert done.returncode == 5, done.stderr
    assert done.stderr == "error: output_failed: cannot write what was asked for: No space left on device\n"
    done = run(
        console, f"mkfifo {console.root}/p; exec 4<>{console.root}/p 5>{console.root}/p 4<&-; $CALYX {command} >&5"
    )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("audit --home nowhere", 5),
        ("audit --home nowhere --json", 5),
        ("audit --jobs 0", 2),
        ("audit --jobs 0 --json", 2),
        ("nonsense", 2),
        ("ledger proof 0 --out proof", 0),
    ],
)
def test_full_disk_under_the_errors_changes_no_exit_code(console: Console, command: str, code: int) -> None:
    # An audit that ends with 1 says that the ledger is wrong.
    assert run(console, f"cd {console.root} && $CALYX {command} 2>/dev/full").returncode == code


@pytest.mark.parametrize("output", [">/dev/full", "| :", ">/dev/full 2>&1"])
def test_full_disk_or_closed_pipe_under_its_log_ends_no_executor(console: Console, output: str) -> None:
    # What is under way on a full disk has to go back, and a log beside the ledger is full as soon as the ledger is.
    shell = f"{{ $CALYX executor run --until-idle; echo $? >{console.root}/code; }} {output}"
    assert "error" not in run(console, shell).stderr
    assert (console.root / "code").read_text("utf-8") == "0\n"


def test_line_that_the_log_did_not_take_is_in_no_ones_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        log_line("one")
        # Python would keep it, and fail over it at the end.
        full.flush()


@pytest.mark.parametrize("closed", [">&-", "<&-", ">&- 2>&- <&-"])
def test_closed_stream_is_no_traceback(console: Console, closed: str) -> None:
    done = run(console, f"$CALYX status {closed}")
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_input_answers_no(console: Console) -> None:
    fleet = console.write_fleet()
    done = run(console, f"$CALYX fleet propose {fleet} --approve <&-")
    assert done.returncode == 1, done.stderr
    assert done.stderr.endswith("nothing was signed\n")


INTERRUPTED_LOADING = """
import os
import signal
import sys

module = sys.argv.pop(1)

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from executor.main import main
main()
"""


@pytest.mark.parametrize(
    "module", ["executor.command_line", "typer", "keys.errors", "executor.commands.status", "pydantic"]
)
def test_interrupt_while_modules_are_loading_is_a_line(console: Console, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_LOADING, module, "status"],
        env={**os.environ, "CALYX_HOME": str(console.home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


PAUSED_IN_FSCK = """
import sys
import time
from ledger.repair import fsck

def wait(*_):
    print("there", flush=True)
    while True:
        time.sleep(0.1)  # a pause would sleep on a signal that came just before it

fsck._read = wait
from executor.main import main
main()
"""


def test_command_that_is_told_to_end_leaves_no_temporary_files(console: Console, tmp_path: Path) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    environment = {**os.environ, "TMPDIR": str(place), "CALYX_HOME": str(console.home)}
    command = [sys.executable, "-c", PAUSED_IN_FSCK, "ledger", "fsck"]
    with running(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        assert list(place.iterdir())
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not list(place.iterdir())
