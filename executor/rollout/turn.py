"""Whose turn it is: of several executors on one home one acts, and the others wait and take over.

    run/executor.lock     held by whoever acts, let go by the kernel when that process dies
    run/executor.beat     who acts; its time changes every second as long as the loop comes round

Both are advice. What keeps an executor that lost its turn from acting is its term: the ledger refuses what it says, and
each host what it does. So a takeover that was a mistake costs a new term, and nothing else.

A holder that shows no sign of life is ended with SIGKILL: a process that is frozen (SIGSTOP, a debugger, a dead disk)
may hold the lock of a host, too, and it has lost its turn whatever comes of it. If it cannot be ended, its lock is
passed over. No two clocks are compared: whoever waits counts its own seconds in which nothing changed, and begins again
when it was frozen itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from executor.hosts.processes import end_process, status_of
from executor.logbook import Log, fact_line, warning_line
from executor.process_lock import ProcessLock
from keys.errors import Unavailable
from keys.regular import open_regular, read_regular

BEAT_S: Final = 1.0
STALE_S: Final = 30.0
"""Seconds without a sign of life after which the one that acts is taken for frozen."""
LOOK_S: Final = 0.5
END_S: Final = 5.0
_SIZE: Final = 128
"""Bytes of the beat's file: always the same, so that a full disk does not keep anyone from writing it again."""

Token = tuple[int, int]


class Turn:
    """The turn of one process. `directory`: the home's `run`. `who`: its principal. `more`: locks of others that it
    shuts out. `monotonic`: seconds that only grow.
    """

    def __init__(
        self,
        directory: Path,
        who: str,
        log: Log,
        *,
        more: Sequence[ProcessLock] = (),
        monotonic: Callable[[], float],
        stale_s: float = STALE_S,
    ) -> None:
        self._beat: Final = directory / "executor.beat"
        self._lock: Final = ProcessLock(directory / "executor.lock", f"an executor on {directory.parent}")
        self._more: Final = tuple(more)
        self._held: Final[set[ProcessLock]] = set()
        self._log: Final = log
        self._monotonic: Final = monotonic
        self._stale_s: Final = stale_s
        started = status_of(os.getpid())
        self._name: Final = f"{who} {os.getpid()} {0 if started is None else started.started}"
        self._beat_at: float | None = None

    def take(self) -> None:
        """Take the turn at once. Raises: Unavailable (`already_running`, `lock_failed`)."""
        try:
            for lock in (self._lock, *self._more):
                lock.acquire()
                self._held.add(lock)
            acting = self._acting()
            if acting is not None:
                # It took over from one that was frozen, and that one has only just let go of the lock.
                raise Unavailable(
                    "already_running", f"the executor {acting} acts already", hint="wait for it, or end it"
                )
        except Unavailable:
            self.release()
            raise
        self._begin()

    def wait(self, wait: Callable[[float], bool]) -> bool:
        """Wait until it is this one's turn, and take it. False when `wait` said to stop.

        Raises: Unavailable (`lock_failed`).
        """
        said = ""
        since, looked_at, seen = self._monotonic(), self._monotonic(), self._token()
        while True:
            try:
                self.take()
                return True
            except Unavailable as error:
                if error.code != "already_running":
                    raise
            acting = self._acting() or "another executor"
            if acting != said:
                said = acting
                self._log(fact_line(f"standby: {acting} acts; waiting", event="STANDBY", acting=acting))
            now, token = self._monotonic(), self._token()
            # What changed, changed while this one slept; and a sleep that was much too long was no watch.
            if token != seen or now - looked_at > 10 * LOOK_S:
                since, seen = now, token
            looked_at = now
            if now - since >= self._stale_s:
                text = f"{acting} has shown no sign of life for {int(now - since)} s; taking over"
                self._log(warning_line(text, event="TAKEOVER", acting=acting))
                if not self._end_frozen():
                    self._log(warning_line(f"{acting} cannot be ended; its term is over all the same"))
                    self._begin()
                    return True
                since = now
            if wait(LOOK_S):
                return False

    def beat(self) -> None:
        """Show a sign of life, if it is time for one. Raises nothing."""
        now = self._monotonic()
        if self._beat_at is not None and now - self._beat_at < BEAT_S:
            return
        self._beat_at = now
        with suppress(OSError):
            os.utime(self._beat)
        self._take_locks()

    def release(self) -> None:
        """Let somebody else have it."""
        for lock in self._held:
            lock.release()
        self._held.clear()
        self._beat_at = None

    def _begin(self) -> None:
        data = self._name.encode().ljust(_SIZE - 1) + b"\n"
        with suppress(OSError):
            descriptor = open_regular(self._beat, os.O_WRONLY | os.O_CREAT, links=False)
            try:
                os.pwrite(descriptor, data, 0)
            finally:
                os.close(descriptor)
        self.beat()

    def _take_locks(self) -> None:
        for lock in (self._lock, *self._more):
            if lock not in self._held:
                with suppress(Unavailable):
                    lock.acquire()
                    self._held.add(lock)

    def _token(self) -> Token:
        try:
            found = self._beat.stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    def _end_frozen(self) -> bool:
        """End whoever acts, so that no lock of it stays; whether it is gone and the lock is free."""
        found = self._last()
        if found is not None and found[1] != os.getpid():
            with suppress(OSError):
                end_process(found[1], found[2], END_S)
        return not self._lock.held()

    def _acting(self) -> str | None:
        """The living process that wrote last that it acts, unless that is this one."""
        found = self._last()
        if found is None or found[1] == os.getpid():
            return None
        who, pid, started = found
        status = status_of(pid)
        return None if status is None or status.dead or status.started != started else f"{who} (process {pid})"

    def _last(self) -> tuple[str, int, int] | None:
        """Who wrote last that it acts: principal, pid, and start in clock ticks."""
        try:
            who, pid, started = read_regular(self._beat, _SIZE)[:_SIZE].decode("ascii").split()
            return who, int(pid), int(started)
        except (OSError, ValueError):
            return None
