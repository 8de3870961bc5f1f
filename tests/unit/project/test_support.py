"""The helpers other tests rest on: nothing is skipped in silence, and nothing of the person's is reachable."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs
import pytest
from hypothesis import settings
from hypothesis.configuration import storage_directory
from programs import require_program

ABSENT = "calyx-no-such-program"


def test_missing_program_skips_and_names_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALYX_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match=ABSENT):
        require_program(ABSENT)


def test_missing_program_fails_where_everything_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALYX_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match=ABSENT):
        require_program(ABSENT)


def test_present_program_is_found_by_its_path() -> None:
    assert Path(require_program("git")).is_absolute()


def test_state_and_agent_of_the_person_are_out_of_reach(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp()
    assert Path.home().is_relative_to(base)
    assert platformdirs.user_state_path("calyx").is_relative_to(base)
    assert "SSH_AUTH_SOCK" not in os.environ
    assert "CALYX_HOME" not in os.environ


def test_what_tests_and_their_children_make_in_passing_lies_where_pytest_keeps_house(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    base = tmp_path_factory.getbasetemp()
    child = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
    said = subprocess.run(child, check=True, capture_output=True, text=True, timeout=60).stdout
    assert Path(tempfile.gettempdir()).is_relative_to(base)
    assert Path(said.strip()).is_relative_to(base)


SHARED = """
from multiprocessing.util import get_temp_dir

def test_directory_for_what_processes_share():
    assert get_temp_dir()
"""


def test_run_in_one_process_ends_in_silence_after_its_processes_shared_a_directory(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).parents[2] / "conftest.py").read_text("utf-8"), "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntmp_path_retention_policy = failed\n", "utf-8")
    (tmp_path / "test_shared.py").write_text(SHARED, "utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTEST_DEBUG_TEMPROOT": str(tmp_path)},
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, ""), run.stdout


def test_property_tests_keep_no_database_and_no_deadline() -> None:
    assert settings().database is None
    assert settings().deadline is None
    with pytest.raises(OSError, match="Not a directory"):
        storage_directory("constants").create_if_missing()
