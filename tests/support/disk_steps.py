"""What reaches the disk, in order: contents that are synced and names that are given. A test asks whether a loss of
power between any two steps could leave a name that leads to nothing, or take back one that was acknowledged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest


@dataclass
class DiskSteps:
    """The steps of this process since it was made. `synced`: what was, and at which step. `named`: which name was given
    to what (its path before, None for a new directory), and at which step.
    """

    synced: list[tuple[int, Path]] = field(default_factory=list)
    named: list[tuple[int, Path | None, Path]] = field(default_factory=list)
    # One step at a time, whichever thread makes it.
    steps: Iterator[int] = field(default_factory=lambda: count(1))

    def missing(self) -> list[str]:
        """What a loss of power could undo though the call came back, in words."""
        found = []
        for at, before, name in self.named:
            plain = before is not None and not name.is_symlink()
            if plain and not any(step < at and path == before for step, path in self.synced):
                found.append(f"the content of {name.name}")
            if not any(step > at and path == name.parent for step, path in self.synced):
                found.append(f"the name {name.name}")
        return found


def watch_disk(monkeypatch: pytest.MonkeyPatch) -> DiskSteps:
    """Take note of what this process has the system put on the disk. Steps below an open directory are not seen."""
    seen = DiskSteps()

    def around(name: str, note: Callable[..., None]) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            if not options:
                note(*arguments)
            return result

        monkeypatch.setattr(os, name, call)

    def sync(descriptor: int) -> None:
        seen.synced.append((next(seen.steps), Path(f"/proc/self/fd/{descriptor}").readlink()))

    def give(before: Any, name: Any) -> None:
        at = next(seen.steps)
        seen.named.append((at, Path(before), Path(name)))
        # It is the same content under either name.
        if Path(name).is_file() and any(path == Path(before) for _, path in seen.synced):
            seen.synced.append((at, Path(name)))

    def make(name: Any, *_: Any) -> None:
        seen.named.append((next(seen.steps), None, Path(name)))

    around("fsync", sync)
    for renaming in ("link", "rename", "replace"):
        around(renaming, give)
    around("mkdir", make)
    return seen
