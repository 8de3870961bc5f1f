"""The feed as daily files, `svf-YYYY-MM-DD.jsonl`: always the beginning of what the ledger gives, and then all of it.

One run of an exporter, and what a kill leaves at each point:

    lock             nothing
    compare          nothing: every line that is there is held against the ledger's before one is added
    settle           the newest file without the half line at its end
    create           an empty file of a day that has lines
    write            some of the lines, and perhaps half a line at the end
    sync file        all lines of the day
    sync directory   the file's name

A day is on the disk before the next one's file is made, so only the newest file can be empty or end in half a line. No
byte that was written whole is ever written again.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Final, NoReturn, Self

from executor.process_lock import ProcessLock
from executor.svf.lines import MAX_LINE, Line
from keys.errors import CalyxError, Unavailable
from ledger.durable import make_directory, sync_directory, sync_file

_NAME: Final = re.compile(r"svf-([0-9]{4}-[0-9]{2}-[0-9]{2})\.jsonl", re.ASCII)
LOCK: Final = ".svf.lock"


class SvfFiles:
    """The daily files in a directory, held by one exporter. Use it as a context; after an error, make another one.

    Whole days at the beginning may have been moved away: what is there must be the feed from its oldest file on.

    Raises, on entering: Unavailable (`already_running`, `svf_write_failed`); CalyxError (`svf_contradicted`).
    """

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory
        self._held = ExitStack()
        self._days: list[str] = []
        self._rest: Iterator[tuple[str, int, bytes]] | None = None
        self._whole = 0
        self._size = 0

    def __enter__(self) -> Self:
        with ExitStack() as held:
            try:
                make_directory(self._directory)
                held.enter_context(ProcessLock(self._directory / LOCK, "an export into this directory"))
                names = sorted(path.name for path in self._directory.iterdir())
            except OSError as error:
                raise self._failed(error) from None
            self._days = [day for name in names if (day := self._day_of(name)) is not None]
            self._rest = self._read()
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def take(self, lines: Sequence[Line]) -> int:
        """Go on to the end of the feed: `lines` are those that follow what was taken before. Those that the files hold
        are compared, the others appended, durable on return; how many were appended.

        Raises: CalyxError (`svf_contradicted`) when the files hold another line, or one that the feed does not have;
        Unavailable (`svf_write_failed`). Then nothing was appended, or some of the lines were.
        """
        begins = self._rest is not None
        missing = self._compare(lines) if begins else list(lines)
        try:
            if begins and self._days:
                self._settle(self._days[-1])
            for day, of_day in groupby(missing, key=lambda line: line.day):
                self._append(day, b"".join(line.data for line in of_day))
        except OSError as error:
            raise self._failed(error) from None
        return len(missing)

    def _compare(self, lines: Sequence[Line]) -> list[Line]:
        """Hold the files against the feed; the lines that they lack."""
        first = self._days[0] if self._days else ""
        missing = []
        rest = self._rest or iter(())
        for line in lines:
            if line.day < first:
                continue
            held = next(rest, None)
            if held is None:
                missing.append(line)
            elif held[0] != line.day or held[2] != line.data:
                self._contradict(held[0], f"line {held[1]} is not what the ledger's entry {line.seq} gives")
        left = next(rest, None)
        if left is not None:
            self._contradict(left[0], f"the ledger ends before line {left[1]}: it is older than the file, or another")
        # A file without a whole line was made for the line that follows.
        if self._days and not self._whole and (not missing or missing[0].day != self._days[-1]):
            self._contradict(self._days[-1], "the ledger gives this day no line")
        self._rest = None
        return missing

    def _read(self) -> Iterator[tuple[str, int, bytes]]:
        """Day, number and bytes of every whole line, in order. Leaves the newest file's size, and how much of that is
        whole lines.
        """
        for day in self._days:
            descriptor = self._open(day, os.O_RDONLY)
            with os.fdopen(descriptor, "rb") as file:
                self._whole, self._size = 0, os.fstat(descriptor).st_size
                number = 0
                while data := file.readline(MAX_LINE + 1):
                    number += 1
                    if data.endswith(b"\n"):
                        self._whole += len(data)
                        yield day, number, data
                    elif len(data) > MAX_LINE or day != self._days[-1]:
                        self._contradict(day, f"line {number} has no end")
                if not self._whole and day != self._days[-1]:
                    self._contradict(day, "it is empty")

    def _settle(self, day: str) -> None:
        """Take away the half line at the end of the newest file, and put the rest on the disk: whoever wrote it may
        have been killed before that.
        """
        descriptor = self._open(day, os.O_WRONLY, self._size)
        try:
            if self._size != self._whole:
                os.ftruncate(descriptor, self._whole)
            sync_file(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(self._directory)
        self._size = self._whole

    def _append(self, day: str, data: bytes) -> None:
        new = not self._days or day != self._days[-1]
        if new:
            descriptor = self._open(day, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
            self._days.append(day)
            self._size = 0
        else:
            descriptor = self._open(day, os.O_WRONLY | os.O_APPEND, self._size)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            sync_file(descriptor)
        finally:
            os.close(descriptor)
        if new:
            sync_directory(self._directory)
        self._size += len(data)

    def _open(self, day: str, flags: int, size: int | None = None) -> int:
        """A descriptor of a day's file. `size`: how large it must still be."""
        path = self._path(day)
        try:
            # A pipe would keep us waiting for whoever writes into it.
            descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            self._contradict(day, "another program made it")
        except FileNotFoundError:
            self._contradict(day, "it was taken away while it was being written")
        except OSError as error:
            if error.errno == errno.ELOOP:
                self._contradict(day, "it is a link")
            raise self._failed(error) from None
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or (size is not None and found.st_size != size):
            os.close(descriptor)
            self._contradict(day, "another program changed it")
        return descriptor

    def _path(self, day: str) -> Path:
        return self._directory / f"svf-{day}.jsonl"

    def _day_of(self, name: str) -> str | None:
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        try:
            date.fromisoformat(match[1])
        except ValueError:
            self._contradict(match[1], "there is no such day")
        return match[1]

    def _contradict(self, day: str, what: str) -> NoReturn:
        raise CalyxError(
            "svf_contradicted",
            f"{self._path(day)}: {what}",
            hint="keep it as evidence, and export into an empty directory: the ledger gives all of it again",
            day=day,
        )

    def _failed(self, error: OSError) -> Unavailable:
        return Unavailable(
            "svf_write_failed",
            f"cannot write the feed in {self._directory}: {error.strerror}",
            hint="mend that, and export again: it goes on where it stopped",
        )
