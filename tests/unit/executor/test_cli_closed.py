"""A home, or a part of it, that this user may not look into: a line that says so, and never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from closing import close_directory
from console import Console


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(tmp_path, monkeypatch)
    console.begin()
    return console


@pytest.mark.parametrize("command", ["audit", "status", "ledger log", "ledger fsck", "ledger backup b", "inbox"])
def test_home_of_somebody_else(console: Console, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    with monkeypatch.context() as patched:
        close_directory(patched, console.home)
        said = console.run(*command.split())
    assert said.code == 5
    assert said.err.startswith("error: ledger_unreadable: ")
    assert "Permission denied" in said.err


def test_objects_of_somebody_else_are_a_finding(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    for directory in (each for each in (console.home / "objects").iterdir() if each.is_dir()):
        close_directory(monkeypatch, directory)
    said = console.run("audit")
    assert (said.code, said.err) == (1, "")
    assert said.out.startswith("entry 1: object_unreadable: ")
    for command in ("backup", "export"):
        said = console.run("ledger", command, str(console.root / command))
        assert (said.code, said.err) == (1, "")
        assert said.out.startswith("entry 1: object_unreadable: ")
