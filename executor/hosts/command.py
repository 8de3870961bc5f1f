"""Run a command of fleet or policy: no shell, in a session of its own, bounded in time and in what it prints."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, TypeAlias

from executor.trees.tree import shown
from keys.errors import CalyxError

Monotonic: TypeAlias = Callable[[], float]
"""Seconds that only grow."""

MAX_OUTPUT: Final = 64 * 1024
"""Bytes that are kept of what one run prints: its last."""
_CHUNK: Final = 64 * 1024
_listeners: Final[set[int]] = set()
_lock: Final = threading.Lock()


def run_command(
    argv: Sequence[str], directory: Path, environment: Mapping[str, str], timeout_s: int, monotonic: Monotonic
) -> None:
    """Run a command to its end, in `directory`, with `environment` and nothing more. What it leaves running goes on,
    and what that prints later is thrown away. `monotonic`: as `run_bounded` has it.

    Raises: CalyxError `reload_failed` with the last line it printed, when it cannot be started, ends with another
    status than 0, or takes longer than `timeout_s` seconds; then its process group is ended.
    """
    _reap()
    output, problem = run_bounded(argv, directory, environment, timeout_s, monotonic, leave=True)
    if problem is not None:
        raise CalyxError("reload_failed", with_last_line(problem, output))


def run_bounded(
    argv: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    limit_s: float,
    monotonic: Monotonic,
    *,
    leave: bool,
) -> tuple[bytes, str | None]:
    """Run a command to its end, at most for `limit_s` seconds of `monotonic`: the last `MAX_OUTPUT` bytes that it
    printed, and what went wrong, in one line. `leave`: what is left of its process group goes on when it ended in time;
    otherwise, and always when it did not, that is ended with it.
    """
    name = shown(argv[0])
    # Nothing that it prints can fill a disk, and nothing that holds its output open can keep us waiting.
    output = bytearray()
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    with ExitStack() as stack:
        stack.callback(os.close, reader)
        os.set_blocking(writer, True)
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                start_new_session=True,
            )
        except OSError as error:
            return b"", f"{name}: {error.strerror}"
        finally:
            os.close(writer)
        in_time = False
        try:
            ended = os.pidfd_open(process.pid)
            stack.callback(os.close, ended)
            in_time = _read_until_ended(reader, ended, output, limit_s, monotonic)
        finally:
            # Until it is waited for, its pid, and so its group, means nothing else.
            if not leave or not in_time:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        _read(reader, output)
        if leave and in_time:
            _let_go(reader)
    if not in_time:
        return bytes(output), f"{name} took longer than {round(limit_s, 1):g} s"
    return bytes(output), f"{name} ended with {status}" if status != 0 else None


def with_last_line(problem: str, output: bytes) -> str:
    """What went wrong, and the last line that was printed, at most 300 characters of it and safe to show."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return f"{problem}: {shown(lines[-1])[:300]}" if lines else problem


def _read_until_ended(pipe: int, ended: int, output: bytearray, timeout_s: float, monotonic: Monotonic) -> bool:
    """Take what a process prints until it ends; false when it does not in time."""
    deadline = monotonic() + timeout_s
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(ended, select.POLLIN)
    while True:
        left = deadline - monotonic()
        # Also when the time is over: what ended while this machine stood still was in time.
        ready = {descriptor for descriptor, _ in poll.poll(int(left * 1000) + 1 if left > 0 else 0)}
        if pipe in ready and not _read(pipe, output):
            poll.unregister(pipe)
        if ended in ready:
            return True
        if left <= 0:
            return False


def _read(pipe: int, output: bytearray) -> bool:
    """Take what is there, at most a chunk; false when nothing can come any more."""
    try:
        chunk = os.read(pipe, _CHUNK)
    except BlockingIOError:
        return True
    output += chunk
    del output[:-MAX_OUTPUT]
    return bool(chunk)


def _let_go(pipe: int) -> None:
    """Leave the pipe to a process that reads on for as long as somebody can write to it: a service that prints must not
    die of nobody's listening any more.
    """
    poll = select.poll()
    poll.register(pipe, 0)
    if any(events & select.POLLHUP for _, events in poll.poll(0)):
        return
    os.set_blocking(pipe, True)
    files = [
        (os.POSIX_SPAWN_DUP2, pipe, 0),
        *((os.POSIX_SPAWN_OPEN, output, os.devnull, os.O_WRONLY, 0) for output in (1, 2)),
    ]
    with suppress(OSError), _lock:
        _listeners.add(os.posix_spawn("/bin/cat", ["cat"], {}, file_actions=files, setsid=True))


def _reap() -> None:
    """Forget those that listened to something that has ended."""
    with _lock:
        for pid in tuple(_listeners):
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    continue
            _listeners.discard(pid)
