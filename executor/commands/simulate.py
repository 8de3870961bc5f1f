"""What `calyx policy simulate` reads and prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from executor.commands.common import check_begun, find_lease, opened
from executor.commands.files import MAX_JSON, read_text
from executor.commands.terminal import note, say, say_json, say_theirs
from executor.user_paths import expand
from keys.errors import Exit, FormatError, UsageError
from keys.words import counted

if TYPE_CHECKING:
    from executor.metrics.recording import Recording
    from executor.metrics.simulate import GateSaid, Simulation, TierSaid
    from policies.matrix import CapabilityMatrix


def simulate_policy(
    policy: CapabilityMatrix,
    metrics: Path | None,
    lease: str | None,
    columns: Mapping[str, str],
    home: str | None,
    *,
    as_json: bool,
) -> None:
    """Replay a file, or the samples of a deployment, and say what came of it.

    Raises: typer.Exit (1) when a tier would have been halted; UsageError (`unknown_field`, `file_unreadable`); Refused
    (`unknown_lease`); FormatError (`bad_recording`).
    """
    from executor.metrics.recording import FIELDS, REST
    from executor.metrics.simulate import simulate

    unknown = [name for name in columns if name.removeprefix(REST) not in FIELDS]
    if unknown:
        raise UsageError("unknown_field", f"no field is called {unknown[0]}", hint=f"one of {', '.join(FIELDS)}")
    recording = _of_file(metrics, columns) if metrics is not None else _of_lease(str(lease), home)
    simulation = simulate(policy.deploy_production, recording)
    if not simulation.tiers:
        raise FormatError("the recording is one row, and a tier needs more", code="bad_recording")
    if as_json:
        say_json(_json(simulation))
    else:
        _say(simulation, one_rollout=bool(recording.parts))
    if simulation.halted:
        raise typer.Exit(Exit.REFUSED)


def _of_file(path: Path, columns: Mapping[str, str]) -> Recording:
    from executor.metrics.recording import read_recording

    path = expand(path)
    text = read_text(path, MAX_JSON)
    try:
        return read_recording(path.name, text, columns)
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", code=error.code, hint=error.hint, **error.fields) from None


def _of_lease(name: str, home: str | None) -> Recording:
    from executor.metrics.recording import Recorder

    with opened(home) as place:
        digest = find_lease(check_begun(place.open_replay().sync()), name).digest
        recorder = Recorder(digest)
        place.open_replay(recorder.observe).sync()
        return recorder.recording()


def _say(simulation: Simulation, *, one_rollout: bool) -> None:
    from keys.values import format_time

    for left in simulation.left_out:
        note(f"the gate {left} is left out: what it judges was not recorded")
    for tier in simulation.tiers:
        name = f"tier {tier.tier} %" if one_rollout else f"tier {tier.tier}"
        say_theirs(
            f"{name}, from {format_time(tier.began)}: {_outcome(tier)} after {tier.ended - tier.began} s,"
            f" {tier.whole} of {counted(tier.needed, 'whole sample')}: {tier.text}"
        )
        for gate in tier.gates:
            counts = ", ".join(f"{count} {state}" for state, count in gate.counts.items())
            say_theirs(f"  {gate.gate}: {gate.state}: {gate.text} ({counts or 'no sample'})")
    passed = sum(tier.outcome == "passed" for tier in simulation.tiers)
    say(f"{counted(len(simulation.tiers), 'tier')}: {passed} passed, {simulation.halted} would have been halted")


def _outcome(tier: TierSaid) -> str:
    return f"halted by {tier.gate or tier.verdict}" if tier.outcome == "halted" else tier.outcome


def _json(simulation: Simulation) -> dict[str, Any]:
    from keys.values import format_time

    tiers = []
    for tier in simulation.tiers:
        gates = [{**_without(gate, "first_bad"), "first_bad_at": _time(gate.first_bad)} for gate in tier.gates]
        times = {"began_at": format_time(tier.began), "ended_at": format_time(tier.ended)}
        samples = {"samples": {"taken": tier.samples, "whole": tier.whole, "needed": tier.needed}}
        left = _without(tier, "began", "ended", "samples", "whole", "needed")
        tiers.append({**left, **times, **samples, "gates": gates})
    return {"halted": simulation.halted, "left_out": list(simulation.left_out), "tiers": tiers}


def _time(seconds: int | None) -> str | None:
    from keys.values import format_time

    return None if seconds is None else format_time(seconds)


def _without(value: GateSaid | TierSaid, *names: str) -> dict[str, Any]:
    return {name: each for name, each in asdict(value).items() if name not in names}
