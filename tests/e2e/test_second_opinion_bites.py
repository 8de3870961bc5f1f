"""The vectors bite: a second opinion that lacks one rule of the law accepts, or names otherwise, one of them."""

from __future__ import annotations

import ast
import copy
import io
import json
from collections import defaultdict
from functools import cache
from types import ModuleType
from typing import Any

import pytest
from verdicts import FOLDER, SCRIPT, SECOND, Ledger, load_stories, vector_ledger

PARTS = 8
TREE = ast.parse(SCRIPT.read_text("utf-8"))
# Rules that no vector has room for, and the test that is there instead.
ELSEWHERE = {"e.seq - e.seen <= 1024": "test_both_let_a_machine_lag_1024_entries_and_no_more"}


def rules() -> list[tuple[int, str, int, str]]:
    """Each fact that the law needs: which node of the file it is, the code of its refusal, which of the facts that one
    `and` joins, and how it is written.
    """
    law = [node for node in TREE.body if isinstance(node, ast.ClassDef) and node.name in {"Root", "Law"}]
    inside = {id(node) for each in law for node in ast.walk(each)}
    found = []
    for at, node in enumerate(ast.walk(TREE)):
        if id(node) in inside and isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            facts = node.keywords if node.func.id == "need" else []
            named = [(each.arg, parts_of(each.value)) for each in facts if each.arg is not None]
            found += [(at, code, part, ast.unparse(fact)) for code, every in named for part, fact in enumerate(every)]
    return found


def parts_of(fact: ast.expr) -> list[ast.expr]:
    """The facts that an `and` joins, or the one."""
    return fact.values if isinstance(fact, ast.BoolOp) and isinstance(fact.op, ast.And) else [fact]


@cache
def vectors() -> dict[str, list[tuple[Ledger, int | None]]]:
    """The vectors of each code."""
    stories, found = load_stories(), defaultdict(list)
    for path in sorted(FOLDER.glob("*.json")):
        vector = json.loads(path.read_text("ascii"))
        # Of the shapes, which are no rules of the law, those of the common fields are enough.
        if path.stem != "stories" and (not path.stem.startswith("shape-") or "-head" in path.stem):
            found[vector["code"]].append((vector_ledger(stories, vector), vector["entry"]))
    return found


def without(rule: int, code: str, part: int) -> Any:
    """The script without a rule, or that part of it."""
    tree = copy.deepcopy(TREE)
    call = next(node for at, node in enumerate(ast.walk(tree)) if at == rule)
    assert isinstance(call, ast.Call)
    (fact,) = (each for each in call.keywords if each.arg == code)
    whole, parts = fact.value, parts_of(fact.value)
    parts[part] = ast.copy_location(ast.Constant(True), whole)
    fact.value = whole if len(parts) > 1 else parts[0]
    module: Any = ModuleType("maimed")
    exec(compile(tree, "maimed", "exec"), module.__dict__)  # noqa: S102 -- the script itself

    def verify(raw: bytes, message: bytes, signature: bytes) -> None:
        # Signatures that were checked before are not checked again; what refuses is the maimed script's own.
        try:
            SECOND.verify(raw, message, signature)
        except SECOND.Refused as error:
            raise module.Refused(error.code) from None

    module.verify = verify
    return module


def notices(maimed: Any, code: str, ledger: Ledger, entry: int | None) -> bool:
    """Whether this vector shows that something is missing."""

    def find(digest: str) -> io.BytesIO | None:
        data = ledger.objects.get(digest)
        return None if data is None else io.BytesIO(data)

    try:
        wrong = maimed.examine(iter(ledger.records), ledger.note, maimed.Objects(find), [])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return True  # a rule that guards what comes after it
    return wrong is None or (wrong.code, wrong.entry) != (code, entry)


def bites(rule: int, code: str, part: int) -> bool:
    """Whether a vector of its code notices that a rule is left out."""
    maimed = without(rule, code, part)
    return any(notices(maimed, code, ledger, entry) for ledger, entry in vectors()[code])


@pytest.mark.parametrize("part", range(PARTS))
def test_a_vector_notices_each_rule_that_is_left_out(part: int) -> None:
    every = rules()
    assert len(every) > 150
    assert {fact for *_, fact in every} >= ELSEWHERE.keys()
    mine = [rule for rule in every[part::PARTS] if rule[-1] not in ELSEWHERE]
    assert [(code, fact) for at, code, which, fact in mine if not bites(at, code, which)] == []
