"""Which directories processes of this machine have in use, whoever started them.

A process uses a directory when it works there, was started from there, or has something below it open or mapped. Names
of open files are those of the process's own mount namespace, so files are compared by device and inode as well.

A process that may not be looked at is not seen: as root all may be, else those of the executor's own user.

Source: proc_pid_cwd(5), proc_pid_exe(5), proc_pid_root(5), proc_pid_fd(5), proc_pid_maps(5).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

_PROC: Final = "/proc"
_MAP_FIELDS: Final = 6

File: TypeAlias = tuple[int, int]
"""Device and inode."""


def find_used(directories: Collection[Path]) -> frozenset[Path]:
    """Those of the directories that a living process uses. Raises: OSError when one cannot be read."""
    owners = {file: path for path in directories for file in _files(path)}
    names = {f"{path.resolve()}/": path for path in directories}
    found: set[Path] = set()
    for pid in os.listdir(_PROC):  # noqa: PTH208 - names, not paths
        if not pid.isdigit() or len(found) == len(names):
            continue
        for file, name in _used_by(f"{_PROC}/{pid}"):
            if file in owners:
                found.add(owners[file])
            found.update(path for prefix, path in names.items() if f"{name}/".startswith(prefix))
    return frozenset(found)


def _files(directory: Path) -> Iterator[File]:
    status = directory.lstat()
    yield status.st_dev, status.st_ino
    waiting = [str(directory)]
    while waiting:
        with os.scandir(waiting.pop()) as listing:
            for item in listing:
                status = item.stat(follow_symlinks=False)
                yield status.st_dev, status.st_ino
                if item.is_dir(follow_symlinks=False):
                    waiting.append(item.path)


def _used_by(process: str) -> Iterator[tuple[File | None, str]]:
    """What a process uses, by file and by name. It may end at any time."""
    links = [f"{process}/{name}" for name in ("cwd", "exe", "root")]
    with suppress(OSError):
        links += [f"{process}/fd/{name}" for name in os.listdir(f"{process}/fd")]  # noqa: PTH208
    for link in links:
        with suppress(OSError):
            # The name alone says whether a look is worth it: sockets and pipes have none.
            name = os.readlink(link)  # noqa: PTH115 - as above
            if name.startswith("/") and not name.startswith(("/dev/", "/proc/")):
                status = os.stat(link)  # noqa: PTH116 - as above
                yield (status.st_dev, status.st_ino), name
    with suppress(OSError), open(f"{process}/maps", encoding="utf-8", errors="surrogateescape") as maps:  # noqa: PTH123
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=_MAP_FIELDS - 1)
            if len(fields) == _MAP_FIELDS and fields[5].startswith("/"):
                major, minor = (int(part, 16) for part in fields[3].split(":"))
                yield (os.makedev(major, minor), int(fields[4])), fields[5]
