"""What every test shares: a home and a place for temporary files of its own, the vectors, and settings for property
tests.
"""

from __future__ import annotations

import itertools
import multiprocessing.util
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis.configuration import set_hypothesis_home_dir
from programs import missing

# No deadline and no examples that are drawn too slowly: a shared machine's pauses are not a defect. No database: a test
# run leaves nothing in the checkout.
hypothesis.settings.register_profile(
    "dev", deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("ci", hypothesis.settings.get_profile("dev"), derandomize=True, print_blob=True)
# For a night: CALYX_HYPOTHESIS=long, with -o faulthandler_timeout=0.
hypothesis.settings.register_profile("long", hypothesis.settings.get_profile("dev"), max_examples=5_000)
hypothesis.settings.load_profile(os.environ.get("CALYX_HYPOTHESIS", "ci" if "CI" in os.environ else "dev"))

# A run in the background of a shell without jobs has it ignored, and so would everything that it starts: nothing that
# is interrupted would end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Set by whoever collects logs; it hides what a program loses in its buffers.
os.environ.pop("PYTHONUNBUFFERED", None)

# Even without a database it caches what it learnt of the code, in the current directory, and from collection on. It
# goes on without a cache that cannot be written, and a run that is killed has none to take away again.
set_hypothesis_home_dir(Path(os.devnull) / "hypothesis")


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests, fixtures and their children make in passing lies where pytest keeps house: one that is killed leaves
    it, and nobody else would take it away.
    """
    place = tmp_path_factory.mktemp("passing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(place))
        patch.setattr(tempfile, "tempdir", str(place))
        yield
        # Else multiprocessing takes its own directory away at the very end, when pytest has taken all of them away.
        multiprocessing.util._run_finalizers()  # type: ignore[attr-defined]


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
