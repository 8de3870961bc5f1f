"""Checks hostile content in a child process: a parser that hangs, crashes or eats memory takes only itself along.

The child is asked about one content after another. When it does not answer in time, or dies, the content is at fault,
and the next one gets a new child.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

from executor.agents.syntax import Kind
from keys.errors import Unavailable

TIMEOUT_S: Final = 60.0
"""For one content. A child's start is part of it."""
MAX_ANSWER: Final = 4096
# -I: neither the environment nor the current directory has a say in what the child runs.
COMMAND: Final = (sys.executable, "-I", "-m", "executor.agents.syntax")


class Sandbox:
    """A checker that may be asked about hostile content. As a context it ends its child."""

    def __init__(self, timeout_s: float = TIMEOUT_S, command: Sequence[str] = COMMAND) -> None:
        self._timeout_s: Final = timeout_s
        self._command: Final = tuple(command)
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def check(self, kind: Kind, data: bytes) -> str | None:
        """What is wrong with content, in one line of ASCII, or None when it is well-formed.

        Raises: Unavailable (`sandbox_failed`) when no child can be started.
        """
        try:
            answer = self._ask(kind, data)
        except (BrokenPipeError, TimeoutError) as error:
            self._stop()
            return "the parser took too long" if isinstance(error, TimeoutError) else "the parser crashed"
        text = answer.decode("ascii", "backslashreplace").strip()
        return text or None

    def _ask(self, kind: Kind, data: bytes) -> bytes:
        child = self._started()
        if child.stdin is None or child.stdout is None:
            raise Unavailable("sandbox_failed", "the parser has no pipes")
        questions, answers = child.stdin.fileno(), child.stdout.fileno()
        deadline = time.monotonic() + self._timeout_s
        unsaid = memoryview(f"{kind} {len(data)}\n".encode("ascii") + data)
        answer = b""
        while not answer.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            # A child may take as long to read as to answer.
            heard, free, _ = select.select([answers], [questions] if unsaid else [], [], left)
            if not heard and not free:
                raise TimeoutError
            if free:
                with suppress(BlockingIOError):
                    unsaid = unsaid[os.write(questions, unsaid) :]
            if heard:
                more = os.read(answers, MAX_ANSWER)
                if not more or len(answer) > MAX_ANSWER:
                    raise BrokenPipeError
                answer += more
        if unsaid:
            raise BrokenPipeError
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            try:
                self._child = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={},
                    cwd="/",
                    bufsize=0,
                )
            except OSError as error:
                raise Unavailable("sandbox_failed", f"cannot start a parser: {error.strerror}") from None
            if self._child.stdin is not None:
                os.set_blocking(self._child.stdin.fileno(), False)
        return self._child

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        child.wait()
