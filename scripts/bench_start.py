"""Rows of an executor that runs for months: how soon it acts on a big ledger, and what its fold takes of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench_big import Big, Ledgers
from bench_measure import CHECKOUT, Row, Spread
from ledger_factory import A_LEASE, BEGINNING

from executor.homes.home import Home
from keys.openssh import store_private_key
from ledger.log_key import store_log_key
from ledger.sqlite.store import SqliteStore

LIMIT_S: Final = 1_800.0
_KINDS: Final = ("status", "inbox --as ada")


def start_row(ledgers: Ledgers, entries: int, runs: int) -> Row:
    """From the start of `calyx executor run` until its term stands in the ledger, the first time and again."""
    home, size = _home(ledgers.of(entries), ledgers.root / "months")
    user = {**os.environ, "CALYX_HOME": str(home)}
    for name in ("STATE", "CACHE", "CONFIG"):
        user[f"XDG_{name}_HOME"] = str(ledgers.root / "months-user" / name.lower())
    first, _ = _start(user)
    again = [_start(user) for _ in range(runs)]
    killed, _ = _start(user, kill=True)
    after_kill, _ = _start(user)
    commands = {name: Spread.of([_command(user, name) for _ in range(runs)]).to_json() for name in _KINDS}
    return Row(
        "start",
        f"`calyx executor run` on {size} entries that this user read before, until its term is in the ledger",
        "s",
        Spread.of([seconds for seconds, _ in again]),
        Spread.of([first]),
        "s the first time, when every entry is judged",
        bars=(2.0,),
        over=False,
        note="Python's own start is in it; the files were in the page cache",
        detail={
            "entries": size,
            "after_a_kill_s": after_kill,
            "killed_one_s": killed,
            "resident_mib": Spread.of([mib for _, mib in again]).to_json(),
            "commands_s": commands,
        },
    )


def fold_row(ledgers: Ledgers, entries: int, deployments: Sequence[int]) -> Row:
    """What the fold of an executor takes of memory as deployments come and go."""
    big = ledgers.of(entries)
    marks = [str(mark) for mark in deployments]
    command = [sys.executable, str(CHECKOUT / "scripts" / "bench_child.py"), "fold", str(big.directory), *marks]
    found: list[dict[str, int]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    first, last = found[0], found[-1]
    grown = (last["resident_kib"] - first["resident_kib"]) * 1024
    return Row(
        "fold",
        f"resident set of a fold as an executor has it, after {last['deployments']} deployments",
        "MiB",
        Spread.of([last["resident_kib"] / 1024]),
        Spread.of([first["resident_kib"] / 1024]),
        f"MiB after {first['deployments']} deployments",
        note="one process that does nothing else; flat is what a deployment more adds",
        detail={
            "bytes_per_deployment": grown / max(1, last["deployments"] - first["deployments"]),
            "bytes_per_entry": grown / max(1, last["entries"] - first["entries"]),
            "marks": found,
        },
    )


def _home(big: Big, root: Path) -> tuple[Path, int]:
    """A home with a copy of the ledger, in which no deployment is under way, and every key; and how many entries."""
    with SqliteStore.open(big.path) as store:
        left = -(store.head().size - BEGINNING) % A_LEASE
        if left:
            store.append(store.head(), big.factory.more(left), big.factory.log_key.sign)
        home = Home(root)
        home.make()
        store.backup(home.ledger)
        size = store.head().size
    home.objects.rmdir()
    home.objects.symlink_to(big.directory / "objects")
    for name, key in big.factory.private.items():
        store_private_key(home.key_path(name), key)
    store_log_key(home.log_key, big.factory.log_key)
    return root, size


def _start(user: dict[str, str], *, kill: bool = False) -> tuple[float, float]:
    """Seconds until an executor acts, and the MiB that it takes a moment later; then it is stopped."""
    command = [sys.executable, "-m", "executor", "executor", "run", "--accept-clock", "--log-format", "json"]
    begun = time.perf_counter()
    with subprocess.Popen(command, cwd=CHECKOUT, env=user, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        try:
            for line in child.stderr or ():
                if json.loads(line).get("event") == "TERM":
                    break
            else:
                raise RuntimeError("the executor ended before it acted")
            seconds = time.perf_counter() - begun
            time.sleep(1)
            resident = _resident_mib(child.pid)
        finally:
            (child.kill if kill else child.terminate)()
            child.wait(60)
    return seconds, resident


def _command(user: dict[str, str], words: str) -> float:
    """Seconds of a command that reads."""
    command = [sys.executable, "-m", "executor", *words.split()]
    begun = time.perf_counter()
    subprocess.run(command, cwd=CHECKOUT, env=user, check=True, capture_output=True, timeout=LIMIT_S)
    return time.perf_counter() - begun


def _resident_mib(pid: int) -> float:
    status: Any = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]
    return int(status) / 1024
