"""Processes that a test starts: none outlives its test, and none makes a test that fails wait for it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
PATIENCE_S = 60

# A session of its own with the terminal as its controlling one, so that ^C becomes a signal as at a desk.
_AT_A_DESK = (
    "import fcntl, os, sys, termios\n"
    "os.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'executor', *sys.argv[1:]])"
)


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that is killed in the end, whatever comes of the test: `Popen` itself waits for it, without limit."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def at_a_desk(
    arguments: Sequence[str], typed: Sequence[tuple[bytes, bytes]] = (), command: Sequence[str] = ()
) -> tuple[str, int]:
    """Run `calyx` on a terminal of its own. `typed`: what is typed at each prompt. `command`: instead of `calyx`. What
    the screen showed, and the exit code.
    """
    master, slave = pty.openpty()
    try:
        with running(
            command or [sys.executable, "-c", _AT_A_DESK, *arguments],
            cwd=CHECKOUT,
            env={**os.environ, "COLUMNS": "200"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        ) as process:
            os.close(slave)
            screen = _play(master, list(typed))
            return screen.decode(), process.wait(PATIENCE_S)
    finally:
        os.close(master)


def _play(master: int, typed: list[tuple[bytes, bytes]]) -> bytes:
    screen, seen = b"", 0
    end = time.monotonic() + PATIENCE_S
    # Linux answers EIO once the other side is closed.
    with suppress(OSError):
        while select.select([master], [], [], max(0, end - time.monotonic()))[0]:
            part = os.read(master, 65_536)
            screen += part
            if typed and typed[0][0] in screen[seen:]:
                seen = len(screen)
                os.write(master, typed.pop(0)[1])
            if not part:
                return screen
        raise AssertionError(f"it neither ends nor goes on: {screen.decode()}")
    return screen
