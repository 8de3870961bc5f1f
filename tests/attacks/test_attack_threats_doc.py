"""docs/THREATS.md names every attack's test, and every test that it names is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

from documents import CHECKOUT, SECURITY, read_part

THREATS: Final = CHECKOUT / "docs" / "THREATS.md"
HERE: Final = Path(__file__).parent
DEFINED: Final = re.compile(r"^def (test_\w+)\(", re.MULTILINE)
TEST: Final = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


@cache
def collected() -> dict[str, frozenset[str]]:
    """File -> the tests in it, in the whole folder of tests, as pytest collects them: functions by their name."""
    found: dict[str, frozenset[str]] = {}
    for path in (CHECKOUT / "tests").rglob("test_*.py"):
        names = DEFINED.findall(path.read_text("utf-8"))
        # Two folders may each have a file with this name.
        found[path.name] = found.get(path.name, frozenset()) | set(names)
    return found


def rows(part: str) -> dict[str, list[tuple[str, str]]]:
    """First cell -> the tests of the second."""
    lines = read_part(THREATS, part).splitlines()[2:]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert all(len(row) == 2 for row in cells), "a row has two cells"
    return {row[0].strip(): TEST.findall(row[1]) for row in cells}


def promised() -> list[str]:
    """The first cells of what docs/SECURITY.md promises."""
    text = SECURITY.read_text("utf-8").partition("## What is promised\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [line.split("|")[1].strip() for line in lines[2:]]


def named() -> set[tuple[str, str]]:
    return {test for part in ("promises", "attacks") for tests in rows(part).values() for test in tests}


def test_every_line_of_what_is_promised_has_its_attacks() -> None:
    assert list(rows("promises")) == promised()


def test_every_row_names_tests_that_are_there() -> None:
    for part in ("promises", "attacks"):
        for attack, tests in rows(part).items():
            assert tests, f"{attack}: no test"
            for file, test in tests:
                assert test in collected().get(file, ()), f"{attack}: {file} has no {test}"


def test_every_attack_is_listed() -> None:
    ours = {(path.name, test) for path in HERE.glob("test_*.py") for test in collected()[path.name]}
    ours -= {(Path(__file__).name, test) for test in collected()[Path(__file__).name]}
    assert not ours - named(), "an attack is not in docs/THREATS.md"


def test_nothing_in_the_table_is_outside_the_pattern() -> None:
    for part in ("promises", "attacks"):
        text = TEST.sub("", read_part(THREATS, part))
        assert "::" not in text, "a test is spelled in another way, and nobody looks for it"
