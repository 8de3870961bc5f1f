"""What commands say and ask. Every line passes through `escape`; tables are rich's on a terminal, columns in a pipe."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TextIO

import typer

from executor.commands.bell import hung_bell
from executor.commands.forms import error_form
from executor.escape import escape, fold
from keys.errors import CalyxError, Unavailable, UsageError

_STYLES = {"ok": "green", "failed": "red"}
_IN_THE_LINE = ("rule", "step", "entry")
_THEIRS: Final = "the host's hint: "
SHOWN_EVERY: Final = 100
"""Steps between two looks of a progress bar: drawing it for each would take longer than the work."""
_ASKING: Final = threading.Lock()
"""Held while a question waits for its answer."""


def say(*lines: str) -> None:
    """Print lines to standard output, each escaped."""
    for line in lines:
        write_out(_encodable(escape(line), sys.stdout.encoding) + "\n")


def say_theirs(*lines: str) -> None:
    """As `say`, for lines that hold what others wrote. On a terminal a long one is folded here, so that no part of it
    begins a line.
    """
    say(*_folded(lines, sys.stdout))


def note(*lines: str) -> None:
    """Print lines to standard error, each escaped: what is not a command's result."""
    for line in lines:
        _note_raw(_encodable(escape(line), sys.stderr.encoding))


def _note_raw(line: str) -> None:
    # What a command did, and its exit code, must not change because a log's disk is full.
    with suppress(OSError):
        typer.echo(line, err=True)


def note_theirs(*lines: str) -> None:
    """As `note`, for what a host, an ssh-agent or another program said. On a terminal no part of it begins a line that
    could pose as ours, and none of it comes between a question and its answer.
    """
    with _ASKING:
        note(*_folded(lines, sys.stderr))


def say_json(value: Any) -> None:
    """Print one JSON value on one line, ASCII only, so that nothing in it reaches a terminal as more than text."""
    write_out(_json_line(value) + "\n")


def _json_line(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("\x7f", "\\u007f")


def write_out(text: str | bytes) -> None:
    """Write a command's result to standard output as it is. Raises: Unavailable (`output_failed`); BrokenPipeError."""
    try:
        typer.echo(text, nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unavailable("output_failed", f"cannot write what was asked for: {error.strerror}") from None


def write_log(line: str) -> None:
    """Write a line of a run's log to standard output, escaped; one that cannot be written is dropped."""
    text = _encodable(escape(line), sys.stdout.encoding) + "\n"
    with suppress(OSError):
        try:
            output = sys.stdout.fileno()
        except OSError:
            typer.echo(text, nl=False)
            return
        # Past Python's buffer: what stays in there fails again with each later line, and at the end of the run.
        os.write(output, text.encode(sys.stdout.encoding, "backslashreplace"))


def show_error(error: CalyxError, *, as_json: bool = False) -> None:
    """Print a refusal to standard error: one line, and its hint on another; or one JSON object on one line."""
    if as_json:
        # Not to standard output: what reads results from there never takes an error for one.
        _note_raw(_json_line(error_form(error, error.exit_code)))
        return
    facts = ", ".join(f"{name} {error.fields[name]}" for name in _IN_THE_LINE if error.fields.get(name) is not None)
    note(*_folded([f"error: {error.code}: {error.message}" + (f" ({facts})" if facts else "")], sys.stderr))
    if error.hint:
        # Ours may be a command, to be copied in one piece.
        hint = f"hint: {error.hint}"
        note(*(_folded([hint], sys.stderr) if error.hint.startswith(_THEIRS) else [hint]))


def on_terminal() -> bool:
    """Whether a person sees what is printed."""
    return sys.stdout.isatty()


def terminal_width(stream: TextIO | None = None) -> int:
    """Columns of the terminal that a stream is, standard output if none is named; 80 where it does not say."""
    try:
        return max(os.get_terminal_size((stream or sys.stdout).fileno()).columns or 80, 20)
    except (OSError, ValueError):
        return 80


def person_present() -> bool:
    """Whether a person sees what is printed and can answer."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask(question: str) -> bool:
    """Ask a yes or no question; anything but yes is no, and so is the end of input."""
    return ask_words(f"{question} [y/N]").lower() in {"y", "yes"}


def ask_words(question: str) -> str:
    """Ask for a line of a person's own words; empty at the end of input. A terminal cuts a line at 4,095 bytes. For the
    main thread.
    """
    with _ASKING, hung_bell() as bell:
        typer.echo(f"{escape(question)} ", nl=False, err=True)
        # What a terminal gives is a whole line, and whoever interrupts at the question must not have to do it twice.
        while sys.stdin.isatty() and not bell.wait(None, sys.stdin.fileno()):
            pass
        line = sys.stdin.readline()
    if not line.endswith("\n"):
        typer.echo("", err=True)
    return line.strip()


def ask_passphrase(path: Path) -> bytes:
    """Ask for the passphrase of a key file, without showing it. Raises: UsageError (`passphrase_needed`)."""
    if not sys.stdin.isatty():
        raise UsageError("passphrase_needed", f"{path} needs a passphrase", hint="run it on a terminal")
    from getpass import getpass

    return getpass(f"Passphrase for {escape(str(path))}: ", stream=sys.stderr).encode("utf-8", "surrogateescape")


def say_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Print a table: rich's on a terminal, aligned columns in a pipe."""
    cells = [[escape(cell) for cell in row] for row in rows]
    if on_terminal():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console(markup=False, emoji=False, highlight=False)
        # Without a frame, a line can be copied, and the columns have its room.
        table = Table(
            title=Text(title) if title else None, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False
        )
        whole = _kept_whole([list(column) for column in zip(headers, *cells, strict=True)], console.width * 3 // 5)
        for at, header in enumerate(headers):
            table.add_column(Text(header), overflow="fold", no_wrap=at in whole)
        for row in cells:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        console.print(table)
        return
    if title:
        say(title)
    widths = [max(len(cell) for cell in column) for column in zip(headers, *cells, strict=True)]
    for row in (list(headers), *cells):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _kept_whole(columns: Sequence[Sequence[str]], room: int) -> set[int]:
    """The columns of words whose cells stay on one line: an id in two pieces cannot be copied into the next command.
    The first, which names the row, then the narrow ones, as many as have `room`, so that some is left for the prose.
    """
    whole = set[int]()
    for _, width, at in sorted((at > 0, max(map(len, column)), at) for at, column in enumerate(columns)):
        if not any(" " in cell for cell in columns[at]) and width <= room:
            room -= width
            whole.add(at)
    return whole


@contextmanager
def progress_bar(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """On a terminal a bar for long work, and how to move it: called with what is done, and with all. None when nobody
    sees it, or `quiet`.
    """
    if quiet or not on_terminal():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            if done % SHOWN_EVERY == 0 or done == total:
                bar.update(task, completed=done, total=total)

        yield show


def _folded(lines: Iterable[str], stream: TextIO) -> list[str]:
    """Lines for a stream, cut where it is a terminal that would wrap them."""
    if not stream.isatty():
        return list(lines)
    width = terminal_width(stream)
    return [piece for line in lines for piece in fold(escape(line), width)]


def _encodable(text: str, encoding: str | None) -> str:
    """The text as the stream can carry it: a terminal of another encoding gets code points, not a failure."""
    name = encoding or "ascii"
    return text.encode(name, "backslashreplace").decode(name)
