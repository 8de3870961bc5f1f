"""`calyx agent run`: one agent with its own key, until it is told to stop."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Final

import typer

from executor.commands.common import ClockOption, HomeOption, check_begun, noun, opened
from executor.commands.running import Stop, log_line, stopping
from executor.commands.terminal import note
from keys.errors import Exit, UsageError

if TYPE_CHECKING:
    from executor.agents.loop import Agent
    from executor.homes.home import Home
    from executor.metrics.measure import Meters
    from executor.trees.workplace import NewFolder
    from keys.signer import Signer
    from ledger.objects import ObjectStore
    from policies.kinds import Lease
    from policies.submitter import Submitter

NAMES: Final = ("cp14", "cp18", "cp19")

app = noun("Run a reviewing or monitoring agent: cp14, cp18 or cp19.")


@app.callback()
def agent() -> None:
    """Run a reviewing or monitoring agent: cp14, cp18 or cp19."""


@app.command()
def run(
    name: Annotated[str, typer.Argument(metavar="AGENT", help="cp14 (sentinel), cp18 (validator) or cp19 (monitor).")],
    home: HomeOption = None,
    accept_clock: ClockOption = False,
    parent: Annotated[
        int | None, typer.Option("--parent", hidden=True, help="End when this process is no longer the parent.")
    ] = None,
) -> None:
    """Run one agent: it reads the ledger, and says what is its to say, with its own key.

    Example: calyx agent run cp14

    CP14 reviews a change's content and paths, CP18 its syntax; a passing review comes with the agent's key. CP19
    measures running deployments and judges their gates.
    """
    if name not in NAMES:
        raise UsageError("unknown_agent", f"there is no agent {name}", hint=f"one of {', '.join(NAMES)}")
    with opened(home, here=True) as place, stopping(parent) as stop:
        _run(place, name, stop, accept_clock=accept_clock)
    if stop.signal == signal.SIGINT:
        note("interrupted")
        raise typer.Exit(128 + signal.SIGINT)
    raise typer.Exit(Exit.DONE)


def _run(home: Home, name: str, stop: Stop, *, accept_clock: bool) -> None:
    from executor.agents.loop import run as run_loop
    from executor.homes.snapshots import KEEP_EVERY, begin_fold, keep_fold
    from executor.process_lock import ProcessLock

    registrar = home.open_registrar(accept_clock=accept_clock)
    signer = home.load_signer(name, check_begun(registrar.sync()))
    lock = ProcessLock(home.lock_path(name), f"{name} on {home.root}")
    with lock, closing(home.workplace(name)) as workplace:
        log_line(f"{name} runs on {home.root}")
        workplace.clear(log_line)
        begin_fold(registrar, log_line)

        def wait(seconds: float) -> bool:
            keep_fold(registrar, registrar.now(), log_line, least=KEEP_EVERY)
            return stop.wait(seconds)

        agent = _agent(name, home, registrar, signer, workplace.folder)
        run_loop(agent, registrar, wait=wait, log=log_line)
        keep_fold(registrar, registrar.now(), log_line)


def _agent(name: str, home: Home, registrar: Submitter, signer: Signer, new_folder: NewFolder) -> Agent:
    objects = home.open_objects()
    if name == "cp19":
        return _monitor(registrar, signer, objects)
    from executor.agents.review import Inspector, Reviewer, ReviewRole

    role: ReviewRole
    inspector: Inspector
    if name == "cp14":
        from executor.agents.sentinel import Sentinel

        role, inspector = "sentinel", Sentinel(objects)
    else:
        from executor.agents.validator import Validator

        role, inspector = "validator", Validator(objects)
    return Reviewer(
        role,
        inspector,
        registrar,
        signer,
        objects,
        monotonic=time.monotonic,
        log=log_line,
        new_folder=new_folder,
    )


def _monitor(registrar: Submitter, signer: Signer, objects: ObjectStore) -> Agent:
    from executor.agents.monitor import Monitor
    from executor.metrics.local import open_meters
    from executor.rollout.service import host_finder

    def meters(lease: Lease) -> Meters:
        return open_meters(lease, registrar.now, time.monotonic)

    hosts = host_finder(objects)
    return Monitor(registrar, signer, objects, hosts, meters, monotonic=time.monotonic, log=log_line)
