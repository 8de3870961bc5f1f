"""Hooks on a real host: what they get, how they fail, what is kept of them, and that nothing of them stays."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from clocks import OVER, StandsUntil
from fleetsim import Simulation
from instances import FENCE, LIFETIME_S, directory_plan, refuse
from station import Station, fleet, matrix, tree_digest

import executor.hosts.hooks
from executor.hosts.command import MAX_OUTPUT
from executor.hosts.host import HookRun
from executor.hosts.local_host import LocalHost
from executor.hosts.processes import HOOK_MARKER
from executor.rollout.effects import MAX_WARNING, Step, restore_instance
from executor.trees.tree import Tree
from executor.views.progress import measure_progress
from keys.errors import Exit
from ledger.objects import DirectoryObjects
from policies.fleet import Instance
from policies.fold.deployment import Phase
from policies.kinds import ABSENT, Artifact
from policies.matrix import Hook


def hook(text: str, *words: str, verb: str = "drain", timeout_s: int = 30) -> HookRun:
    """A hook that runs a Python program."""
    argv = (sys.executable, "-I", "-c", f"import signal; signal.alarm({LIFETIME_S}); exec({text!r})", *words)
    return HookRun.model_validate({"verb": verb, "name": "balance", "hook": Hook(argv=argv, timeout_s=timeout_s)})


def log_of(instance: Instance) -> str:
    return (Path(instance.root) / ".calyx" / "hooks.log").read_text()


def test_hook_gets_its_words_as_they_are_and_a_clean_environment(
    host: LocalHost, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the executor")
    host.run_hook(
        instance, hook("import os,sys; print(sys.argv[1:], dict(os.environ), os.getcwd())", "$(id) ;*"), FENCE
    )
    log = log_of(instance)
    assert "['$(id) ;*']" in log
    assert "SECRET" not in log
    for said in ("'CALYX_HOOK': 'drain'", "'CALYX_NAME': 'web-1'", f"'{HOOK_MARKER}': '{instance.root}'", "'LANG'"):
        assert said in log
    assert log.rstrip().endswith(instance.root)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("print('no\\x1b[2J backend'); raise SystemExit(3)", "ended with 3: no\\x1b[2J backend"),
        ("import os,signal; os.kill(os.getpid(), signal.SIGTERM)", "ended with -15"),
    ],
)
@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_hook_that_fails_says_which_and_why(
    host: LocalHost, instance: Instance, text: str, why: str, verb: str
) -> None:
    error = refuse(f"{verb}_failed", lambda: host.run_hook(instance, hook(text, verb=verb), FENCE))
    assert "the hook balance failed" in error.message
    assert error.message.endswith(why)
    assert "hooks.log" in error.hint
    assert log_of(instance).startswith(f"calyx: {verb} balance: ")


def test_hook_without_a_program_fails(host: LocalHost, instance: Instance) -> None:
    run = HookRun(verb="drain", name="balance", hook=Hook(argv=("/nowhere/balance",), timeout_s=5))
    assert "No such file" in refuse("drain_failed", lambda: host.run_hook(instance, run, FENCE)).message


def test_hook_that_hangs_is_ended_with_all_that_it_started(
    objects: DirectoryObjects, instance: Instance, tmp_path: Path
) -> None:
    host = LocalHost(objects, monotonic=StandsUntil(tmp_path / "pids"))
    child = f"import signal,time; signal.alarm({LIFETIME_S}); time.sleep({LIFETIME_S})"
    text = f"""
import os, subprocess, sys, time
away = subprocess.Popen([sys.executable, "-I", "-c", {child!r}], start_new_session=True)
near = subprocess.Popen([sys.executable, "-I", "-c", {child!r}])
open({str(tmp_path / "new")!r}, "w").write(f"{{away.pid}} {{near.pid}}")
os.rename({str(tmp_path / "new")!r}, {str(tmp_path / "pids")!r})
print("waiting", flush=True)
time.sleep({LIFETIME_S})
"""
    error = refuse("drain_failed", lambda: host.run_hook(instance, hook(text, timeout_s=3), FENCE))
    assert error.message.endswith("took longer than 3 s: waiting")
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def test_hook_that_ended_while_the_machine_stood_still_was_in_time(
    objects: DirectoryObjects, instance: Instance
) -> None:
    """Its time is over at the first look, and by then it has ended."""
    others, looks = set(psutil.Process().children()), iter([0.0, OVER])

    def late() -> float:
        for child in set(psutil.Process().children()) - others:
            while child.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)  # another process
        return next(looks)

    LocalHost(objects, monotonic=late).run_hook(instance, hook("print('done')", timeout_s=3), FENCE)
    assert log_of(instance) == "calyx: drain balance: ended with 0\ndone\n"


def test_hook_leaves_nothing_running_and_is_not_waited_for_by_its_open_output(
    host: LocalHost, instance: Instance, tmp_path: Path
) -> None:
    text = f"""
