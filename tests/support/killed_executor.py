"""A program for fault tests: a real executor, with its registrar, ledger, objects and machine, under `faults.c`.

    LD_PRELOAD=faults.so python killed_executor.py SCENARIO FAULT ROOT FIRST STEP [command]

It forks an executor for each point: FIRST, FIRST + STEP, and so on, until one comes to its end without reaching its
point. Each begins from the same copy of the home and the machine. Another executor follows, without faults, and goes on
to the end. One JSON line is printed for each, and before them one with the points of a run without faults.

With `command` each executor is `calyx executor run`, by this machine's clock, with its threads.

    rollout    a lease under both keys, two instances, one of them with a service
    breach     the same; the monitor sees a breach on the first tier
    rollback   that lease was completed, and a person ordered the rollback

    kill       SIGKILL before the point          tear       the same, and half of a write was done
    eio        the call fails with EIO           enospc     from there on, what takes space fails with ENOSPC

Without it the clock is handed in, and moves only while the executor waits. The monitor is played by the parent.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fleetsim import InlinePool, Simulation
from instances import write_files
from station import Clock, Station, fleet, matrix

from executor import local_host
from executor.home import Home
from executor.layout import layout_of, read_current
from executor.local_host import LocalHost
from executor.materialise import discard
from executor.process_lock import ProcessLock
from executor.processes import end_service
from executor.releases import check_release
from executor.scan import ingest
from executor.service import run_executor
from executor.tree import Tree, changed_paths
from keys.errors import CalyxError
from keys.openssh import store_private_key
from ledger.log_key import store_log_key
from ledger.record import parse_record
from ledger.sqlite_store import SqliteStore
from ledger.statement import parse_statement
from policies.deployment import Phase
from policies.fleet import Instance
from policies.kinds import ABSENT

MODES: Final = {"off": 0, "count": 1, "kill": 2, "tear": 3, "eio": 4, "enospc": 5}
ERRORS: Final = {"eio": errno.EIO, "enospc": errno.ENOSPC}
KINDS: Final = ("write", "sync", "rename", "link", "unlink", "make", "other")
MAX_POINTS: Final = 5_000
MAX_WAITS: Final = 600
ENDS: Final = {"rollout": Phase.COMPLETED, "breach": Phase.ROLLED_BACK, "rollback": Phase.ROLLED_BACK}
DEFECT: Final = 70

layer = ctypes.CDLL(None)


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


class World:
    """A home, a machine with two instances, and everybody but the executor."""

    def __init__(self, root: Path, scenario: str, *, command: bool = False) -> None:
        self.root, self.scenario, self.command = root, scenario, command
        self.live, self.kept = root / "live", root / "kept"
        self.home = self.live / "home"
        os.environ["XDG_STATE_HOME"] = str(self.live / "state")
        self.time = mmap.mmap(-1, 8)
        clock = Clock(int(time.time())) if command else Clock()
        self.station = Station(self.home, policy=matrix(tiers=[50, 100], bake_s=2, interval_s=1), clock=clock)
        self.simulation = Simulation(self.station)
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
        one, two = (self._tree(name) for name in ("one", "two"))
        self.propose(1, None, one)
        done = self.run("off", 0)
        assert done.exit == 0, done.said
        self.open()
        lease = self.propose(2, one, two)
        if self.scenario == "breach":
            self.simulation.bad[two.digest] = "breach"
        if self.scenario == "rollback":
            assert self.run("off", 0).exit == 0
            self.open()
            self.station.command("ada", lease, "rollback")
        return lease

    def _tree(self, version: str) -> Tree:
        files: dict[str, str | bytes] = {"app.py": version, "VERSION*": version, "static/kept": "the same"}
        return ingest(write_files(self.root / version, files), self.station.objects, ())

    def propose(self, number: int, before: Tree | None, after: Tree) -> tuple[str, str]:
        lease = self.station.propose(
            f"LEASE-20260105-09000{number}",
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
        self.station.store.close()
        return lease

    def open(self) -> None:
        """Look at the ledger as another process."""
        self.station.store = SqliteStore.open(self.home / "ledger.db")
        self.station.registrar = self.station.new_registrar()

    def restore(self) -> None:
        """Let everything be as it was before the first point."""
        for place in (self.live / "hosts").iterdir():
            end_service(str(place), None, 0)
        discard(self.live)
        shutil.copytree(self.kept, self.live, symlinks=True)
        kept = int.from_bytes((self.root / "clock").read_bytes(), "big")
        self.station.clock.now = int(time.time()) if self.command else kept

    def keep_clock(self) -> None:
        (self.root / "clock").write_bytes(self.station.clock.now.to_bytes(8, "big"))

    def run(self, mode: str, point: int) -> Run:
        """Let an executor run, and play the others meanwhile. The ledger is closed before and after."""
        if self.command:
            return self._run_command(mode, point)
        ours, theirs = socket.socketpair()
        self._tell_time()
        # Nothing of SQLite may be open in a fork.
        self.lock.acquire()
        child = os.fork()
        if child == 0:
            ours.close()
            self._execute(theirs, mode, point)
        theirs.close()
        self.open()
        result, waits = Run(), 0
        with ours, ours.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                points, _, text = line.rstrip("\n").partition(" ")
                if text == "wait":
                    waits += 1
                    if waits > MAX_WAITS:
                        os.kill(child, signal.SIGTERM)
                        break
                    self.station.clock.tick(1)
                    self._tell_time()
                    self.simulation.monitor()
                    ours.send(b".")
                else:
                    result.said.append((int(points), text))
        result.status = os.waitpid(child, 0)[1]
        self.lock.release()
        self.station.store.close()
        return result

    def _run_command(self, mode: str, point: int) -> Run:
        self.lock.acquire()
        self.open()
        command = [sys.executable, "-B", "-m", "executor", "executor", "run", "--until-idle", "--home", str(self.home)]
        fault = f"{MODES[mode]} {point} {ERRORS.get(mode, 0)}"
        with (self.root / "said").open("w+", encoding="utf-8") as said:
            child = subprocess.Popen(
                command, env={**os.environ, "CALYX_FAULT": fault}, stdout=said, stderr=subprocess.STDOUT
            )
            for _ in range(MAX_WAITS):
                if child.poll() is not None:
                    break
                self.station.clock.now = int(time.time())
                self.simulation.monitor()
                time.sleep(0.1)  # the executor goes by this machine's clock
            child.kill()
            status = child.wait()
            said.seek(0)
            lines = [line.strip().partition("Z ")[2] or line.strip() for line in said]
        self.lock.release()
        self.station.store.close()
        # As far as is known from outside: a run that was not killed did not come to its point.
        return Run(-status if status < 0 else status << 8, [(0, line) for line in lines])

    def _tell_time(self) -> None:
        self.time[:] = self.station.clock.now.to_bytes(8, "big")

    def _execute(self, parent: socket.socket, mode: str, point: int) -> None:
        def tell(text: str) -> None:
            parent.sendall(f"{layer.calyx_points(-1)} {text}\n".encode())

        def wait(seconds: float) -> bool:
            if seconds:
                tell("wait")
                parent.recv(1)
            return False

        code = DEFECT
        try:
            layer.calyx_fault(MODES[mode], ctypes.c_long(point), ERRORS.get(mode, 0))
            with Home(self.home) as home:
                code = run_executor(
                    home,
                    until_idle=True,
                    wait=wait,
                    log=lambda line: tell(line.replace("\n", " ")),
                    clock=lambda: int.from_bytes(self.time[:], "big"),
                    pools=InlinePool,
                )
            tell("kinds " + " ".join(str(layer.calyx_points(kind)) for kind in range(len(KINDS))))
        except CalyxError as error:
            tell(f"error: {error}")
            code = error.exit_code
        except BaseException:  # noqa: BLE001  # whatever it is, the parent is to hear of it
            tell("defect: " + traceback.format_exc().replace("\n", " | "))
        finally:
            os._exit(code)

    def problems_at_once(self, done: Run) -> Iterator[str]:
        """What is wrong right after the executor's end, whatever ended it."""
        self.open()
        deployment = self.station.state.deployments.get(self.lease[1])
        if done.acknowledged > self.station.state.size:
            yield f"{done.acknowledged} entries were acknowledged, and {self.station.state.size} are there"
        lease = self.station.state.leases[self.lease[1]]
        for instance in self.instances:
            layout = layout_of(instance)
            tree = read_current(layout)
            if tree not in {lease.before[instance.name], lease.after[instance.name]}:
                yield f"{instance.name} is on {tree[:16]}"
            with suppress_problem() as problem:
                check_release(layout, tree)
            yield from problem
        touched = deployment is not None and deployment.intended
        if not touched and any(
            read_current(layout_of(instance)) != lease.before[instance.name] for instance in self.instances
        ):
            yield "a machine was changed before it was said"
        self.station.store.close()

    def problems_at_the_end(self, allowed: set[Phase], *, clean: bool = True) -> Iterator[str]:
        """What is wrong once everything came to an end. `clean`: nothing half made may be left on the machine."""
        self.open()
        state = self.station.state
        deployment = state.deployments.get(self.lease[1])
        if deployment is None or deployment.phase not in allowed:
            yield f"the end is {deployment and deployment.phase}"
        else:
            wanted = deployment.after if deployment.phase is Phase.COMPLETED else deployment.before
            host = LocalHost(self.station.objects)
            for instance in self.instances:
                with suppress_problem() as problem:
                    host.scrub(instance, wanted[instance.name])
                    # Restoring the copy ended the service; only an executor that had to do with it starts it again.
                    if instance.name in deployment.intended:
                        host.settle(instance, wanted[instance.name])
                yield from problem
                left = list((layout_of(instance).private / "staging").iterdir())
                if left and clean:
                    yield f"{left[0]} was left"
        if state.live:
            yield "a deployment is live"
        yield from (f"{event} was said twice" for event, times in self._events().items() if times > 1)
        self.station.store.close()

    def _events(self) -> Counter[tuple[Any, ...]]:
        said: Counter[tuple[Any, ...]] = Counter()
        for data in self.station.store.read():
            statement = parse_statement(parse_record(data).envelope.body)
            if statement.kind == "event" and statement.subject_digest == self.lease[1]:
                detail = statement.predicate["detail"]
                said[tuple(detail.get(name) for name in ("type", "tier", "instance", "n", "code"))] += 1
            elif statement.kind == "claim":
                said["claim", statement.subject_digest] += 1
        return said


