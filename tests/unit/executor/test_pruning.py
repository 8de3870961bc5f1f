"""Old releases are removed, and never one that anybody needs: the ledger, a rollback, or a living process."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from children import running
from fleetsim import Simulation
from instances import FENCE, LIFETIME_S, deploy, directory_plan, refuse, release, tree_of, write_files
from refusal import refused
from station import Station, fleet, matrix, tree_digest

from executor.hosts.host import Pruned
from executor.hosts.in_use import find_used
from executor.hosts.local_host import LocalHost
from executor.rollout.retention import SPARE_S, plan_pruning
from executor.rollout.upkeep import EVERY_S
from executor.trees.scan import ingest
from executor.trees.tree import Tree
from keys.errors import Exit
from ledger.objects import DirectoryObjects
from policies.fleet import Instance
from policies.fold.state import State


def releases(instance: Instance) -> set[str]:
    return {path.name for path in (Path(instance.root) / "releases").iterdir()}


@pytest.fixture
def three(tmp_path: Path, objects: DirectoryObjects) -> Tree:
    return tree_of(tmp_path, objects, "three")


@pytest.fixture
def deployed(host: LocalHost, instance: Instance, one: Tree, two: Tree, three: Tree) -> Instance:
    """One is served; two and three lie beside it."""
    deploy(host, instance, one)
    for tree in (two, three):
        host.stage(instance, directory_plan(tree, one.digest))
    return instance


def test_prune_keeps_the_current_release_and_those_named(
    host: LocalHost, deployed: Instance, one: Tree, two: Tree, three: Tree
) -> None:
    asked = host.prune(deployed, (two.digest,), FENCE, dry_run=True)
    assert asked == Pruned(removed=(three.digest,), in_use=())
    assert releases(deployed) == {one.digest, two.digest, three.digest}
    assert host.prune(deployed, (two.digest,), FENCE) == asked
    assert releases(deployed) == {one.digest, two.digest}
    assert {path.name for path in (Path(deployed.root) / ".calyx/manifests").iterdir()} == releases(deployed)
    for tree in (one, two):
        host.scrub(deployed, tree.digest)
    assert host.prune(deployed, (two.digest,), FENCE) == Pruned(removed=(), in_use=())


def test_manifest_of_a_kept_release_that_is_not_there_stays(host: LocalHost, deployed: Instance, two: Tree) -> None:
    """It is what the release can be made again from."""
    path = release(deployed, two)
    path.chmod(0o755)
    shutil.rmtree(path)
    host.prune(deployed, (two.digest,), FENCE)
    assert (Path(deployed.root) / ".calyx/manifests" / two.digest).exists()


def test_what_others_put_beside_the_releases_is_theirs(host: LocalHost, deployed: Instance, two: Tree) -> None:
    others = Path(deployed.root) / "releases"
    (others / "2024-01-05").mkdir()
    (others / ("e" * 64)).symlink_to(release(deployed, two).name)
    (others / "notes").write_text("mine")
    host.prune(deployed, (), FENCE)
    assert {"2024-01-05", "e" * 64, "notes"} <= releases(deployed)
    assert two.digest not in releases(deployed)


def test_prune_waits_for_a_release_that_is_being_staged(
    host: LocalHost, deployed: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.hosts.pruning._STAGE_WAIT_S", 0.0)
    before = releases(deployed)
    with (Path(deployed.root) / ".calyx" / "stage.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refuse("host_busy", lambda: host.prune(deployed, (), FENCE))
    assert releases(deployed) == before


def test_prune_of_an_older_term_removes_nothing(host: LocalHost, deployed: Instance) -> None:
    host.prune(deployed, tuple(releases(deployed)), FENCE.model_copy(update={"epoch": 3}))
    before = releases(deployed)
    refuse("fenced", lambda: host.prune(deployed, (), FENCE))
    refuse("fenced", lambda: host.prune(deployed, (), FENCE, dry_run=True))
    assert releases(deployed) == before


def test_prune_of_an_instance_that_has_nothing_makes_nothing(host: LocalHost, tmp_path: Path) -> None:
    instance = Instance(name="web-1", root=str(tmp_path / "never"))
    assert host.prune(instance, (), FENCE) == Pruned(removed=(), in_use=())
    assert not (tmp_path / "never").exists()


@contextmanager
def program(directory: Path, *argv: str) -> Iterator[None]:
    """A process that says so when it is ready, and ends with the test."""
    with running(argv, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield


def works_there(path: Path, stack: ExitStack) -> None:
    text = f"import signal; signal.alarm({LIFETIME_S}); print('ready', flush=True); input()"
    stack.enter_context(program(path / "bin", sys.executable, "-I", "-c", text))


def runs_from_there(path: Path, stack: ExitStack) -> None:
    stack.enter_context(program(Path("/"), str(path / "bin" / "shell"), "-c", "echo ready; read x"))


def has_a_file_open(path: Path, stack: ExitStack) -> None:
    stack.callback(os.close, os.open(path / "version", os.O_RDONLY))


def has_a_directory_open(path: Path, stack: ExitStack) -> None:
    stack.callback(os.close, os.open(path, os.O_RDONLY))


def has_a_file_mapped(path: Path, stack: ExitStack) -> None:
    with (path / "version").open("rb") as file:
        stack.enter_context(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


USES = [works_there, runs_from_there, has_a_file_open, has_a_directory_open, has_a_file_mapped]


@pytest.mark.parametrize("use", USES)
def test_release_with_a_living_process_stays_until_that_ends(
    host: LocalHost,
    instance: Instance,
    one: Tree,
    tmp_path: Path,
    objects: DirectoryObjects,
    use: Callable[[Path, ExitStack], None],
) -> None:
    shell = Path("/bin/sh").resolve().read_bytes()
    used = ingest(write_files(tmp_path / "used", {"bin/shell*": shell, "version": "used"}), objects, ())
    deploy(host, instance, one)
    host.stage(instance, directory_plan(used, one.digest))
    with ExitStack() as stack:
        use(release(instance, used), stack)
        for dry_run in (True, False):
            assert host.prune(instance, (), FENCE, dry_run=dry_run) == Pruned(removed=(), in_use=(used.digest,))
        host.scrub(instance, used.digest)
    assert host.prune(instance, (), FENCE) == Pruned(removed=(used.digest,), in_use=())


def test_directory_that_only_begins_alike_is_not_in_use(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    (tmp_path / "a").mkdir()
    descriptor = os.open(tmp_path / "ab", os.O_RDONLY)
    try:
        assert find_used([tmp_path / "a", tmp_path / "ab"]) == {tmp_path / "ab"}
    finally:
        os.close(descriptor)


# What the ledger still needs.

NAMES = ["web-01", "web-02", "web-03"]
V1, V2, V3 = tree_digest("v1"), tree_digest("v2"), tree_digest("v3")


@pytest.fixture
def station(tmp_path: Path) -> Station:
    station = Station(tmp_path, policy=matrix(tiers=[100], bake_s=15, retention_s=86_400))
    station.genesis()
    station.enact_fleet(fleet(len(NAMES)))
    return station


def propose(station: Station, before: str, after: str, names: list[str], *, begin: bool = True) -> tuple[str, str]:
    refs = {ref.sha256: ref for ref in map(station.put_tree, ("v1", "v2", "v3"))}
    lease = station.propose(
        f"LEASE-20260105-{station.state.size:06}",
        artifact={"type": "directory", "sha256": after, "size": refs[after].size},
        changes=[{"before": before, "after": after, "instances": names}],
    )
    if begin:
        station.begin(lease)
    return lease


def kept(station: Station, ticks: int = 0) -> dict[str, set[str]]:
    return {one.name: set(trees) for one, trees in plan_pruning(station.state, station.clock.now + ticks)}


def test_place_that_was_never_touched_needs_only_what_it_serves(station: Station) -> None:
    assert kept(station) == {name: set() for name in NAMES}
    assert list(plan_pruning(State(), 0)) == []


def test_place_of_a_living_deployment_is_left_alone(station: Station) -> None:
    propose(station, V1, V2, NAMES[:2])
    assert kept(station) == {"web-03": set()}


def test_what_a_rollback_within_retention_needs_is_kept_and_the_release_before_for_ever(station: Station) -> None:
    station.complete(propose(station, V1, V2, NAMES))
    station.complete(propose(station, V2, V3, NAMES[:1]))
    assert kept(station) == {"web-01": {V1, V2, V3}, "web-02": {V1, V2}, "web-03": {V1, V2}}
    assert kept(station, 86_400 + SPARE_S - 120)["web-01"] == {V1, V2, V3}
    assert kept(station, 86_400 + SPARE_S + 120) == {"web-01": {V2, V3}, "web-02": {V1, V2}, "web-03": {V1, V2}}


def test_rollback_that_failed_or_is_ordered_keeps_both_sides(station: Station) -> None:
    lease = propose(station, V1, V2, NAMES)
    station.complete(lease)
    station.command("ada", lease, "rollback")
    assert kept(station, 10 * 86_400)["web-01"] == {V1, V2}
    order = station.state.deployments[lease[1]].commands[-1].digest
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="rollback", command=order)
    assert kept(station) == {}
    station.event("cp20", lease, "ROLLBACK_FAILED", instances=NAMES, text="no answer")
    assert kept(station, 10 * 86_400)["web-01"] == {V1, V2}


def take_back(station: Station, lease: tuple[str, str], tree: str, names: list[str]) -> None:
    """Halt a deployment under way, and bring every instance back to `tree`."""
    station.event("cp20", lease, "HALTED", cause="failed", gate=None, evidence=None, text="")
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="failed", command=None)
    for name in names:
        station.event("cp20", lease, "INSTANCE_RESTORED", instance=name, tree=tree, rebuilt=False, warning=None)
    station.event("cp20", lease, "ROLLED_BACK")


def test_release_before_the_last_that_stayed_is_kept_whatever_was_taken_back_since(station: Station) -> None:
    station.complete(propose(station, V1, V2, NAMES))
    lease = propose(station, V2, V3, NAMES)
    station.deploy_tier(lease, 100)
    take_back(station, lease, V2, NAMES)
    assert kept(station, 10 * 86_400) == {name: {V1, V2, V3} for name in NAMES}


def fail_to_take_back(station: Station, lease: tuple[str, str]) -> None:
    """Order the way back of a completed deployment, which fails."""
    station.command("ada", lease, "rollback")
    order = station.state.deployments[lease[1]].commands[-1].digest
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="rollback", command=order)
    station.event("cp20", lease, "ROLLBACK_FAILED", instances=NAMES, text="no answer")


def test_rollback_that_failed_keeps_both_sides_while_it_can_be_tried_again(station: Station) -> None:
    lease = propose(station, V1, V2, NAMES)
    station.complete(lease)
    for _ in range(2):
        fail_to_take_back(station, lease)
        assert kept(station, 400 * 86_400) == {name: {V1, V2} for name in NAMES}
    # One that ends before it touches anything is in nobody's way.
    later = propose(station, V2, V3, NAMES, begin=False)
    station.approve(later)
    station.take_term()
    station.claim(later)
    station.event("cp20", later, "ABORTED", cause="hand", text="")
    assert kept(station, 400 * 86_400) == {name: {V1, V2} for name in NAMES}


def test_rollback_that_failed_keeps_nothing_for_ever_where_a_later_deployment_came(station: Station) -> None:
    """No order can lead there any more, and a disk would be full of such releases one day."""
    lease = propose(station, V1, V2, NAMES)
    station.complete(lease)
    fail_to_take_back(station, lease)
    station.complete(propose(station, V2, V3, NAMES[:1]))
    with refused("superseded"):
        station.command("ada", lease, "rollback")
    assert kept(station, 400 * 86_400) == {"web-01": {V2, V3}, "web-02": {V1, V2}, "web-03": {V1, V2}}


def test_deployment_that_ended_before_it_touched_anything_needs_nothing(station: Station) -> None:
    lease = propose(station, V1, V2, NAMES, begin=False)
    station.approve(lease)
    station.take_term()
    station.claim(lease)
    station.event("cp20", lease, "ABORTED", cause="hand", text="")
    assert kept(station) == {name: set() for name in NAMES}


# The executor does it when it is idle.


def test_idle_executor_prunes_once_an_hour_and_never_stops_for_it(tmp_path: Path) -> None:
    station = Station(tmp_path, policy=matrix(tiers=[100], bake_s=2, interval_s=1))
    station.genesis()
    station.enact_fleet(fleet(2))
    scene = Simulation(station)
    scene.serve(V1, V3)
    _, new = scene.ask(V1, NAMES[:2])
    scene.hosts.fail["prune", "web-02"] = "host_busy"
    executor = scene.executor()
    looked: list[tuple[int, bool]] = []
    stops = station.clock.now + 3 * EVERY_S
    prune = scene.hosts.prune

    def watch(instance: Instance, *arguments: Any, **options: Any) -> Pruned:
        if instance.name == "web-01":
            looked.append((station.clock.now, bool(station.state.live)))
        return prune(instance, *arguments, **options)

    def wait(seconds: float) -> bool:
        station.clock.tick(20 if seconds and station.state.deployments and not station.state.live else 0)
        return scene.wait(seconds) or station.clock.now > stops

    scene.hosts.prune = watch  # type: ignore[method-assign]
    executor._wait = wait
    assert executor.run(until_idle=False) is Exit.DONE
    times = [at for at, _ in looked]
    assert len(times) in {2, 3}
    assert all(later - earlier >= EVERY_S for earlier, later in pairwise(times))
    assert not any(live for _, live in looked)
    assert scene.hosts.places["web-01"].releases == {V1, new}
    assert scene.hosts.places["web-02"].releases == {V1, V3, new}
    assert any("web-02 not pruned: host_busy" in line for line in scene.log)
    assert any("web-01: release" in line and "removed" in line for line in scene.log)
