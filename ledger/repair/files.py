"""The files around a ledger: objects against their names, what crashes left behind, and who may read and write what."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from hashlib import file_digest
from pathlib import Path
from typing import Final, NamedTuple

from ledger.durable import sync_directory
from ledger.place import STRAY_AFTER_S, is_hidden
from ledger.repair.fsck import Damage

_FIRST: Final = re.compile(r"[0-9a-f]{2}", re.ASCII)
_REST: Final = re.compile(r"[0-9a-f]{62}", re.ASCII)


class Guarded(NamedTuple):
    """A path that must not have any of the mode bits `never`."""

    path: Path
    never: int


def check_objects(root: Path) -> Iterator[Damage]:
    """Every file below the objects' directory: its content is what its name says. It does not say what is missing.

    Raises: OSError.
    """
    for first in _listed(root):
        if is_hidden(first.name):
            continue
        if not _FIRST.fullmatch(first.name) or not stat.S_ISDIR(first.lstat().st_mode):
            yield Damage("stray_file", None, f"{first} is no object")
            continue
        for path in _listed(first):
            if not _REST.fullmatch(path.name) or not stat.S_ISREG(path.lstat().st_mode):
                yield Damage("stray_file", None, f"{path} is no object")
                continue
            with path.open("rb") as file:
                found = file_digest(file, "sha256").hexdigest()
            if found != first.name + path.name:
                yield Damage(
                    "object_mismatch", None, f"what is stored as object {first.name}{path.name[:14]} is not it"
                )


def check_strays(directories: Iterable[Path], now: float, *, remove: bool) -> Iterator[Damage]:
    """Hidden files, and a repair's directories, that a crash left long before `now` (seconds since 1970); removed if
    `remove`. Raises: OSError.
    """
    for directory in directories:
        for path in _listed(directory):
            status = path.lstat()
            if not is_hidden(path.name) or stat.S_ISLNK(status.st_mode):
                continue
            if now - status.st_mtime < STRAY_AFTER_S:
                continue
            if remove:
                if stat.S_ISDIR(status.st_mode):
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
                sync_directory(directory)
            yield Damage("stray_file", None, f"{path} was left by a process that was killed", left=not remove)


def check_modes(guarded: Iterable[Guarded], *, mend: bool) -> Iterator[Damage]:
    """Files and directories that others may read or write and must not; narrowed if `mend`. No link is followed, and
    nothing is opened. Raises: OSError.
    """
    for path, never in guarded:
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(mode) or not mode & never:
            continue
        if mend:
            path.chmod(stat.S_IMODE(mode) & ~never)
        yield Damage("bad_mode", None, f"{path} has mode {stat.S_IMODE(mode):04o}: too many may use it", left=not mend)


def list_objects(root: Path) -> Iterator[Path]:
    """The objects' directories and what lies in them; no deeper, and no link is followed. Raises: OSError."""
    for first in _listed(root):
        yield first
        if stat.S_ISDIR(first.lstat().st_mode):
            yield from _listed(first)


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
