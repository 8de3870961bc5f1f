"""What long runs share: they log a line for each act, and end cleanly when a signal says so."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Final

from executor.commands.bell import Bell, hung_bell
from executor.commands.terminal import write_log

_LOOK_S: Final = 1.0
"""How often a run that belongs to a parent looks whether the parent is still there."""


class Stop:
    """Whether, and by which signal, this process was told to end. `parent`: the process that it must not outlive."""

    def __init__(self, bell: Bell, parent: int | None = None) -> None:
        self._bell: Final = bell
        self._parent: Final = parent
        self.signal: int | None = None

    def wait(self, seconds: float) -> bool:
        """Wait up to some seconds; true when the process is to end."""
        until = time.monotonic() + seconds
        while self.signal is None:
            if self._parent is not None and os.getppid() != self._parent:
                return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._bell.wait(left if self._parent is None else min(left, _LOOK_S))
        return True

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal."""
        del frame
        self.signal = number


@contextmanager
def stopping(parent: int | None = None) -> Iterator[Stop]:
    """A `Stop` that SIGINT and SIGTERM set; a second SIGINT interrupts at once. For the main thread."""
    with ExitStack() as stack:
        stop = Stop(stack.enter_context(hung_bell()), parent)

        def on_interrupt(number: int, frame: FrameType | None) -> None:
            if stop.signal is not None:
                raise KeyboardInterrupt
            stop.on_signal(number, frame)

        for number, handler in ((signal.SIGINT, on_interrupt), (signal.SIGTERM, stop.on_signal)):
            stack.callback(signal.signal, number, signal.signal(number, handler))
        yield stop


def log_line(text: str) -> None:
    """One line of a run's log, with the time. Whether anyone can read it does not matter to the run."""
    write_log(f"{now_text()} {text}")


def now_text() -> str:
    """The time, UTC, for a line of a log."""
    return f"{datetime.now(UTC).isoformat(timespec='seconds')[:19]}Z"
