"""Processes of this machine: which one is meant, whether it lives, and how it is ended.

A process is named by boot, pid and start in clock ticks since the boot. The kernel gives a pid again, but not with the
same start; neither changes when a clock is set. Waits are on process descriptors, never on time alone.

Source: proc_pid_stat(5), pidfd_open(2).
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeGuard

from executor.hosts.host import Running

MARKER: Final = "CALYX_INSTANCE"
"""In a service's environment: the root of its instance, so that what it started can be found."""
HOOK_MARKER: Final = "CALYX_HOOK_OF"
"""In a hook's environment: the root of the instance that it is run for."""
_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Status:
    """One process. `started`: clock ticks between boot and its start. `session`: pid of its session's leader."""

    pid: int
    started: int
    session: int
    dead: bool


def boot_id() -> str:
    """A name of this run of the machine. Raises: OSError."""
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def ticks_now() -> int:
    """Clock ticks since the boot, on the clock of `Status.started`."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS // 1_000_000_000


def status_of(pid: int) -> Status | None:
    """A process as it is now, None when there is none. `dead`: it has ended and waits to be reaped."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name, in parentheses, may hold anything.
    fields = text[text.rindex(b")") + 1 :].split()
    return Status(pid, int(fields[19]), int(fields[3]), fields[0] in (b"Z", b"X"))


def is_alive(running: Running) -> bool:
    """Whether exactly this process lives."""
    _reap(running.pid)
    status = status_of(running.pid)
    return bool(status and not status.dead and status.started == running.started and running.boot == boot_id())


def wait_ended(running: Running, timeout_s: float) -> bool:
    """Wait until the process ends, at most `timeout_s` seconds. Whether it has ended."""
    with ExitStack() as stack:
        try:
            descriptor = os.pidfd_open(running.pid)
        except OSError:
            return True
        stack.callback(os.close, descriptor)
        if not is_alive(running):
            return True
        return bool(_poll([descriptor], timeout_s)) or not is_alive(running)


def find_service(root: str, leader: Running | None) -> tuple[Status, ...]:
    """Every process of the service of the instance at `root`: the leader's session, and all that carry the marker."""
    session = leader.pid if leader and is_alive(leader) else None
    marker = f"{MARKER}={root}".encode()
    found = []
    for pid in _pids():
        status = status_of(pid)
        if status is None or status.dead or pid == os.getpid():
            continue
        if status.session == session or _has_marker(pid, marker):
            found.append(status)
    return tuple(found)


def end_service(root: str, leader: Running | None, grace_s: float) -> tuple[int, ...]:
    """End the service: SIGTERM, up to `grace_s` seconds, then SIGKILL. The pids that live on, so none when all is well.

    Raises: PermissionError when a process may not be signalled.
    """
    _signal_and_wait(find_service(root, leader), signal.SIGTERM, grace_s)
    left: tuple[Status, ...] = ()
    # What is killed may just have started another process; that one cannot go on for ever without its parents.
    for _ in range(10):
        left = find_service(root, leader)
        if not left:
            break
        _signal_and_wait(left, signal.SIGKILL, 5.0)
    return tuple(status.pid for status in left)


def end_process(pid: int, started: int, timeout_s: float) -> bool:
    """SIGKILL exactly this process and wait for its end, at most `timeout_s` seconds. Whether it is gone.

    Raises: PermissionError when it may not be signalled.
    """
    status = status_of(pid)
    if status is not None and status.started == started and not status.dead:
        _signal_and_wait([status], signal.SIGKILL, timeout_s)
        status = status_of(pid)
    return status is None or status.started != started or status.dead


def end_hooks(root: str) -> tuple[int, ...]:
    """End every process of a hook of the instance at `root`, at once. The pids that live on, so none when all is well.

    Whose environment cannot be read is not found; that of another user's can be read by root alone.
    """
    marker = f"{HOOK_MARKER}={root}".encode()
    left: tuple[Status, ...] = ()
    for _ in range(10):
        left = tuple(status for status in map(status_of, _pids()) if _carries(status, marker))
        if not left:
            break
        with suppress(PermissionError):
            _signal_and_wait(left, signal.SIGKILL, 1.0)
    return tuple(status.pid for status in left)


def _carries(status: Status | None, marker: bytes) -> TypeGuard[Status]:
    return status is not None and not status.dead and status.pid != os.getpid() and _has_marker(status.pid, marker)


def _signal_and_wait(targets: Iterable[Status], number: signal.Signals, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    with ExitStack() as stack:
        waiting: dict[int, int] = {}
        for target in targets:
            with suppress(ProcessLookupError):
                descriptor = os.pidfd_open(target.pid)
                stack.callback(os.close, descriptor)
                # Only now is it certain which process the descriptor means.
                status = status_of(target.pid)
                if status and status.started == target.started:
                    signal.pidfd_send_signal(descriptor, number)
                    waiting[descriptor] = target.pid
        while waiting:
            ended = _poll(waiting, deadline - time.monotonic())
            for descriptor in ended:
                _reap(waiting.pop(descriptor))
            if not ended:
                break


def _poll(descriptors: Iterable[int], timeout_s: float) -> list[int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(max(0, int(timeout_s * 1000)))]


def _reap(pid: int) -> None:
    # Services are not our children, unless this process is what orphans of its machine are given to.
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208 - names, not paths


def _has_marker(pid: int, marker: bytes) -> bool:
    # Another user's process does not show its environment; it cannot be a service of ours unless we are root.
    try:
        return marker in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
