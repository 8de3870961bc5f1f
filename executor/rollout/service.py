"""Putting an executor together: one process, one key, one lock, on one home."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from executor.homes.home import Home
from executor.homes.snapshots import KEEP_EVERY, begin_fold, keep_fold
from executor.homes.succession import trace_lineage
from executor.hosts.host import MAX_LINEAGE, Fence, Host, Hosts, Pruned
from executor.hosts.local_host import LocalHost
from executor.logbook import Log, warning_line
from executor.process_lock import ProcessLock
from executor.rollout.figures import Figures, Standing
from executor.rollout.retention import plan_pruning
from executor.rollout.run import Executor, Wait
from executor.rollout.supervisor import Supervisor
from executor.rollout.turn import STALE_S, Turn
from executor.rollout.watchman import MonitorProcess, NotifierProcess
from executor.rollout.work import Pools
from keys.errors import CalyxError, Exit, LawRefused, Unavailable
from ledger.memory import MEMORY_BUSY
from ledger.objects import ObjectStore
from policies.fleet import Instance
from policies.submitter import Clock

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
    standby: bool = False,
    stale_s: float = STALE_S,
    figures: Figures | None = None,
    supervisor: Supervisor | None = None,
) -> Exit:
    """Run the executor on a home until `wait` says to stop, or until nothing is left to do. `clock`: None for this
    machine's. `standby`: while another one acts, wait, and take over when it ends, or has shown no sign of life for
    `stale_s` seconds.

    Raises: Unavailable (`already_running`, ...); Refused when its key is not enrolled; as `Executor.run`.
    """
    figures = figures or Figures(time.monotonic)
    supervisor = supervisor or Supervisor({}, time.monotonic)
    registrar = home.open_for_safety(clock, accept_clock=accept_clock)
    signer = home.load_signer(principal, registrar.sync())
    begin_fold(registrar, log)
    objects = home.open_objects()
    shown = ProcessLock(home.lock_path(principal), f"an executor on {home.root}")
    turn = Turn(home.run, principal, log, more=(shown,), monotonic=time.monotonic, stale_s=stale_s)
    notifier = NotifierProcess(home.root, home.lock_path(NOTIFIER), home.addresses, log)
    workplace = home.workplace(principal)

    deaf_until = 0.0

    def stand_by(seconds: float) -> bool:
        nonlocal deaf_until
        # Whoever waits reads along, so that its turn begins at once. But who acts may be stopped with the lock of the
        # remembered head in its hand: to wait for that at each look would be no watch.
        if time.monotonic() >= deaf_until:
            try:
                registrar.sync()
            except Unavailable as error:
                if error.code == MEMORY_BUSY:
                    deaf_until = time.monotonic() + 2 * stale_s
        figures.come_round()
        figures.stand(Standing(role="standby", entries=registrar.head.size))
        supervisor.alive()
        return wait(seconds)

    def wait_and_see(seconds: float) -> bool:
        turn.beat()
        notifier.ensure()
        supervisor.alive()
        # It takes a moment at which nobody listens: not before what has begun is over, unless that goes on and on.
        if seconds:
            keep_fold(registrar, registrar.now(), log, least=(4 if registrar.state.live else 1) * KEEP_EVERY)
        return wait(seconds)

    try:
        supervisor.ready("reading the ledger")
        while True:
            if not standby:
                turn.take()
            elif not turn.wait(stand_by):
                return Exit.DONE
            supervisor.status(f"{principal} acts")
            workplace.clear(log)
            executor = Executor(
                registrar,
                signer,
                objects,
                host_finder(objects),
                MonitorProcess(home.root, home.lock_path(MONITOR), MONITOR),
                wait=wait_and_see,
                log=log,
                pools=pools,
                earlier=trace_lineage(home.root, registrar.state.continues)[0][1:],
                reserve=home.reserve(),
                figures=figures,
                new_folder=workplace.folder,
            )
            try:
                return executor.run(until_idle=until_idle)
            except LawRefused as refusal:
                if refusal.code != "fenced" or not standby:
                    raise
                log(warning_line(f"{refusal}; standing by", event="FENCED", code=refusal.code))
            finally:
                turn.release()
    finally:
        supervisor.stopping()
        notifier.stop()
        workplace.close()
        keep_fold(registrar, registrar.now(), log)


def _take_place(stack: ExitStack, home: Home, principal: str) -> None:
    try:
        stack.enter_context(ProcessLock(home.lock_path(principal), f"an executor on {home.root}"))
    except Unavailable as error:
        if error.code != "already_running":
            raise
        raise Unavailable(
            error.code,
            error.message,
            hint="it removes old releases by itself, once an hour; --dry-run says which would go now",
        ) from None


def prune_hosts(
    home: Home, *, dry_run: bool, principal: str = EXECUTOR
) -> Iterator[tuple[Instance, Pruned | CalyxError]]:
    """Remove what no host needs any more, under the newest term; what became of each instance. The executor, which does
    it by itself, must not run on this home: it may be about to flip to what would be removed. `dry_run`: only say what
    would be, also while it runs.

    Raises: Unavailable (`already_running`); CalyxError of the ledger.
    """
    with ExitStack() as stack:
        if not dry_run:
            _take_place(stack, home, principal)
        registrar = home.open_registrar()
        state = registrar.sync()
        if state.term is None:
            return
        earlier = trace_lineage(home.root, state.continues)[0]
        fence = Fence(
            ledger=state.ledger, epoch=state.term.epoch, leaf=state.term.leaf, continues=earlier[:MAX_LINEAGE]
        )
        hosts = host_finder(home.open_objects())
        for instance, keep in plan_pruning(state, registrar.now()):
            try:
                yield instance, hosts(instance).prune(instance, keep, fence, dry_run=dry_run)
            except CalyxError as error:
                yield instance, error
