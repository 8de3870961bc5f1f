from __future__ import annotations

from pathlib import Path

import pytest
from instances import FENCE, directory_plan, refuse, write_files

import executor.hosts.adopt
from executor.hosts.host import ABSENT
from executor.hosts.local_host import LocalHost
from executor.trees.tree import Tree
from policies.fleet import Instance


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    write_files(tmp_path / "srv/current", {"bin/run*": "#!/bin/sh\n", "version": "by hand"})
    return Instance(name="web-1", root=str(tmp_path / "srv"))


def test_directory_is_taken_over_and_given_back(host: LocalHost, instance: Instance, one: Tree) -> None:
    observed = host.inspect(instance)
    assert observed.adoptable
    before = observed.tree
    host.scrub(instance, before)
    host.stage(instance, directory_plan(one, before))
    current = Path(instance.root) / "current"
    assert not current.is_symlink()
    host.settle(instance, before)
    host.flip(instance, before, one.digest, FENCE)
    assert str(current.readlink()) == f"releases/{one.digest}"
    host.settle(instance, one.digest)
    kept = list((Path(instance.root) / ".calyx/adopted").iterdir())
    assert [(path / "version").read_text() for path in kept] == ["by hand"]
    host.scrub(instance, before)
    host.flip(instance, one.digest, before, FENCE)
    assert (current / "version").read_text() == "by hand"
    host.settle(instance, before)


def test_directory_that_changed_since_it_was_seen_is_not_taken_over(
    host: LocalHost, instance: Instance, one: Tree
) -> None:
    before = host.inspect(instance).tree
    host.stage(instance, directory_plan(one, before))
    (Path(instance.root) / "current/version").write_text("edited")
    refuse("tree_unexpected", lambda: host.flip(instance, before, one.digest, FENCE))
    refuse("tree_unexpected", lambda: host.stage(instance, directory_plan(one, before)))
    refuse("tree_unexpected", lambda: host.settle(instance, before))
    assert (Path(instance.root) / "current/version").read_text() == "edited"


def test_directory_that_was_never_deployed_is_not_removed(host: LocalHost, instance: Instance) -> None:
    before = host.inspect(instance).tree
    refuse("tree_unexpected", lambda: host.flip(instance, before, ABSENT, FENCE))
    assert (Path(instance.root) / "current/version").read_text() == "by hand"


def test_data_at_a_shared_path_must_be_moved_first(host: LocalHost, instance: Instance) -> None:
    sharing = instance.model_copy(update={"shared": ("data",)})
    current = write_files(Path(instance.root) / "current", {"data/db": "precious"})
    error = refuse("shared_not_moved", lambda: host.inspect(sharing))
    assert error.fields["path"] == "data"
    (Path(instance.root) / "shared").mkdir()
    (current / "data").rename(Path(instance.root) / "shared/data")
    (current / "data").symlink_to("../shared/data")
    assert host.inspect(sharing).adoptable


def test_link_to_elsewhere_at_a_shared_path_is_refused(host: LocalHost, instance: Instance, tmp_path: Path) -> None:
    sharing = instance.model_copy(update={"shared": ("data",)})
    (tmp_path / "elsewhere").mkdir()
    (Path(instance.root) / "current/data").symlink_to(tmp_path / "elsewhere")
    refuse("shared_not_moved", lambda: host.inspect(sharing))


def test_killed_right_after_the_exchange_keeps_the_directory(
    host: LocalHost, instance: Instance, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = host.inspect(instance).tree
    host.stage(instance, directory_plan(one, before))

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(executor.hosts.adopt, "make_directory", kill)
    with pytest.raises(Killed):
        host.flip(instance, before, one.digest, FENCE)
    monkeypatch.undo()
    assert host.inspect(instance).tree == one.digest
    host.flip(instance, before, one.digest, FENCE)
    kept = list((Path(instance.root) / ".calyx/adopted").iterdir())
    assert [(path / "version").read_text() for path in kept] == ["by hand"]
