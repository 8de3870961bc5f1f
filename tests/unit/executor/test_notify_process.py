"""The notifier beside the executor: started where there are addresses, waited for by nobody."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from executor.notify import sender
from executor.notify.addresses import Address
from executor.notify.post import Letter, SenderProcess
from executor.rollout.watchman import NOTIFIER_RESTART_S, NotifierProcess

LETTER = Letter("a title", "a body", "info")


class Child:
    """A process that was started; `code`: what it ended with, None while it runs."""

    def __init__(self, code: int | None) -> None:
        self.code = code
        self.terminated = 0

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.terminated += 1

    def wait(self, timeout: float | None = None) -> int:
        raise AssertionError("the executor waits for its notifier")


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    started: list[list[str]] = []

    def start(command: list[str], **_: Any) -> Child:
        started.append(command)
        return Child(1)

    monkeypatch.setattr(subprocess, "Popen", start)
    return started


def companion(root: Path, now: list[float], lines: list[str] | None = None) -> NotifierProcess:
    log = ([] if lines is None else lines).append
    return NotifierProcess(root, root / "notify.lock", root / "notify.yaml", log, monotonic=lambda: now[0])


def test_without_addresses_nothing_is_started(tmp_path: Path, starts: list[list[str]]) -> None:
    companion(tmp_path, [0.0]).ensure()
    assert starts == []


def test_notifier_that_dies_at_once_is_started_again_only_after_a_while(
    tmp_path: Path, starts: list[list[str]]
) -> None:
    (tmp_path / "notify.yaml").touch()
    now = [100.0]
    notifier = companion(tmp_path, now)
    for _ in range(21):
        notifier.ensure()
        now[0] += NOTIFIER_RESTART_S / 10
    assert len(starts) == 3
    assert starts[0][1:6] == ["-P", "-m", "executor", "notify", "run"]


def test_notifier_that_cannot_be_started_is_said_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notify.yaml").touch()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", fail)
    lines: list[str] = []
    now = [0.0]
    notifier = companion(tmp_path, now, lines)
    for _ in range(3):
        notifier.ensure()
        now[0] += 2 * NOTIFIER_RESTART_S
    notifier.stop()
    assert len(lines) == 1
    assert "Cannot allocate memory" in lines[0]


def test_end_of_the_executor_waits_for_no_notifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notify.yaml").touch()
    child = Child(None)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: child)
    notifier = companion(tmp_path, [0.0])
    notifier.ensure()
    notifier.stop()
    assert child.terminated == 1


def test_sender_that_hangs_is_ended_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hangs = tmp_path / "hangs.py"
    hangs.write_text("import sys, time\nsys.stdin.read()\ntime.sleep(60)\n")
    monkeypatch.setattr(sender, "__file__", str(hangs))
    sending = SenderProcess(Address("json://127.0.0.1:1/"), LETTER, 0)
    assert sending.poll() == "timed_out"
    assert sending.poll() == "timed_out"
    assert sending._child is not None
    assert sending._child.returncode == -signal.SIGKILL


def test_sender_that_dies_is_a_failure_and_not_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dies = tmp_path / "dies.py"
    dies.write_text("import os\nos.kill(os.getpid(), 9)\n")
    monkeypatch.setattr(sender, "__file__", str(dies))
    sending = SenderProcess(Address("json://127.0.0.1:1/"), LETTER)
    while (how := sending.poll()) is None:
        time.sleep(0.02)  # another process
    assert how == "sender_failed"


@pytest.mark.parametrize(
    "text", [b"", b"not json", b"[]", json.dumps({"url": "json://hunter2@127.0.0.1:1"}).encode(), b"\xff" * 100]
)
def test_sender_says_nothing_of_what_it_was_given(text: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-P", sender.__file__], input=text, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (sender.BROKEN, b"", b"")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("nosuchscheme://hunter2@127.0.0.1", sender.BAD_ADDRESS),
        ("json://user:hunter2@127.0.0.1:1/", sender.REFUSED),
    ],
)
def test_address_that_leads_nowhere_is_said_by_a_code_alone(url: str, code: int) -> None:
    request = {"url": url, "title": "t", "body": "b", "kind": "info", "seconds": 20}
    done = subprocess.run(
        [sys.executable, "-P", sender.__file__],
        input=json.dumps(request).encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")
