"""One process at a time, and a look that is in nobody's way."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from executor.process_lock import ProcessLock
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
        assert ready.wait(30)
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
