"""A loss of power on a host: a release, a flip and a fence that were acknowledged are there when it comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from disk_steps import DiskSteps, watch_disk
from instances import FENCE, deploy, directory_plan

from executor.hosts.host import ABSENT
from executor.hosts.layout import layout_of
from executor.hosts.local_host import LocalHost
from executor.trees.tree import Link, Tree
from policies.fleet import Instance


def last_given(seen: DiskSteps, name: Path) -> tuple[int, Path]:
    """The step that gave a name last, and what it gave it to."""
    at, before, _ = next(each for each in reversed(seen.named) if each[2] == name)
    assert before is not None
    return at, before


@pytest.fixture
def seen(host: LocalHost, instance: Instance, one: Tree, two: Tree, monkeypatch: pytest.MonkeyPatch) -> DiskSteps:
    """The steps of a first deployment and of a change after it."""
    steps = watch_disk(monkeypatch)
    deploy(host, instance, one)
    host.stage(instance, directory_plan(two, one.digest))
    host.flip(instance, one.digest, two.digest, FENCE)
    return steps


def test_power_lost_after_a_flip_takes_back_neither_the_flip_nor_what_it_leads_to(
    seen: DiskSteps, instance: Instance
) -> None:
    staging = layout_of(instance).staging
    # What lies in staging is discarded after a crash anyway.
    seen.named = [each for each in seen.named if staging not in each[2].parents]
    assert Path(instance.root) / "current" in {name for _, _, name in seen.named}
    assert seen.missing() == []


def test_flip_that_a_kill_left_off_the_disk_is_put_there_by_who_finds_it_done(
    host: LocalHost, instance: Instance, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(host, instance, one)
    steps = watch_disk(monkeypatch)
    host.flip(instance, ABSENT, one.digest, FENCE)
    assert Path(instance.root) in {path for _, path in steps.synced}


def test_all_of_a_release_is_on_the_disk_before_it_has_its_name(seen: DiskSteps, instance: Instance, two: Tree) -> None:
    at, work = last_given(seen, layout_of(instance).release(two.digest))
    synced = {path for step, path in seen.synced if step < at}
    assert {work, *(work / entry.path for entry in two.entries if not isinstance(entry, Link))} <= synced


def test_fence_is_on_the_disk_before_the_flip_that_it_allows(seen: DiskSteps, instance: Instance) -> None:
    layout = layout_of(instance)
    shown = next(at for at, _, name in seen.named if name == layout.private / "fence")
    flipped = next(at for at, _, name in seen.named if name == layout.current)
    assert any(shown < at < flipped and path == layout.private for at, path in seen.synced)
