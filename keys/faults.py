"""What a closed value refuses, in a person's words: pydantic's kinds of error, and msgspec's one line, told as ours.

Nothing here repeats a value of the input, which may be hostile or secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic_core import ErrorDetails

_TYPES: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "fields of its own, each with a name",
    "model_type": "fields of its own, each with a name",
    "model_attributes_type": "fields of its own, each with a name",
    "none_required": "null",
}
_BOUNDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "greater_than_equal": ("ge", "must be at least", ""),
    "greater_than": ("gt", "must be over", ""),
    "less_than_equal": ("le", "must be at most", ""),
    "less_than": ("lt", "must be under", ""),
    "string_too_short": ("min_length", "must have at least", "character"),
    "string_too_long": ("max_length", "must have at most", "character"),
    "too_short": ("min_length", "must have at least", "item"),
    "too_long": ("max_length", "must have at most", "item"),
}
_PLAIN: Final[Mapping[str, str]] = {
    "str": "text",
    "int": "a whole number",
    "bool": "true or false",
    "array": "a list",
    "object": "fields of its own, each with a name",
    "null": "null",
    "float": "a number with a point",
}
_EXPECTED: Final = re.compile(r"Expected `(?P<types>[a-z |]+)`(?P<more>.*)", re.DOTALL)
_LIMIT: Final = re.compile(r" (?:of length )?(?P<sign><=|>=) (?P<limit>[0-9]+)")
OTHER: Final = "it is not what belongs here"


def first_fault(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """The error to tell a person. A misspelled field is two, what is missing and what is unknown; its name is the
    second one's, which can be looked for in the text.
    """
    first = errors[0]
    if first["type"] != "missing":
        return first
    unknown = (each for each in errors if each["type"] == "extra_forbidden" and each["loc"][:-1] == first["loc"][:-1])
    return next(unknown, first)


def fault_words(fault: ErrorDetails, spelling: Callable[[str], str | None]) -> str:
    """What is wrong with a field, in our words. `spelling`: what a value with a pattern is, None where nobody said."""
    kind, facts = fault["type"], fault.get("ctx", {})
    if kind == "missing":
        return "it is missing"
    if kind == "extra_forbidden":
        return "there is no such field"
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}"
    if kind in _BOUNDS:
        return _bound(*_BOUNDS[kind], facts)
    if kind == "literal_error":
        return f"must be {str(facts['expected']).replace(chr(39), '')}"
    if kind == "string_pattern_mismatch":
        pattern = str(facts["pattern"])
        told = spelling(pattern)
        return f"must match {pattern}" if told is None else f"not {told}"
    # A validator of ours says it in our words already.
    return fault["msg"].removeprefix("Value error, ") if kind == "value_error" else OTHER


def plain_words(text: str) -> str | None:
    """The same for what msgspec says of a type or a limit; None for anything else."""
    told = _EXPECTED.fullmatch(text)
    if told is None:
        return None
    types = [_PLAIN.get(each.strip(), "") for each in told["types"].split("|")]
    if not all(types):
        return None
    limit = _LIMIT.fullmatch(told["more"])
    if limit is not None:
        least = "at least" if limit["sign"] == ">=" else "at most"
        unit = {"text": " characters", "a list": " items"}.get(types[0], "")
        return f"must be {types[0]}, {least} {limit['limit']}{unit}"
    return f"must be {' or '.join(types)}"


def _bound(name: str, words: str, unit: str, facts: Mapping[str, Any]) -> str:
    limit = facts[name]
    return f"{words} {limit}" + (f" {unit}{'' if limit == 1 else 's'}" if unit else "")
