"""A probe that is a command of the policy, on a real host: it passes, fails, hangs, floods, and leans on nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest
from clocks import StandsUntil
from instances import (
    FENCE,
    LIFETIME_S,
    deploy,
    free_port,
    refuse,
    service_instance,
    service_tree,
)

from executor.hosts.command import MAX_OUTPUT
from executor.hosts.host import Check, Fence, HookRun
from executor.hosts.local_host import LocalHost
from executor.hosts.processes import HOOK_MARKER
from executor.trees.tree import Tree
from ledger.objects import DirectoryObjects
from policies.fleet import Instance, Probe
from policies.kinds import ABSENT
from policies.matrix import Hook


def check(text: str, *words: str, limit_s: int = 30, name: str = "health", fence: Fence = FENCE) -> Check:
    """A probe's command that runs a Python program."""
    argv = (sys.executable, "-I", "-c", f"import signal; signal.alarm({LIFETIME_S}); exec({text!r})", *words)
    run = HookRun(verb="probe", name=name, hook=Hook(argv=argv, timeout_s=limit_s))
    return Check(run=run, fence=fence)


def log_of(instance: Instance) -> str:
    return (Path(instance.root) / ".calyx" / "hooks.log").read_text()


@pytest.fixture
def probed(host: LocalHost, instance: Instance, one: Tree) -> Instance:
    """An instance that runs the tree `one`, has no process of ours, and names a command."""
    deploy(host, instance, one)
    return instance.model_copy(update={"probe": Probe(hook="health", timeout_s=60)})


def hurried(instance: Instance) -> Instance:
    """The same with a probe that may take a second."""
    assert instance.probe is not None
    return instance.model_copy(update={"probe": instance.probe.model_copy(update={"timeout_s": 1})})


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that begins late, on a host that stalls, is not taken for one that hangs."""
    for name in ("hosts.local_host._STOPPED_S", "hosts.probe._TRY_S", "hosts.probe._LEAST_S"):
        monkeypatch.setattr(f"executor.{name}", 60.0)


def test_command_that_ends_with_0_passes(host: LocalHost, probed: Instance, one: Tree) -> None:
    host.settle(probed, one.digest, check("print('well')"))
    assert log_of(probed) == "calyx: probe health: ended with 0\nwell\n"


def test_command_gets_its_words_as_they_are_and_a_clean_environment(
    host: LocalHost, probed: Instance, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the executor")
    said = "sys.argv[1:], sorted(os.environ), os.environ['CALYX_HOOK'], os.getcwd(), sys.stdin.read()"
    text = f"import os,sys; print({said})"
    host.settle(probed, one.digest, check(text, "$(id) ;*", "$SECRET"))
    names = sorted(["CALYX_HOOK", HOOK_MARKER, "CALYX_NAME", "LANG", "PATH"])
    assert f"['$(id) ;*', '$SECRET'] {names} probe {probed.root} \n" in log_of(probed)


def test_command_that_leans_on_the_environment_fails(
    host: LocalHost, probed: Instance, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the executor")
    error = refuse(
        "probe_failed",
        lambda: host.settle(hurried(probed), one.digest, check("import os; print(os.environ['SECRET'])")),
    )
    assert error.message.endswith("the hook health: " + f"{sys.executable} ended with 1: KeyError: 'SECRET'")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("print('no\\x1b[2J queue'); raise SystemExit(3)", "ended with 3: no\\x1b[2J queue"),
        ("import os,signal; os.kill(os.getpid(), signal.SIGTERM)", "ended with -15"),
    ],
)
def test_command_that_fails_says_why(host: LocalHost, probed: Instance, one: Tree, text: str, why: str) -> None:
    error = refuse("probe_failed", lambda: host.settle(hurried(probed), one.digest, check(text)))
    assert error.message.startswith("the probe did not pass in 1 s: the hook health: ")
    assert error.message.endswith(why)


def test_command_is_tried_until_it_passes_and_its_last_run_is_kept(
    host: LocalHost, probed: Instance, one: Tree, tmp_path: Path
) -> None:
    place = str(tmp_path / "tries")
    text = f"import os; open({place!r}, 'a').write('x'); n = os.stat({place!r}).st_size; print(n); exit(n < 3)"
    host.settle(probed, one.digest, check(text))
    assert log_of(probed) == "calyx: probe health: ended with 0\n3\n"


def test_probe_of_what_something_else_runs_is_not_tried_without_a_pause(
    objects: DirectoryObjects, probed: Instance, one: Tree
) -> None:
    pauses: list[float] = []
    host = LocalHost(objects, monotonic=lambda: sum(pauses), pause=pauses.append)
    refuse("probe_failed", lambda: host.settle(hurried(probed), one.digest, check("exit(1)")))
    assert sum(pauses) == pytest.approx(1)
    assert len(pauses) < 12


def test_command_that_hangs_once_is_ended_at_its_own_limit_and_tried_again(
    host: LocalHost, probed: Instance, one: Tree, tmp_path: Path
) -> None:
    text = f"""
import os, time
if not os.path.exists({str(tmp_path / "tried")!r}):
    open({str(tmp_path / "tried")!r}, "w").close()
    time.sleep({LIFETIME_S})
"""
    host.settle(probed, one.digest, check(text, limit_s=1))


def test_command_that_hangs_is_ended_with_all_that_it_started(
    objects: DirectoryObjects, probed: Instance, one: Tree, tmp_path: Path
) -> None:
    host = LocalHost(objects, monotonic=StandsUntil(tmp_path / "pids"))
    child = f"import signal,time; signal.alarm({LIFETIME_S}); time.sleep({LIFETIME_S})"
    text = f"""
