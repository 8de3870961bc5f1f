"""A program for fault tests: a rollout whose ledger lies on a small disk of its own, which fills up.

    python full_disk.py DISK ROOT

It prints one JSON object of what it found on the way. The instances are on another disk: theirs is not the reserve's.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from console import Console
from shop import CPU, Shop

from executor.homes.reserve import SIZE
from policies.fold.state import LeaseState

SPARE = 8 * 1024 * 1024


def fill(path: Path, leave: int = 0) -> None:
    """Write a file until the disk is full, then take so many bytes off it again."""
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    if leave:
        os.truncate(path, path.stat().st_size - leave)


def lease_of(console: Console, name: str) -> LeaseState:
    """A lease as it stands."""
    found = console.state().find_lease(name)
    assert found is not None
    return found


def play(disk: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The story; what was found."""
    console = Console(root, monkeypatch, live=True)
    console.home = disk / "home"
    monkeypatch.setenv("CALYX_HOME", str(console.home))
    # What this user remembers, keeps and lays aside lies there as well, as on a machine with one disk.
    for name in ("STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(disk / name.lower()))
    reserve, filler = console.home / "reserve", disk / "filler"
    shop = Shop(console)
    found: dict[str, Any] = {}
    try:
        shop.begin(bake_s=300, gates=[{**CPU, "missing_s": 300}])
        first = shop.propose("1")
        shop.approve(first)
        executor = shop.start("executor", "run")
        shop.until(lambda: shop.phase(first) == "BAKING")
        found["reserve"] = reserve.stat().st_blocks * 512 >= SIZE
        fill(filler)
        found["kept"] = reserve.exists()
        found["order"] = console.run("rollback", first, "--reason", "a test").code
        shop.until(lambda: shop.phase(first) == "ROLLED_BACK")
        found["given_up"] = not reserve.exists()
        found["alive"] = executor.poll() is None
        fill(filler, SPARE)
        second = shop.propose("2")
        shop.approve(second)
        shop.until(lambda: bool(lease_of(console, second).preflight))
        waiting = lease_of(console, second)
        found["refused"] = [code for _, code, _ in waiting.preflight]
        found["claimed"] = waiting.claim_seq is not None
        filler.unlink()
        shop.until(lambda: shop.phase(second) == "BAKING")
        found["again"] = reserve.stat().st_blocks * 512 >= SIZE
        found["audit"] = console.run("audit", "--full", "--json").json["ok"]
    finally:
        shop.end()
    return found


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        print(json.dumps(play(Path(sys.argv[1]), Path(sys.argv[2]), patch)))  # noqa: T201 - its output is its result
