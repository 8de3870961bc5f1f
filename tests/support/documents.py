"""Parts of documents that are made from the code: read to be compared, or written again.

A part lies between `<!-- begin NAME -->` and `<!-- end NAME -->`, each on its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[2]
FORMAT: Final = CHECKOUT / "docs" / "FORMAT.md"
SECURITY: Final = CHECKOUT / "docs" / "SECURITY.md"


def read_part(document: Path, name: str) -> str:
    """The one part of a document with this name, without the newline at its end."""
    found = _pattern(name).findall(document.read_text("utf-8"))
    assert len(found) == 1, f"{document.name} has one part {name}"
    return str(found[0][1]).removesuffix("\n")


def write_parts(document: Path, makers: Mapping[str, Callable[[], str]]) -> None:
    """Make the parts of a document again, each by its maker."""
    text = document.read_text("utf-8")
    for name, make in makers.items():
        read_part(document, name)
        content = make()
        text = _pattern(name).sub(lambda match, new=content: f"{match[1]}{new}\n{match[3]}", text)  # type: ignore[misc]  # mypy infers no lambda with a default
    document.write_text(text, "utf-8")


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- begin {name} -->\n)(.*?)(<!-- end {name} -->)", re.DOTALL)
