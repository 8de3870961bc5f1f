"""The command list and the commands say the same, in words that a stranger understands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from executor import main
from executor.command_line import ALIASES, COMMANDS, app, load_command
from executor.main import find_foreign_room

CHECKOUT = Path(__file__).parents[3]


def leaves() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in COMMANDS.items():
        inner = getattr(load_command(command), "commands", None)
        found += [(name,)] if inner is None else [(name, each) for each in inner]
    return found


@pytest.mark.parametrize("name", list(COMMANDS))
def test_list_says_what_the_command_says(name: str) -> None:
    assert load_command(COMMANDS[name]).help.split("\n\n")[0].replace("\n", " ") == COMMANDS[name].summary


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_each_command_shows_an_example_of_itself(words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(app, [*words, "--help"])
    assert said.exit_code == 0
    assert "completion" not in said.stdout
    assert f"Example: calyx {' '.join(words)}" in " ".join(said.stdout.split())


@pytest.mark.parametrize("alias", list(ALIASES))
def test_alias_is_the_same_command(alias: str) -> None:
    said = [CliRunner().invoke(app, [word, "--help"]).stdout.split("\n", 1)[1] for word in (alias, ALIASES[alias])]
    assert said[0] == said[1]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv=['calyx','--help']\nfrom executor.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy={'pydantic','nacl','cryptography','rich','httpx','orjson','ruamel','psutil','sqlite3','policies.fold.state'}\n"
        "sys.exit(repr(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(app, ["frobnicate"]).exit_code == 2


def test_room_of_another_distribution_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "executor", "status"],
        env={"PYTHONPATH": f"{tmp_path}:{CHECKOUT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: foreign_room: the package ledger is not the one")
    assert "Traceback" not in done.stderr


def test_missing_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "find_spec", lambda _: None)
    assert "it is missing" in (find_foreign_room() or "")
