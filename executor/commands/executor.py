"""`calyx executor run`: the executor (CP20), until it is told to stop or nothing is left to do; and `prune`."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from executor.commands.common import ClockOption, HomeOption, JsonOption, noun, opened
from executor.commands.running import log_line, now_text, stopping
from executor.commands.terminal import note, say, say_json
from keys.errors import CalyxError, Exit

if TYPE_CHECKING:
    from executor.logbook import Log

app = noun("Run the executor, which deploys leases that carry both keys.")


@app.callback()
def executor() -> None:
    """Run the executor, which deploys leases that carry both keys."""


@app.command()
def run(
    *,
    until_idle: Annotated[
        bool,
        typer.Option("--until-idle", help="End when no deployment needs anything; the exit code says how it went."),
    ] = False,
    standby: Annotated[
        bool,
        typer.Option("--standby", help="While another executor acts on this home, wait; take over when it is gone."),
    ] = False,
    takeover_after: Annotated[
        int,
        typer.Option(
            "--takeover-after",
            metavar="SECONDS",
            min=5,
            help="A standby ends (SIGKILL) one that shows no sign of life for so long.",
        ),
    ] = 30,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="ADDRESS:PORT", help="Answer /health and /metrics there; loopback only."),
    ] = None,
    log_format: Annotated[
        Literal["text", "json"], typer.Option("--log-format", help="json: one object on each line of standard error.")
    ] = "text",
    log_file: Annotated[
        Path | None, typer.Option("--log-file", help="Write the log there instead; it begins again when it is large.")
    ] = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Claim approved leases and carry deployments to their end, with CP20's key.

    Example: calyx executor run --until-idle

    It can be stopped at any moment, also by kill -9: the next run looks at the ledger and the machines, and goes on.
    SIGTERM lets what is under way on a machine come to its end.
    """
    from executor.logbook import fact_line
    from executor.rollout.endpoint import parse_listen, serving
    from executor.rollout.figures import Figures
    from executor.rollout.service import run_executor
    from executor.rollout.supervisor import Supervisor

    log = _log(log_format, log_file)
    figures = Figures(time.monotonic)
    with ExitStack() as stack:
        address = None if listen is None else parse_listen(listen)
        place = stack.enter_context(opened(home, here=True))
        stop = stack.enter_context(stopping())
        if address is not None:
            port = stack.enter_context(serving(address, figures))
            log(fact_line(f"health and metrics on {address[0]} port {port}", event="LISTENING", port=port))
        try:
            result = run_executor(
                place,
                until_idle=until_idle,
                wait=stop.wait,
                log=log,
                accept_clock=accept_clock,
                standby=standby,
                stale_s=takeover_after,
                figures=figures,
                supervisor=Supervisor(os.environ, time.monotonic),
            )
        except CalyxError as error:
            _log_end(log, error, log_format, log_file)
            raise
    if stop.signal == signal.SIGINT:
        note("interrupted; what is under way goes on with the next calyx executor run")
        raise typer.Exit(128 + signal.SIGINT)
    raise typer.Exit(result)


def _log(log_format: str, log_file: Path | None) -> Log:
    """Where the lines of this run go: to standard output, for programs to standard error, or to a file."""
    if log_format == "text" and log_file is None:
        return log_line
    from executor.logbook import LogFile, telling

    return telling(note if log_file is None else LogFile(log_file).write, now_text, as_json=log_format == "json")


def _log_end(log: Log, error: CalyxError, log_format: str, log_file: Path | None) -> None:
    """Let a log that programs read end with why the run did; people read it on standard error anyway."""
    if log_format == "json" or log_file is not None:
        from executor.logbook import fact_line

        log(fact_line(str(error), level="error", event="ENDED", code=error.code))


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove old releases that nothing needs any more. An executor that runs does it by itself, once an hour.

    Example: calyx executor prune --dry-run

    What is served, what was served before it, what a rollback within retention needs, and what a process has in use
    stay. The ledger and its objects are not touched. Beside an executor only --dry-run works.
    """
    from executor.rollout.service import prune_hosts

    rows, failed = [], []
    with opened(home, here=True) as place:
        for instance, found in prune_hosts(place, dry_run=dry_run):
            if isinstance(found, CalyxError):
                failed.append({"instance": instance.name, "code": found.code, "message": found.message})
                note(f"instance {instance.name}: {found}")
                continue
            rows.append({"instance": instance.name, "removed": list(found.removed), "in_use": list(found.in_use)})
    if as_json:
        say_json({"dry_run": dry_run, "instances": rows, "failed": failed})
    else:
        word = "would be removed" if dry_run else "removed"
        for row in rows:
            say(*(f"{row['instance']}  {tree}  {word}" for tree in row["removed"]))
            say(*(f"{row['instance']}  {tree}  in use, stays" for tree in row["in_use"]))
        if not any(row["removed"] or row["in_use"] for row in rows):
            say("nothing to remove")
    if failed:
        raise typer.Exit(Exit.UNAVAILABLE)
