"""`calyx watch`: a rollout as it goes, live on a terminal, a line for each change in a pipe."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final

import typer

from executor.commands.common import HomeOption, JsonOption, check_begun, find_lease, opened
from executor.commands.forms import progress_form
from executor.commands.terminal import on_terminal, say_json, say_theirs
from executor.escape import escape
from keys.errors import Exit, LawRefused, Refused, UsageError
from keys.values import format_time
from keys.words import counted

if TYPE_CHECKING:
    from rich.console import Group

    from executor.views.deeds import Deed
    from executor.views.progress import Progress, TierProgress
    from ledger.store import Reader
    from policies.fold.state import State
    from policies.replay import Replay

LOOK_S: Final = 0.5
MAX_INSTANCES: Final = 60
MAX_DEEDS: Final = 20
"""The newest ones, which a terminal shows; a pipe and a program get all of them."""
_EXITS: Final = {"ROLLED_BACK": Exit.ROLLED_BACK, "ROLLBACK_FAILED": Exit.ROLLBACK_FAILED, "ABORTED": Exit.REFUSED}
_DEAD: Final = {
    "denied": "calyx propose asks for the change anew",
    "expired": "calyx lease rebase {} asks for the change anew",
    "void": "calyx lease rebase {} asks for the change anew",
    "base_moved": "calyx lease rebase {} asks for the change anew",
}
"""Where a lease that was not claimed waits for nothing, and what helps."""
_COLOURS: Final = {"pass": "green", "breach": "red", "abort": "red", "missing": "yellow", "inconclusive": "yellow"}


def watch(
    lease: Annotated[str | None, typer.Argument(metavar="[LEASE]", help="Its id; else the running deployment.")] = None,
    home: HomeOption = None,
    once: Annotated[bool, typer.Option("--once", help="Show it as it is now, and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Follow a rollout: tiers, instances, gates, time left, who did what.

    Example: calyx watch LEASE-20260105-090000

    A lease that is not claimed yet is waited for. Ends with the deployment: 0 when it completed, 3 when it was rolled
    back, 4 when the rollback failed, 1 when it was aborted before anything was touched, or the lease will not be
    claimed. With --json each change is one JSON object on a line of its own.
    """
    from executor.homes.home import system_clock
    from executor.views.progress import measure_progress

    with opened(home) as place:
        replay = place.open_replay()
        digest = _choose(check_begun(replay.sync()), lease)
        _wait_for_claim(replay, digest, once=once, as_json=as_json)
        looks = _Looks(replay, place.open_store(), digest)
        if as_json:
            _objects(looks, once=once)
        elif on_terminal() and not once:
            _live(looks)
        else:
            _plain(looks, once=once)
        progress = measure_progress(replay.state.deployments[digest], system_clock())
    if progress.ended:
        raise typer.Exit(_EXITS.get(progress.phase, Exit.DONE))


def _choose(state: State, name: str | None) -> str:
    """Digest of the lease to watch. Raises: UsageError (`which_one`); Refused (`unknown_lease`, `nothing_runs`)."""
    if name is not None:
        return find_lease(state, name).digest
    live = list(state.live.values())
    if not live:
        raise Refused("nothing_runs", "no deployment is running", hint="calyx status lists what there is")
    if len(live) > 1:
        names = ", ".join(state.leases[digest].lease.id for digest in live)
        raise UsageError(
            "which_one", f"{counted(len(live), 'deployment')} are running: {names}", hint="name one of them"
        )
    return live[0]


def _wait_for_claim(replay: Replay, digest: str, *, once: bool, as_json: bool) -> None:
    """Say what a lease waits for until it is claimed. Raises: LawRefused (`not_claimed`) for one that waits no more;
    typer.Exit where one look was asked for.
    """
    from executor.homes.home import system_clock
    from executor.views.progress import describe_unclaimed

    said = ""
    while digest not in replay.state.deployments:
        lease = replay.state.leases[digest]
        standing, note = describe_unclaimed(replay.state, lease, system_clock())
        name = lease.lease.id
        line = f"{name} on {lease.lease.target}: {standing}, {note}"
        if line != said:
            if as_json:
                say_json({"lease_id": name, "target": lease.lease.target, "state": standing, "note": note})
            else:
                say_theirs(line)
            said = line
        if standing in _DEAD:
            text = f"{name} is {standing} and was not claimed, so there is no rollout to follow"
            raise LawRefused("not_claimed", text, rule="claim", hint=_DEAD[standing].format(name), entry=lease.seq)
        if once:
            raise typer.Exit(Exit.DONE)
        time.sleep(LOOK_S)
        replay.sync()


@dataclass(frozen=True, slots=True)
class _View:
    """A deployment at a time."""

    progress: Progress
    deeds: tuple[Deed, ...]


