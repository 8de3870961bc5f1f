"""import-linter holds the street: a forbidden import, put into a copy of the rooms, is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
ROOMS = ("keys", "ledger", "policies", "executor")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for room in ROOMS:
        shutil.copytree(CHECKOUT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(CHECKOUT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(tree: Path, contract: str) -> subprocess.CompletedProcess[str]:
    # The command line tool puts the current directory first, so the copy is what it reads.
    tool = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [str(tool), "--no-cache", "--contract", contract],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("contract", "path", "line"),
    [
        ("street", "keys/canonical.py", "import ledger"),
        ("street", "keys/canonical.py", "import executor"),
        ("street", "ledger/__init__.py", "import policies"),
        ("street", "policies/__init__.py", "import executor"),
        ("one-verifier", "keys/canonical.py", "import nacl.signing"),
        ("one-verifier", "executor/__init__.py", "from nacl import bindings"),
        ("one-appender", "executor/__init__.py", "from ledger.sqlite.store import SqliteStore"),
        ("one-appender", "policies/__init__.py", "import ledger.sqlite.store"),
        ("key-files", "ledger/__init__.py", "from cryptography.hazmat.primitives.asymmetric import ed25519"),
    ],
)
def test_import_against_the_street_is_refused(copy: Path, contract: str, path: str, line: str) -> None:
    before = lint(copy, contract)
    assert before.returncode == 0, before.stdout
    with (copy / path).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    after = lint(copy, contract)
    assert after.returncode == 1, after.stdout
    assert "1 broken" in after.stdout


def test_the_registrar_alone_may_reach_the_store_that_appends(copy: Path) -> None:
    with (copy / "policies" / "registrar.py").open("a", encoding="utf-8") as file:
        file.write("\nimport ledger.sqlite.store\n")
    assert lint(copy, "one-appender").returncode == 0
