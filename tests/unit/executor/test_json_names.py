"""One word for one thing in whatever `--json` prints: every command is run, and each name is held to docs/JSON.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from documents import CHECKOUT
from json_walk import Printed, Walk, commands_with_json
from terms import PEOPLE

JSON_DOC: Final = CHECKOUT / "docs" / "JSON.md"
SIGNED: Final = {"show", "trust show", "policy show", "fleet show", "svf tail"}
"""Commands that print what was signed, or the station's feed: their names are laid down elsewhere."""
BY_NAME: Final = {"instances", "targets", "channels", "counts"}
"""Objects whose members are named by people, or by verdicts."""
ELSEWHERE: Final = {"rollback"}
"""Needs a later rollout over the same machines; it prints through `tell_change`, as `propose` does."""

Named = tuple[str, str, Any]
"""Command, name, value."""


def documented() -> set[str]:
    """The names of the table."""
    part = JSON_DOC.read_text("utf-8").partition("<!-- begin names -->")[2].partition("<!-- end names -->")[0]
    return {name for row in part.splitlines() for name in re.findall(r"`([a-z_]+)`", row.split("|")[1] if row else "")}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printed]:
    """What every command printed."""
    with pytest.MonkeyPatch.context() as patch:
        walk = Walk(tmp_path_factory.mktemp("walk"), patch)
        walk.person()
        walk.rollout()
        yield walk.printed


def members(command: str, value: Any) -> Iterator[Named]:
    """Every member of every object, but those of values that were signed."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            for name, inner in item.items():
                yield command, name, inner
                if not (command == "lease show" and name == "lease"):
                    yield from members(
                        command, [*inner.values()] if name in BY_NAME and isinstance(inner, dict) else inner
                    )
        elif isinstance(item, list):
            yield from members(command, item)


def named(printed: Printed) -> list[Named]:
    return [each for command in printed.keys() - SIGNED for each in members(command, printed[command])]


def strangers(printed: Printed, shape: str, names: set[str]) -> set[tuple[str, str]]:
    """Commands and names that hold a value of a shape under another name than `names`."""
    found = set()
    for command, name, value in named(printed):
        values = value if isinstance(value, list) else [value]
        if name not in names and any(isinstance(one, str) and re.fullmatch(shape, one) for one in values):
            found.add((command, name))
    return found


def test_every_command_that_prints_json_is_walked(printed: Printed) -> None:
    assert commands_with_json() == printed.keys() - {"svf tail"} | ELSEWHERE


def test_every_name_is_in_the_table_and_no_other(printed: Printed) -> None:
    unknown = {(command, name) for command, name, _ in named(printed) if name not in documented()}
    assert unknown == set()


def test_table_names_each_name_once() -> None:
    part = JSON_DOC.read_text("utf-8").partition("<!-- begin names -->")[2].partition("<!-- end names -->")[0]
    found = [name for row in part.splitlines() if row for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])]
    assert sorted(found) == sorted(set(found))


def test_lease_and_intent_have_one_name(printed: Printed) -> None:
    others = {"lease_ids", "onto", "replaces", "undoes"}
    assert strangers(printed, r"LEASE-\d{8}-\d{6}(-\d+)?", {"lease_id", *others}) == set()
    assert strangers(printed, r"INT-[0-9-]+", {"intent_id"}) == set()


def test_time_has_one_name_and_says_of_what_where_it_is_another(printed: Printed) -> None:
    at = {name for name in documented() if name.endswith("_at")}
    names = {"timestamp", "now", "until", "approve_by", "trust_expires", *at}
    assert strangers(printed, r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", names) == set()


def test_who_did_it_has_one_name(printed: Printed) -> None:
    people = "|".join(PEOPLE)
    found = strangers(printed, people, {"by", "principal", "custodian", "cosigners", "running", "to"})
    assert found == {("lease show", "id")}


def test_number_of_an_entry_is_called_seq(printed: Printed) -> None:
    numbers = {
        name
        for _, name, value in named(printed)
        if name in {"entry", "entries", "position", "number"}
        or (name.endswith("_seq") and not isinstance(value, int | None))
    }
    assert numbers == set()
    assert {"seq", "timestamp", "lease_id"} <= {name for command, name, _ in named(printed) if command == "ledger log"}


def test_hash_of_a_statement_is_called_digest(printed: Printed) -> None:
    hashes = {
        "digest",
        "leaf",
        "root",
        "hash",
        "ledger",
        "policy",
        "fleet",
        "review",
        "notice_id",
        "sha256",
        "reply_to",
    }
    assert strangers(printed, r"[0-9a-f]{64}", {*hashes, "removed", "in_use"}) == set()
