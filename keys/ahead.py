"""Signatures checked ahead, by other processes, before anyone asks for them.

Whoever reads many signed things says early which signatures will be asked for (`foresee`). Later `verify`, which proves
exactly what `keys.ed25519.verify` proves, finds most of them proved already. An answer counts only for the key, the
message and the signature that were sent, compared byte by byte; for anything else, for whatever the other processes did
not prove, and for what they were too busy to be sent, the signature is checked here.

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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Self

from keys.ahead_worker import HEADER, ITEM, NUMBER, PROVED
from keys.ed25519 import SIGNATURE_SIZE, PublicKey, verify
from keys.errors import Unavailable

# -P: whatever lies in the directory that this process was started from is not what runs there.
COMMAND: Final = (sys.executable, "-P", "-m", "keys.ahead_worker")
BATCH: Final = 64
MAX_JOBS: Final = 64
MAX_FORESEEN: Final = 4_096
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


class _Batch:
    """Signatures that are checked together. `answers`: a byte for each, 1 when it was proved; none until they came."""

    __slots__ = ("answers", "count", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.count = 0
        self.answers = b""

    def leave(self) -> None:
        """Send it to nobody: nothing in it is proved."""
        self.parts.clear()
        self.answers = bytes(self.count)


class SignaturesAhead:
    """Checks signatures in `jobs` processes. A context; use it in the thread that made it.

    `required`: a process that fails is an error. Else all of them end with it, and what is asked then is checked here.
    `busy`: signatures that a process has not answered from which on it is sent no more; what finds them all busy is
    checked here, so that this process does not wait for them while it could do their work.

    Raises: WorkerFailed when a process that is required cannot be started.
    """

    def __init__(self, jobs: int, *, required: bool = True, busy: int = MAX_FORESEEN) -> None:
        self._required: Final = required
        self._busy: Final = busy
        self._foreseen: dict[bytes, tuple[_Batch, int, PublicKey, bytes]] = {}
        self._batch = _Batch()
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
        """End the processes. What is asked after that is checked here."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        self._foreseen.clear()
        self._batch = _Batch()

    def foresee(self, public: PublicKey, message: bytes, signature: bytes) -> None:
        """Have a signature checked that will be asked for. Raises: WorkerFailed, where they are required."""
        if len(signature) != SIGNATURE_SIZE or signature in self._foreseen or not self._workers:
            return
        if len(self._foreseen) >= MAX_FORESEEN:
            # Nobody asked for the oldest, and whoever still does finds out here.
            del self._foreseen[next(iter(self._foreseen))]
        batch = self._batch
        self._foreseen[signature] = (batch, batch.count, public, message)
        batch.parts += (ITEM.pack(public, signature, len(message)), message)
        batch.count += 1
        if batch.count >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Send what was foreseen so far, even if it is little. Raises: WorkerFailed, where they are required."""
        with self._trying():
            self._exchange()
            if self._batch.count:
                batch, self._batch = self._batch, _Batch()
                worker = min(self._workers, key=lambda worker: worker.pending)
                if worker.pending < self._busy:
                    worker.send(batch)
                    worker.exchange()
                else:
                    batch.leave()

    def verify(self, public: PublicKey, message: bytes, signature: bytes) -> None:
        """Prove that the holder of `public` signed exactly `message`.

        Raises: as `keys.ed25519.verify`; WorkerFailed, where they are required.
        """
        claim = self._foreseen.pop(signature, None)
        if claim is not None:
            batch, at, known, signed = claim
            if known == public and signed == message:
                if not batch.answers:
                    self._settle(batch)
                if batch.answers[at : at + 1] == PROVED:
                    return
        verify(public, message, signature)

    def _settle(self, batch: _Batch) -> None:
        """Wait for the answers to a batch."""
        if batch is self._batch:
            self.flush()
        with self._trying():
            self._exchange()
            while not batch.answers and self._workers:
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
        self._asked: Final[deque[tuple[int, _Batch]]] = deque()
        self._sent = 0
        self._inbox = b""
        self.pending = 0

    def send(self, batch: _Batch) -> None:
        body = b"".join(batch.parts)
        batch.parts.clear()
        self._sent += 1
        self._asked.append((self._sent, batch))
        self.outbox.append(memoryview(HEADER.pack(self._sent, batch.count, len(body)) + body))
        self.pending += batch.count

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
            number, batch = self._asked[0]
            size = NUMBER.size + batch.count
            if len(self._inbox) < size:
                return
            answer, self._inbox = self._inbox[:size], self._inbox[size:]
            if NUMBER.unpack_from(answer) != (number,):
                raise WorkerFailed("one answered what it was not asked")
            self._asked.popleft()
            self.pending -= batch.count
            batch.answers = answer[NUMBER.size :]
        if self._inbox:
            raise WorkerFailed("one answered what it was not asked")

    def _ended(self, why: str) -> WorkerFailed:
        code = self._process.poll()
        return WorkerFailed(f"one ended{'' if code is None else f' with {code}'}: {why}")