import os, subprocess, sys, time
away = subprocess.Popen([sys.executable, "-I", "-c", {child!r}], start_new_session=True)
with open({str(tmp_path / "new")!r}, "a") as file:
    print(away.pid, os.getpid(), file=file)
if not os.path.exists({str(tmp_path / "pids")!r}):
    os.link({str(tmp_path / "new")!r}, {str(tmp_path / "pids")!r})
print("waiting", flush=True)
time.sleep({LIFETIME_S})
"""
    error = refuse("probe_failed", lambda: host.settle(probed, one.digest, check(text, limit_s=2)))
    assert "took longer than" in error.message
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert pids
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def test_command_that_writes_without_end_is_ended_and_fills_no_disk(
    host: LocalHost, probed: Instance, one: Tree
) -> None:
    flood = check("while True: print('x' * 1000)", limit_s=1)
    assert (
        "took longer than 1 s"
        in refuse("probe_failed", lambda: host.settle(hurried(probed), one.digest, flood)).message
    )
    assert len(log_of(probed)) < MAX_OUTPUT + 200


def test_command_that_nobody_allowed_is_not_run(host: LocalHost, probed: Instance, one: Tree, tmp_path: Path) -> None:
    """Who drives the host takes the command from the policy; the host runs none but the one that the fleet names."""
    other = check(f"open({str(tmp_path / 'ran')!r}, 'w')", name="other")
    refuse("probe_failed", lambda: host.settle(probed, one.digest, other))
    drain = Check(run=other.run.model_copy(update={"verb": "drain", "name": "health"}), fence=FENCE)
    refuse("probe_failed", lambda: host.settle(probed, one.digest, drain))
    refuse("probe_failed", lambda: host.settle(probed, one.digest))
    assert not (tmp_path / "ran").exists()


def test_command_of_an_older_term_does_not_run(host: LocalHost, probed: Instance, one: Tree, tmp_path: Path) -> None:
    host.settle(probed, one.digest, check("pass", fence=FENCE.model_copy(update={"epoch": 2})))
    late = check(f"open({str(tmp_path / 'ran')!r}, 'w')")
    refuse("fenced", lambda: host.settle(probed, one.digest, late))
    assert not (tmp_path / "ran").exists()


# Beside a service of ours.

ASK = "import sys,urllib.request as r; r.urlopen('http://127.0.0.1:' + sys.argv[1]).read()"


@pytest.fixture
def serving(tmp_path: Path) -> Instance:
    return service_instance(tmp_path / "srv", free_port())


def with_probe(instance: Instance, **members: object) -> Instance:
    return instance.model_copy(update={"probe": Probe.model_validate({"timeout_s": 60, **members})})


def test_command_proves_a_service_of_ours(
    host: LocalHost, serving: Instance, objects: DirectoryObjects, tmp_path: Path
) -> None:
    assert serving.process is not None
    tree, asked = service_tree(tmp_path, objects, "1"), check(ASK, serving.process.env["PORT"])
    serving = with_probe(serving, hook="health")
    deploy(host, serving, tree)
    try:
        host.reload(serving, FENCE, asked)
        host.settle(serving, tree.digest, asked)
        # What passes without the service says nothing of it.
        refuse("probe_not_ours", lambda: host.reload(serving, FENCE, check("pass")))
        refuse("service_exited", lambda: host.settle(serving, tree.digest, check("pass")))
    finally:
        host.stop(serving, FENCE)


def test_url_and_command_must_both_pass(
    host: LocalHost, serving: Instance, objects: DirectoryObjects, tmp_path: Path
) -> None:
    assert serving.probe is not None
    tree = service_tree(tmp_path, objects, "1")
    both = with_probe(serving, url=serving.probe.url, hook="health")
    deploy(host, both, tree)
    try:
        # The URL proves whose service it is, so the command may pass without one.
        host.reload(both, FENCE, check("pass"))
        host.settle(both, tree.digest, check("pass"))
        error = refuse("probe_failed", lambda: host.settle(hurried(both), tree.digest, check("exit(1)")))
        assert "the hook health" in error.message
        mute = with_probe(both, url=f"http://127.0.0.1:{free_port()}/", hook="health")
        error = refuse("probe_failed", lambda: host.settle(hurried(mute), tree.digest, check("pass")))
        assert "did not answer 200: ConnectError" in error.message
    finally:
        host.stop(both, FENCE)


def test_service_that_dies_meanwhile_is_not_waited_for(
    host: LocalHost, serving: Instance, objects: DirectoryObjects, tmp_path: Path
) -> None:
    tree = service_tree(tmp_path, objects, "1")
    serving = with_probe(serving, hook="health", timeout_s=LIFETIME_S)
    deploy(host, serving, tree)
    try:
        host.reload(serving, FENCE, check("exit(1)"))
        running = host.inspect(serving).process
        assert running is not None
        killer = check(f"import os; os.kill({running.pid}, 9); exit(1)")
        refuse("service_exited", lambda: host.settle(serving, tree.digest, killer))
    finally:
        host.stop(serving, FENCE)


def test_instance_that_waits_to_be_adopted_is_probed_too(host: LocalHost, instance: Instance) -> None:
    current = Path(instance.root) / "current"
    current.mkdir(parents=True)
    probed = instance.model_copy(update={"probe": Probe(hook="health", timeout_s=60)})
    tree = host.inspect(probed).tree
    host.settle(probed, tree, check("pass"))
    refuse("probe_failed", lambda: host.settle(hurried(probed), tree, check("exit(1)")))


def test_nothing_deployed_has_no_probe(host: LocalHost, instance: Instance) -> None:
    probed = instance.model_copy(update={"probe": Probe(hook="health", timeout_s=1)})
    host.settle(probed, ABSENT, check("exit(1)"))
