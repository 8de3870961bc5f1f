"""The small values that signed bytes are made of, each with one spelling, and the model base they live in.

`Model` is frozen, strict and closed: no coercion, no unknown field, no default. Annotated types here check the spelling
when a model is validated; `parse_*`/`format_*` convert to and from Python values.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, TypeVar

from msgspec import Meta
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails

from keys.canonical import Json, format_json
from keys.errors import FormatError
from keys.faults import fault_words, first_fault

ZERO_HASH: Final = "0" * 64

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?", re.ASCII)
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
_SECONDS: Final = {f":{second:02}Z": second for second in range(60)}
_NO_TIME: Final = "not a time of the form YYYY-MM-DDTHH:MM:SSZ"
_SHOWN: Final = re.compile("[ -_a-~]{1,64}")
_SPELLINGS: Final[dict[str, str]] = {}
"""Pattern of a value -> what it is, in words."""


def parse_decimal(text: str) -> Decimal:
    """Parse a decimal: up to 15 digits before the point and 1 to 9 after it, no exponent, no `-0`.

    Raises: FormatError.
    """
    # The pattern bounds the length before Decimal sees the text.
    if not _DECIMAL.fullmatch(text):
        raise FormatError("not a decimal of at most 15 digits and 9 after the point")
    value = Decimal(text)
    if text.startswith("-") and not value:
        raise FormatError("a decimal must not be minus zero")
    return value


def format_decimal(value: Decimal) -> str:
    """Format a decimal without an exponent. Inverse of `parse_decimal` on its own output.

    Raises: FormatError when the value needs more digits than the format has.
    """
    # Bounds the length before Python writes the digits out.
    if not value.is_finite() or abs(value.adjusted()) > 32:
        raise FormatError("a decimal has over 15 digits before the point or 9 after it")
    text = f"{value:f}" if value else f"{abs(value):f}"
    parse_decimal(text)
    return text


def parse_time(text: str) -> int:
    """Parse `YYYY-MM-DDTHH:MM:SSZ` into whole seconds since 1970-01-01 UTC.

    Raises: FormatError for another spelling, a date that does not exist, or a leap second.
    """
    second = _SECONDS.get(text[16:])
    if second is None:
        raise FormatError(f"{text} is not a date that exists" if _TIME.fullmatch(text) else _NO_TIME)
    return _minute(text[:16]) + second


# Neighbouring entries share their minute, and an audit reads the time of millions. A refusal is not kept.
@lru_cache(maxsize=1024)
def _minute(text: str) -> int:
    if not _TIME.fullmatch(f"{text}:00Z"):
        raise FormatError(_NO_TIME)
    hour, minute = int(text[11:13]), int(text[14:16])
    if hour > 23 or minute > 59:
        raise FormatError(f"{text}:00Z is not a date that exists")
    try:
        return _midnight(text[:10]) + 3600 * hour + 60 * minute
    except ValueError:
        raise FormatError(f"{text}:00Z is not a date that exists") from None


@lru_cache(maxsize=64)
def _midnight(day: str) -> int:
    return 86_400 * (date.fromisoformat(day).toordinal() - _EPOCH_DAY)


def format_time(seconds: int) -> str:
    """Format whole seconds since 1970-01-01 UTC as `YYYY-MM-DDTHH:MM:SSZ`.

    Raises: FormatError outside the years 1 to 9999.
    """
    minute, second = divmod(seconds, 60)
    return f"{_format_minute(minute)}:{second:02}Z"


@lru_cache(maxsize=64)
def _format_minute(minute: int) -> str:
    try:
        return datetime.fromtimestamp(60 * minute, UTC).isoformat()[:16]
    except (ValueError, OverflowError, OSError):
        raise FormatError("a time is outside the years 1 to 9999") from None


def parse_base64(text: str) -> bytes:
    """Parse standard padded base64; the text must be exactly what `format_base64` writes.

    Raises: FormatError.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise FormatError("not standard padded base64") from None
    if format_base64(data) != text:
        raise FormatError("base64 is not canonical")
    return data


