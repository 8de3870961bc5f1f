"""An audit judges the entry before a broken one, says what is wrong with it once, and gives it no effect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from forging import ForgedObjects
from verdicts import FOLDER, load_stories, vector_ledger

from policies.auditing.audit import audit
from policies.auditing.report import Report


@pytest.fixture(scope="module")
def stories() -> dict[str, Any]:
    return load_stories()


def run(stories: dict[str, Any], name: str) -> Report:
    ledger = vector_ledger(stories, json.loads((FOLDER / f"{name}.json").read_text("ascii")))
    return audit(ledger, ForgedObjects(ledger.objects), remembered=None)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (
            "chain-changed-before-the-end-under-a-larger-checkpoint",
            [("bad_signature", 5), ("broken_chain", 6), ("broken_chain", 7)],
        ),
        (
            "chain-with-another-prev-behind-an-entry-that-is-not-lawful",
            [("unlawful_entry", 7), ("broken_chain", 8)],
        ),
        ("chain-cut-behind-an-entry-that-is-not-lawful", [("unlawful_entry", 7), ("broken_chain", 8)]),
        ("chain-with-another-prev", [("broken_chain", 3)]),
    ],
)
def test_each_finding_is_there_once(stories: dict[str, Any], name: str, found: list[tuple[str, int]]) -> None:
    report = run(stories, name)
    assert [(finding.code, finding.entry) for finding in report.findings] == found


def test_entry_that_nothing_confirms_is_not_decided(stories: dict[str, Any]) -> None:
    report = run(stories, "chain-with-another-prev")
    assert report.size == report.decided == 2
