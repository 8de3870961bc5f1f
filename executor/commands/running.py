"""What long runs share: they log a line for each act, and end cleanly when a signal says so."""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from types import FrameType
from typing import Final

from executor.commands.terminal import write_log

_LOOK_S: Final = 1.0
"""How often a run that belongs to a parent looks whether the parent is still there."""


class Stop:
    """Whether, and by which signal, this process was told to end. `bell`: can be read, without waiting, as soon as the
    system has delivered a signal. `parent`: the process that it must not outlive.
    """

    def __init__(self, bell: int, parent: int | None = None) -> None:
        self._bell: Final = bell
        self._poll: Final = select.poll()
        self._poll.register(bell, select.POLLIN)
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
            if self._poll.poll(math.ceil(1_000 * (left if self._parent is None else min(left, _LOOK_S)))):
                with suppress(BlockingIOError):
                    os.read(self._bell, 64)
        return True

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal."""
        del frame
        self.signal = number


@contextmanager
def stopping(parent: int | None = None) -> Iterator[Stop]:
    """A `Stop` that SIGINT and SIGTERM set; a second SIGINT interrupts at once. For the main thread."""
    with ExitStack() as stack:
        stop = Stop(stack.enter_context(_bell()), parent)

        def on_interrupt(number: int, frame: FrameType | None) -> None:
            if stop.signal is not None:
                raise KeyboardInterrupt
            stop.on_signal(number, frame)

        for number, handler in ((signal.SIGINT, on_interrupt), (signal.SIGTERM, stop.on_signal)):
            stack.callback(signal.signal, number, signal.signal(number, handler))
        yield stop


@contextmanager
def _bell() -> Iterator[int]:
    # A handler in Python runs between two instructions: it must take no lock, for a wait may hold it (an event does),
    # and it comes too late for a wait that begins while it is due. The system's own handler writes here at once.
    bell, rope = os.pipe()
    try:
        for end in (bell, rope):
            os.set_blocking(end, False)
        before = signal.set_wakeup_fd(rope, warn_on_full_buffer=False)
        try:
            yield bell
        finally:
            signal.set_wakeup_fd(before)
    finally:
        os.close(bell)
        os.close(rope)


def log_line(text: str) -> None:
    """One line of a run's log, with the time. Whether anyone can read it does not matter to the run."""
    write_log(f"{now_text()} {text}")


def now_text() -> str:
    """The time, UTC, for a line of a log."""
    return f"{datetime.now(UTC).isoformat(timespec='seconds')[:19]}Z"
