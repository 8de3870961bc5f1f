"""What every test shares: a home of its own, the vectors, and settings for property tests."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest
from hypothesis.configuration import set_hypothesis_home_dir
from programs import missing

# No deadline: a shared machine's pauses are not a defect. No database: a test run leaves nothing in the checkout.
hypothesis.settings.register_profile("dev", deadline=None, database=None)
hypothesis.settings.register_profile("ci", deadline=None, database=None, derandomize=True, print_blob=True)
# For a night: CALYX_HYPOTHESIS=long.
hypothesis.settings.register_profile("long", deadline=None, database=None, max_examples=5_000)
hypothesis.settings.load_profile(os.environ.get("CALYX_HYPOTHESIS", "ci" if "CI" in os.environ else "dev"))


# Even without a database it caches what it learnt of the code: in the current directory, and from collection on.
_scratch = TemporaryDirectory(prefix="calyx-hypothesis-")
set_hypothesis_home_dir(_scratch.name)


def pytest_unconfigure() -> None:
    """Take the cache away again."""
    _scratch.cleanup()


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("homes")
    return (root / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_home(_homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the person's keys, agent, configuration and remembered heads away from tests, and tests' state from them."""
    home = next(_homes)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("STATE", "CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    # Ours that change behaviour, the agent's socket, and git's: a hook exports GIT_DIR to all its children.
    for name in ("CALYX_HOME", "SSH_AUTH_SOCK", "SSH_ASKPASS", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of published test vectors that CALYX_VECTORS names."""
    named = os.environ.get("CALYX_VECTORS")
    if not named:
        missing("CALYX_VECTORS does not name the folder of vectors")
    path = Path(named)
    if not path.is_dir():
        missing(f"CALYX_VECTORS names {named}, which is not a folder")
    return path.resolve()