class suppress_problem:  # noqa: N801  # reads as `contextlib.suppress` does
    """Catches a refusal and gives it as a line."""

    def __enter__(self) -> list[str]:
        self.found: list[str] = []
        return self.found

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, CalyxError):
            self.found.append(str(error))
            return True
        return False


def count_points(world: World) -> dict[str, Any]:
    """A run without faults: points in all, of each kind, and until each event."""
    world.restore()
    done = world.run("count", 0)
    kinds = next(text for _, text in done.said if text.startswith("kinds ")).split()[1:]
    phases: dict[str, int] = {}
    for before, text in done.said:
        words = text.split()
        if words[0].startswith("LEASE-") and "(entry" in text:
            phases[" ".join(words[1:-2])] = before
    return {
        "points": done.said[-1][0],
        "kinds": dict(zip(KINDS, map(int, kinds), strict=True)),
        "phases": phases,
        "problems": list(world.problems_at_the_end({ENDS[world.scenario]})),
    }


def faults(world: World, fault: str, first: int, step: int) -> Iterator[dict[str, Any]]:
    """A fault at each point in turn, until a run does not come to its point."""
    # A disk that fails may turn a rollout back, or end it before it began; a kill changes nothing.
    allowed = {ENDS[world.scenario]} | (set() if fault in {"kill", "tear"} else {Phase.ROLLED_BACK})
    for point in range(first, MAX_POINTS, step):
        world.restore()
        done = world.run(fault, point)
        problems = [text for _, text in done.said if text.startswith("defect: ")]
        problems += world.problems_at_once(done)
        reached = done.killed or (bool(done.said) and done.said[-1][0] >= point)
        again = world.run("off", 0)
        problems += [text for _, text in again.said if text.startswith(("defect: ", "error: "))]
        problems += world.problems_at_the_end(allowed, clean=fault in {"kill", "tear"})
        yield {
            "point": point,
            "reached": reached,
            "killed": done.killed,
            "exit": done.exit,
            "error": done.error,
            "last": done.said[-1][1] if done.said else "",
            "again": again.exit,
            "problems": problems,
        }
        if not reached:
            return


def main(scenario: str, fault: str, root: Path, first: int, step: int, *, command: bool) -> None:
    # A service without a probe counts as started once it lived for a moment; here it may be a short one.
    local_host._GRACE_S = 0.01  # type: ignore[misc]
    root.mkdir(parents=True, exist_ok=True)
    world = World(root, scenario, command=command)
    world.keep_clock()
    try:
        if not command:
            print(json.dumps(count_points(world)), flush=True)  # noqa: T201 - its output is its result
        for line in faults(world, fault, first, step):
            print(json.dumps(line), flush=True)  # noqa: T201 - as above
    finally:
        with suppress(OSError):
            for place in (world.live / "hosts").iterdir():
                end_service(str(place), None, 0)


if __name__ == "__main__":
    main(
        sys.argv[1],
        sys.argv[2],
        Path(sys.argv[3]),
        int(sys.argv[4]),
        int(sys.argv[5]),
        command="command" in sys.argv[6:],
    )
