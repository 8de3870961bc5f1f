"""What long runs share: they log a line for each act, and end cleanly when a signal says so."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Final

from executor.commands.terminal import write_log

_LOOK_S: Final = 1.0
"""How often a run that belongs to a parent looks whether the parent is still there."""


class Stop:
    """Whether, and by which signal, this process was told to end. `parent`: the process that it must not outlive."""

    def __init__(self, parent: int | None = None) -> None:
        self._event = threading.Event()
        self._parent = parent
        self.signal: int | None = None

    def wait(self, seconds: float) -> bool:
        """Wait up to some seconds; true when the process is to end."""
        until = time.monotonic() + seconds
        while True:
            if self._parent is not None and os.getppid() != self._parent:
                return True
            left = until - time.monotonic()
            if self._event.wait(max(0.0, left if self._parent is None else min(left, _LOOK_S))):
                return True
            if left <= 0:
                return False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal."""
        del frame
        self.signal = number
        self._event.set()


@contextmanager
def stopping(parent: int | None = None) -> Iterator[Stop]:
    """A `Stop` that SIGINT and SIGTERM set; a second SIGINT interrupts at once. For the main thread."""
    stop = Stop(parent)

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if stop.signal is not None:
            raise KeyboardInterrupt
        stop.on_signal(number, frame)

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, on_interrupt),
        signal.SIGTERM: signal.signal(signal.SIGTERM, stop.on_signal),
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def log_line(text: str) -> None:
    """One line of a run's log, with the time. Whether anyone can read it does not matter to the run."""
    write_log(f"{now_text()} {text}")


def now_text() -> str:
    """The time, UTC, for a line of a log."""
    return f"{datetime.now(UTC).isoformat(timespec='seconds')[:19]}Z"
