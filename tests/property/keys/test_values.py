from __future__ import annotations

import base64
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from keys.errors import CalyxError, FormatError
from keys.values import (
    Count,
    DecimalText,
    Hash,
    Ident,
    Model,
    Nonce,
    One,
    Seq,
    Text,
    Time,
    fold_id,
    format_base64,
    format_decimal,
    format_time,
    parse_base64,
    parse_decimal,
    parse_time,
)

FIRST = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
LAST = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?", fullmatch=True, alphabet=st.characters(max_codepoint=127))
)
def test_decimal_text_is_read_and_written_back(text: str) -> None:
    try:
        value = parse_decimal(text)
    except FormatError:
        assert set(text) <= set("-0.")
        assert text.startswith("-")
        return
    assert format_decimal(value) == text


@given(st.integers(-(10**24) + 1, 10**24 - 1), st.integers(0, 9))
def test_decimal_value_is_written_and_read_back(digits: int, places: int) -> None:
    value = Decimal(digits).scaleb(-places)
    try:
        text = format_decimal(value)
    except FormatError:
        assert abs(value) >= 10**15
        return
    assert parse_decimal(text) == value


@given(st.text(max_size=40))
@example("1_000")
@example("\u0661")
@example("1\n")
def test_arbitrary_text_is_no_decimal_or_is_written_back(text: str) -> None:
    try:
        value = parse_decimal(text)
    except CalyxError:
        return
    assert format_decimal(value) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        ".5",
        "5.",
        "+1",
        "01",
        "-0",
        "-0.000",
        "1e3",
        "NaN",
        "Infinity",
        " 1",
        "1 ",
        "1\n",
        "1,5",
        "1.0000000000",
    ],
)
def test_other_spellings_of_a_decimal_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_decimal(text)


@pytest.mark.parametrize("text", ["1" * 16, "-" + "1" * 16, "1" * 100_000, "\u00b2", "\uff11"])
def test_long_or_foreign_digits_are_no_decimal(text: str) -> None:
    with pytest.raises(FormatError):
        parse_decimal(text)


@pytest.mark.parametrize(
    "text", ["NaN", "sNaN", "Infinity", "-Infinity", "1E+15", "1E-10", "1E+999999999", "1E-999999999"]
)
def test_decimal_without_a_spelling_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        format_decimal(Decimal(text))


def test_minus_zero_is_written_as_zero() -> None:
    assert format_decimal(Decimal("-0")) == "0"
    assert format_decimal(Decimal("-0.00")) == "0.00"


@given(st.integers(FIRST, LAST))
@example(FIRST)
@example(LAST)
@example(951_782_400)  # 2000-02-29
def test_time_is_written_and_read_back(seconds: int) -> None:
    text = format_time(seconds)
    assert len(text) == 20
    assert parse_time(text) == seconds


