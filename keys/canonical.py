"""Canonical JSON: RFC 8785 restricted, so that one value has exactly one encoding.

Values are objects with ASCII keys, arrays, strings, booleans, null and integers 0 .. 2^53-1; depth is at most 16.
There are no floats, no negative numbers, no white space and no Unicode normalisation. `parse` encodes what it read
and compares bytes, so duplicate keys, other escapes, unsorted keys and big integers all fail the same way.

Source: RFC 8785 (JSON Canonicalization Scheme), restricted as docs/FORMAT.md says.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import orjson

from keys.errors import FormatError
from keys.words import counted

Json: TypeAlias = bool | int | str | list["Json"] | dict[str, "Json"] | None

MAX_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 16
MAX_BYTES: Final = 65_535

_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")


def format_json(value: Json) -> bytes:
    """Encode a value in its one canonical form.

    Raises: FormatError when the value has no canonical form (a float, a negative or large integer, a key that is not
    ASCII, a lone surrogate, more than 16 levels).
    """
    _check(value, 1)
    return _encode(value)


def parse_json(data: bytes, *, limit: int = MAX_BYTES) -> Json:
    """Decode canonical bytes, at most `limit` of them.

    Raises: FormatError when the bytes are not exactly what `format_json` would write for the value they hold.
    """
    if len(data) > limit:
        raise FormatError(
            f"JSON of {counted(len(data), 'byte')} is over the limit of {limit}", code="too_large", limit=limit
        )
    try:
        return _parse(data)
    except FormatError:
        # Two readers look for faults in an order of their own: of several this one is named first.
        _check_depth(data)
        raise


def _parse(data: bytes) -> Json:
    try:
        value: Json = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise FormatError(f"not JSON: {error.msg} at byte {error.pos}") from None
    _check(value, 1)
    if _encode(value) != data:
        raise FormatError(
            "JSON is not canonical (key order, a duplicate key, white space or an escape)", code="not_canonical"
        )
    return value


def _encode(value: Json) -> bytes:
    # orjson sorts keys by code point; keys are ASCII, where that equals RFC 8785's order by UTF-16 units. Its string
    # escapes are those of RFC 8785: \b \t \n \f \r \" \\ and \u00xx for the other control characters.
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise FormatError(f"a value has no canonical JSON: {error}") from None


def _check(value: Json, depth: int) -> None:
    # `type() is` on purpose: a bool is an int, and a subclass could encode as something else. Most values are text and
    # an audit checks millions of them, so the leaves of an object or array are judged where they are found.
    kind = type(value)
    if kind is dict:
        if depth > MAX_DEPTH:
            raise _too_deep()
        try:
            ascii_keys = "".join(value).isascii()  # type: ignore[arg-type]  # kind is dict
        except TypeError:
            ascii_keys = False
        if not ascii_keys:
            raise FormatError("an object key is not ASCII text")
        items = value.values()  # type: ignore[union-attr]  # kind is dict
    elif kind is list:
        if depth > MAX_DEPTH:
            raise _too_deep()
        items = value
    else:
        items = (value,)
    for item in items:
        kind = type(item)
        if kind is str or item is None or kind is bool:
            continue
        if kind is int:
            if not 0 <= item <= MAX_INTEGER:  # type: ignore[operator]  # kind is int
                raise FormatError("an integer is outside 0 .. 2^53-1")
        elif kind is dict or kind is list:
            _check(item, depth + 1)
        else:
            raise FormatError(f"a value of type {kind.__name__} has no canonical JSON")


def _too_deep() -> FormatError:
    return FormatError(f"JSON is nested deeper than {MAX_DEPTH}", code="too_deep", limit=MAX_DEPTH)


def _check_depth(data: bytes) -> None:
    # Brackets inside strings do not count. The pattern also takes a string that never ends, so that it is linear
    # whatever the bytes are.
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        if bracket in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep()
        else:
            depth -= 1
