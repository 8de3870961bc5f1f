"""One process at a time, and a look that is in nobody's way."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from executor.process_lock import LOOKS, ProcessLock
from keys.errors import Unavailable


def hold(path: str, ready: multiprocessing.synchronize.Event) -> None:
    ProcessLock(Path(path), "another").acquire()
    ready.set()
    signal.pause()


def test_second_process_is_refused_and_a_killed_holder_lets_go(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(str(tmp_path / "lock"), ready))
    holder.start()
    try:
        assert ready.wait(60)
        lock = ProcessLock(tmp_path / "lock", "an executor")
        assert lock.held()
        with pytest.raises(Unavailable) as refusal:
            lock.acquire()
        assert refusal.value.code == "already_running"
    finally:
        assert holder.pid is not None
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
    assert not lock.held()
    with lock:
        assert lock.held()
    assert not lock.held()


@pytest.mark.parametrize(("how", "looks"), [(fcntl.LOCK_SH, 50), (fcntl.LOCK_EX, LOOKS)])
def test_look_that_takes_long_on_a_host_that_stalls_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: int, looks: int
) -> None:
    """It goes on after a second; one that holds the lock is an answer at once."""
    other = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, how)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == looks:
            fcntl.flock(other, fcntl.LOCK_UN)

    monkeypatch.setattr("executor.process_lock.time.sleep", sleep)
    lock = ProcessLock(tmp_path / "lock", "an executor")
    if how == fcntl.LOCK_EX:
        with pytest.raises(Unavailable, match="runs already"):
            lock.acquire()
    else:
        with lock:
            assert lock.held()
        fcntl.flock(other, fcntl.LOCK_SH)
        looks = -1
        with pytest.raises(Unavailable, match="runs already"):
            lock.acquire()
    os.close(other)


def test_full_disk_keeps_nobody_from_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with ProcessLock(tmp_path / "lock", "an executor") as lock:
        assert lock.held()


def test_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no directory")
    with pytest.raises(Unavailable) as refusal:
        ProcessLock(tmp_path / "run" / "lock", "an executor").acquire()
    assert refusal.value.code == "lock_failed"
    with pytest.raises(Unavailable):
        ProcessLock(tmp_path / "run" / "lock", "an executor").held()


def test_pipe_in_the_place_of_a_lock_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    assert not ProcessLock(tmp_path / "lock", "an executor").held()


def test_lock_is_looked_at_on_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ProcessLock(tmp_path / "lock", "an executor") as lock:
        opened = os.open

        def read_only(path: Path, flags: int, mode: int = 0o777) -> int:
            if flags & (os.O_RDWR | os.O_WRONLY):
                raise OSError(errno.EROFS, "Read-only file system")
            return opened(path, flags, mode)

        monkeypatch.setattr(os, "open", read_only)
        assert lock.held()
