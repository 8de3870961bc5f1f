"""Records that were lawful once stay lawful, and mean what they meant."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from law_vector import objects_of, summary

from keys.errors import CalyxError
from ledger.chain import Chain
from ledger.statement import parse_statement
from policies.fold.state import State
from policies.law.step import step

VECTOR = json.loads((Path(__file__).parent / "law.json").read_text("ascii"))
RECORDS = [record.encode("ascii") for record in VECTOR["records"]]


def test_records_are_lawful_and_fold_into_the_same_state() -> None:
    state = State()
    for entry in Chain().replay(RECORDS, None):
        state = step(state, entry, objects_of(VECTOR))
    assert summary(state) == VECTOR["state"]


def test_vector_says_most_of_what_can_be_said() -> None:
    entries = list(Chain().replay(RECORDS, None))
    kinds = Counter(parse_statement(entry.record.envelope.body).kind for entry in entries)
    assert {"genesis", "fleet", "policy", "intent", "lease", "review", "cosignature", "term", "claim"} <= kinds.keys()
    assert {"event", "command", "trust", "objection"} <= kinds.keys()
    phases = {deployment["phase"] for deployment in VECTOR["state"]["deployments"].values()}
    assert {"COMPLETED", "ROLLBACK_FAILED", "ABORTED"} <= phases


def test_record_left_out_makes_the_rest_unlawful() -> None:
    """Without the first cosignature what it brought about has no base, so the test above could fail."""
    entries = list(Chain().replay(RECORDS, None))
    state = State()
    objects = objects_of(VECTOR)
    with pytest.raises(CalyxError):
        for entry in entries[:2] + entries[3:]:
            state = step(state, entry, objects)
