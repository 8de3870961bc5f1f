"""Keeping a monitor (CP19) running: a process of its own, with its own key, which the executor starts but never is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from executor.process_lock import ProcessLock

RESTART_S: Final = 2.0
"""Seconds between two starts: a monitor that dies at once must not take the machine's time from the rollout."""


class MonitorProcess:
    """A `executor.run.Watchman` that starts `calyx agent run cp19` for a home when no monitor holds its lock.

    What it starts ends by itself when this process is gone, so a killed executor leaves no monitor behind. `monitor`:
    its principal. `monotonic`: seconds that only grow.
    """

    def __init__(
        self, root: Path, lock: Path, monitor: str, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._root: Final = root
        self._path: Final = lock
        self._lock: Final = ProcessLock(lock, monitor)
        self._monitor: Final = monitor
        self._monotonic: Final = monotonic
        self._started_at: float | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def ensure(self) -> None:
        """Start one if none runs."""
        if self._child is not None:
            if self._child.poll() is None:
                return
            self._child = None
        if self._started_at is not None and self._monotonic() < self._started_at + RESTART_S:
            return
        if self._lock.held():
            return
        self._started_at = self._monotonic()
        command = [sys.executable, "-m", "executor", "agent", "run", self._monitor]
        options = ["--home", str(self._root), "--parent", str(os.getpid())]
        # Its own session: a Ctrl-C at the executor's terminal must not blind the rollout before the executor stopped.
        log = self._path.with_suffix(".log")
        # Nor may it hold the executor's output open: whoever reads that to its end waits for the executor alone.
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End the one that was started here."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None
