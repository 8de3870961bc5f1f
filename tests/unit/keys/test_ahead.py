"""Signatures checked ahead: what other processes say never makes anything verified that is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keys import ahead as module
from keys.ahead import BATCH, Asked, SignaturesAhead, WorkerFailed
from keys.ahead_worker import HEADER, HELLO, answer, format_body
from keys.ed25519 import Joined, SigningKey, join

KEY = SigningKey(b"\x01" * 32)
OTHER = SigningKey(b"\x02" * 32)


@pytest.fixture
def ahead() -> Iterator[SignaturesAhead]:
    with SignaturesAhead(2) as made:
        yield made


def message(number: int) -> bytes:
    return b"message %d" % number


def ask(ahead: SignaturesAhead, count: int, key: SigningKey = KEY) -> Asked:
    """Ask about so many good signatures."""
    joined = [join(key.sign(message(number)), message(number)) for number in range(count)]
    return ahead.ask([key.public] * count, joined)


def ask_forged(ahead: SignaturesAhead) -> Asked:
    return ahead.ask([KEY.public], [join(OTHER.sign(b"forged"), b"forged")])


def test_what_is_asked_is_proved_by_the_other_processes(ahead: SignaturesAhead) -> None:
    counts = (1, BATCH, 5 * BATCH + 3, 0)
    asked = [ask(ahead, count) for count in counts]
    assert [each.proved() for each in asked] == [b"\1" * count for count in counts]
    # What is known stays known.
    assert asked[1].proved() == b"\1" * BATCH


def test_forged_signature_among_good_ones_is_not_proved(ahead: SignaturesAhead) -> None:
    said = [(KEY, b"one"), (OTHER, b"two"), (KEY, b"three")]
    asked = ahead.ask([KEY.public] * 3, [join(key.sign(text), text) for key, text in said])
    assert asked.proved() == b"\1\0\1"


@pytest.mark.parametrize("joined", [b"", b"\0" * 63, b"\0" * 64])
def test_what_is_no_signature_is_not_proved(ahead: SignaturesAhead, joined: bytes) -> None:
    assert ahead.ask([KEY.public], [Joined(joined)]).proved() == b"\0"


def begin(ahead: SignaturesAhead) -> None:
    """Wait until each process has begun."""
    while not all(worker.begun for worker in ahead._workers):
        ahead._wait()


def test_what_finds_every_process_busy_is_not_proved_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with SignaturesAhead(2, busy=BATCH + 1) as ahead:
        begin(ahead)
        # Nothing is heard from them meanwhile, so each is given two batches.
        monkeypatch.setattr(module._Worker, "exchange", lambda _: None)
        asked = [ask(ahead, BATCH) for _ in range(6)]
        assert [worker.pending for worker in ahead._workers] == [2 * BATCH, 2 * BATCH]
        assert [each.proved() for each in asked[4:]] == [bytes(BATCH)] * 2
        monkeypatch.undo()
        assert [each.proved() for each in asked[:4]] == [b"\1" * BATCH] * 4
        # Busy no more, they are sent what comes.
        assert ask(ahead, BATCH).proved() == b"\1" * BATCH


def test_nobody_waits_for_processes_that_have_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text("import os\nos.read(0, 1)\n", encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(module, "COMMAND", (sys.executable, str(silent)))
        with SignaturesAhead(1, busy=BATCH) as ahead:
            assert [ask(ahead, 3).proved() for _ in range(3)] == [bytes(3)] * 3
            assert ahead._workers[0].pending == 0
    with SignaturesAhead(1, busy=BATCH) as ahead:
        begin(ahead)
        assert ask(ahead, 3).proved() == b"\1" * 3


def test_process_that_died_is_an_error(ahead: SignaturesAhead) -> None:
    asked = ask(ahead, 4 * BATCH)
    for worker in ahead._workers:
        os.kill(worker._process.pid, signal.SIGKILL)
        worker._process.wait()
    with pytest.raises(WorkerFailed):
        asked.proved()
        ask(ahead, 4 * BATCH)


def test_process_that_died_proves_nothing_to_whoever_can_do_without() -> None:
    with SignaturesAhead(2, required=False) as ahead:
        for worker in ahead._workers:
            os.kill(worker._process.pid, signal.SIGKILL)
            worker._process.wait()
        assert ask(ahead, 3).proved() == bytes(3)
        assert ahead._workers == []


def test_process_that_says_yes_to_everything_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    liar = tmp_path / "liar.py"
    liar.write_text("import os\nos.read(0, 1 << 16)\nos.write(1, b'\\1' * 64)\nos.read(0, 1)\n", encoding="utf-8")
    monkeypatch.setattr(module, "COMMAND", (sys.executable, str(liar)))
    with SignaturesAhead(1) as ahead, pytest.raises(WorkerFailed):
        ask_forged(ahead).proved()


def test_after_the_end_nothing_is_proved() -> None:
    with SignaturesAhead(1) as ahead:
        before = ask(ahead, BATCH)
    assert before.proved() == bytes(BATCH)
    assert ask(ahead, 2).proved() == bytes(2)


def test_interrupt_leaves_no_process_behind() -> None:
    workers = []
    with pytest.raises(KeyboardInterrupt), SignaturesAhead(2) as ahead:
        ask(ahead, 8 * BATCH)
        workers = list(ahead._workers)
        raise KeyboardInterrupt
    assert [worker._process.poll() is not None for worker in workers] == [True, True]


def test_processes_end_with_the_one_that_started_them() -> None:
    code = (
        "import os, sys, time\n"
        "from keys.ahead import SignaturesAhead\n"
        "ahead = SignaturesAhead(1)\n"
        "print(ahead._workers[0]._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as out:
        # The worker has another standard output, so this ends with the first process.
        pid = int(out.read())
    process.wait()
    # It inherited nothing that keeps it alive: its input ends, and it with it.
    pidfd = os.pidfd_open(pid) if Path(f"/proc/{pid}").exists() else None
    if pidfd is not None:
        import select

        assert select.select([pidfd], [], [], 30)[0], "the worker goes on"
        os.close(pidfd)


def test_worker_knows_nothing_of_private_keys() -> None:
    code = "import sys, keys.ahead_worker; print(*(name for name in sys.modules if name.startswith('keys')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) == {"keys", "keys.ahead_worker", "keys.ed25519", "keys.errors"}


def test_package_in_the_working_directory_does_not_run_as_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impostor = tmp_path / "keys"
    impostor.mkdir()
    (impostor / "__init__.py").touch()
    (impostor / "ahead_worker.py").write_text("raise SystemExit('impostor')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with SignaturesAhead(1) as ahead:
        assert ask(ahead, 2).proved() == b"\1\1"


@pytest.mark.parametrize("cut", [-100, -1, 1])
def test_worker_refuses_a_request_of_another_length(cut: int) -> None:
    body = format_body([KEY.public], [join(KEY.sign(b"said"), b"said")])
    assert answer(7, 1, body, {})[8:] == b"\x01"
    body = body[:cut] if cut < 0 else body + b"x"
    with pytest.raises(ValueError, match="as long as it says"):
        answer(7, 1, body, {})


def test_worker_proves_no_signature_by_a_weak_key() -> None:
    weak = (1).to_bytes(32, "little")
    body = weak + (65).to_bytes(4, "big") + bytes(64) + b"x"
    assert answer(7, 1, body, {})[8:] == b"\x00"


def test_worker_whose_asker_is_gone_ends_quietly() -> None:
    process = [sys.executable, "-m", "keys.ahead_worker"]
    for request in (HEADER.pack(1, 1, 100), HEADER.pack(1, 1, 100) + b"part", b"head"):
        ended = subprocess.run(process, input=request, capture_output=True, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr) == (1, HELLO, b"")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("an answer to the next request", "(2).to_bytes(8, 'big') + b'\\1'"),
        ("an answer to an earlier request", "(0).to_bytes(8, 'big') + b'\\1'"),
        ("the same answer twice", "((1).to_bytes(8, 'big') + b'\\1') * 2"),
        ("a byte before the answer", "b'\\1' + (1).to_bytes(8, 'big') + b'\\1'"),
        ("a byte after the answer", "(1).to_bytes(8, 'big') + b'\\1\\1'"),
        ("another hello", "bytes(8)"),
        ("an answer without its bytes", "(1).to_bytes(8, 'big')"),
    ],
)
def test_process_that_answers_otherwise_is_an_error(
    what: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = tmp_path / "liar.py"
    liar.write_text(f"import os\nos.write(1, bytes(8))\nos.read(0, 1 << 16)\nos.write(1, {says})\n", encoding="utf-8")
    monkeypatch.setattr(module, "COMMAND", (sys.executable, str(liar)))
    with SignaturesAhead(1) as ahead, pytest.raises(WorkerFailed):
        ask_forged(ahead).proved()
