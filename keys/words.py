"""Numbers in sentences."""

from __future__ import annotations


def are(number: int) -> str:
    """`is` after one, else `are`."""
    return "is" if number == 1 else "are"


def counted(number: int, noun: str) -> str:
    """A number and what it counts: `1 entry`, `2 entries`. `noun`: in the singular; its last word takes the plural."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}{'es' if noun.endswith(('s', 'sh', 'x')) else 's'}"
