"""Putting an executor together: one process, one key, one lock, on one home."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from executor.home import Home
from executor.host import Host
from executor.local_host import LocalHost
from executor.preflight import Hosts
from executor.process_lock import ProcessLock
from executor.run import Executor, Wait
from executor.speaker import Log
from executor.succession import trace_lineage
from executor.watchman import MonitorProcess, NotifierProcess
from executor.work import Pools
from keys.errors import Exit, Unavailable
from ledger.objects import ObjectStore
from policies.fleet import Instance
from policies.registrar import Clock

EXECUTOR: Final = "cp20"
MONITOR: Final = "cp19"
NOTIFIER: Final = "notify"
"""Its lock; it is no principal, and no principal is named so by `init`."""


def host_finder(objects: ObjectStore) -> Hosts:
    """How an instance's host is found. Only this machine is reached so far."""
    local = LocalHost(objects)

    def find(instance: Instance) -> Host:
        if instance.address != "local":
            raise Unavailable(
                "host_unsupported",
                f"instance {instance.name} is at {instance.address}, and only local instances can be reached",
                hint="give it the address local in the fleet",
            )
        return local

    return find


def run_executor(
    home: Home,
    *,
    until_idle: bool,
    wait: Wait,
    log: Log,
    principal: str = EXECUTOR,
    accept_clock: bool = False,
    clock: Clock | None = None,
    pools: Pools = ThreadPoolExecutor,
) -> Exit:
    """Run the executor on a home until `wait` says to stop, or until nothing is left to do. `clock`: None for this
    machine's.

    Raises: Unavailable (`already_running`, ...); UsageError when its key is not enrolled; as `Executor.run`.
    """
    registrar = home.open_registrar(clock, accept_clock)
    signer = home.load_signer(principal, registrar.sync())
    objects = home.open_objects()
    with ProcessLock(home.lock_path(principal), f"an executor on {home.root}"):
        watchman = MonitorProcess(home.root, home.lock_path(MONITOR), MONITOR)
        notifier = NotifierProcess(home.root, home.lock_path(NOTIFIER), home.addresses, log)

        def wait_and_see(seconds: float) -> bool:
            notifier.ensure()
            return wait(seconds)

        try:
            executor = Executor(
                registrar,
                signer,
                objects,
                host_finder(objects),
                watchman,
                wait=wait_and_see,
                log=log,
                pools=pools,
                earlier=trace_lineage(home.root, registrar.state.continues)[0][1:],
            )
            return executor.run(until_idle=until_idle)
        finally:
            notifier.stop()
