"""Clocks for what has a time limit: what is tested is that the limit bites, and no stall of the host can do that."""

from __future__ import annotations

import time
from pathlib import Path

OVER = 1e6


def no_time_passes() -> float:
    """A clock for what must come to its end by itself: a host that stalls cannot make it late."""
    return 0.0


class StandsUntil:
    """A clock that stands until a file is there. By then all time is over, and the clock goes on as the machine's."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self) -> float:
        return OVER + time.monotonic() if self._file.exists() else 0.0
