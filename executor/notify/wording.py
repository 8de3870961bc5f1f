"""Text of others in a message that mail and chat programs will render: shown, and nothing in it works.

`escape` takes out what a terminal obeys. Here goes what other programs obey: markup of chat and HTML, mentions that
ring everybody's phone, and addresses with a scheme. A program that makes links of bare host names may still do so. The
exact text is in the ledger.
"""

from __future__ import annotations

import re
from typing import Final

from executor.escape import escape, shorten

_SOFTENED: Final = str.maketrans(
    {
        "<": "(",
        ">": ")",
        "[": "(",
        "]": ")",
        "{": "(",
        "}": ")",
        "`": "'",
        '"': "'",
        "&": "+",
        "*": ".",
        "~": "-",
        "|": "/",
        "\\": "/",
        "@": "(at)",
    }
)
"""Characters with a meaning in Markdown, HTML, or a chat program's own markup, and what stands for each."""

_LINK: Final = re.compile(r"(?<=:)(?=//)|(?<=\bwww)(?=\.)", re.IGNORECASE)


def inert(text: str, limit: int) -> str:
    """A text on one line of about `limit` characters, with no markup, mention, link or control in it. Doing it twice
    changes nothing more.
    """
    return shorten(_LINK.sub(" ", escape(text).translate(_SOFTENED)), limit)


def quoted(text: str, limit: int) -> str:
    """What somebody wrote, inert and in quotation marks, so that it is not taken for our own words."""
    return f'"{inert(text, limit)}"'
