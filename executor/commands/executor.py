"""`calyx executor run`: the executor (CP20), until it is told to stop or nothing is left to do."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from executor.commands.common import ClockOption, HomeOption, noun, opened
from executor.commands.running import log_line, stopping
from executor.commands.terminal import note

app = noun("Run the executor, which deploys leases that carry both keys.")


@app.callback()
def executor() -> None:
    """Run the executor, which deploys leases that carry both keys."""


@app.command()
def run(
    until_idle: Annotated[
        bool,
        typer.Option("--until-idle", help="End when no deployment needs anything; the exit code says how it went."),
    ] = False,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Claim approved leases and carry deployments to their end, with CP20's key.

    Example: calyx executor run --until-idle

    It can be stopped at any moment, also by kill -9: the next run looks at the ledger and the machines, and goes on.
    """
    from executor.service import run_executor

    with opened(home, here=True) as place, stopping() as stop:
        result = run_executor(place, until_idle=until_idle, wait=stop.wait, log=log_line, accept_clock=accept_clock)
    if stop.signal == signal.SIGINT:
        note("interrupted; what is under way goes on with the next calyx executor run")
        raise typer.Exit(128 + signal.SIGINT)
    raise typer.Exit(result)
