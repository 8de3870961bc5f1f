"""The difference of two texts, line by line, in bounded work: texts can be made so that comparing them takes days."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import Match, SequenceMatcher
from itertools import accumulate
from typing import Final

FREE: Final = 50_000
"""Work that each comparison has, whatever others before it cost: a file made to be slow hides no change in another."""


class Work:
    """What comparisons together may cost. `left`: a line that is looked at costs one, and so does each pair of equal
    lines, each time that it is looked at.
    """

    def __init__(self, left: int) -> None:
        self.left = left


def diff_lines(old: Sequence[str], new: Sequence[str], work: Work, *, context: int = 3) -> Iterator[str]:
    """The lines of a unified difference, without names of files. Where there is too little work left to find what
    stays, everything old goes and everything new comes.

    A line of positions begins with `@@`; each other one with a minus, a plus or a space, and ends as the text's does.
    """
    matcher = _Matcher(old, new, work)
    try:
        matcher.get_matching_blocks()
    except _TooMuchError:
        yield f"@@ -{_range(0, len(old))} +{_range(0, len(new))} @@"
        yield from ("-" + line for line in old)
        yield from ("+" + line for line in new)
        return
    for group in matcher.get_grouped_opcodes(context):
        first, last = group[0], group[-1]
        yield f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@"
        for tag, old_start, old_stop, new_start, new_stop in group:
            if tag == "equal":
                yield from (" " + line for line in old[old_start:old_stop])
                continue
            yield from ("-" + line for line in old[old_start:old_stop])
            yield from ("+" + line for line in new[new_start:new_stop])


class _TooMuchError(Exception):
    """The work is used up."""


class _Matcher(SequenceMatcher[str]):
    """A matcher that gives up. Each search for the longest match looks at every pair of equal lines between its bounds,
    and there may be as many searches as lines.
    """

    def __init__(self, old: Sequence[str], new: Sequence[str], work: Work) -> None:
        super().__init__(None, old, new)
        self._work = work
        self._spent = 0
        self._size = len(old)
        places = self.b2j  # type: ignore[attr-defined]  # documented; its types do not name it
        self._costs = [0, *accumulate(1 + len(places.get(line, ())) for line in old)]

    def find_longest_match(self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None) -> Match:
        cost = self._costs[self._size if ahi is None else ahi] - self._costs[alo]
        self._spent += cost
        self._work.left -= cost
        if self._work.left < 0 and self._spent > FREE:
            raise _TooMuchError
        return super().find_longest_match(alo, ahi, blo, bhi)


def _range(start: int, stop: int) -> str:
    """Lines as such a difference counts them: from 1; an empty range stands after the line before it."""
    if stop - start == 1:
        return str(start + 1)
    return f"{start + (stop > start)},{stop - start}"
