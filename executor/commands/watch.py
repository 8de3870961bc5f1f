"""`calyx watch`: a rollout as it goes, live on a terminal, a line for each change in a pipe."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Final

import typer

from executor.commands.common import HomeOption, JsonOption, check_begun, find_lease, opened
from executor.commands.terminal import on_terminal, say_json, say_theirs
from executor.escape import escape
from keys.errors import Exit, UsageError

if TYPE_CHECKING:
    from rich.console import Group

    from executor.progress import Progress
    from policies.deployment import Deployment
    from policies.replay import Replay
    from policies.state import State

LOOK_S: Final = 0.5
MAX_INSTANCES: Final = 60
_EXITS: Final = {"ROLLED_BACK": Exit.ROLLED_BACK, "ROLLBACK_FAILED": Exit.ROLLBACK_FAILED, "ABORTED": Exit.REFUSED}
_COLOURS: Final = {"pass": "green", "breach": "red", "abort": "red", "missing": "yellow", "inconclusive": "yellow"}


def watch(
    lease: Annotated[str | None, typer.Argument(metavar="[LEASE]", help="Its id; else the running deployment.")] = None,
    home: HomeOption = None,
    once: Annotated[bool, typer.Option("--once", help="Show it as it is now, and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Follow a rollout: its tiers, instances, gates and time left.

    Example: calyx watch LEASE-20260105-090000

    A lease that is not claimed yet is waited for. Ends with the deployment: 0 when it completed, 3 when it was rolled
    back, 4 when the rollback failed. With --json each change is one JSON object on a line of its own.
    """
    from executor.home import system_clock
    from executor.progress import measure_progress

    with opened(home) as place:
        replay = place.open_replay()
        digest = _choose(check_begun(replay.sync()), lease)
        _wait_for_claim(replay, digest, once=once, as_json=as_json)
        if as_json:
            _objects(replay, digest, once=once)
        elif on_terminal() and not once:
            _live(replay, digest)
        else:
            _plain(replay, digest, once=once)
        progress = measure_progress(replay.state.deployments[digest], system_clock())
    if progress.ended:
        raise typer.Exit(_EXITS.get(progress.phase, Exit.DONE))


def _choose(state: State, name: str | None) -> str:
    """Digest of the lease to watch. Raises: UsageError (`unknown_lease`, `nothing_runs`, `which_one`)."""
    if name is not None:
        return find_lease(state, name).digest
    live = list(state.live.values())
    if not live:
        raise UsageError("nothing_runs", "no deployment is running", hint="calyx status lists what there is")
    if len(live) > 1:
        names = ", ".join(state.leases[digest].lease.id for digest in live)
        raise UsageError("which_one", f"{len(live)} deployments are running: {names}", hint="name one of them")
    return live[0]


def _wait_for_claim(replay: Replay, digest: str, *, once: bool, as_json: bool) -> None:
    """Say what a lease waits for until it is claimed. Raises: UsageError (`not_claimed`) where nobody waits."""
    from executor.home import system_clock
    from executor.progress import describe_unclaimed

    said = ""
    while digest not in replay.state.deployments:
        lease = replay.state.leases[digest]
        standing, note = describe_unclaimed(replay.state, lease, system_clock())
        line = f"{lease.lease.id} on {lease.lease.target}: {standing}, {note}"
        if once or standing in {"denied", "expired", "base_moved"}:
            verb = "lease rebase" if standing == "base_moved" else "check"
            raise UsageError("not_claimed", f"{line}; not claimed", hint=f"calyx {verb} {lease.lease.id}")
        if line != said:
            if as_json:
                say_json({"lease": lease.lease.id, "target": lease.lease.target, "phase": standing, "note": note})
            else:
                say_theirs(line)
            said = line
        time.sleep(LOOK_S)
        replay.sync()


def _plain(replay: Replay, digest: str, *, once: bool) -> None:
    from executor.gates import RunningJudge
    from executor.home import system_clock
    from executor.progress import measure_progress

    shown: list[str] = []
    judge = RunningJudge()
    while True:
        deployment = replay.sync().deployments[digest]
        progress = measure_progress(deployment, system_clock(), judge)
        lines = _lines(progress)
        say_theirs(*(line for line in lines if line not in shown))
        shown = lines
        if progress.ended or once:
            return
        time.sleep(LOOK_S)


def _objects(replay: Replay, digest: str, *, once: bool) -> None:
    from executor.gates import RunningJudge
    from executor.home import system_clock
    from executor.progress import measure_progress

    shown: Progress | None = None
    judge = RunningJudge()
    while True:
        progress = measure_progress(replay.sync().deployments[digest], system_clock(), judge)
        # The time left changes by itself; it is no change of the rollout.
        if shown is None or replace(progress, left_s=None) != replace(shown, left_s=None):
            say_json(asdict(progress))
            shown = progress
        if progress.ended or once:
            return
        time.sleep(LOOK_S)


def _live(replay: Replay, digest: str) -> None:
    from rich.live import Live

    from executor.gates import RunningJudge
    from executor.home import system_clock
    from executor.progress import measure_progress

    judge = RunningJudge()

    def picture(deployment: Deployment) -> tuple[Progress, Group]:
        progress = measure_progress(deployment, system_clock(), judge)
        return progress, _picture(progress)

    progress, first = picture(replay.state.deployments[digest])
    with Live(first, auto_refresh=False) as live:
        while not progress.ended:
            time.sleep(LOOK_S)
            progress, newest = picture(replay.sync().deployments[digest])
            live.update(newest, refresh=True)


def _headline(progress: Progress) -> str:
    done, needed = progress.samples
    bake = "" if progress.left_s is None else f", {done} of {needed} samples, {progress.left_s} s of the bake left"
    return f"{progress.lease} on {progress.target}: {progress.phase} at {progress.tier} %{bake}"


def _lines(progress: Progress) -> list[str]:
    lines = [f"{progress.lease} on {progress.target}: {progress.phase} at {progress.tier} %"]
    for tier in progress.tiers:
        states = list(tier.instances.values())
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        lines.append(f"  tier {tier.tier} %: {tier.state}, {counts}")
    lines += [f"  gate {gate.gate}: {gate.state}, {gate.text}" for gate in progress.gates]
    return [*lines, f"  {progress.note}"] if progress.note else lines


def _picture(progress: Progress) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    tiers = Table("tier", "state", "instances", box=None, pad_edge=False)
    for tier in progress.tiers:
        names = [f"{name} {state}" for name, state in tier.instances.items()]
        rest = f" and {len(names) - MAX_INSTANCES} more" if len(names) > MAX_INSTANCES else ""
        tiers.add_row(f"{tier.tier} %", tier.state, Text(escape(", ".join(names[:MAX_INSTANCES])) + rest))
    gates = Table("gate", "", "value", "compared with", "limit", "", box=None, pad_edge=False)
    for gate in progress.gates:
        gates.add_row(
            Text(escape(gate.gate)),
            Text(gate.state, style=_COLOURS.get(gate.state, "")),
            gate.value,
            gate.baseline,
            gate.limit,
            Text(escape(gate.text)),
        )
    parts = [tiers, gates] if progress.gates else [tiers]
    return Group(Text(escape(_headline(progress)), style="bold"), *parts, Text(escape(progress.note)))
