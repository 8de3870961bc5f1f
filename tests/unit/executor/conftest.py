"""One host on this machine with one instance, and two trees to run there."""

from __future__ import annotations

from pathlib import Path

import pytest
from instances import tree_of
from programs import require_program

from executor.hosts.local_host import LocalHost
from executor.trees.tree import Tree
from ledger.objects import DirectoryObjects
from policies.fleet import Instance


@pytest.fixture
def objects(tmp_path: Path) -> DirectoryObjects:
    return DirectoryObjects(tmp_path / "objects")


@pytest.fixture
def git() -> None:
    """Ask for it where git is run."""
    require_program("git")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    path = tmp_path / "scratch"
    path.mkdir()
    return path


@pytest.fixture
def host(objects: DirectoryObjects) -> LocalHost:
    return LocalHost(objects)


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(name="web-1", root=str(tmp_path / "srv"))


@pytest.fixture
def one(tmp_path: Path, objects: DirectoryObjects) -> Tree:
    return tree_of(tmp_path, objects, "one")


@pytest.fixture
def two(tmp_path: Path, objects: DirectoryObjects) -> Tree:
    return tree_of(tmp_path, objects, "two")
