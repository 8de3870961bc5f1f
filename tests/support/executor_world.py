"""A home and a machine with two instances, an executor in a process of its own on them, and everybody else.

The executor is the real one, with its registrar, ledger, objects and machine. Its clock is handed in, and moves only
while it waits; or it is `calyx executor run`, by this machine's clock, with its threads. The monitor is played by the
parent.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn, TextIO, TypeAlias

from fleetsim import InlinePool, Simulation
from instances import write_files
from station import Clock, Station, fleet, matrix

from executor.homes.home import Home
from executor.hosts.processes import end_service
from executor.process_lock import ProcessLock
from executor.rollout.service import run_executor
from executor.trees.materialise import discard
from executor.trees.scan import ingest
from executor.trees.tree import Tree, changed_paths
from keys.errors import CalyxError, LawRefused
from keys.openssh import store_private_key
from ledger.log_key import store_log_key
from ledger.sqlite.store import SqliteStore
from policies.fleet import Instance
from policies.kinds import ABSENT

MODES: Final = {"off": 0, "count": 1, "kill": 2, "tear": 3, "eio": 4, "enospc": 5}
ERRORS: Final = {"eio": errno.EIO, "enospc": errno.ENOSPC}
KINDS: Final = ("write", "sync", "rename", "link", "unlink", "make", "other")
ALL: Final = -1
FROZEN: Final = "frozen"
STALE_S: Final = 0.5
"""A standby waits for so long before it takes one that is frozen for frozen."""
MAX_WAITS: Final = 600
LIMIT_S: Final = 180
DEFECT: Final = 70

Tell: TypeAlias = Callable[[str], None]
Prepare: TypeAlias = Callable[[Tell], None]

_layer: Final = ctypes.CDLL(None)


def arm(mode: str, point: int) -> None:
    """Arm the fault layer of this process, `faults.c`, if it is there."""
    if mode != "off":
        _layer.calyx_fault(MODES[mode], ctypes.c_long(point), ERRORS.get(mode, 0))


def count(kind: int) -> int:
    """Calls that the layer counted, of one kind or of all; 0 where there is none."""
    return int(_layer.calyx_points(kind)) if hasattr(_layer, "calyx_points") else 0


@dataclass
class Run:
    """What an executor did. `status`: as waitpid has it. `said`: what it said, and the points before that."""

    status: int = 0
    said: list[tuple[int, str]] = field(default_factory=list)

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def exit(self) -> int:
        return os.waitstatus_to_exitcode(self.status)

    @property
    def error(self) -> str:
        return next((text for _, text in self.said if text.startswith("error: ")), "")

    @property
    def acknowledged(self) -> int:
        """Entries that the executor knew to be there."""
        entries = [text.rpartition("entry ")[2].rstrip(")") for _, text in self.said if "entry " in text]
        return max((int(entry) + 1 for entry in entries if entry.isdigit()), default=0)


@dataclass
class Child:
    """An executor in a process of its own, and the line to it."""

    pid: int
    channel: socket.socket
    lines: TextIO
    run: Run = field(default_factory=Run)
    waits: int = 0


class MachineClock(Clock):
    """This machine's, anew for each entry: a host that stalls in between makes nobody's clock suspect."""

    def __call__(self) -> int:
        self.now = int(time.time())
        return self.now


class World:
    """A home, a machine with two instances, and everybody but the executor."""

    def __init__(self, root: Path, scenario: str, *, command: bool = False) -> None:
        self.root, self.scenario, self.command = root, scenario, command
        self.live, self.kept = root / "live", root / "kept"
        self.home = self.live / "home"
        os.environ["XDG_STATE_HOME"] = str(self.live / "state")
        self.time = mmap.mmap(-1, 8)
        clock = MachineClock(int(time.time())) if command else Clock()
        terms = matrix(tiers=[50, 100], bake_s=2, interval_s=1)
        self.station = Station(self.home, policy=terms, clock=clock)
        self.simulation = Simulation(self.station)
        self.children: list[Child] = []
        self.lock = ProcessLock(self.home / "run" / "cp19.lock", "the monitor")
        self._found()
        self.lease = self._prepare()
        self.station.store.close()
        shutil.copytree(self.live, self.kept, symlinks=True)

    @property
    def instances(self) -> tuple[Instance, ...]:
        assert self.station.state.fleet is not None
        return self.station.state.fleet.targets["web"].instances

    def _found(self) -> None:
        body = fleet(2)
        for number, place in enumerate(body["targets"]["web"]["instances"]):
            place["root"] = str(self.live / "hosts" / place["name"])
            if not number:
                place["process"] = {"argv": ["sleep", "600"], "stop_s": 1}
        self.station.genesis()
        self.station.enact_fleet(body)
        for name in ("cp19", "cp20"):
            (self.home / "keys").mkdir(exist_ok=True)
            store_private_key(self.home / "keys" / f"{name}.key", self.station.keys[name])
        store_log_key(self.home / "keys" / "log.key", self.station.log_key)

    def _prepare(self) -> tuple[str, str]:
        one, two = (self.tree(name) for name in ("one", "two"))
        self.propose(1, None, one)
        self.station.store.close()
        done = self.run("off", 0)
        assert done.exit == 0, done.said
        self.open()
        lease = self.propose(2, one, two)
        self.station.store.close()
        if self.scenario == "breach":
            self.simulation.bad[two.digest] = "breach"
        if self.scenario == "rollback":
            assert self.run("off", 0).exit == 0
            self.open()
            self.station.command("ada", lease, "rollback")
        return lease

    def tree(self, version: str) -> Tree:
        files: dict[str, str | bytes] = {"app.py": version, "VERSION*": version, "static/kept": "the same"}
        return ingest(write_files(self.root / version, files), self.station.objects, ())

    def propose(self, number: int, before: Tree | None, after: Tree) -> tuple[str, str]:
        lease = self.station.propose(
            f"LEASE-20260105-{90_000 + number:06}",
            artifact={"type": "directory", "sha256": after.digest, "size": len(after.manifest)},
            changes=[
                {
                    "before": ABSENT if before is None else before.digest,
                    "after": after.digest,
                    "instances": [place.name for place in self.instances],
                }
            ],
            paths=list(changed_paths(before, after)),
        )
        self.station.approve(lease)
        return lease

    def open(self) -> None:
        """Look at the ledger as another process."""
        self.station.store = SqliteStore.open(self.home / "ledger.db")
        self.station.registrar = self.station.new_registrar()

    def restore(self) -> None:
        """Let everything be as it was before the first point."""
        self.end_services()
        discard(self.live)
        shutil.copytree(self.kept, self.live, symlinks=True)
        kept = int.from_bytes((self.root / "clock").read_bytes(), "big")
        self.station.clock.now = int(time.time()) if self.command else kept

    def end_services(self) -> None:
        """End what the machine runs."""
        for place in (self.live / "hosts").iterdir():
            end_service(str(place), None, 0)

    def keep_clock(self) -> None:
        (self.root / "clock").write_bytes(self.station.clock.now.to_bytes(8, "big"))

    def run(self, mode: str, point: int) -> Run:
        """Let an executor run to its end, and play the others meanwhile."""
        if self.command:
            return self._run_command(mode, point)
        child = self.begin(mode, point)
        self.attend(child)
        return child.run

    def begin(
        self, mode: str = "off", point: int = 0, prepare: Prepare | None = None, *, standby: bool = False
    ) -> Child:
        """Fork an executor. `prepare`: done in it first, with what tells the parent a line."""
        ours, theirs = socket.socketpair()
        self._tell_time()
        if not self.children:
            self.lock.acquire()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._execute(theirs, mode, point, prepare, standby=standby)
        theirs.close()
        child = Child(pid, ours, ours.makefile("r", encoding="utf-8"))
        self.children.append(child)
        return child

    def attend(self, child: Child) -> bool:
        """Play the others until an executor ends, or says that it is frozen; whether it ended. The ledger is closed
        before and after, for nothing of SQLite may be open in a fork.
        """
        self.open()
        try:
            for line in child.lines:
                points, _, text = line.rstrip("\n").partition(" ")
                if text == "wait":
                    child.waits += 1
                    if child.waits > MAX_WAITS:
                        os.kill(child.pid, signal.SIGKILL)
                        child.run.said.append((int(points), "defect: it does not come to its end"))
                        break
                    self.station.clock.tick(1)
                    self._tell_time()
                    self.simulation.monitor()
                    child.channel.send(b".")
                    continue
                child.run.said.append((int(points), text))
                if text == FROZEN:
                    return False
            child.run.status = os.waitpid(child.pid, 0)[1]
        finally:
            self.station.store.close()
        child.lines.close()
        child.channel.close()
        self.children.remove(child)
        if not self.children:
            self.lock.release()
        return True

    def _run_command(self, mode: str, point: int) -> Run:
        self.lock.acquire()
        self.open()
        command = [sys.executable, "-B", "-m", "executor", "executor", "run", "--until-idle", "--home", str(self.home)]
        fault = f"{MODES[mode]} {point} {ERRORS.get(mode, 0)}"
        with (self.root / "said").open("w+", encoding="utf-8") as said:
            child = subprocess.Popen(
                command, env={**os.environ, "CALYX_FAULT": fault}, stdout=said, stderr=subprocess.STDOUT
            )
            self.play(lambda: child.poll() is not None, LIMIT_S)
            child.kill()
            status = child.wait()
            said.seek(0)
            lines = [line.strip().partition("Z ")[2] or line.strip() for line in said]
        self.lock.release()
        self.station.store.close()
        # As far as is known from outside: a run that was not killed did not come to its point.
        return Run(-status if status < 0 else status << 8, [(0, line) for line in lines])

    def play(self, until: Callable[[], bool], limit_s: float) -> None:
        """Play the others by this machine's clock, until something is so, but not for ever. The ledger is open."""
        end = time.monotonic() + limit_s
        while not until() and time.monotonic() < end:
            self.station.clock.now = int(time.time())
            # The executor may have gone on since the state was read; the monitor looks again.
            with suppress(LawRefused):
                self.simulation.monitor()
            time.sleep(0.1)  # the executor goes by this machine's clock, too

    def _tell_time(self) -> None:
        self.time[:] = self.station.clock.now.to_bytes(8, "big")

    def _execute(
        self, parent: socket.socket, mode: str, point: int, prepare: Prepare | None, *, standby: bool
    ) -> NoReturn:
        def tell(text: str) -> None:
            parent.sendall(f"{count(ALL)} {text}\n".encode())

        def wait(seconds: float) -> bool:
            if seconds:
                tell("wait")
                parent.recv(1)
            return False

        code = DEFECT
        try:
            if prepare is not None:
                prepare(tell)
            arm(mode, point)
            with Home(self.home) as home:
                code = run_executor(
                    home,
                    until_idle=True,
                    wait=wait,
                    log=lambda line: tell(line.replace("\n", " ")),
                    clock=lambda: int.from_bytes(self.time[:], "big"),
                    pools=InlinePool,
                    standby=standby,
                    stale_s=STALE_S,
                )
            tell("kinds " + " ".join(str(count(kind)) for kind in range(len(KINDS))))
        except CalyxError as error:
            tell(f"error: {error}")
            code = error.exit_code
        except BaseException:  # noqa: BLE001  # whatever it is, the parent is to hear of it
            tell("defect: " + traceback.format_exc().replace("\n", " | "))
        finally:
            os._exit(code)