class _Looks:
    """Looks at one deployment, each of which reads only what is new."""

    def __init__(self, replay: Replay, reader: Reader, digest: str) -> None:
        from executor.metrics.gates import RunningJudge

        self._replay, self._reader, self._digest = replay, reader, digest
        self._judge = RunningJudge()
        self._deeds: tuple[Deed, ...] = ()
        self._as_of: tuple[int, int | None] | None = None

    def look(self) -> _View:
        """What is there now."""
        from executor.homes.home import system_clock
        from executor.views.deeds import list_deeds
        from executor.views.progress import measure_progress

        state = self._replay.sync()
        deployment = state.deployments[self._digest]
        bad = None if deployment.bad_verdict is None else deployment.bad_verdict.seq
        # What somebody does to a deployment is one of these entries.
        if self._as_of != (deployment.state_seq, bad):
            self._as_of = deployment.state_seq, bad
            self._deeds = list_deeds(state, deployment, self._reader)
        return _View(measure_progress(deployment, system_clock(), self._judge), self._deeds)


def _plain(looks: _Looks, *, once: bool) -> None:
    shown: list[str] = []
    while True:
        view = looks.look()
        lines = _lines(view.progress, once=once) + [f"  {_deed(deed)}" for deed in view.deeds]
        say_theirs(*(line for line in lines if line not in shown))
        shown = lines
        if view.progress.ended or once:
            return
        time.sleep(LOOK_S)


def _objects(looks: _Looks, *, once: bool) -> None:
    shown: _View | None = None
    while True:
        view = looks.look()
        # The time left changes by itself; it is no change of the rollout.
        if shown is None or _timeless(view) != _timeless(shown):
            say_json(progress_form(view.progress) | {"deeds": [_deed_json(deed) for deed in view.deeds]})
            shown = view
        if view.progress.ended or once:
            return
        time.sleep(LOOK_S)


def _timeless(view: _View) -> _View:
    return replace(view, progress=replace(view.progress, left_s=None))


def _live(looks: _Looks) -> None:
    from rich.live import Live

    view = looks.look()
    with Live(_picture(view), auto_refresh=False) as live:
        while not view.progress.ended:
            time.sleep(LOOK_S)
            view = looks.look()
            live.update(_picture(view), refresh=True)


def _deed(deed: Deed) -> str:
    role = deed.role or "no longer enrolled"
    return f"{format_time(deed.time)} {deed.by} ({role}) {deed.did}, entry {deed.entry}" + (
        f": {deed.text}" if deed.text else ""
    )


def _deed_json(deed: Deed) -> dict[str, str | int]:
    return {
        "seq": deed.entry,
        "timestamp": format_time(deed.time),
        "by": deed.by,
        "role": deed.role,
        "did": deed.did,
        "text": deed.text,
    }


def _headline(progress: Progress) -> str:
    done, needed = progress.samples
    bake = (
        ""
        if progress.left_s is None
        else f", {done} of {counted(needed, 'sample')}, {progress.left_s} s of the bake left"
    )
    return f"{progress.lease} on {progress.target}: {progress.phase} at {progress.tier} %{bake}"


def _lines(progress: Progress, *, once: bool = False) -> list[str]:
    """What a pipe reads, a line for each change; `once`: also what changes all the time."""
    short = f"{progress.lease} on {progress.target}: {progress.phase} at {progress.tier} %"
    lines = [_headline(progress) if once else short]
    for tier in progress.tiers:
        states = list(tier.instances.values())
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        lines.append(f"  tier {tier.tier} %: {tier.state}, {counts}")
        if once:
            lines.append("    " + ", ".join(_instances(tier)))
    for gate in progress.gates:
        against = f", compared with {gate.baseline}" if gate.baseline else ""
        values = f" (value {gate.value or 'none'}, limit {gate.limit}{against})" if once else ""
        lines.append(f"  gate {gate.gate}: {gate.state}, {gate.text}{values}")
    return [*lines, f"  {progress.note}"] if progress.note else lines


def _instances(tier: TierProgress) -> list[str]:
    names = [f"{name} {state}" for name, state in tier.instances.items()]
    return names[:MAX_INSTANCES] + ([f"and {len(names) - MAX_INSTANCES} more"] if len(names) > MAX_INSTANCES else [])


def _picture(view: _View) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    progress = view.progress
    tiers = Table("tier", "state", "instances", box=None, pad_edge=False)
    for tier in progress.tiers:
        tiers.add_row(f"{tier.tier} %", tier.state, Text(escape(", ".join(_instances(tier)))))
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
    deeds = [Text(escape(_deed(deed))) for deed in view.deeds[-MAX_DEEDS:]]
    return Group(Text(escape(_headline(progress)), style="bold"), *parts, Text(escape(progress.note)), *deeds)
