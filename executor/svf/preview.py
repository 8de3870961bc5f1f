"""Text of others as a line of the feed may carry it: short, printable, and the same whatever reads the ledger.

`executor.escape` follows the Unicode data of the Python that runs it, and a later Python knows more characters. The
feed is rebuilt years later and must come out the same, so this follows the data that every Python carries unchanged.

Source: Unicode Character Database 3.2.0, General_Category.
"""

from __future__ import annotations

from typing import Final
from unicodedata import ucd_3_2_0

MAX_PREVIEW: Final = 100
"""Characters of a preview."""

_CUT: Final = "..."
_SHOWN: Final = frozenset("LNPS")
_UNSHOWN: Final = frozenset({0x115F, 0x1160, 0x2800, 0x3164, 0xFFA0, 0x00AD, 0x1885, 0x1886})
"""Shown as nothing although their category is that of a letter or a symbol, or given another category since."""


def preview(text: str) -> str:
    """At most 100 characters of a text on one line; what a terminal would obey, reorder or hide is its code point in
    angle brackets, and so are combining marks. A text that is cut ends in `...`.
    """
    parts: list[str] = []
    length = 0
    kept = 0
    # No more than the limit is looked at: each character becomes at least one.
    for char in text[: MAX_PREVIEW + 1]:
        part = char if _plain(char) else f"<U+{ord(char):04X}>"
        length += len(part)
        if length <= MAX_PREVIEW - len(_CUT):
            kept += 1
        parts.append(part)
    return "".join(parts) if length <= MAX_PREVIEW else "".join(parts[:kept]) + _CUT


def _plain(char: str) -> bool:
    if char == " ":
        return True
    return ucd_3_2_0.category(char)[0] in _SHOWN and ord(char) not in _UNSHOWN