import os
if (pid := os.fork()) == 0:
    os.setsid()
    import time; time.sleep({LIFETIME_S})
open({str(tmp_path / "pid")!r}, "w").write(str(pid))
"""
    host.run_hook(instance, hook(text), FENCE)
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


def test_hook_that_outlived_its_executor_is_ended_before_the_next(host: LocalHost, instance: Instance) -> None:
    left = subprocess.Popen(
        [sys.executable, "-I", "-c", f"import time; time.sleep({LIFETIME_S})"], env={HOOK_MARKER: instance.root}
    )
    other = subprocess.Popen(
        [sys.executable, "-I", "-c", f"import time; time.sleep({LIFETIME_S})"], env={HOOK_MARKER: f"{instance.root}0"}
    )
    try:
        host.run_hook(instance, hook("pass"), FENCE)
        left.wait(60)
        assert other.poll() is None
    finally:
        for process in (left, other):
            with process:
                process.kill()


def test_hook_that_prints_without_end_keeps_its_last_lines(
    host: LocalHost, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.run_hook(instance, hook("print('x\\n' * 2_000_000 + 'last')"), FENCE)
    assert len(log_of(instance)) < MAX_OUTPUT + 200
    assert log_of(instance).endswith("x\nlast\n")
    monkeypatch.setattr(executor.hosts.hooks, "_MAX_LOG", 1000)
    for _ in range(3):
        host.run_hook(instance, hook("print('y' * 600)"), FENCE)
    names = sorted(path.name for path in (Path(instance.root) / ".calyx").glob("hooks*"))
    assert names == ["hooks.log", "hooks.log.1"]


def test_hook_of_an_older_term_does_not_run(host: LocalHost, instance: Instance, tmp_path: Path) -> None:
    host.run_hook(instance, hook("pass"), FENCE.model_copy(update={"epoch": 2}))
    refuse("fenced", lambda: host.run_hook(instance, hook(f"open({str(tmp_path / 'ran')!r}, 'w')"), FENCE))
    assert not (tmp_path / "ran").exists()


# How an executor acts on what they do: against the real law, on a fleet in memory.

ALLOWED = {name: {"argv": [f"/usr/local/bin/{name}"], "timeout_s": 5} for name in ("out", "in", "other")}
NAMES = ["web-01", "web-02"]
OLD = tree_digest("v1")


def begin(
    root: Path, *, before: str = OLD, probe: str | None = None, **lease: Any
) -> tuple[Simulation, tuple[str, str], str]:
    station = Station(root, policy=matrix(tiers=[50, 100], bake_s=2, interval_s=1, hooks=ALLOWED))
    station.genesis()
    probed = None if probe is None else {"hook": probe}
    station.enact_fleet(fleet(len(NAMES), hooks={"drain": "out", "undrain": "in"}, probe=probed))
    scene = Simulation(station)
    if before != ABSENT:
        scene.serve(before)
    return scene, *scene.ask(before, NAMES, **lease)


def test_each_instance_is_drained_before_the_flip_and_undrained_after(tmp_path: Path) -> None:
    scene, _, new = begin(tmp_path)
    assert scene.run() is Exit.DONE
    for name in NAMES:
        assert scene.hosts.places[name].hooks == [("drain", "out", OLD), ("undrain", "in", new)]
        did = [each.split()[0] for each in scene.killer.names if each.endswith(name)]
        assert did.index("stage") < did.index("drain") < did.index("flip") < did.index("reload") < did.index("undrain")


def test_hook_of_the_lease_takes_the_place_of_the_fleets(tmp_path: Path) -> None:
    scene, _, new = begin(tmp_path, hooks={"drain": "other", "undrain": None})
    assert scene.run() is Exit.DONE
    assert scene.hosts.places["web-01"].hooks == [("drain", "other", OLD), ("undrain", "in", new)]


def test_probe_is_the_policy_s_command_forward_and_back(tmp_path: Path) -> None:
    scene, _, new = begin(tmp_path / "good", probe="other")
    assert scene.run() is Exit.DONE
    way = [("drain", "out", OLD), ("probe", "other", new), ("undrain", "in", new)]
    assert [scene.hosts.places[name].hooks for name in NAMES] == [way, way]
    scene, _, new = begin(tmp_path / "bad", probe="other")
    scene.bad[new] = "breach"
    assert scene.run() is Exit.ROLLED_BACK
    back = [("drain", "out", new), ("probe", "other", OLD), ("undrain", "in", OLD)]
    assert [place.hooks[3:] for place in scene.hosts.places.values() if place.hooks] == [back]


def test_failed_drain_halts_before_the_flip_and_is_undone(tmp_path: Path) -> None:
    scene, lease, _ = begin(tmp_path)
    for name in NAMES:
        scene.hosts.fail["drain", name] = "drain_failed"
    assert scene.run() is Exit.ROLLED_BACK
    halted = scene.station.state.deployments[lease[1]]
    assert halted.halted_cause == "failed"
    assert "drain_failed" in str(halted.halted_text)
    assert not any("flip" in name for name in scene.killer.names)
    touched = [scene.hosts.places[name].hooks for name in halted.intended]
    assert touched == [[("undrain", "in", OLD)]]


def test_failed_undrain_counts_as_not_applied(tmp_path: Path) -> None:
    scene, lease, _ = begin(tmp_path)
    for name in NAMES:
        scene.hosts.fail["undrain", name] = "undrain_failed"
    assert scene.run() is Exit.ROLLED_BACK
    deployment = scene.station.state.deployments[lease[1]]
    assert deployment.applied == set()
    assert {place.serving for place in scene.hosts.places.values()} == {OLD}


def test_failed_hook_keeps_nothing_from_being_restored_and_is_said_in_the_ledger(tmp_path: Path) -> None:
    scene, lease, new = begin(tmp_path)
    scene.bad[new] = "breach"
    say = scene.monitor

    def break_hooks_then_speak() -> None:
        deployment = scene.station.state.deployments[lease[1]]
        if deployment.phase is Phase.BAKING:
            for name in NAMES:
                scene.hosts.fail["drain", name], scene.hosts.fail["undrain", name] = "drain_failed", "undrain_failed"
        say()

    scene.monitor = break_hooks_then_speak  # type: ignore[method-assign]  # a balancer that goes away meanwhile
    assert scene.run() is Exit.ROLLED_BACK
    assert {place.serving for place in scene.hosts.places.values()} == {OLD}
    restored = [line for line in scene.log if "INSTANCE_RESTORED" in line]
    assert len(restored) == 1
    assert "drain of web-0" in restored[0]
    assert "undrain of web-0" in restored[0]
    deployment = scene.station.state.deployments[lease[1]]
    assert deployment.warnings.keys() == deployment.intended
    assert "WARNING instance web-0" in measure_progress(deployment, scene.station.clock.now).note


def test_other_refusal_of_a_hook_on_the_way_back_is_no_warning(tmp_path: Path) -> None:
    scene, lease, new = begin(tmp_path)
    scene.bad[new] = "breach"
    for name in NAMES:
        scene.hosts.fail["undrain", name] = "host_busy"
    assert scene.run() is Exit.ROLLBACK_FAILED
    assert scene.station.state.deployments[lease[1]].failed


def test_nothing_is_drained_where_nothing_is_deployed(tmp_path: Path) -> None:
    scene, _, new = begin(tmp_path / "good", before=ABSENT)
    assert scene.run() is Exit.DONE
    assert scene.hosts.places["web-01"].hooks == [("undrain", "in", new)]
    scene, _, new = begin(tmp_path / "bad", before=ABSENT)
    scene.bad[new] = "breach"
    assert scene.run() is Exit.ROLLED_BACK
    hooks = [place.hooks for place in scene.hosts.places.values() if place.hooks]
    assert hooks == [[("undrain", "in", new), ("drain", "out", new)]]


def test_warning_fits_into_an_entry_whatever_a_hook_prints(host: LocalHost, instance: Instance, one: Tree) -> None:
    host.stage(instance, directory_plan(one))
    host.flip(instance, ABSENT, one.digest, FENCE)
    noisy = hook("print(chr(0x2028) * 5000); raise SystemExit(1)", "x", verb="undrain")
    step = Step(instance, one.digest, one.digest, Artifact(type="directory", sha256=one.digest, size=1), noisy, noisy)
    warning = restore_instance(host, step, FENCE).warning
    assert warning is not None
    assert warning.startswith("the hook balance failed")
    assert len(warning) <= MAX_WARNING
    assert warning.isprintable()
