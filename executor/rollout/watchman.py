"""Processes beside the executor, which starts them but never is them: a monitor (CP19) with its own key, a notifier."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from executor.logbook import Log, trim_log
from executor.process_lock import ProcessLock
from keys.errors import CalyxError
from keys.regular import open_regular

RESTART_S: Final = 2.0
"""Seconds between two starts: a monitor that dies at once must not take the machine's time from the rollout."""
NOTIFIER_RESTART_S: Final = 60.0
TRIM_S: Final = 10.0
"""Seconds between two looks at how long the log of such a process has become."""


class Companion:
    """A `calyx` command that is kept running on a home, as long as no other process holds its lock.

    What it starts ends by itself when this process is gone, so a killed executor leaves nothing behind. `words`: the
    command. `what`: its name for people. `restart_s`: seconds between two starts. `monotonic`: seconds that only grow.
    """

    def __init__(
        self,
        root: Path,
        lock: Path,
        what: str,
        words: Sequence[str],
        *,
        restart_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root: Final = root
        self._path: Final = lock
        self._lock: Final = ProcessLock(lock, what)
        self._words: Final = tuple(words)
        self._restart_s: Final = restart_s
        self._monotonic: Final = monotonic
        self._output: Final = lock.with_suffix(".log")
        self._looked_at: float | None = None
        self._trimmed_at: float | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def ensure(self) -> None:
        """Start one if none runs, and keep its log small."""
        self._trim()
        if self._child is not None:
            if self._child.poll() is None:
                return
            self._child = None
        if self._looked_at is not None and self._monotonic() < self._looked_at + self._restart_s:
            return
        if self._lock.held():
            return
        self._looked_at = self._monotonic()
        # -P: whatever lies in the directory that the executor was started from is not what runs here.
        command = [sys.executable, "-P", "-m", "executor", *self._words]
        options = ["--home", str(self._root), "--parent", str(os.getpid())]
        # Its own session: a Ctrl-C at the executor's terminal must not blind the rollout before the executor stopped.
        # Nor may it hold the executor's output open: whoever reads that to its end waits for the executor alone.
        with os.fdopen(self._open_output(), "ab") as output:
            self._child = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _open_output(self) -> int:
        # One whose words go nowhere is better than none.
        with suppress(OSError):
            return open_regular(self._output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        return os.open(os.devnull, os.O_WRONLY)

    def _trim(self) -> None:
        now = self._monotonic()
        if self._trimmed_at is None or now >= self._trimmed_at + TRIM_S:
            self._trimmed_at = now
            # Whatever it prints it appends, so its log may begin again under its hands.
            with suppress(OSError):
                trim_log(self._output)

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


class MonitorProcess(Companion):
    """A `executor.rollout.run.Watchman` that starts `calyx agent run cp19` for a home when no monitor holds its lock.
    `monitor`: its principal.
    """

    def __init__(
        self, root: Path, lock: Path, monitor: str, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(root, lock, monitor, ("agent", "run", monitor), restart_s=RESTART_S, monotonic=monotonic)


class NotifierProcess(Companion):
    """Keeps `calyx notify run` running for a home that has addresses. Nobody waits for it: what goes wrong with it is
    said in the log once, and at the end it is left alone to send what is still to be sent, for some seconds.
    """

    def __init__(
        self, root: Path, lock: Path, addresses: Path, log: Log, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(root, lock, "a notifier", ("notify", "run"), restart_s=NOTIFIER_RESTART_S, monotonic=monotonic)
        self._addresses: Final = addresses
        self._log: Final = log
        self._failed = False

    def ensure(self) -> None:
        """Start one if none runs and there are addresses. Raises nothing."""
        try:
            if self._addresses.exists():
                super().ensure()
        except (OSError, CalyxError) as error:
            if not self._failed:
                self._log(f"the notifier cannot be started: {error}")
            self._failed = True

    def stop(self) -> None:
        """Tell it that this is the end, and do not wait for its own."""
        if self._child is not None:
            self._child.terminate()
