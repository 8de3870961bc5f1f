"""What measuring needs: medians with their spread, limits taken in turn with what they limit, and where it all ran."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import IO, Any, Final, Self

import psutil

from keys.ahead import usable_cores

CHECKOUT: Final = Path(__file__).resolve().parent.parent
CHILD: Final = Path(__file__).resolve().with_name("bench_child.py")
CORES: Final = usable_cores()
JOBS: Final = min(2, CORES)
"""The bars are those of two cores, also where there are more."""
_POLL_S: Final = 0.05


@dataclass(frozen=True)
class Spread:
    """The median of several runs, and the least and greatest of them."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The spread of at least one value."""
        return cls(median(values), min(values), max(values), len(values))

    def to_json(self) -> dict[str, float]:
        """As JSON."""
        return {"median": self.median, "low": self.low, "high": self.high, "runs": self.runs}


@dataclass(frozen=True)
class Row:
    """One line of the table. `value`: what was measured, None where it could not be. `limit`: what the machine does at
    best, of the same runs; `ratio`: how near the value comes to it. `bars`: the first and the second of the design, of
    the ratio where there is one, else of the value; `over`: whether more is better.
    """

    name: str
    what: str
    unit: str
    value: Spread | None
    limit: Spread | None = None
    limit_what: str = ""
    ratio: Spread | None = None
    bars: tuple[float, ...] = ()
    over: bool = True
    note: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> int | None:
        """How many of the bars are met by the median, None where there is none, or nothing to hold to it."""
        found = self.ratio or self.value
        if found is None or not self.bars:
            return None
        return sum(found.median >= bar if self.over else found.median < bar for bar in self.bars)

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "value": self.value and self.value.to_json(),
            "limit": self.limit and {"what": self.limit_what, **self.limit.to_json()},
            "ratio": self.ratio and self.ratio.to_json(),
            "bars": list(self.bars),
            "bars_met": self.met,
            "note": self.note,
            "detail": self.detail,
        }


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class VerifyLimit:
    """How many signatures libsodium checks in a second, in so many processes at once, each on a core of its own: the
    bare binding over the messages in `samples`, each as long as one that a ledger really holds.
    """

    def __init__(self, samples: Path, processes: int) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, str(CHILD), "verify", str(samples)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(processes)
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            _pipe(process.stdout).readline()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            _pipe(process.stdin).close()
            process.wait()
            _pipe(process.stdout).close()

    def rate(self, seconds: float = 0.5) -> float:
        """Signatures a second, all processes together."""
        for process in self._processes:
            pipe = _pipe(process.stdin)
            pipe.write(f"{seconds}\n")
            pipe.flush()
        return sum(float(_pipe(process.stdout).readline()) for process in self._processes)


@dataclass(frozen=True)
class Audited:
    """What an audit in a process of its own took. `peak_kib`: greatest resident sets of it and its helpers, added.
    `own_kib`: of it alone.
    """

    seconds: float
    entries: int
    ok: bool
    peak_kib: int
    own_kib: int
    processes: int


def audit_apart(directory: Path, jobs: int) -> Audited:
    """Audit the ledger in `directory` in a process of its own. Its start is not counted, its helpers' start is."""
    with subprocess.Popen(
        [sys.executable, str(CHILD), "audit", str(directory), str(jobs)], stdout=subprocess.PIPE, text=True
    ) as process:
        peaks: dict[int, int] = {}
        while process.poll() is None:
            for pid in (process.pid, *_children(process.pid)):
                peaks[pid] = max(peaks.get(pid, 0), _peak_kib(pid))
            time.sleep(_POLL_S)
        said = _pipe(process.stdout).read()
    if process.returncode:
        raise RuntimeError(f"an audit ended with {process.returncode}")
    found = json.loads(said)
    own = peaks[process.pid] = found["peak_kib"]
    return Audited(found["seconds"], found["entries"], found["ok"], sum(peaks.values()), own, len(peaks))


def machine(directory: Path) -> dict[str, Any]:
    """Where and with what this runs. `directory`: where the ledgers lie."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": _cpu(),
        "cores": CORES,
        "memory_mib": psutil.virtual_memory().total >> 20,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "disk": _disk(directory),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "pynacl": installed("pynacl"),
        "commit": _commit(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def installed(name: str) -> str | None:
    """The version of a distribution, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def warmed(root: Path) -> dict[str, str]:
    """An environment in which Python keeps bytecode, in a place of its own below `root`, as at a user's; and in which
    nothing of the person's state, keys or agent is reached.
    """
    ours = ("CALYX_", "PYTHON", "GIT_", "SSH_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    homes = {name: str(root / name.lower()) for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HOME")}
    return {**environment, **homes, "PYTHONPYCACHEPREFIX": str(root / "bytecode")}


@contextlib.contextmanager
def ssh_agent() -> Iterator[str]:
    """A real ssh-agent of its own; gives its socket."""
    # Not beside what is measured, which may lie deep: the path of a socket has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="cx-") as folder:
        socket = Path(folder) / "agent"
        with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as process:
            try:
                while not socket.exists():
                    if process.poll() is not None:
                        raise RuntimeError("ssh-agent did not start")
                    time.sleep(0.01)
                yield str(socket)
            finally:
                process.terminate()


def missing(*programs: str) -> str:
    """A note that names the programs that are not there, "" when all are."""
    absent = [name for name in programs if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise RuntimeError("a child has no pipe")
    return stream


def _children(pid: int) -> list[int]:
    # The kernel's own list, where there is one: psutil reads every process of the machine, on a core that is measured.
    with contextlib.suppress(OSError, ValueError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _peak_kib(pid: int) -> int:
    # Not getrusage: what that says of a new program includes the one that started it.
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def own_peak_kib() -> int:
    """The greatest resident set of this process so far."""
    return _peak_kib(os.getpid())


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _disk(directory: Path) -> str:
    places = [place for place in psutil.disk_partitions(all=True) if directory.is_relative_to(place.mountpoint)]
    return str(max(places, key=lambda place: len(place.mountpoint)).fstype) if places else "unknown"


def _commit() -> str:
    if missing("git"):
        return "unknown"
    found = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
