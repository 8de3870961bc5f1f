"""Canonical JSON: one value, one spelling; whatever is read is written back byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keys.canonical import MAX_DEPTH, MAX_INTEGER, Json, format_json, parse_json
from keys.errors import CalyxError, FormatError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.text(st.characters(max_codepoint=127))
SCALARS = st.none() | st.booleans() | st.integers(0, MAX_INTEGER) | TEXT
VALUES: st.SearchStrategy[Json] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)


def depth(value: Json) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 0


SHALLOW = VALUES.filter(lambda value: depth(value) <= MAX_DEPTH)


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]", core: bytes = b"") -> bytes:
    return opening * levels + core + closing * levels


@given(SHALLOW)
def test_what_is_written_is_read_back_and_has_one_spelling(value: Json) -> None:
    data = format_json(value)
    assert parse_json(data) == value
    assert format_json(parse_json(data)) == data


@given(SHALLOW)
def test_an_independent_encoder_writes_the_same_bytes(value: Json) -> None:
    # Keys are ASCII, so Python's order is RFC 8785's; its escapes are the same but for DEL, which neither escapes.
    assert format_json(value) == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8"
    )


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"")
@example(b"\xef\xbb\xbf1")
@example(b'"\xed\xa0\x80"')
@example(b'"\xc0\x80"')
@example(b"NaN")
@example(b"Infinity")
@example(b"-0")
@example(b"1\n")
def test_arbitrary_bytes_are_refused_or_written_back_the_same(data: bytes) -> None:
    try:
        value = parse_json(data)
    except CalyxError:
        return
    assert format_json(value) == data


@given(SHALLOW, st.data())
def test_one_changed_byte_is_refused_or_another_value(value: Json, data: st.DataObject) -> None:
    good = format_json(value)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([data.draw(st.integers(0, 255).filter(lambda byte: byte != good[at]))]) + good[at + 1 :]
    try:
        other = parse_json(bad)
    except CalyxError:
        return
    # Python holds true for 1; the bytes do not.
    assert format_json(other) == bad != good


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'{"b":1,"a":2}',
        b'{"a":1 }',
        b" 1",
        b"[1,]",
        b"[1, 2]",
        b'{"a":[{"b":1,"b":1}]}',
    ],
)
def test_duplicates_order_and_white_space_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_json(data)


@pytest.mark.parametrize(
    "data",
    [
        rb'"\u0061"',
        rb'"\/"',
        rb'"\u000a"',
        rb'"\u000A"',
        rb'"\u001F"',
        rb'"\u007f"',
        rb'"\u00e9"',
        rb'"\ud83d\ude00"',
        rb'"\ud800"',
        rb'"\udc00\ud800"',
        rb'"\x61"',
        b'"\x00"',
        b'"\x1f"',
        b'"\n"',
    ],
)
def test_other_escapes_and_bare_control_characters_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_json(data)


@pytest.mark.parametrize(
    "data",
    [
        b"1.0",
        b"0.1",
        b"1e3",
        b"1E400",
        b"-1",
        b"-0",
        b"-0.0",
        b"01",
        b"+1",
        b"9007199254740992",
        b"18446744073709551615",
        b"18446744073709551616",
        b"1" * 400,
        b"[1.0]",
        b'{"a":-1}',
    ],
)
def test_floats_negatives_and_big_integers_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_json(data)


def test_greatest_and_least_integer_are_read() -> None:
    assert parse_json(b"[0,9007199254740991]") == [0, MAX_INTEGER]


@pytest.mark.parametrize(
    ("opening", "closing", "core"), [(b"[", b"]", b"1"), (b'{"a":', b"}", b"1"), (b"[", b"]", b"")]
)
def test_sixteen_levels_are_read_and_seventeen_refused(opening: bytes, closing: bytes, core: bytes) -> None:
    data = nested(MAX_DEPTH, opening, closing, core)
    value = parse_json(data)
    assert format_json(value) == data
    with pytest.raises(FormatError) as parsing:
        parse_json(nested(MAX_DEPTH + 1, opening, closing, core))
    with pytest.raises(FormatError) as formatting:
        format_json([value])
    assert parsing.value.code == formatting.value.code == "too_deep"


def test_empty_containers_count_as_levels() -> None:
    value: Json = {}
    for _ in range(MAX_DEPTH):
        value = [value]
    with pytest.raises(FormatError) as caught:
        format_json(value)
    assert caught.value.code == "too_deep"


def test_depth_is_judged_before_a_recursive_parser_sees_it() -> None:
    for data in (b"[" * 60_000, b'{"a":' * 10_000, nested(30_000)):
        with pytest.raises(FormatError) as caught:
            parse_json(data)
        assert caught.value.code == "too_deep"


@given(st.text('[]{}"\\ab', max_size=60))
def test_brackets_inside_strings_are_not_levels(text: str) -> None:
    data = format_json([text, {"k": text}])
    assert parse_json(data) == [text, {"k": text}]


def test_many_siblings_are_not_levels() -> None:
    value: Json = [[] for _ in range(1000)]
    assert parse_json(format_json(value)) == value


def test_limit_is_judged_before_parsing() -> None:
    for size, limit in ((65_536, None), (11, 10)):
        with pytest.raises(FormatError) as caught:
            parse_json(b"[" * size) if limit is None else parse_json(b"[" * size, limit=limit)
        assert caught.value.code == "too_large"
    exact = b'"' + b"a" * 65_533 + b'"'
    assert len(exact) == 65_535
    assert parse_json(exact) == "a" * 65_533


def test_strings_are_spelled_as_rfc_8785_spells_them() -> None:
    # RFC 8785 section 3.2.2.2, and its example in 3.2.3 without the keys that are not ASCII.
    value = '\u20ac$\u000f\nA\'B"\\\\"/'
    assert format_json(value) == b'"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'
    control = "".join(map(chr, range(32)))
    assert format_json(control).decode("ascii") == (
        r'"\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f'
        r'\u0010\u0011\u0012\u0013\u0014\u0015\u0016\u0017\u0018\u0019\u001a\u001b\u001c\u001d\u001e\u001f"'
    )
    assert format_json("\x7f\u2028\u2029\U0001f600") == '"\x7f\u2028\u2029\U0001f600"'.encode()
    assert format_json({"1": 1, "10": 1, "2": 1, "A": 1, "a": 1, "": 1, "\r": 1}) == (
        b'{"":1,"\\r":1,"1":1,"10":1,"2":1,"A":1,"a":1}'
    )


def test_text_is_never_normalised() -> None:
    composed, decomposed = "\u00e9", "e\u0301"
    assert format_json(composed) != format_json(decomposed)
    assert parse_json(format_json(decomposed)) == decomposed


class Number(int):
    pass


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        -1,
        2**53,
        "\ud800",
        ["\udfff"],
        {"\ud800": 1},
        {"\u00e9": 1},
        {1: 1},
        {None: 1},
        (1, 2),
        {1, 2},
        b"bytes",
        Number(1),
        Text("a"),
        {Text("a"): 1},
        object(),
    ],
)
def test_value_without_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(FormatError):
        format_json(value)
    with pytest.raises(FormatError):
        format_json([{"a": value}])
