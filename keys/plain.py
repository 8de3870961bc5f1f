"""Closed values that machines sign by the million: the promises of `keys.values.Model`, read and written in C.

A `Plain` is frozen and strict and has no field that its class does not name, but it knows no functions of ours: a field
is bounded by its type, a pattern or a range. Making one from Python checks nothing; reading one does, and so does
whatever gives it away: writing it as JSON, and putting it into a `Model`.

Source: docs/FORMAT.md, values.
"""

from __future__ import annotations

import re
from typing import Any, Final, Self

import msgspec
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from keys.canonical import Json, format_json
from keys.errors import FormatError
from keys.faults import plain_words
from keys.values import explain_pattern

_TOLD: Final = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<where>[^`]*)`)?", re.DOTALL)
_FIELD: Final = re.compile(r"Object missing required field `(\w+)`")
_PATTERN: Final = re.compile(r"Expected `str` matching regex '(.*)'", re.DOTALL)
_SAFE: Final = re.compile(r"Expected [^']*")
_OTHER: Final = "a value that is not known here"


class Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """A closed, frozen, strict value that is part of signed bytes, made of nothing but such values."""

    def to_json(self) -> dict[str, Any]:
        """The value as canonical-JSON material, every field present.

        Raises: FormatError when it was made of something that reading refuses, or reads as something else.
        """
        try:
            built = msgspec.to_builtins(self)
            if msgspec.convert(built, type(self)) != self:
                raise FormatError(f"{type(self).__name__}: {_OTHER}")
        except msgspec.ValidationError as error:
            raise FormatError(explain_plain(str(error), type(self).__name__)) from None
        except (TypeError, ValueError, RecursionError):
            raise FormatError(f"{type(self).__name__}: {_OTHER}") from None
        listed: dict[str, Any] = _with_lists(built)
        return listed

    def canonical(self) -> bytes:
        """Canonical bytes of the value."""
        return format_json(self.to_json())

    @classmethod
    def from_json(cls, value: Json, *, what: str = "") -> Self:
        """Validate parsed JSON.

        Raises: FormatError that names the first wrong field.
        """
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as error:
            raise FormatError(explain_plain(str(error), what or cls.__name__)) from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As a field of a `Model`."""
        del source, handler
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(cls.to_json)
        )

    @classmethod
    def _validate(cls, value: Any) -> Self:
        try:
            if isinstance(value, cls):
                value.to_json()
                return value
            return msgspec.convert(value, cls)
        except FormatError as error:
            raise ValueError(error.message) from None
        except msgspec.ValidationError as error:
            raise ValueError(explain_plain(str(error), "")) from None


def _with_lists(value: Any) -> Any:
    # Canonical JSON knows no tuple, and msgspec leaves them as they are.
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, tuple) else value


def explain_plain(message: str, what: str) -> str:
    """One line for what msgspec refused; never repeats the input, which may be hostile or secret."""
    told = _TOLD.fullmatch(message)
    where = "" if told is None else told["where"] or ""
    text = message if told is None else told["what"]
    if missing := _FIELD.fullmatch(text):
        where, text = f"{where}.{missing[1]}".removeprefix("."), " is missing"
    elif text.startswith("Object contains unknown field"):
        # What follows may be the name of that field, made to look like a place.
        where, text = "", "there is a field that it does not have"
    elif spelled := _PATTERN.fullmatch(text):
        text = f": not {explain_pattern(spelled[1])}"
    elif words := plain_words(text):
        text = f": {words}"
    elif _SAFE.fullmatch(text):
        text = f": {text.replace('`', '')}"
    else:
        text = f": {_OTHER}"
    place = f"{where}{text}" if where else text.removeprefix(": ")
    return f"{what}: {place}" if what else place
