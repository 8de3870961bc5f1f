"""Folders for tests that need another place than `tmp_path`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

SHORT = 64


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name: the path of a Unix socket has 107 bytes at most."""
    place = gettempdir()
    with TemporaryDirectory(prefix="cx-", dir=place if len(place) <= SHORT else "/tmp") as name:  # noqa: S108
        yield Path(name)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user of this machine may go into and nobody else may write to: the parents of `tmp_path` are
    closed to them.
    """
    with TemporaryDirectory(prefix="cx-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)
