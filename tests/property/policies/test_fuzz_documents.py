"""Documents and predicates: hostile ones are refused in our own words, or say only what they said."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from fuzzing import Parser, bounded, check, hostile, hostile_json, of_text
from hypothesis import given, note, settings
from hypothesis import strategies as st
from station import Station
from terms import fleet, matrix
from told import tell, told

from executor.proposals.documents import format_document
from keys.canonical import Json, format_json, parse_json
from keys.errors import CalyxError
from ledger.statement import SELF_SUBJECT, make_statement
from policies.auditing.objects import references
from policies.fleet import Fleet, parse_fleet
from policies.law.position import PREDICATES, parse_predicate
from policies.manifest import manifest_files
from policies.matrix import CapabilityMatrix
from policies.matrix_file import default_matrix_text, load_matrix
from policies.submitter import Draft
from policies.yaml_file import load_yaml

FLEET = Fleet.from_json(fleet())
MATRIX = CapabilityMatrix.from_json(matrix())
MANIFEST = format_json(
    ["calyx-tree-v1", ["app.py", "file", "ab" * 32, 3], ["lib", "dir"], ["lib/x", "link", "../app.py"]]
)
YAML = [
    format_document(FLEET.to_json()).encode(),
    b"a: [1, two, null]\nb:\n  - {c: 'd'}\n",
    b'"x": |\n  text\n  more\n',
]


def as_json(value: Any) -> bytes:
    return format_json(value.to_json())


PARSERS = [
    Parser("fleet's body", parse_fleet, Fleet.canonical, [FLEET.canonical()]),
    Parser("policy", lambda data: CapabilityMatrix.from_json(parse_json(data)), None, [MATRIX.canonical()]),
    Parser("policy's file", of_text(load_matrix), None,
           [default_matrix_text().encode(), format_document(MATRIX.to_json()).encode()]),
    Parser("manifest as an audit reads it", lambda data: list(manifest_files(data)), None, [MANIFEST]),
    Parser("references", lambda data: list(references(parse_json(data))), None,
           [b'{"a":[{"sha256":"%s","size":3}],"b":{"sha256":1,"size":2,"type":3}}' % (b"ab" * 32)]),
]  # fmt: skip


@pytest.mark.parametrize("parser", PARSERS, ids=repr)
@given(st.data())
def test_hostile_bytes_are_refused_or_the_only_spelling(parser: Parser, data: st.DataObject) -> None:
    check(parser, data.draw(hostile(parser.samples)))


@given(hostile(YAML))
def test_hostile_yaml_is_refused_or_means_one_thing(data: bytes) -> None:
    with bounded(), suppress(CalyxError):
        value = of_text(load_yaml)(data)
        assert load_yaml(format_document(value)) == value


def test_most_kinds_are_told() -> None:
    assert {statement.kind for statement in told()} >= PREDICATES.keys() - {"trust", "policy"}


@given(st.data())
def test_hostile_predicate_is_refused_or_is_what_it_says(data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(told()))
    predicate = data.draw(hostile_json([dict(sample.predicate)]))
    kind = data.draw(st.sampled_from([sample.kind] * 5 + sorted(PREDICATES)))
    note(f"{kind}: {predicate}")
    if not isinstance(predicate, dict):
        return
    about = None if kind in SELF_SUBJECT else (sample.subject_name, sample.subject_digest)
    with bounded(), suppress(CalyxError):
        statement = make_statement(kind, predicate, about)
        assert format_json(parse_predicate(statement).to_json()) == format_json(predicate)


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Station:
    return tell(tmp_path_factory.mktemp("law"))


@given(st.data())
@settings(max_examples=settings().max_examples // 2)
def test_insider_who_signs_anything_is_refused_in_our_words(station: Station, data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from([each for each in told() if each.kind != "genesis"]))
    common = {"by", "head", "ledger", "made_at", "nonce"}
    fields: dict[str, Json] = {name: item for name, item in sample.predicate.items() if name not in common}
    changed = data.draw(hostile_json([fields]))
    who = data.draw(st.sampled_from([sample.by, sample.by, *sorted(station.people)]))
    subject = None if sample.kind in SELF_SUBJECT else (sample.subject_name, sample.subject_digest)
    note(f"{who} says {sample.kind} {changed}")
    if not isinstance(changed, dict):
        return
    with bounded(), suppress(CalyxError):
        station.append(station.sign(who, Draft(sample.kind, changed, subject)))
    station.registrar.sync()
