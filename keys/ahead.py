"""Signatures checked ahead, by other processes, before anyone asks for them.

Whoever reads many signed things asks early (`ask`) and hears later which signatures were proved (`Asked.proved`). What
was not proved, for whatever reason, is for the one who asked to check.

They run the same verifier, in interpreters that this process started, and it believes what they say as it believes
itself. One that dies or answers out of turn is not believed any more: that is an error, or the end of all of them for
whoever can do without. They get public keys, messages and signatures, nothing else,
and end when this object is closed or this process ends, however it ends.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Self

from keys.ahead_worker import HEADER, NUMBER, format_body
from keys.ed25519 import Joined, PublicKey
from keys.errors import Unavailable

# -P: whatever lies in the directory that this process was started from is not what runs there.
COMMAND: Final = (sys.executable, "-P", "-m", "keys.ahead_worker")
BATCH: Final = 64
MAX_JOBS: Final = 64
# What Linux gives anyone. Elsewhere a pipe holds less, and a worker waits for this process a little sooner.
_PIPE_SIZE: Final = 1 << 20
_READ_SIZE: Final = 1 << 16
_WAIT_S: Final = 60
_PATIENCE_S: Final = 10
"""As `_WAIT_S`, for who can do without them, and may hold a ledger's lock meanwhile."""
_END_S: Final = 5


def usable_cores() -> int:
    """How many processes may run at once for this one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerFailed(Unavailable):
    """A process that checks signatures died, or answered what it was not asked. Nothing may be concluded from that."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "worker_failed",
            f"the processes that check signatures cannot go on: {why}",
            hint="try again; with --jobs 1 no other process is needed",
        )


class Asked:
    """Signatures that were asked about together, and what is known of them."""

    __slots__ = ("_settle", "answers", "count")

    def __init__(self, count: int, settle: Callable[[Asked], None]) -> None:
        self.count: Final = count
        self.answers: bytes | None = None
        self._settle: Final = settle

    def proved(self) -> bytes:
        """A byte for each, in order: 1 when it was proved, 0 when it was not, or when nobody had time. Waits.

        Raises: WorkerFailed, where the processes are required.
        """
        if self.answers is None:
            self._settle(self)
        return bytes(self.count) if self.answers is None else self.answers


class SignaturesAhead:
    """Checks signatures in `jobs` processes. A context; use it in the thread that made it.

    `required`: a process that fails is an error. Else all of them end with it, and nothing is proved from then on.
    `busy`: signatures that a process has not answered from which on it is sent no more, None for as many as come. What
    finds them all busy, or not begun yet, is not proved: whoever asks checks it, instead of waiting for them while it
    could do their work.

    Raises: WorkerFailed when a process that is required cannot be started.
    """

    def __init__(self, jobs: int, *, required: bool = True, busy: int | None = None) -> None:
        self._required: Final = required
        self._busy: Final = busy
        self._workers: list[_Worker] = []
        try:
            with self._trying():
                for _ in range(min(jobs, MAX_JOBS)):
                    self._workers.append(_Worker())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes. Nothing is proved from then on."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def ask(self, publics: Sequence[PublicKey], joined: Sequence[Joined]) -> Asked:
        """Have signatures checked, each with the key in the same place.

        Raises: WorkerFailed, where they are required.
        """
        asked = Asked(len(joined), self._settle)
        with self._trying():
            self._exchange()
            worker = min(self._workers, key=lambda worker: (not worker.begun, worker.pending), default=None)
            if worker is None or not joined or self._is_busy(worker):
                asked.answers = bytes(asked.count)
            else:
                worker.send(asked, format_body(publics, joined))
                worker.exchange()
        return asked

    def _is_busy(self, worker: _Worker) -> bool:
        return self._busy is not None and (not worker.begun or worker.pending >= self._busy)

    def _settle(self, asked: Asked) -> None:
        """Wait for answers, for as long as there may be any."""
        with self._trying():
            self._exchange()
            while asked.answers is None and self._workers:
                self._wait()

    @contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except WorkerFailed:
            if self._required:
                raise
            self.close()

    def _exchange(self) -> None:
        for worker in self._workers:
            worker.exchange()

    def _wait(self) -> None:
        poll = select.poll()
        for worker in self._workers:
            poll.register(worker.answers, select.POLLIN)
            if worker.outbox:
                poll.register(worker.requests, select.POLLOUT)
        wait_s = _WAIT_S if self._required else _PATIENCE_S
        if not poll.poll(wait_s * 1000):
            raise WorkerFailed(f"they gave no answer for {wait_s} s")
        self._exchange()


class _Worker:
    """One process, and what was sent to it and not answered yet."""

    def __init__(self) -> None:
        try:
            # Its own group: a Ctrl-C at the terminal is for this process, which then ends it.
            self._process = subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, process_group=0
            )
        except OSError as error:
            raise WorkerFailed(f"cannot start one: {error.strerror}") from None
        if self._process.stdin is None or self._process.stdout is None:
            raise WorkerFailed("one has no pipes")
        self.requests: Final = self._process.stdin.fileno()
        self.answers: Final = self._process.stdout.fileno()
        os.set_blocking(self.requests, False)
        os.set_blocking(self.answers, False)
        if sys.platform == "linux":
            import fcntl

            with suppress(OSError):
                fcntl.fcntl(self.requests, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self.outbox: Final[deque[memoryview]] = deque()
        # It says hello as if it had been asked, under the number 0, about nothing.
        self._asked: Final[deque[tuple[int, Asked]]] = deque([(0, Asked(0, lambda _: None))])
        self._sent = 0
        self._inbox = b""
        self.pending = 0

    @property
    def begun(self) -> bool:
        """Whether it has said hello."""
        return not self._asked or self._asked[0][0] > 0

    def send(self, asked: Asked, body: bytes) -> None:
        self._sent += 1
        self._asked.append((self._sent, asked))
        self.outbox.append(memoryview(HEADER.pack(self._sent, asked.count, len(body)) + body))
        self.pending += asked.count

    def exchange(self) -> None:
        """Give and take what goes without waiting. Raises: WorkerFailed."""
        try:
            while self.outbox:
                written = os.write(self.requests, self.outbox[0])
                if written == len(self.outbox[0]):
                    self.outbox.popleft()
                else:
                    self.outbox[0] = self.outbox[0][written:]
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._ended(error.strerror or "error") from None
        try:
            while data := os.read(self.answers, _READ_SIZE):
                self._take(data)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._ended(error.strerror or "error") from None
        raise self._ended("it is gone")

    def end(self) -> None:
        """Stop the process, at once if it does not stop by itself."""
        if self.pending:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _take(self, data: bytes) -> None:
        self._inbox += data
        while self._asked:
            number, asked = self._asked[0]
            size = NUMBER.size + asked.count
            if len(self._inbox) < size:
                return
            answer, self._inbox = self._inbox[:size], self._inbox[size:]
            if NUMBER.unpack_from(answer) != (number,):
                raise WorkerFailed("one answered what it was not asked")
            self._asked.popleft()
            self.pending -= asked.count
            asked.answers = answer[NUMBER.size :]
        if self._inbox:
            raise WorkerFailed("one answered what it was not asked")

    def _ended(self, why: str) -> WorkerFailed:
        code = self._process.poll()
        return WorkerFailed(f"one ended{'' if code is None else f' with {code}'}: {why}")
