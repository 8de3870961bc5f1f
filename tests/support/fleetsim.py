"""A fleet in memory, and an executor that runs on it against a station's real registrar and law.

Nothing sleeps: waiting moves the station's clock and lets a monitor, played by the station, speak. A `Killer` ends the
executor at its n-th effect, as SIGKILL would: before the effect, or after it but before anyone knew.
"""

from __future__ import annotations

import threading
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

from station import Station

from executor.homes.reserve import Reserve
from executor.hosts.fence import pass_fence
from executor.hosts.host import Check, Fence, HookRun, Observed, Plan, Pruned
from executor.rollout.run import Executor
from executor.rollout.work import Pools
from executor.trees.tree import make_tree
from keys.errors import CalyxError, Exit
from policies.fleet import Instance
from policies.fold.deployment import Phase
from policies.kinds import ABSENT


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Killer:
    """Counts effects; ends the executor at one of them."""

    at: int | None = None
    after: bool = False
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    names: list[str] = field(default_factory=list)

    def before_effect(self, name: str) -> None:
        with self.lock:
            self.count += 1
            self.names.append(name)
            if self.at is not None and self.count >= self.at and not self.after:
                raise Killed(name)

    def after_effect(self, name: str) -> None:
        with self.lock:
            if self.at is not None and self.count >= self.at and self.after:
                raise Killed(name)


@dataclass
class Place:
    """One instance's disk and process."""

    current: str = ABSENT
    releases: set[str] = field(default_factory=set)
    serving: str | None = None
    fence: Fence | None = None
    writable: bool = True
    flips: list[str] = field(default_factory=list)
    hooks: list[tuple[str, str, str | None]] = field(default_factory=list)
    """What ran: verb, name, and what the instance served meanwhile."""


class SimHosts:
    """A `Host` for every instance. `broken`: instance -> code that its next operations raise."""

    def __init__(self, killer: Killer) -> None:
        self.killer = killer
        self.places: dict[str, Place] = {}
        self.fail: dict[tuple[str, str], str] = {}

    def __call__(self, instance: Instance) -> SimHosts:
        del instance
        return self

    def place(self, instance: Instance) -> Place:
        return self.places.setdefault(instance.name, Place())

    def _effect(self, instance: Instance, name: str) -> Place:
        self.killer.before_effect(f"{name} {instance.name}")
        code = self.fail.get((name, instance.name))
        if code is not None:
            raise CalyxError(code, f"{name} of {instance.name} fails", instance=instance.name)
        return self.place(instance)

    def inspect(self, instance: Instance) -> Observed:
        place = self._effect(instance, "inspect")
        return Observed(
            tree=place.current,
            adoptable=False,
            process=None,
            fence=place.fence,
            free_bytes=10**12,
            writable=place.writable,
        )

    def scrub(self, instance: Instance, tree: str) -> None:
        if tree not in self._effect(instance, "scrub").releases:
            raise CalyxError("release_missing", f"{instance.name} has no release {tree[:8]}")

    def stage(self, instance: Instance, plan: Plan) -> None:
        self._effect(instance, "stage").releases.add(plan.after)
        self.killer.after_effect("stage")

    def flip(self, instance: Instance, expected: str, new: str, fence: Fence) -> None:
        place = self._effect(instance, "flip")
        place.fence = pass_fence(place.fence, fence)
        if place.current == new:
            return
        if place.current != expected:
            raise CalyxError("tree_unexpected", f"on {place.current[:8]}")
        if new != ABSENT and new not in place.releases:
            raise CalyxError("release_missing", new[:8])
        place.current = new
        place.flips.append(new)
        self.killer.after_effect("flip")

    def reload(self, instance: Instance, fence: Fence, check: Check | None = None) -> None:
        del fence, check
        place = self._effect(instance, "reload")
        place.serving = place.current
        self.killer.after_effect("reload")

    def stop(self, instance: Instance, fence: Fence) -> None:
        del fence
        self._effect(instance, "stop").serving = None

    def run_hook(self, instance: Instance, run: HookRun, fence: Fence) -> None:
        del fence
        place = self._effect(instance, run.verb)
        place.hooks.append((run.verb, run.name, place.serving))
        self.killer.after_effect(run.verb)

    def settle(self, instance: Instance, tree: str, check: Check | None = None) -> None:
        place = self._effect(instance, "settle")
        if check is not None:
            place.hooks.append((check.run.verb, check.run.name, place.serving))
        if place.current != tree:
            raise CalyxError("tree_unexpected", f"on {place.current[:8]}")
        if place.serving != (None if tree == ABSENT else tree):
            raise CalyxError("process_stale", "another release is served")

    def prune(self, instance: Instance, keep: tuple[str, ...], fence: Fence, *, dry_run: bool = False) -> Pruned:
        place = self._effect(instance, "prune")
        place.fence = pass_fence(place.fence, fence)
        gone = place.releases - {place.current, *keep}
        place.releases -= set() if dry_run else gone
        return Pruned(removed=tuple(sorted(gone)), in_use=())


