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
from keys.ahead import BATCH, MAX_FORESEEN, SignaturesAhead, WorkerFailed
from keys.ahead_worker import HEADER, ITEM, answer
from keys.ed25519 import PublicKey, SigningKey, verify
from keys.errors import SignatureRefused

KEY = SigningKey(b"\x01" * 32)
OTHER = SigningKey(b"\x02" * 32)


@pytest.fixture
def ahead() -> Iterator[SignaturesAhead]:
    with SignaturesAhead(2) as made:
        yield made


def message(number: int) -> bytes:
    return b"message %d" % number


def foresee(ahead: SignaturesAhead, count: int) -> list[bytes]:
    signatures = [KEY.sign(message(number)) for number in range(count)]
    for number, signature in enumerate(signatures):
        ahead.foresee(KEY.public, message(number), signature)
    return signatures


def test_what_was_foreseen_is_proved_by_the_other_processes(
    ahead: SignaturesAhead, monkeypatch: pytest.MonkeyPatch
) -> None:
    signatures = foresee(ahead, 5 * BATCH + 3)
    monkeypatch.setattr(module, "verify", lambda *_: pytest.fail("it was checked here"))
    for number, signature in enumerate(signatures):
        ahead.verify(KEY.public, message(number), signature)


def test_forged_signature_that_was_foreseen_is_refused(ahead: SignaturesAhead) -> None:
    foresee(ahead, 10)
    forged = OTHER.sign(b"forged")
    ahead.foresee(KEY.public, b"forged", forged)
    with pytest.raises(SignatureRefused):
        ahead.verify(KEY.public, b"forged", forged)


def test_answer_about_other_bytes_proves_nothing(ahead: SignaturesAhead) -> None:
    signature = KEY.sign(b"said")
    ahead.foresee(KEY.public, b"said", signature)
    with pytest.raises(SignatureRefused):
        ahead.verify(KEY.public, b"not said", signature)


def test_answer_about_another_key_proves_nothing(ahead: SignaturesAhead) -> None:
    signature = KEY.sign(b"said")
    ahead.foresee(KEY.public, b"said", signature)
    with pytest.raises(SignatureRefused):
        ahead.verify(OTHER.public, b"said", signature)


def test_answer_counts_once(ahead: SignaturesAhead, monkeypatch: pytest.MonkeyPatch) -> None:
    (signature,) = foresee(ahead, 1)
    ahead.verify(KEY.public, message(0), signature)
    checked: list[bytes] = []
    monkeypatch.setattr(module, "verify", lambda _key, said, _sig: checked.append(said))
    ahead.verify(KEY.public, message(0), signature)
    assert checked == [message(0)]


def test_what_nobody_asks_for_is_not_kept(ahead: SignaturesAhead) -> None:
    for number in range(MAX_FORESEEN + 100):
        ahead.foresee(KEY.public, b"x", number.to_bytes(64, "big"))
    assert len(ahead._foreseen) == MAX_FORESEEN


def test_what_finds_every_process_busy_is_checked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    here: list[bytes] = []

    def check(public: PublicKey, said: bytes, signature: bytes) -> None:
        here.append(said)
        verify(public, said, signature)

    monkeypatch.setattr(module, "verify", check)
    # Nothing is heard from them before this one waits, so each is sent two batches.
    monkeypatch.setattr(SignaturesAhead, "_exchange", lambda _: None)
    with SignaturesAhead(2, busy=BATCH + 1) as ahead:
        signatures = foresee(ahead, 6 * BATCH - 1)
        forged = OTHER.sign(b"forged")
        ahead.foresee(KEY.public, b"forged", forged)
        assert [worker.pending for worker in ahead._workers] == [2 * BATCH, 2 * BATCH]
        monkeypatch.undo()
        monkeypatch.setattr(module, "verify", check)
        for number, signature in enumerate(signatures):
            ahead.verify(KEY.public, message(number), signature)
        with pytest.raises(SignatureRefused):
            ahead.verify(KEY.public, b"forged", forged)
        assert here == [*(message(number) for number in range(4 * BATCH, 6 * BATCH - 1)), b"forged"]
        # Busy no more, they are sent what comes.
        here.clear()
        for number, signature in enumerate(foresee(ahead, BATCH)):
            ahead.verify(KEY.public, message(number), signature)
        assert here == []


