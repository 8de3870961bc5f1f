"""Values as YAML that people edit: what `load_document` reads back to exactly the same value.

Block style, two spaces. Text is plain where no reader could take it for anything else, else in double quotes, ASCII
only: what is not ASCII is an escape, so nothing in a document moves a cursor or hides.

Source: YAML 1.2.2 sections 5.7 and 7.3.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from keys.canonical import Json

Comment: TypeAlias = Callable[[tuple[str, ...], Json], str | None]
"""Gives the comment above the value at a place, ASCII without control characters, or None. List items are counted."""

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*", re.ASCII)
_DIGIT: Final = re.compile(r"[0-9]", re.ASCII)
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""What YAML 1.2, or a reader of 1.1, takes for something else than text."""
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


def format_document(value: Json, comment: Comment | None = None) -> str:
    """A value as YAML, a newline at its end. Inverse of reading it with `policies.yaml_file.load_yaml`."""
    return "\n".join(_lines(value, (), comment or _no_comment)) + "\n"


def _lines(value: Json, place: tuple[str, ...], comment: Comment) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _member(f"{_key(key)}:", item, (*place, key), comment)
    elif isinstance(value, list | tuple) and value:
        for number, item in enumerate(value):
            inner = (*place, str(number))
            told = comment(inner, item)
            if told is not None:
                yield f"# {told}"
            lines = list(_lines(item, inner, comment))
            yield f"- {lines[0]}"
            yield from (f"  {line}" for line in lines[1:])
    else:
        yield _scalar(value)


def _member(name: str, item: Json, place: tuple[str, ...], comment: Comment) -> Iterator[str]:
    told = comment(place, item)
    if told is not None:
        yield f"# {told}"
    if isinstance(item, dict | list | tuple) and item:
        yield name
        yield from (f"  {line}" for line in _lines(item, place, comment))
    else:
        yield f"{name} {_scalar(item)}"


def _scalar(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    return "{}" if isinstance(value, dict) else "[]"


def _key(text: str) -> str:
    # The phases are numbered, and people write `0:`.
    return text if _DIGIT.fullmatch(text) else _text(text)


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if " " <= char <= "~":
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _no_comment(place: tuple[str, ...], value: Json) -> None:
    del place, value
