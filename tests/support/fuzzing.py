"""What every parser promises of hostile bytes: an error of ours, or a value that formats back to the same bytes.

A parser is fed valid inputs that were changed where formats break (bits, lengths, cut, repeated and foreign parts) and
bytes that mean nothing. `bounded` ends one that does not end by itself, by the work that it did and not by the time
that passed.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from hypothesis import note
from hypothesis import strategies as st

from keys.canonical import Json
from keys.errors import CalyxError

MAX_WORK_S: Final = 10.0
"""Of this process's own time, for one input of a few kilobytes: a thousand times what a parser needs."""
_NUMBERS: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TOKENS: Final = (
    b"", b"\n", b"\r\n", b"\0", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b" ", b"\t", b"=", b"==", b'"',
    b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]" * 40, b"[" * 40, b",", b":", b"/", b"..", b"/../", b"//",
    b"%", b"-", b"-0", b"+1", b"0", b"00", b"1e9", b"1.0", b"9007199254740992", b"9" * 400, b"NaN", b"null", b"true",
    "é".encode(), "e\u0301".encode(), "\u2028".encode(), "\u202e".encode(), "٣".encode(), "—".encode(), b"&a", b"*a",
    b"!!python/object:os.system", b"<<", b"---\n", b"%YAML 1.1\n---\n", b"|", b">", b"? ", b"#",
)  # fmt: skip


@dataclass(frozen=True)
class Parser:
    """One parser. `samples`: valid inputs. `form`: the inverse, None where the parser keeps less than it reads."""

    name: str
    parse: Callable[[bytes], Any]
    form: Callable[[Any], bytes] | None
    samples: Sequence[bytes]

    def __repr__(self) -> str:
        return self.name


def of_text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A parser of text as one of bytes: each byte that is no UTF-8 becomes a lone surrogate, as in Python's paths."""
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


def to_text(form: Callable[[Any], str]) -> Callable[[Any], bytes]:
    """The inverse of such a parser."""
    return lambda value: form(value).encode("utf-8", "surrogateescape")


def check(parser: Parser, data: bytes) -> None:
    """Hold a parser to its promise."""
    note(f"{parser.name}: {data!r}")
    with bounded():
        try:
            value = parser.parse(data)
        except CalyxError as error:
            assert "\n" not in error.message, "an error is one line"
            return
        assert parser.form is None or parser.form(value) == data


@contextmanager
def bounded(seconds: float = MAX_WORK_S) -> Iterator[None]:
    """End what does not end. Raises: AssertionError after so much work."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"no end after {seconds} seconds of work")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@st.composite
def hostile(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """A valid input with one to four changes, or, now and then, bytes of no meaning."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=300))
    data = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(1, 4))):
        data = _change(draw, data, samples)
    return data


def _change(draw: st.DrawFn, data: bytes, samples: Sequence[bytes]) -> bytes:
    at = draw(st.integers(0, len(data)))
    end = min(len(data), at + draw(st.one_of(st.integers(0, 8), st.integers(0, len(data)))))
    match draw(st.sampled_from(["flip", "insert", "delete", "repeat", "splice", "number", "digit", "cut"])):
        case "flip" if at < len(data):
            return data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        case "insert":
            return data[:at] + draw(st.one_of(st.sampled_from(_TOKENS), st.binary(max_size=6))) + data[at:]
        case "delete":
            return data[:at] + data[end:]
        case "repeat":
            return data[:end] + data[at:end] * draw(st.integers(1, 3)) + data[end:]
        case "splice":
            other = draw(st.sampled_from(samples))
            start = draw(st.integers(0, len(other)))
            return data[:at] + other[start : start + draw(st.integers(0, 80))] + data[end:]
        case "number":
            size = draw(st.sampled_from([1, 2, 4, 8]))
            number = draw(st.sampled_from(_NUMBERS)) % (1 << 8 * size)
            return data[:at] + number.to_bytes(size, "big") + data[at + size :]
        case "digit":
            token = draw(st.sampled_from(_TOKENS))
            return data[:at] + token + data[end:]
        case _:
            return data[:at]


@st.composite
def hostile_json(draw: st.DrawFn, samples: Sequence[Json]) -> Json:
    """A valid value in which one to three members are replaced, removed, added, or moved; still plain JSON."""
    value: Json = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(1, 3))):
        value = _change_json(draw, value, draw(st.sampled_from(samples)))
    return value


_LEAVES: Final[st.SearchStrategy[Json]] = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 1, 2**53 - 1, "", "0", "-0", "1.50", "x" * 70, "a\nb", "\u202e", "e\u0301", "\0", [], {}]
    ),
    st.sampled_from(["0" * 64, "ab" * 32, "2026-02-30T00:00:00Z", "2026-01-05T09:00:00Z", "../x", "INT-20260105-1"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)


def _change_json(draw: st.DrawFn, value: Json, other: Json) -> Json:
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        name = draw(st.sampled_from(sorted(value)))
        rest = {key: item for key, item in value.items() if key != name}
        match draw(st.sampled_from(["inside", "inside", "inside", "remove", "rename", "swap"])):
            case "inside":
                foreign = other.get(name, other) if isinstance(other, dict) else other
                return {**value, name: _change_json(draw, value[name], foreign)}
            case "remove":
                return rest
            case "rename":
                return {**rest, draw(st.text("abc_dt", max_size=4)): value[name]}
            case _:
                return {**value, name: value[draw(st.sampled_from(sorted(value)))]}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(value) - 1))
        match draw(st.sampled_from(["inside", "inside", "remove", "repeat", "reverse"])):
            case "inside":
                return [*value[:at], _change_json(draw, value[at], other), *value[at + 1 :]]
            case "remove":
                return [*value[:at], *value[at + 1 :]]
            case "repeat":
                return [*value[:at], value[at], *value[at:]]
            case _:
                return value[::-1]
    replacement: Json = draw(st.one_of(_LEAVES, st.just(other)))
    return replacement
