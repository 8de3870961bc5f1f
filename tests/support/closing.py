"""Directories that this process may not look into, also where the tests run as root, whom no mode keeps out."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def close_directory(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Refuse to open and to look at what lies below a directory, as the system does without the right to search it."""

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def guard(path: Any, *more: Any, **named: Any) -> Any:
            if isinstance(path, str | os.PathLike) and directory in Path(os.fspath(path)).parents:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *more, **named)

        return guard

    for name in ("open", "stat", "lstat", "scandir", "listdir"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
