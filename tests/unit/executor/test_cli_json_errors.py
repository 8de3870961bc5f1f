"""With `--json` an error is JSON as well: the last line of standard error. Standard output holds results alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from console import Console, Said
from json_walk import commands_with_json

from executor import main
from keys.errors import LawRefused, Unavailable

NAMES = {"code", "message", "hint", "exit_code", "rule", "step", "seq"}


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    return Console(tmp_path, monkeypatch)


def told(said: Said) -> dict[str, Any]:
    """The error that a program reads; what ends the process is what it says."""
    error: dict[str, Any] = json.loads(said.err.splitlines()[-1])
    assert error.keys() == NAMES
    assert error["exit_code"] == said.code
    assert said.err.isascii()
    return error


@pytest.mark.parametrize("words", sorted(commands_with_json()))
def test_every_command_tells_a_missing_ledger_or_a_missing_word_as_json(console: Console, words: str) -> None:
    said = console.run(*words.split(), "--json")
    assert said.out == ""
    assert told(said)["code"] in {"ledger_missing", "usage", "source_undecided", "no_subject", "no_ledger"}
    assert len(said.err.splitlines()) == 1


def test_refusal_has_its_rule_step_and_entry(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise LawRefused("lease_denied", "it was denied", rule="objection", step=7, entry=4, hint="propose a new one")

    monkeypatch.setattr("executor.commands.status._facts", refuse)
    console.begin()
    assert told(console.run("status", "--json")) == {
        "code": "lease_denied",
        "message": "it was denied",
        "hint": "propose a new one",
        "exit_code": 1,
        "rule": "objection",
        "step": 7,
        "seq": 4,
    }
    assert console.run("status").err == (
        "error: lease_denied: it was denied (rule objection, step 7, entry 4)\nhint: propose a new one\n"
    )


@pytest.mark.parametrize(
    "arguments", [["status", "--jsno", "--json"], ["--no-such", "status", "--json"], ["nope", "--json"]]
)
def test_wrong_command_line_is_told_as_json(console: Console, arguments: list[str]) -> None:
    error = told(console.run(*arguments))
    assert (error["code"], error["exit_code"]) == ("usage", 2)
    assert error["hint"].endswith("--help")
    assert "Usage: " in console.run(*arguments[:-1]).err


def test_word_after_the_end_of_options_asks_for_no_json(console: Console) -> None:
    assert "Usage: " in console.run("check", "--", "a", "--json").err


def test_interrupt_is_told_as_json(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    console.begin()
    monkeypatch.setattr("executor.commands.status._facts", interrupt)
    assert told(console.run("status", "--json"))["code"] == "interrupted"
    assert console.run("status").err == "interrupted\n"


def test_room_of_somebody_else_is_told_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("executor.main.find_foreign_room", lambda: "the package keys is not ours")
    monkeypatch.setattr("sys.argv", ["calyx", "status", "--json"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    said = capsys.readouterr()
    assert told(Said(int(str(ended.value.code)), said.out, said.err))["code"] == "foreign_room"


def test_prune_says_where_it_failed(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    console.begin()
    fleet = console.state().fleet
    assert fleet is not None
    instance = fleet.targets["web"].instances[0]
    found = [(instance, Unavailable("host_busy", "somebody is there"))]
    monkeypatch.setattr("executor.rollout.service.prune_hosts", lambda *_, **__: iter(found))
    said = console.run("executor", "prune", "--json")
    assert said.code == 5
    assert said.json["failed"] == [{"instance": "web-1", "code": "host_busy", "message": "somebody is there"}]


def test_what_was_found_before_the_refusal_is_the_result(console: Console) -> None:
    console.begin()
    said = console.run("check", console.propose(), "--json")
    # A lease that may not be claimed is an answer, and no error.
    assert (said.code, said.err, said.json["ok"]) == (1, "", False)
