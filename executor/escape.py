"""Text from others, made safe for a terminal: one function that everything printed goes through.

A character that a terminal obeys instead of showing (controls), that reorders its neighbours (bidirectional marks), or
that shows as nothing (zero width, fillers, tags) becomes its code point in angle brackets, such as `<U+202E>`.

Source: Unicode Standard, General_Category and Default_Ignorable_Code_Point; UTR 36 section 3.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from keys.words import counted

_UNSHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MARKS: Final = frozenset({"Mn", "Me"})
MAX_MARKS: Final = 2
"""Combining marks that may stand on one letter."""

CONTINUED: Final = " | "
"""What stands before the rest of a line that was folded."""

# Shown as nothing although their category is that of a letter, a mark or a symbol.
_FILLERS: Final = frozenset(
    {
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0),
        *range(0xFE00, 0xFE10),
        *range(0xE0100, 0xE01F0),
    }
)


def escape(text: str) -> str:
    """The text on one line, with nothing in it that a terminal obeys, reorders or hides. Escaping twice changes
    nothing more.
    """
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    marks = MAX_MARKS
    for char in text:
        category = unicodedata.category(char)
        if category in _MARKS and ord(char) not in _FILLERS:
            # A mark belongs on a letter of its own text, never on what stands before that text.
            marks += 1
            shown.append(char if marks <= MAX_MARKS else _code_point(char))
            continue
        hidden = category in _UNSHOWN or ord(char) in _FILLERS or (category == "Zs" and char != " ")
        shown.append(_code_point(char) if hidden else char)
        marks = 0 if category[0] == "L" else MAX_MARKS
    return "".join(shown)


def escape_lines(text: str, *, limit: int = 1_000) -> list[str]:
    """The lines of a text, each escaped; tabs become spaces. What is over `limit` characters in a line is counted
    instead of shown.
    """
    return [shorten(escape(line.expandtabs(4)), limit) for line in text.removesuffix("\n").split("\n")]


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters of a text, and how many are left out."""
    return text if len(text) <= limit else f"{text[:limit]} ... ({counted(len(text) - limit, 'more character')})"


def fold(text: str, width: int) -> list[str]:
    """An escaped line cut into pieces that a terminal of `width` columns does not wrap.

    What a terminal wraps by itself begins a line, and could pose as one of ours. A piece after the first begins with
    ` | `, as no line of a rendering does: those begin with two spaces or with a word.
    """
    pieces: list[str] = []
    at, room = 0, max(width - 1, 8)
    for here, char in enumerate(text):
        # Terminals differ on how wide what is not ASCII is; two columns is the most.
        columns = 1 if char.isascii() else 2
        if room < columns:
            pieces.append(text[at:here])
            at, room = here, max(width - 1 - len(CONTINUED), 8)
        room -= columns
    return [pieces[0], *(CONTINUED + piece for piece in (*pieces[1:], text[at:]))] if pieces else [text]


def _code_point(char: str) -> str:
    return f"<U+{ord(char):04X}>"
