"""The second opinion is one file that stands alone: what it imports, its tables, and its own check of signatures."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest
from documents import FORMAT, read_part
from verdicts import SCRIPT, SECOND


def test_script_uses_the_standard_library_and_cryptography_alone() -> None:
    tree = ast.parse(SCRIPT.read_text("utf-8"))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.partition(".")[0] for name in named} - sys.stdlib_module_names
    assert foreign == {"cryptography"}
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not calls & {"__import__", "exec", "eval"}


@pytest.mark.parametrize(("part", "column"), [("shapes", 1), ("kinds", 2), ("events", 1), ("moves", 1)])
def test_tables_of_the_script_are_those_of_the_document(part: str, column: int) -> None:
    script = " ".join(SCRIPT.read_text("utf-8").split())
    rows = [line.split("|")[1:-1] for line in read_part(FORMAT, part).splitlines()[2:]]
    assert len(rows) > 10
    for row in rows:
        assert f"{row[0].strip().strip('`')}: {row[column].strip()} " in script


# Its own verifier of signatures.


def accepts(public: bytes, message: bytes, signature: bytes) -> bool:
    if not SECOND.may_be_enrolled(public):
        return False
    try:
        SECOND.verify(public, message, signature)
    except SECOND.Refused:
        return False
    return True


def test_it_agrees_with_all_151_wycheproof_verdicts(vectors: Path) -> None:
    groups = json.loads((vectors / "wycheproof-ed25519.json").read_text("utf-8"))["testGroups"]
    cases = [(bytes.fromhex(group["publicKey"]["pk"]), case) for group in groups for case in group["tests"]]
    wrong = [
        case["tcId"]
        for public, case in cases
        if accepts(public, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])) != (case["result"] == "valid")
    ]
    assert len(cases) == 151
    assert wrong == []


def test_it_accepts_no_flagged_vector_of_cctv(vectors: Path) -> None:
    cases = json.loads((vectors / "cctv-ed25519.json").read_text("utf-8"))
    accepted = [
        case for case in cases if accepts(bytes.fromhex(case["key"]), case["msg"].encode(), bytes.fromhex(case["sig"]))
    ]
    assert len(cases) == 914
    assert [case["number"] for case in accepted if case["flags"]] == []
    assert len(accepted) == len([case for case in cases if not case["flags"]]) > 0