def format_base64(data: bytes) -> str:
    """Format bytes as standard padded base64 (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def spelled(pattern: str, what: str) -> StringConstraints:
    """A pattern that the whole text has, for a field of a `Model`. `what`: what such a text is, in words."""
    # Judged inside pydantic's core, whose `$` is the end of the text and nothing else. `explain` says `what` instead
    # of the pattern.
    whole = f"^(?:{pattern})$"
    _SPELLINGS[whole] = what
    return StringConstraints(pattern=whole)


def in_words(pattern: str, what: str) -> str:
    """A pattern as it is, for which errors say `what`: what a text that has it is, after "not "."""
    _SPELLINGS[pattern] = what
    return pattern


def spelled_plainly(pattern: str, what: str) -> Meta:
    """The same for a field of a `Plain`."""
    whole = rf"^(?:{pattern})\Z"
    # msgspec tells a pattern as Python would write it.
    _SPELLINGS[repr(whole)[1:-1]] = what
    return Meta(pattern=whole)


def explain_pattern(pattern: str) -> str:
    """What a value with this pattern is, in words. `pattern`: as msgspec tells it."""
    return _SPELLINGS.get(pattern, "in its one spelling")


def _exact_integer(value: object) -> object:
    # A Literal takes what equals it, and true equals 1: that would be a second spelling of the same bytes.
    if type(value) is not int:
        raise ValueError("not an integer")
    return value


def _spelled_decimal(text: str) -> str:
    try:
        parse_decimal(text)
    except FormatError as error:
        raise ValueError(error.message) from None
    return text


def _spelled_time(text: str) -> str:
    try:
        parse_time(text)
    except FormatError as error:
        raise ValueError(error.message) from None
    return text


_HASH: Final = ("[0-9a-f]{64}", "64 lower-case hex digits")
_NONCE: Final = ("[0-9a-f]{32}", "32 lower-case hex digits")
_IDENT: Final = (
    "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "an id: a letter or digit, then up to 63 letters, digits, dots, dashes or underscores",
)

# Each alias says its spelling twice: to pydantic for a `Model`, with `Meta` to msgspec for a `Plain`.
Hash: TypeAlias = Annotated[str, spelled(*_HASH), spelled_plainly(*_HASH)]
"""SHA-256 as 64 lower-case hex digits."""
Nonce: TypeAlias = Annotated[str, spelled(*_NONCE), spelled_plainly(*_NONCE)]
Ident: TypeAlias = Annotated[str, spelled(*_IDENT), spelled_plainly(*_IDENT)]
"""An id; two ids are the same when they are equal ignoring case (`fold_id`)."""
Time: TypeAlias = Annotated[str, AfterValidator(_spelled_time)]
"""UTC, whole seconds, as text; `parse_time` gives seconds. A `Plain` that has one asks `parse_time` itself."""
DecimalText: TypeAlias = Annotated[
    str,
    AfterValidator(_spelled_decimal),
    spelled_plainly(
        rf"(?!-0(\.0+)?\Z)(?:{_DECIMAL.pattern})",
        "a decimal of at most 15 digits and 9 after the point, and not minus zero",
    ),
]
Count: TypeAlias = Annotated[int, Field(ge=0, le=2**53 - 1), Meta(ge=0, le=2**53 - 1)]
One: TypeAlias = Annotated[Literal[1], BeforeValidator(_exact_integer)]
"""The integer 1, as a version or a law has it, and not `true`."""
Text: TypeAlias = Annotated[str, Field(max_length=4096), Meta(max_length=4096)]
"""Free text of a person or program: at most 4,096 characters, any of them; escape it before it reaches a terminal."""

T = TypeVar("T")
Seq: TypeAlias = Annotated[tuple[T, ...], Strict(False)]
"""A JSON array as a tuple. Only the container is lenient (JSON has no tuples); its items stay strict."""


def fold_id(identifier: str) -> str:
    """The form under which ids are compared. Ids are ASCII, so this is exact."""
    return identifier.lower()


class Model(BaseModel):
    """A closed, frozen, strict value that is part of signed bytes or of a file that people edit."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    def to_json(self) -> Json:
        """The value as canonical-JSON material, every field present."""
        dumped: Json = self.model_dump(mode="json", by_alias=True)
        return dumped

    def canonical(self) -> bytes:
        """Canonical bytes of the value."""
        return format_json(self.to_json())

    @classmethod
    def from_json(cls, value: Any, *, what: str = "") -> Self:
        """Validate parsed JSON.

        Raises: FormatError that names the first wrong field.
        """
        try:
            # What `model_validate` calls, without its options: an audit asks this of every entry.
            validated: Self = cls.__pydantic_validator__.validate_python(value)
        except ValidationError as error:
            raise FormatError(explain(error, what or cls.__name__)) from None
        return validated


def tell_fault(fault: ErrorDetails) -> str:
    """What is wrong with a field, in a person's words; never repeats a value of the input."""
    return fault_words(fault, _SPELLINGS.get)


def explain(error: ValidationError, what: str) -> str:
    """One line for the first wrong field; never repeats a value of the input, which may be hostile or secret."""
    first = first_fault(error.errors(include_url=False, include_input=False))
    # A name that is no field's, or a key of a mapping, is as hostile as a value: shown only where it looks like a name.
    where = ".".join(part if _SHOWN.fullmatch(part) else "?" for part in map(str, first["loc"]))
    if first["type"] == "missing":
        return f"{what}: {where} is missing"
    told = tell_fault(first)
    return f"{what}: {where}: {told}" if where else f"{what}: {told}"
