from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from instances import FENCE, deploy, directory_plan, patch_plan, refuse, release, tree_of, unseal, write_files
from programs import require_program

from executor.hosts.host import ABSENT, Plan
from executor.hosts.local_host import LocalHost
from executor.trees.patch import plan_patch
from executor.trees.scan import ingest, scan_release
from executor.trees.tree import Tree
from ledger.objects import DirectoryObjects
from policies.fleet import Instance, Process


def test_modes_of_a_release(host: LocalHost, instance: Instance, one: Tree) -> None:
    deploy(host, instance, one)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in release(instance, one).rglob("*")}
    assert modes == {"bin": 0o555, "run": 0o555, "version": 0o444}
    assert stat.S_IMODE(release(instance, one).stat().st_mode) == 0o555


def overwrite(root: Path) -> None:
    unseal(root / "version")
    (root / "version").write_text("evil")
    (root / "version").chmod(0o444)


def add_cache(root: Path) -> None:
    unseal(root / "bin")
    (root / "bin/__pycache__").mkdir(0o555)
    (root / "bin").chmod(0o555)


def remove(root: Path) -> None:
    unseal(root)
    (root / "version").unlink()


def swap_link(root: Path) -> None:
    remove(root)
    (root / "version").symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("fault", "path"),
    [
        (overwrite, "version"),
        (add_cache, "bin/__pycache__"),
        (lambda root: (root / "version").chmod(0o555), "version"),
        (lambda root: (root / "version").chmod(0o644), "version"),
        (lambda root: (root / "bin/run").chmod(0o444), "bin/run"),
        (lambda root: (root / "bin/run").chmod(0o4555), "bin/run"),
        (remove, "version"),
        (swap_link, "version"),
        (lambda root: os.mkfifo(root / "pipe"), "pipe"),
        (lambda root: (root / "a\nb").write_text(""), "a\\nb"),
    ],
)
def test_drift_is_found_named_and_mended(
    host: LocalHost, instance: Instance, one: Tree, fault: Callable[[Path], object], path: str
) -> None:
    deploy(host, instance, one)
    fault(release(instance, one))
    error = refuse("tree_dirty", lambda: host.scrub(instance, one.digest))
    assert error.fields["path"] == path
    host.stage(instance, Plan(before=ABSENT, after=one.digest, artifact=None))
    host.scrub(instance, one.digest)
    assert (Path(instance.root) / "current/version").read_text() == "one"


def test_release_that_is_gone_is_made_again_from_objects(host: LocalHost, instance: Instance, one: Tree) -> None:
    deploy(host, instance, one)
    unseal(release(instance, one))
    release(instance, one).rename(Path(instance.root) / "moved")
    refuse("release_missing", lambda: host.scrub(instance, one.digest))
    host.stage(instance, Plan(before=ABSENT, after=one.digest, artifact=None))
    host.scrub(instance, one.digest)


def test_release_that_is_a_link_is_not_believed(host: LocalHost, instance: Instance, one: Tree, tmp_path: Path) -> None:
    deploy(host, instance, one)
    unseal(release(instance, one))
    release(instance, one).rename(tmp_path / "elsewhere")
    release(instance, one).symlink_to(tmp_path / "elsewhere")
    refuse("release_missing", lambda: host.scrub(instance, one.digest))
    host.stage(instance, directory_plan(one))
    assert not release(instance, one).is_symlink()
    assert (tmp_path / "elsewhere/version").read_text() == "one"


def test_nothing_says_what_a_lost_release_held(host: LocalHost, instance: Instance) -> None:
    refuse("object_missing", lambda: host.stage(instance, Plan(before=ABSENT, after="c" * 64, artifact=None)))


def test_changed_manifest_is_not_believed(host: LocalHost, instance: Instance, one: Tree, two: Tree) -> None:
    deploy(host, instance, one)
    manifest = Path(instance.root) / ".calyx/manifests" / one.digest
    unseal(manifest)
    manifest.write_bytes(two.manifest)
    add_cache(release(instance, one))
    refuse("tree_dirty", lambda: host.scrub(instance, one.digest))
    refuse("object_missing", lambda: host.stage(instance, Plan(before=ABSENT, after=one.digest, artifact=None)))


def test_artifact_that_is_another_tree_is_refused(host: LocalHost, instance: Instance, one: Tree, two: Tree) -> None:
    plan = directory_plan(one).model_copy(update={"after": two.digest})
    refuse("object_mismatch", lambda: host.stage(instance, plan))
    assert not list((Path(instance.root) / "releases").iterdir())
    assert not list((Path(instance.root) / ".calyx/staging").iterdir())


def test_missing_object_stops_the_stage_and_leaves_nothing(
    host: LocalHost, instance: Instance, one: Tree, tmp_path: Path
) -> None:
    for path in (tmp_path / "objects").rglob("*"):
        if path.is_file() and path.read_bytes() == b"one":
            path.unlink()
    refuse("object_missing", lambda: host.stage(instance, directory_plan(one)))
    assert not list((Path(instance.root) / ".calyx/staging").iterdir())


