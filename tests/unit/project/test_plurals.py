"""A number that is printed has the right plural: `1 entry`, never `1 entries`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from documents import CHECKOUT

from keys.words import counted

ROOMS = ("keys", "ledger", "policies", "executor")
NOUNS = (
    "entries|objects|files|lines|instances|paths|findings|samples|days|groups|keys|bytes|characters|hashes|rows|cells|tiers"
    "|deployments|addresses|requests|warnings|values|pairs|statements|leases|processes|records|items|releases|members"
)
PLURAL = re.compile(rf" (?:(?:more|new|changed|lawful|Ed25519|whole|free) ){{0,2}}(?:{NOUNS})\b")


def told(number: ast.FormattedValue) -> bool:
    """Whether a number may be one: a limit that is written in capitals never is."""
    value = number.value
    name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
    # What `counted` made has its plural, and what is formatted further is no count.
    made = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "counted"
    return not (name.isupper() or made or name == "limit")


def bare_plurals() -> Iterator[str]:
    for room in ROOMS:
        for path in sorted((CHECKOUT / room).rglob("*.py")):
            for text in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(text, ast.JoinedStr):
                    for number, after in zip(text.values, text.values[1:], strict=False):
                        if (
                            isinstance(number, ast.FormattedValue)
                            and isinstance(after, ast.Constant)
                            and PLURAL.match(str(after.value))
                            and told(number)
                        ):
                            yield f"{path.relative_to(CHECKOUT)}:{number.lineno} {ast.unparse(number)}{after.value!s}"


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (1, "entry", "1 entry"),
        (0, "entry", "0 entries"),
        (2, "entry", "2 entries"),
        (1, "changed path", "1 changed path"),
        (3, "changed path", "3 changed paths"),
        (2, "day", "2 days"),
        (2, "hash", "2 hashes"),
        (2, "address", "2 addresses"),
        (2, "Ed25519 key", "2 Ed25519 keys"),
    ],
)
def test_number_and_noun_agree(number: int, noun: str, said: str) -> None:
    assert counted(number, noun) == said


def test_no_number_stands_before_a_plural_that_it_was_not_asked_about() -> None:
    assert list(bare_plurals()) == []