def test_process_that_died_is_an_error(ahead: SignaturesAhead) -> None:
    signatures = foresee(ahead, 4 * BATCH)
    for worker in ahead._workers:
        os.kill(worker._process.pid, signal.SIGKILL)
        worker._process.wait()
    with pytest.raises(WorkerFailed):
        for number, signature in enumerate(signatures):
            ahead.verify(KEY.public, message(number), signature)
        foresee(ahead, 4 * BATCH)


def test_process_that_says_yes_to_everything_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    liar = tmp_path / "liar.py"
    liar.write_text("import os\nos.read(0, 1 << 16)\nos.write(1, b'\\1' * 33)\nos.read(0, 1)\n", encoding="utf-8")
    monkeypatch.setattr(module, "COMMAND", (sys.executable, str(liar)))
    with SignaturesAhead(1) as ahead, pytest.raises(WorkerFailed):
        ahead.foresee(KEY.public, b"forged", bytes(64))
        ahead.verify(KEY.public, b"forged", bytes(64))


def test_what_is_asked_after_the_end_is_checked_here() -> None:
    with SignaturesAhead(1) as ahead:
        signatures = foresee(ahead, BATCH + 3)
    forged = OTHER.sign(b"forged")
    for _ in range(BATCH + 1):
        ahead.foresee(KEY.public, b"forged", forged)
    for number, signature in enumerate(signatures):
        ahead.verify(KEY.public, message(number), signature)
    with pytest.raises(SignatureRefused):
        ahead.verify(KEY.public, b"forged", forged)


def test_interrupt_leaves_no_process_behind() -> None:
    workers = []
    with pytest.raises(KeyboardInterrupt), SignaturesAhead(2) as ahead:
        foresee(ahead, 8 * BATCH)
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
        signatures = foresee(ahead, 2)
        ahead.verify(KEY.public, message(1), signatures[1])


@pytest.mark.parametrize("cut", [-1, 1])
def test_worker_refuses_a_request_of_another_length(cut: int) -> None:
    body = ITEM.pack(KEY.public, KEY.sign(b"said"), 4) + b"said"
    assert answer(7, 1, body, {})[8:] == b"\x01"
    body = body[:cut] if cut < 0 else body + b"x"
    with pytest.raises(ValueError, match="as long as it says"):
        answer(7, 1, body, {})


def test_worker_proves_no_signature_by_a_weak_key() -> None:
    weak = (1).to_bytes(32, "little")
    assert answer(7, 1, ITEM.pack(weak, bytes(64), 1) + b"x", {})[8:] == b"\x00"


def test_worker_whose_asker_is_gone_ends_quietly() -> None:
    process = [sys.executable, "-m", "keys.ahead_worker"]
    for request in (HEADER.pack(1, 1, 100), HEADER.pack(1, 1, 100) + b"part", b"head"):
        ended = subprocess.run(process, input=request, capture_output=True, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr) == (1, b"", b"")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("an answer to the next request", "(2).to_bytes(8, 'big') + b'\\1'"),
        ("an answer to an earlier request", "(0).to_bytes(8, 'big') + b'\\1'"),
        ("the same answer twice", "((1).to_bytes(8, 'big') + b'\\1') * 2"),
        ("a byte before the answer", "b'\\1' + (1).to_bytes(8, 'big') + b'\\1'"),
        ("a byte after the answer", "(1).to_bytes(8, 'big') + b'\\1\\1'"),
        ("an answer without its bytes", "(1).to_bytes(8, 'big')"),
    ],
)
def test_process_that_answers_otherwise_is_an_error(
    what: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = tmp_path / "liar.py"
    liar.write_text(f"import os\nos.read(0, 1 << 16)\nos.write(1, {says})\n", encoding="utf-8")
    monkeypatch.setattr(module, "COMMAND", (sys.executable, str(liar)))
    with SignaturesAhead(1) as ahead, pytest.raises(WorkerFailed):
        ahead.foresee(KEY.public, b"forged", bytes(64))
        ahead.verify(KEY.public, b"forged", bytes(64))
