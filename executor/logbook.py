"""What a long run writes down of itself: one line for each act, for people or for programs, in files that stay small.

Lines are handed about as text; one that `fact_line` made carries the facts that it was made from, so that whoever
writes JSON needs not read the text. A line is told once and kept nowhere else: the ledger is what lasts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from executor.escape import escape

Fact: TypeAlias = str | int | float | None
Log: TypeAlias = Callable[[str], None]
"""Takes one line."""

MAX_LOG: Final = 4 * 1024 * 1024
"""Bytes of a log before it begins again; the one before it is kept beside it, with `.1` at its end."""
MAX_TEXT: Final = 2_000
"""Characters of one line's text."""


class Line(str):
    """A line of a log with the facts it was made from."""

    facts: Mapping[str, Fact]


def fact_line(text: str, **facts: Fact) -> Line:
    """A line that says `text` to a person, and `facts` to a program; a fact that is None is left out."""
    line = Line(text)
    line.facts = {name: fact for name, fact in facts.items() if fact is not None}
    return line


def warning_line(text: str, **facts: Fact) -> Line:
    """As `fact_line`, of what somebody should look at."""
    return fact_line(text, level="warning", **facts)


def format_json_line(text: str, time: str, *, level: str = "info") -> str:
    """One JSON object on one line, ASCII only: `timestamp`, `level`, `text`, and the line's facts."""
    facts = text.facts if isinstance(text, Line) else {}
    value = {**facts, "level": facts.get("level", level), "text": text[:MAX_TEXT], "timestamp": time}
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)


class LogFile:
    """A log that is written line by line and never grows beyond twice `limit` bytes.

    A line that cannot be written is dropped: whoever logs has more important things to do. Two processes may write the
    same log; when it begins again a few of the other's lines may be lost.
    """

    def __init__(self, path: Path, limit: int = MAX_LOG) -> None:
        self._path: Final = path
        self._limit: Final = limit

    def write(self, line: str) -> None:
        """Add a line. Raises nothing."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with suppress(OSError):
            trim_log(self._path, self._limit - len(data))
            # A pipe has a line as long as somebody reads there, and nobody waits for them.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o640)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)


def trim_log(path: Path, limit: int = MAX_LOG) -> None:
    """Begin a log again when it is over `limit` bytes: its end is kept beside it, in place of what was kept before.

    Whoever has it open appends at the new end, as `O_APPEND` says, so this is for logs of other processes too. What
    they write at this very moment may be lost. Raises: OSError.
    """
    try:
        if path.stat().st_size <= limit:
            return
    except FileNotFoundError:
        return
    with path.open("r+b") as file:
        file.seek(-min(limit, os.fstat(file.fileno()).st_size), os.SEEK_END)
        kept = file.read(limit)
        # From a whole line on.
        path.with_name(f"{path.name}.1").write_bytes(kept[kept.find(b"\n") + 1 :])
        file.truncate(0)


def telling(write: Callable[[str], None], now: Callable[[], str], *, as_json: bool) -> Callable[[str], None]:
    """A log: takes a line, and hands it to `write` with the time. `now`: the time as text."""

    def log(text: str) -> None:
        write(format_json_line(text, now()) if as_json else f"{now()} {escape(text)}")

    return log
