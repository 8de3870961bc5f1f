"""What of the ledger's refusals passes by itself, and how it is waited out.

After a failed write nothing does: what the disk holds is unknown, and must be looked at. On a full one nothing was half
written.
"""

from __future__ import annotations

from typing import Final

from executor.homes.reserve import Reserve
from executor.logbook import Log, warning_line
from executor.rollout.bookkeeping import Memory
from keys.errors import Unavailable
from ledger.memory import MEMORY_BUSY, MEMORY_FULL
from ledger.store import DISK_FULL

RETRY_S: Final = 1
RETRY_FULL_S: Final = 10
"""A full disk stays so for longer, and what a host did and nobody could say is looked at again each time."""
LOGGED_RETRIES: Final = 3
LOGGED_EVERY: Final = 60
"""Of retries in a row these first ones are logged, and then one in so many."""

_FULL: Final = frozenset({DISK_FULL, MEMORY_FULL})
_PASSING: Final = _FULL | {"clock_suspect", "ledger_busy", MEMORY_BUSY}


def passes(error: Unavailable) -> bool:
    """Whether a refusal of the ledger passes by itself."""
    return _cause(error) in _PASSING


class Patience:
    """Waits for a ledger to take entries again. `reserve`: as `executor.rollout.run.Executor` has it."""

    def __init__(self, log: Log, reserve: Reserve | None) -> None:
        self._log = log
        self._reserve = reserve
        self._failures = 0

    def end(self) -> None:
        """It passed."""
        self._failures = 0

    def bear(self, error: Unavailable, memory: Memory) -> int:
        """Seconds until the next try. Where no head can be remembered for longer than that, nothing can be said of what
        is under way: it goes back, as where a step forward does not fit, and the reserve is given up for that alone.
        """
        self._failures += 1
        cause = _cause(error)
        if cause == MEMORY_FULL and self._failures > 1 and memory.begun and self._make_room():
            memory.no_space |= memory.begun
        retry_s = RETRY_FULL_S if cause in _FULL else RETRY_S
        if self._failures <= LOGGED_RETRIES or self._failures % LOGGED_EVERY == 0:
            self._log(warning_line(f"{error}; trying again in {retry_s} s", code=error.code))
        return retry_s

    def _make_room(self) -> bool:
        # The head may be remembered on another disk, which has no reserve.
        return self._reserve is not None and self._reserve.low() and self._reserve.give_up()


def _cause(error: Unavailable) -> object:
    return error.fields.get("cause") if error.code == "head_not_remembered" else error.code