@given(st.text("0123456789-:TZ+. ", max_size=26) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", fullmatch=True))
@example("2024-02-30T00:00:00Z")
@example("2023-02-29T00:00:00Z")
@example("2016-12-31T23:59:60Z")
@example("2024-01-01T24:00:00Z")
@example("0000-01-01T00:00:00Z")
@example("2024-01-01T00:00:00+00:00")
@example("2024-01-01T00:00:00z")
@example("2024-01-01 00:00:00Z")
@example("2024-01-01T00:00:00Z\n")
@example("2024-01-01T00:00:00.000Z")
@example("\u0662024-01-01T00:00:00Z")
def test_arbitrary_text_is_no_time_or_is_written_back(text: str) -> None:
    try:
        seconds = parse_time(text)
    except CalyxError:
        return
    assert format_time(seconds) == text


def test_impossible_dates_are_refused() -> None:
    for text in ("2024-02-30T00:00:00Z", "2016-12-31T23:59:60Z", "2024-01-01T24:00:00Z", "0000-01-01T00:00:00Z"):
        with pytest.raises(FormatError):
            parse_time(text)
    for seconds in (FIRST - 1, LAST + 1, 2**63, -(2**63), 10**30):
        with pytest.raises(FormatError):
            format_time(seconds)


@given(st.binary(max_size=100))
def test_base64_is_written_and_read_back(data: bytes) -> None:
    assert parse_base64(format_base64(data)) == data


@given(st.text(max_size=24) | st.text("AQgw/+-_=\n ", max_size=12))
@example("AB==")  # padding bits set
@example("AAB=")
@example("AA")
@example("AA=")
@example("AA===")
@example("AAAA====")
@example("AA==\n")
@example("A A=")
@example("__8=")
@example("\uff21AAA")
def test_arbitrary_text_is_no_base64_or_is_written_back(text: str) -> None:
    try:
        data = parse_base64(text)
    except CalyxError:
        return
    assert format_base64(data) == text
    assert base64.b64decode(text, validate=True) == data


@pytest.mark.parametrize("text", ["AB==", "AAB=", "AA", "AA=", "AA==\n", "\nAA==", "__8=", "AA==AA==", "=", "\u00e9"])
def test_other_spellings_of_base64_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_base64(text)


class Everything(Model):
    hash: Hash
    nonce: Nonce
    id: Ident
    time: Time
    decimal: DecimalText
    count: Count
    text: Text
    items: Seq[int]
    law: One


EVERYTHING = {
    "hash": "0f" * 32,
    "nonce": "0f" * 16,
    "id": "LEASE-20300101-000000-2",
    "time": "2030-01-01T00:00:00Z",
    "decimal": "0.5",
    "count": 0,
    "text": "free \u202e text",
    "items": [1, 2],
    "law": 1,
}


def test_model_is_read_and_written_back() -> None:
    model = Everything.from_json(EVERYTHING)
    assert model.to_json() == EVERYTHING
    assert model.items == (1, 2)
    assert Everything.from_json(model.to_json()) == model
    assert isinstance(model, BaseModel)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hash", "0F" * 32),
        ("hash", "0f" * 31),
        ("hash", "0f" * 32 + "\n"),
        ("hash", "\u0660" * 64),
        ("nonce", "0f" * 32),
        ("id", ""),
        ("id", "-a"),
        ("id", ".a"),
        ("id", "a/b"),
        ("id", "a\n"),
        ("id", "\u00e9"),
        ("id", "\u212a"),  # the Kelvin sign: its lower case is an ASCII k
        ("id", "a" * 65),
        ("time", "2030-01-01"),
        ("time", 0),
        ("decimal", 0.5),
        ("decimal", "-0"),
        ("count", -1),
        ("count", 2**53),
        ("count", True),
        ("count", 1.0),
        ("count", "1"),
        ("text", "a" * 4097),
        ("text", None),
        ("text", b"a"),
        ("items", "12"),
        ("items", ["1"]),
        ("items", [True]),
        ("items", {"0": 1}),
        ("law", True),
        ("law", 1.0),
        ("law", 2),
        ("law", "1"),
        ("law", None),
    ],
)
def test_model_refuses_another_spelling_and_names_the_field(field: str, value: object) -> None:
    with pytest.raises(FormatError, match=rf"Everything: {field}") as caught:
        Everything.from_json({**EVERYTHING, field: value})
    assert repr(value) not in caught.value.message


def test_model_is_closed_complete_and_frozen() -> None:
    with pytest.raises(FormatError, match="extra"):
        Everything.from_json({**EVERYTHING, "extra": 1})
    for field in EVERYTHING:
        with pytest.raises(FormatError, match=field):
            Everything.from_json({key: value for key, value in EVERYTHING.items() if key != field})
    with pytest.raises(ValueError, match="frozen"):
        Everything.from_json(EVERYTHING).count = 1  # type: ignore[misc]  # frozen: the point


def test_ids_are_compared_ignoring_case() -> None:
    assert fold_id("CP14") == fold_id("cp14") != fold_id("cp18")
