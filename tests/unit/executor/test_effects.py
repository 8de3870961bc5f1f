"""What was changed on a host between its staging and its use is neither served nor gone back to."""

from __future__ import annotations

from pathlib import Path

import pytest
from instances import FENCE, deploy, directory_plan, refuse, release, unseal

from executor.hosts.host import ABSENT
from executor.hosts.local_host import LocalHost
from executor.rollout.effects import Step, apply_instance, restore_instance
from executor.trees.tree import Tree
from policies.fleet import Instance


@pytest.fixture
def step(host: LocalHost, instance: Instance, one: Tree, two: Tree) -> Step:
    """The way from one to two, which the instance has gone already."""
    deploy(host, instance, one)
    plan = directory_plan(two, one.digest)
    assert plan.artifact is not None
    host.stage(instance, plan)
    host.flip(instance, one.digest, two.digest, FENCE)
    return Step(instance, one.digest, two.digest, plan.artifact)


def change(instance: Instance, tree: Tree) -> None:
    """Somebody writes into a release."""
    unseal(release(instance, tree))
    (release(instance, tree) / "version").unlink()
    (release(instance, tree) / "version").write_text("another")


def test_way_back_rebuilds_a_release_that_was_changed_while_another_was_served(
    host: LocalHost, instance: Instance, one: Tree, step: Step
) -> None:
    change(instance, one)
    assert restore_instance(host, step, FENCE).rebuilt
    assert (Path(instance.root) / "current/version").read_text() == "one"
    host.scrub(instance, one.digest)


def test_instance_whose_new_release_was_changed_before_the_result_was_said_is_not_applied(
    host: LocalHost, instance: Instance, two: Tree, step: Step
) -> None:
    change(instance, two)
    refuse("tree_dirty", lambda: apply_instance(host, step, FENCE))


def test_release_that_became_a_link_after_its_staging_is_not_flipped_to(
    host: LocalHost, instance: Instance, one: Tree, tmp_path: Path
) -> None:
    host.stage(instance, directory_plan(one))
    unseal(release(instance, one))
    release(instance, one).rename(tmp_path / "elsewhere")
    release(instance, one).symlink_to(tmp_path / "elsewhere")
    refuse("release_missing", lambda: host.flip(instance, ABSENT, one.digest, FENCE))
    assert not (Path(instance.root) / "current").is_symlink()