class InlinePool(futures.Executor):
    """Does the work where it is handed in, so that a test repeats exactly."""

    def __init__(self, workers: int) -> None:
        del workers

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  # as a thread's future does; `result` raises it
            future.set_exception(error)
        return future


@dataclass
class Simulation:
    """A station, a fleet in memory, and a monitor that judges by `bad`: tree -> the verdict on tiers that run it."""

    station: Station
    killer: Killer = field(default_factory=Killer)
    bad: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    silent: bool = False
    patience: int = 2_000
    pools: Pools = field(default=InlinePool)
    reserve: Reserve | None = None

    def __post_init__(self) -> None:
        self.hosts = SimHosts(self.killer)

    def serve(self, tree: str, *more: str) -> None:
        """Let every instance run `tree`, with the releases `more` beside it."""
        fleet = self.station.state.fleet
        assert fleet is not None
        for instance in fleet.targets["web"].instances:
            place = self.hosts.place(instance)
            place.current = place.serving = tree
            place.releases |= {tree, *more}

    def ask(
        self, before: str, names: list[str], name: str = "LEASE-20260105-090000", **lease: Any
    ) -> tuple[tuple[str, str], str]:
        """A lease under both keys which leads these instances to an empty tree, and that tree."""
        new = make_tree([], ())
        self.station.objects.put(new.manifest)
        artifact = {"type": "directory", "sha256": new.digest, "size": len(new.manifest)}
        changes = [{"before": before, "after": new.digest, "instances": names}]
        subject = self.station.propose(name, artifact=artifact, changes=changes, **lease)
        self.station.approve(subject)
        return subject, new.digest

    def ensure(self) -> None:
        """The watchman's part: the monitor speaks in `wait`."""

    def stop(self) -> None:
        """The monitor is not a process here."""

    def wait(self, seconds: float) -> bool:
        if not seconds:
            return False
        self.patience -= 1
        if self.patience < 0:
            raise AssertionError("the executor does not come to an end: " + "; ".join(self.log[-5:]))
        self.station.clock.tick(1)
        if not self.silent:
            self.monitor()
        return False

    def monitor(self) -> None:
        """Say what CP19 would say now."""
        state = self.station.state
        for digest in list(state.live.values()):
            deployment = state.deployments[digest]
            subject = (deployment.lease.id, digest)
            if deployment.phase in {Phase.CLAIMED, Phase.DEPLOYING} and deployment.baseline is None:
                if all(tree == ABSENT for tree in deployment.before.values()):
                    self.station.event("cp19", subject, "BASELINE", values=None)
                else:
                    self.station.baseline(subject)
            if deployment.working_phase is not Phase.BAKING or deployment.bake_started_at is None:
                continue
            last = deployment.samples[-1].n if deployment.samples else 0
            # As the real one numbers them: an interval that was missed is skipped.
            n = (self.station.clock.now - deployment.bake_started_at) // deployment.lease.interval_s
            if n > last:
                self.say_sample(subject, deployment.tier, n)
                verdict = self.bad.get(next(iter(deployment.after.values())), "pass")
                self.station.verdict(subject, deployment.tier, n, verdict)

    def say_sample(self, subject: tuple[str, str], tier: int, n: int) -> None:
        gates = self.station.state.deployments[subject[1]].lease.gates
        rows = [
            {"gate": gate.name, "value": "1", "requests": None, "rest": None, "rest_requests": None} for gate in gates
        ]
        self.station.event("cp19", subject, "SAMPLE", tier=tier, n=n, values=rows, trees=[], raw=None)

    def executor(self, who: str = "cp20") -> Executor:
        return Executor(
            self.station.new_registrar(),
            self.station.signer(who),
            self.station.objects,
            self.hosts,
            self,
            wait=self.wait,
            log=self.log.append,
            pools=self.pools,
            reserve=self.reserve,
        )

    def run(self, who: str = "cp20") -> Exit:
        return self.executor(who).run(until_idle=True)

    def run_until_dead(self) -> bool:
        """Run; true when the killer ended it."""
        try:
            self.run()
        except Killed:
            return True
        return False
