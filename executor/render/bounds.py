"""How much of a statement is shown. What is left out is counted, in any case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Bounds:
    """`names`: of instances in a row, and rows of instances. `paths`: of the signed list. `rows`: of one text, and of
    commands. `pairs`: of trees. `files`: of one pair. `lines`: of differences between two trees, or two values.
    `line`: characters. `text`: bytes of a file whose difference is shown. `findings`: of one review. `more`: where what
    is left out can be seen.
    """

    names: int
    paths: int
    rows: int
    pairs: int
    files: int
    lines: int
    line: int
    text: int
    findings: int
    more: str


SHORT: Final = Bounds(
    names=20,
    paths=200,
    rows=40,
    pairs=4,
    files=50,
    lines=400,
    line=400,
    text=256 * 1024,
    findings=10,
    more="calyx show --full shows them",
)
"""What a person can read through at a terminal."""

FULL: Final = Bounds(
    names=100_000,
    paths=100_000,
    rows=10_000,
    pairs=128,
    files=20_000,
    lines=200_000,
    line=65_536,
    text=8 * 1024 * 1024,
    findings=10_000,
    more="more than is held in memory; the objects have them",
)
"""Everything, up to what memory can hold."""
