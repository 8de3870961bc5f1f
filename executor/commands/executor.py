"""`calyx executor run`: the executor (CP20), until it is told to stop or nothing is left to do; and `prune`."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from executor.commands.common import ClockOption, HomeOption, JsonOption, noun, opened
from executor.commands.running import log_line, stopping
from executor.commands.terminal import note, say, say_json
from keys.errors import CalyxError, Exit

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


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove old releases that nothing needs any more. An executor that runs does it by itself, once an hour.

    Example: calyx executor prune --dry-run

    What is served, what was served before it, what a rollback within retention needs, and what a process has in use
    stay. The ledger and its objects are not touched.
    """
    from executor.service import prune_hosts

    rows = []
    failed = False
    with opened(home, here=True) as place:
        for instance, found in prune_hosts(place, dry_run=dry_run):
            if isinstance(found, CalyxError):
                failed = True
                note(f"instance {instance.name}: {found}")
                continue
            rows.append({"instance": instance.name, "removed": list(found.removed), "in_use": list(found.in_use)})
    if as_json:
        say_json({"dry_run": dry_run, "instances": rows})
    else:
        word = "would be removed" if dry_run else "removed"
        for row in rows:
            say(*(f"{row['instance']}  {tree}  {word}" for tree in row["removed"]))
            say(*(f"{row['instance']}  {tree}  in use, stays" for tree in row["in_use"]))
        if not any(row["removed"] or row["in_use"] for row in rows):
            say("nothing to remove")
    if failed:
        raise typer.Exit(Exit.UNAVAILABLE)
