"""Start a service: a program of its own that becomes the service after it has written down which process that is.

It reads one JSON object from its standard input and prints one line, empty when the service runs, else what is wrong.
It is run by path, needs the standard library only, and ends once the service was started; the service is then nobody's
child and is reaped by init.

The process that will be the service takes the lock `alive` first, then writes its pid and start to `record`, durable,
and only then becomes the service; a pid and a start do not change by that. So a service that runs is always recorded,
whenever the executor is killed, and there is never a second one: the lock passes on to the service and lasts as long
as a process of it keeps its files open.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from typing import Any, NoReturn

RUNNING = "running"
NOTE = "calyx: "
"""How our own lines in a service's log begin."""


def main() -> None:
    """Start what standard input describes and say how it went."""
    spec: dict[str, Any] = json.load(sys.stdin)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        _become_service(spec, writer)
    os.close(writer)
    with os.fdopen(reader, "r", encoding="utf-8", errors="replace") as answer:
        sys.stdout.write(answer.read(4096))


def _become_service(spec: dict[str, Any], answer: int) -> NoReturn:
    what = spec["alive"]
    try:
        os.setsid()
        alive = os.open(spec["alive"], os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.write(answer, RUNNING.encode())
            os._exit(1)
        os.set_inheritable(alive, True)
        what = spec["log"]
        # Nobody waits for a reader of a pipe in its place; the service itself may wait for one.
        log = os.open(spec["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o640)
        os.set_blocking(log, True)
        what = spec["argv"][0]
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, place in ((null, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, place)
        os.write(log, f"{NOTE}release {spec['tree']}\n".encode())
        _record(spec)
        os.chdir(spec["directory"])
        if spec["uid"] is not None:
            os.setgroups(spec["groups"])
            os.setgid(spec["gid"])
            os.setuid(spec["uid"])
        # Python ignores these two, and a program keeps what its parent ignored.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.umask(0o022)
        os.execvpe(spec["argv"][0], spec["argv"], spec["environment"])  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        os.write(answer, f"{what}: {error.strerror}".encode())
    finally:
        os._exit(127)


def _record(spec: dict[str, Any]) -> None:
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - pathlib doubles the time this program takes to start
        started = int(file.read().rpartition(b")")[2].split()[19])
    value = {"boot": spec["boot"], "pid": os.getpid(), "started": started, "tree": spec["tree"]}
    path, hidden = spec["record"], spec["record"] + ".new"
    descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    os.write(descriptor, json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    os.fsync(descriptor)
    os.close(descriptor)
    os.rename(hidden, path)  # noqa: PTH104 - as above
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)  # noqa: PTH120 - as above
    os.fsync(directory)
    os.close(directory)


if __name__ == "__main__":
    main()
