"""The form of a rendering: sections of plain lines, and how values of each sort are spelled in them.

Nothing that others wrote can pose as a part of the form. A title begins in the first column; everything else begins
with two spaces, and every line of a text that others wrote has a label, a sign or a word of ours before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from shlex import join
from typing import Final

from executor.escape import escape, shorten
from executor.render.bounds import Bounds
from keys.words import counted
from policies.matrix import Gate

Row = tuple[str, str]

AS_ABOVE: Final = "as shown above, line for line"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its lines, escaped. `rows`: labels and values. `lines`: as they are, such as a diff. `unseen`: why
    what belongs here cannot be shown, escaped; "" where it is shown.
    """

    title: str
    rows: tuple[Row, ...] = ()
    lines: tuple[str, ...] = ()
    unseen: str = ""


@dataclass(frozen=True, slots=True)
class Rendering:
    """A statement for a person. `digest`: of its exact bytes; a signature on anything else is not on this. `loud`: what
    must be read before everything else.
    """

    title: str
    digest: str
    sections: tuple[Section, ...]
    loud: tuple[str, ...] = ()

    @property
    def unseen(self) -> str:
        """Why a part of it cannot be shown, escaped; "" where nothing is missing."""
        return next((section.unseen for section in self.sections if section.unseen), "")


def without_shown(rendering: Rendering, shown: Sequence[str]) -> Rendering:
    """The rendering with those sections left out that stand in `shown`, line for line: lines that this person read just
    now. What differs from them in any line stays whole.
    """
    sections = (
        replace(section, lines=(AS_ABOVE,))
        if section.lines and not section.rows and _stands_in(format_section(section), shown)
        else section
        for section in rendering.sections
    )
    return replace(rendering, sections=tuple(sections))


def _stands_in(lines: Sequence[str], shown: Sequence[str]) -> bool:
    return any(list(shown[at : at + len(lines)]) == list(lines) for at in range(len(shown) - len(lines) + 1))


def format_rendering(rendering: Rendering) -> list[str]:
    """The rendering as lines of plain text."""
    lines = [*(f"!! {line}" for line in rendering.loud), rendering.title, f"  statement {rendering.digest}"]
    for section in rendering.sections:
        lines += ["", *format_section(section)]
    return lines


def format_section(section: Section) -> list[str]:
    """One section as lines of plain text."""
    width = max((len(label) for label, _ in section.rows), default=0)
    rows = [f"  {label.ljust(width)}  {value}" for label, value in section.rows]
    return [section.title, *rows, *(f"  {line}" for line in section.lines)]


def text_rows(label: str, text: str, bounds: Bounds) -> list[Row]:
    """A signed text, one row a line, exactly: a tab or a newline at the end shows."""
    lines = text.split("\n")
    shown = [(label, shorten(escape(line), bounds.line)) for line in lines[: bounds.rows]]
    return [*shown, *(("", left) for left in count_left(len(lines), bounds.rows, "line", bounds))]


def optional_rows(label: str, text: str | None, bounds: Bounds) -> list[Row]:
    """A signed text, or that there is none: no text reads like that."""
    return [(f"no {label}", "")] if text is None else text_rows(label, text, bounds)


def count_left(count: int, limit: int, what: str, bounds: Bounds) -> tuple[str, ...]:
    """Whoever signs is told that there is more than is shown, and how to see it."""
    return (f"and {counted(count - limit, f'more {what}')}; {bounds.more}",) if count > limit else ()


def shown_names(names: Iterable[str], bounds: Bounds) -> str:
    """Instance names, the first of them when they are many."""
    every = list(names)
    rest = f" and {len(every) - bounds.names} more; {bounds.more}" if len(every) > bounds.names else ""
    return f"{len(every)}: {escape(', '.join(every[: bounds.names]))}{rest}"


def shown_argv(argv: Iterable[str]) -> str:
    """A command as one would type it: each word keeps its bounds."""
    return escape(join(argv))


def shown_gate(gate: Gate) -> str:
    """A gate's terms on one line."""
    against = {"absolute": "", "baseline": " from before the first tier", "rest": " from the rest of the fleet"}
    moved = "" if gate.against == "absolute" else " away"
    absolute = "" if gate.absolute is None else f", or {gate.breach} {gate.absolute} where that is not known"
    return (
        f"{gate.source} {gate.breach} {gate.limit}{moved}{against[gate.against]} for {gate.for_s} s{absolute}; "
        f"{counted(gate.min_samples, 'sample')}, no value for {gate.missing_s} s halts, "
        f"from {counted(gate.min_requests, 'request')} on"
    )


def shown_distance(seconds: int) -> str:
    """How far away a time is, in words."""
    if not seconds:
        return "now"
    distance = abs(seconds)
    if distance >= 2 * 86_400:
        text = f"{counted(distance // 86_400, 'day')}"
    elif distance >= 7200:
        text = f"{distance // 3600} h {distance % 3600 // 60} min"
    elif distance >= 120:
        text = f"{distance // 60} min"
    else:
        text = f"{distance} s"
    return f"in {text}" if seconds > 0 else f"{text} ago"
