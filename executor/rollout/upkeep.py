"""What an executor does when there is nothing to do, once an hour: it removes releases that are needed no more, and
makes the reserve for a full disk again.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import Final

from executor.homes.reserve import Reserve
from executor.hosts.host import Fence, Hosts
from executor.logbook import Log, warning_line
from executor.rollout.retention import plan_pruning
from executor.trees.tree import shown
from keys.errors import CalyxError, Unavailable
from policies.fleet import Instance
from policies.fold.state import State

EVERY_S: Final = 3_600
WHILE_BUSY_S: Final = 300
"""Sooner when something is under way, as what is touched there is left out."""


class Upkeep:
    """Prunes instances one after the other. `pool`: does it, so that the loop waits for no host. For the loop's thread.

    What a host must keep is worked out from the ledger beforehand, so nothing may be staged while it is `busy`; ways
    back need nothing staged, and go on.
    """

    def __init__(self, hosts: Hosts, pool: Executor, log: Log, reserve: Reserve | None = None) -> None:
        self._reserve = reserve
        self._hosts = hosts
        self._pool = pool
        self._log = log
        self._next_at = 0
        self._running: Future[list[str]] | None = None
        self._stop = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether a host is being pruned."""
        return self._running is not None and not self._running.done()

    def consider(self, state: State, fence: Fence, now: int) -> None:
        """Begin when it is time. `now`: seconds since 1970."""
        self._take()
        if self._running is not None or now < self._next_at:
            return
        self._next_at = now + (WHILE_BUSY_S if state.live else EVERY_S)
        if self._reserve is not None and not state.live:
            try:
                self._reserve.ensure()
            except Unavailable as error:
                self._log(warning_line(str(error), code=error.code))
        plan = list(plan_pruning(state, now))
        if plan:
            self._running = self._pool.submit(self._prune, plan, fence)

    def close(self) -> None:
        """Wait for the instance that is being pruned."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._take()

    def _take(self) -> None:
        if self._running is not None and self._running.done():
            future, self._running = self._running, None
            for line in () if future.cancelled() else future.result():
                self._log(line)

    def _prune(self, plan: Sequence[tuple[Instance, tuple[str, ...]]], fence: Fence) -> list[str]:
        lines = []
        for instance, keep in plan:
            if self._stop.is_set():
                break
            try:
                pruned = self._hosts(instance).prune(instance, keep, fence)
            except CalyxError as error:
                lines.append(f"instance {instance.name} not pruned: {error}")
            except Exception as error:  # noqa: BLE001  # a defect here must not stop a rollout
                lines.append(f"instance {instance.name} not pruned: {shown(f'{type(error).__name__}: {error}')}")
            else:
                lines += [f"instance {instance.name}: release {tree[:16]} removed" for tree in pruned.removed]
                lines += [
                    f"instance {instance.name}: release {tree[:16]} is in use and stays" for tree in pruned.in_use
                ]
        return lines
