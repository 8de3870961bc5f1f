"""`calyx message`: what is said between those who may sign, and how a question leaves the inbox."""

from __future__ import annotations

from pathlib import Path

import pytest
from console import Console
from station import new_station

from executor.homes.home import Home
from policies.submitter import Draft

HOSTILE = "May it\nmove?\x1b[2J\u202e"


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    made = Console(tmp_path, monkeypatch)
    made.init()
    return made


def ask(console: Console, text: str = "May it move?", *more: str) -> str:
    """Ask; the digest of the question."""
    console.done("message", "ask", text, "--yes", *more)
    return str(console.run("message", "list", "--json").json[-1]["digest"])


def test_question_waits_in_the_inbox_until_it_is_answered(console: Console) -> None:
    digest = ask(console, "May it move?", "--to", "ADA")
    (waits,) = console.run("inbox", "--json").json
    assert (waits["kind"], waits["command"]) == ("question", f"calyx message answer {digest[:12]}")
    console.done("message", "acknowledge", digest, "--yes")
    assert console.run("inbox", "--exit-code").code == 6
    assert [row["digest"] for row in console.run("message", "list", "--open", "--json").json] == [digest]
    # As the inbox has it: without the words, which are asked for when the question was shown.
    said = console.run(*waits["command"].split()[1:], typed="After noon\ny\n")
    assert said.code == 0, said.err
    assert said.out.index("  May it move?\n") < said.out.index("You sign")
    assert said.err.startswith("Your answer: ")
    assert console.done("inbox") == "Nothing waits for you.\n"
    assert console.done("message", "list", "--open") == "No question waits for an answer.\n"


def test_thread_is_shown_with_what_was_said_to_its_replies(console: Console) -> None:
    first = ask(console)
    console.done("message", "answer", first, "Yes", "--yes")
    second = console.run("message", "list", "--json").json[-1]
    assert (second["reply_to"], second["to"], second["by"], second["state"]) == (first, "ada", "ada", None)
    other = ask(console, "And the other?")
    console.done("message", "acknowledge", second["digest"], "--yes")
    shown = console.run("message", "show", first[:12], "--json").json
    assert (shown["digest"], shown["what"], shown["state"]) == (first, "May it move?", "answered")
    assert [(reply["kind"], reply["what"]) for reply in shown["replies"]] == [
        ("answer", "Yes"),
        ("acknowledgement", "seen"),
    ]
    assert console.done("message", "show", first).count("\n  ") == 3
    assert console.run("message", "show", other, "--json").json["replies"] == []


def test_question_to_one_is_not_answered_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    station = new_station(tmp_path / "home")
    console = Console(tmp_path, monkeypatch, clock=station.clock)
    answer = {"type": "answer", "to": "cp14", "text": "so", "reply_to": ""}
    for to in ("ben", None):
        question = station.say("cp14", "message", {"type": "question", "to": to, "text": "why?", "reply_to": None})
        station.say("ada", "message", {**answer, "reply_to": question.digest})
    rows = console.run("message", "list", "--json").json
    assert [row["state"] for row in rows] == ["open", None, "answered", None]
    assert [row["kind"] for row in console.run("inbox", "--as", "ben", "--json").json] == ["question"]
    assert console.run("inbox", "--as", "ada", "--json").json == []
    station.say("ben", "message", {**answer, "reply_to": rows[0]["digest"]})
    assert console.run("inbox", "--as", "ben", "--json").json == []


def test_words_of_others_reach_no_terminal_as_they_are(console: Console) -> None:
    digest = ask(console, HOSTILE)
    for words in (("list",), ("show", digest), ("answer", digest, "no", "--yes")):
        said = console.done("message", *words)
        assert "\x1b" not in said and "\u202e" not in said
        assert "\nmove?" not in said, "a line of theirs poses as ours"
    assert console.run("message", "show", digest, "--json").json["what"] == HOSTILE


def test_long_words_are_cut_in_the_list_alone(console: Console) -> None:
    digest = ask(console, "x" * 4_096)
    assert "x" * 201 not in console.done("message", "list")
    assert f"  {'x' * 4_096}\n" in console.done("message", "show", digest)
    console.refused("message", "ask", "x" * 4_097, "--yes", code="bad_format", ends=1)


def test_newest_are_listed(console: Console) -> None:
    for text in ("one", "two", "three"):
        ask(console, text)
    assert [row["what"] for row in console.run("message", "list", "--limit", "2", "--json").json] == ["two", "three"]


def test_nothing_is_signed_without_words_or_a_yes(console: Console) -> None:
    assert console.done("message", "list") == "Nobody said anything.\n"
    for typed in ("", "\n", "   \n"):
        console.refused("message", "ask", "--yes", code="no_words", ends=2, typed=typed)
    console.refused("message", "ask", " \n", "--yes", code="no_words", ends=2)
    said = console.run("message", "ask", "May it move?", typed="n\n")
    assert (said.code, said.err.splitlines()[-1].endswith("nothing was signed")) == (1, True)
    assert console.run("message", "list", "--json").json == []


def test_question_of_one_who_is_no_principal_any_more_can_be_answered(console: Console) -> None:
    with Home(console.home) as home:
        registrar = home.open_registrar(console.clock)
        question = {"type": "question", "to": "ada", "text": "May it move?", "reply_to": None}
        registrar.submit(home.load_signer("cp18", registrar.sync()), Draft("message", question))
    console.done("trust", "propose", "--remove", "cp18", "--approve", "--yes")
    (waits,) = console.run("inbox", "--json").json
    console.done(*waits["command"].split()[1:], "Yes", "--yes")
    assert console.run("message", "list", "--json").json[-1]["to"] is None
    assert console.run("inbox", "--json").json == []


def test_message_that_is_none_and_addressee_who_is_none(console: Console) -> None:
    digest = ask(console)
    for command in ("answer", "acknowledge"):
        console.refused("message", command, "0123456789ab", "hm", "--yes", code="unknown_message", ends=1)
    # Too short a beginning names nothing.
    console.refused("message", "show", digest[:3], code="unknown_message", ends=1)
    console.refused("message", "ask", "May it move?", "--to", "nobody", "--yes", code="unknown_principal", ends=1)
