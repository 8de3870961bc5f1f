"""How `calyx` ends where no refusal of ours says so: the exit codes of that, and what standard error is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, TextIO

USAGE: Final = 2
UNAVAILABLE: Final = 5
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141


def wants_json(args: list[str]) -> bool:
    """Whether a command line asks for JSON."""
    options = args[: args.index("--")] if "--" in args else args
    return "--json" in options


def tell(code: str, message: str, lines: Iterable[str], exit_code: int, *, as_json: bool, hint: str = "") -> None:
    """Say to standard error why the process ends: `lines`, or one JSON object."""
    if as_json:
        import json

        said = {"code": code, "message": message, "hint": hint or None, "exit_code": exit_code}
        lines = [json.dumps({**said, "rule": None, "step": None, "seq": None}, sort_keys=True, separators=(",", ":"))]
    # The exit code says it, too, and must not change because a log's disk is full.
    with suppress(OSError):
        sys.stderr.writelines(f"{line}\n" for line in lines)
        sys.stderr.flush()


def tell_interrupted(*, as_json: bool) -> None:
    """Say that a person, or who stands in for one, ended it."""
    tell("interrupted", "interrupted", ("interrupted",), INTERRUPTED, as_json=as_json)


def drop_output() -> None:
    """Let standard output lead nowhere: Python would complain again when it flushes what is left at its end."""
    _lead_nowhere(sys.stdout)


def drop_unwritten() -> None:
    """Let what standard error did not take go, for Python would end with another exit code over it."""
    try:
        sys.stderr.flush()
    except OSError:
        _lead_nowhere(sys.stderr)


def _lead_nowhere(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
