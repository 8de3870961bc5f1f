"""What the values that machines sign refuse, and how they say so."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from keys.errors import FormatError
from keys.plain import Plain
from keys.values import Count, DecimalText, Hash, Ident, Model, Seq, Text

HASH = "ab" * 32
HOSTILE = "\x1b[31mEVIL\n"


class Part(Plain, frozen=True):
    digest: Hash
    size: Count


class Whole(Plain, frozen=True):
    id: Ident
    mood: Literal["good", "bad"]
    value: DecimalText | None
    text: Text
    names: Annotated[Seq[Ident], Meta(max_length=2)]
    parts: Seq[Part]


class Sheet(Model):
    title: Text
    part: Part
    more: dict[Ident, Part]


def said(**changes: Any) -> dict[str, Any]:
    part = {"digest": HASH, "size": 7}
    return {"id": "a", "mood": "good", "value": "1.5", "text": "x", "names": ["b"], "parts": [part], **changes}


def whole(**changes: Any) -> Whole:
    return Whole(
        **{"id": "a", "mood": "good", "value": None, "text": "", "names": ("b",), "parts": (part(),), **changes}
    )


def part(digest: Any = HASH, size: Any = 7) -> Part:
    return Part(digest=digest, size=size)


def sheet(**changes: Any) -> dict[str, Any]:
    return {"title": "t", "part": {"digest": HASH, "size": 7}, "more": {}, **changes}


def refusal(model: type[Plain | Model], value: Any) -> str:
    with pytest.raises(FormatError) as caught:
        model.from_json(value, what="thing")
    return caught.value.message


def test_value_with_arrays_is_canonical_json() -> None:
    assert Whole.from_json(said()).to_json() == said()
    assert Whole.from_json(said()).canonical().startswith(b'{"id":"a","mood":"good","names":["b"],"parts":[{"digest":')


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "a b"}, "thing: id: not an id: a letter or digit, then up to 63 letters"),
        ({"parts": [{"digest": "AB" * 32, "size": 7}]}, "thing: parts[0].digest: not 64 lower-case hex digits"),
        ({"value": "-0"}, "thing: value: not a decimal of at most 15 digits and 9 after the point, and not minus zero"),
        ({"text": 5}, "thing: text: must be text"),
        ({"mood": HOSTILE}, "thing: mood: a value that is not known here"),
    ],
)
def test_refusal_names_the_field_and_what_it_should_be(changes: dict[str, Any], words: str) -> None:
    assert refusal(Whole, said(**changes)).startswith(words)


@pytest.mark.parametrize("name", [HOSTILE, f"a` - at `$.{HOSTILE}", f"a` - at `$.parts[0].{HOSTILE}` - at `$.EVIL"])
def test_refusal_never_repeats_the_name_of_an_unknown_field(name: str) -> None:
    for value in (said(**{name: 1}), said(parts=[{"digest": HASH, "size": 7, name: 1}])):
        assert refusal(Whole, value) == "thing: there is a field that it does not have"
    for value in (sheet(**{name: 1}), sheet(more={name: {"digest": HASH, "size": 7}}), sheet(part={name: 1})):
        told = refusal(Sheet, value)
        assert told.isprintable()
        assert "EVIL" not in told


def test_refusal_of_a_document_names_a_field_that_was_misspelled() -> None:
    assert refusal(Sheet, sheet(titel="t")) == "thing: titel: there is no such field"


WRONG: list[Any] = [
    part(size=-1),
    part(size=True),
    part(size=7.0),
    part(size="7"),
    part(size=2**53),
    part(size=10**5000),
    part(digest="../../etc/passwd"),
    part(digest=HASH.encode()),
    part(digest=None),
]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_what_was_made_without_being_judged_is_not_given_away(wrong: Part) -> None:
    for attempt in (wrong.to_json, wrong.canonical, whole(parts=(wrong,)).to_json):
        with pytest.raises(FormatError):
            attempt()
    with pytest.raises(FormatError):
        Sheet.from_json(sheet(part=wrong))
    with pytest.raises(ValueError, match="part"):
        Sheet(title="t", part=wrong, more={})


@pytest.mark.parametrize(
    "changes", [{"text": b"bytes"}, {"names": ["a"]}, {"names": ("a", "b", "c")}, {"value": 1.5}, {"text": "\ud800"}]
)
def test_what_reads_as_something_else_is_not_written(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        whole(**changes).canonical()


def test_every_closed_value_is_frozen_and_has_no_other_field() -> None:
    import ledger.record
    import policies.event_kinds  # noqa: F401  # the modules that have them

    found, classes = [Plain], set[type[Plain]]()
    while found:
        model = found.pop()
        classes.add(model)
        found += model.__subclasses__()
    assert ledger.record._Wire in classes
    assert len(classes) > 40
    for model in classes:
        config = model.__struct_config__
        assert (config.frozen, config.forbid_unknown_fields, config.array_like) == (True, True, False), model
        assert not model.__struct_defaults__, model