def test_patch_is_staged_from_the_release_before(
    host: LocalHost, instance: Instance, one: Tree, objects: DirectoryObjects, tmp_path: Path
) -> None:
    require_program("git")
    deploy(host, instance, one)
    header = b"diff --git a/version b/version\n--- a/version\n+++ b/version\n@@ -1 +1 @@\n"
    patch = header + b"-one\n\\ No newline at end of file\n+three\n"
    (tmp_path / "scratch").mkdir()
    after = plan_patch(one, objects, patch, tmp_path / "scratch", ())
    plan = patch_plan(objects, patch, one.digest, after.digest)
    host.stage(instance, plan)
    assert scan_release(release(instance, after)) == after
    host.flip(instance, one.digest, after.digest, FENCE)
    assert (Path(instance.root) / "current/version").read_text() == "three\n"
    wrong = plan.model_copy(update={"after": "d" * 64})
    refuse("object_mismatch", lambda: host.stage(instance, wrong))


def test_patch_on_a_dirty_release_is_refused(
    host: LocalHost, instance: Instance, one: Tree, objects: DirectoryObjects
) -> None:
    deploy(host, instance, one)
    overwrite(release(instance, one))
    refuse("tree_dirty", lambda: host.stage(instance, patch_plan(objects, b"diff --git ", one.digest, "d" * 64)))


def test_half_staged_leftovers_are_discarded(host: LocalHost, instance: Instance, one: Tree) -> None:
    left = write_files(Path(instance.root) / ".calyx/staging/0123", {"tree/version": "half"})
    (left / "tree").chmod(0o555)
    host.stage(instance, directory_plan(one))
    assert not left.exists()


def test_shared_paths_outlive_releases(host: LocalHost, tmp_path: Path, objects: DirectoryObjects) -> None:
    instance = Instance(name="web-1", root=str(tmp_path / "srv"), shared=("logs", "var/data"))
    one, two = (tree_of(tmp_path, objects, version, ("logs", "var/data")) for version in ("one", "two"))
    deploy(host, instance, one)
    current = Path(instance.root) / "current"
    (current / "logs/app.log").write_text("kept")
    (current / "var/data/db").write_text("kept")
    host.scrub(instance, one.digest)
    deploy(host, instance, two, one.digest)
    assert (current / "logs/app.log").read_text() == (current / "var/data/db").read_text() == "kept"
    assert (current / "logs").resolve() == tmp_path / "srv/shared/logs"


def test_tree_without_its_shared_link_is_not_served(host: LocalHost, tmp_path: Path, one: Tree) -> None:
    instance = Instance(name="web-1", root=str(tmp_path / "srv"), shared=("logs",))
    error = refuse("shared_missing", lambda: host.stage(instance, directory_plan(one)))
    assert error.fields["path"] == "logs"


def test_release_stays_whole_when_the_fleet_shares_other_paths(
    host: LocalHost, tmp_path: Path, objects: DirectoryObjects
) -> None:
    instance = Instance(name="web-1", root=str(tmp_path / "srv"), shared=("logs",))
    tree = tree_of(tmp_path, objects, "one", ("logs",))
    deploy(host, instance, tree)
    changed = instance.model_copy(update={"shared": ("other",)})
    host.scrub(changed, tree.digest)
    host.stage(changed, Plan(before=ABSENT, after=tree.digest, artifact=None))


def test_link_planted_below_shared_is_not_followed(host: LocalHost, tmp_path: Path, objects: DirectoryObjects) -> None:
    instance = Instance(name="web-1", root=str(tmp_path / "srv"), shared=("var/data",))
    tree = tree_of(tmp_path, objects, "one", ("var/data",))
    (tmp_path / "target").mkdir()
    write_files(tmp_path / "srv/shared", {})
    (tmp_path / "srv/shared/var").symlink_to(tmp_path / "target")
    refuse("path_escapes", lambda: host.stage(instance, directory_plan(tree)))
    assert not list((tmp_path / "target").iterdir())


def test_full_disk_stops_the_stage(
    host: LocalHost, instance: Instance, one: Tree, two: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(host, instance, one)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    error = refuse("host_io", lambda: host.stage(instance, directory_plan(two)))
    assert "No space left" in error.message
    monkeypatch.undo()
    host.scrub(instance, one.digest)
    assert not list((Path(instance.root) / ".calyx/staging").iterdir())


def test_failed_sync_is_never_taken_for_done(
    host: LocalHost, instance: Instance, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    Path(instance.root).mkdir()
    refuse("host_io", lambda: host.stage(instance, directory_plan(one)))
    monkeypatch.undo()
    assert host.inspect(instance).tree == ABSENT
    deploy(host, instance, one)


def test_shared_path_of_an_account_that_is_not_there_is_refused(
    host: LocalHost, objects: DirectoryObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    process = Process(argv=("true",), user="no-such-account")
    instance = Instance(name="web-1", root=str(tmp_path / "srv"), process=process, shared=("data",))
    tree = ingest(write_files(tmp_path / "source", {"version": "x"}), objects, ("data",))
    refusal = refuse("service_start_failed", lambda: host.stage(instance, directory_plan(tree)))
    assert "no-such-account" in refusal.message
