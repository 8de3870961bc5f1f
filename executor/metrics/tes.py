"""The station's tool efficacy score (TES), from the CSV or JSONL file that the station appends to.

The first line of a CSV file names the columns; a line of JSONL is an object of its own. The score is that of the newest
whole row that is neither too old nor in the future; a last line without its end is still being written and not looked
at. The file is read from its end, however long it is.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from executor.metrics.measure import Reading, two_decimals
from keys.regular import open_regular
from keys.words import counted
from policies.fleet import Target, TesFile

TAIL: Final = 64 * 1024
MAX_HEADER: Final = 16 * 1024
MAX_ROWS: Final = 100
SKEW_S: Final = 5

_NUMBER: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,30})?", re.ASCII)
_EPOCH: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_CLOCKED: Final = re.compile(r"[0-9T:.+Z -]{10,40}", re.ASCII)


class Unusable(Exception):
    """What is wrong with the file or a row: one line."""


class TesSource:
    """Reads a target's score. `clock`: seconds since 1970. `max_age_s`: a row older than this is no value."""

    def __init__(self, clock: Callable[[], int], max_age_s: int) -> None:
        self._clock: Final = clock
        self._max_age_s: Final = max_age_s

    def read(self, target: Target, since: int | None = None) -> Reading:
        if target.tes is None:
            return Reading(notes=("the fleet names no TES file",))
        try:
            header, rows = _tail(target.tes)
        except Unusable as error:
            return Reading(notes=(f"tes: {error}",))
        except OSError as error:
            return Reading(notes=(f"tes: cannot read the file: {error.strerror}",))
        now = self._clock()
        notes: list[str] = []
        for offset, line in rows:
            try:
                time, score = _parse(target.tes, header, line)
                if time > now + SKEW_S:
                    raise Unusable("its time is in the future")
            except Unusable as error:
                notes.append(f"tes: row at byte {offset}: {error}")
                continue
            if now - time > self._max_age_s:
                notes.append(f"tes: the newest row is {now - time} s old, more than {self._max_age_s} s")
                break
            if since is not None and time < since:
                notes.append("tes: the newest row is from before this was watched")
                break
            return Reading({"tes": score}, tuple(notes))
        if not notes:
            notes.append("tes: the file has no row")
        return Reading(notes=tuple(notes[:MAX_ROWS]))


def _tail(file: TesFile) -> tuple[list[str], list[tuple[int, bytes]]]:
    """The header's columns, none for JSONL, and up to MAX_ROWS whole rows from the end, newest first, each with its
    byte offset.
    """
    descriptor = open_regular(file.path)
    try:
        size = os.fstat(descriptor).st_size
        first = b"" if _is_jsonl(file) else _first_line(os.pread(descriptor, MAX_HEADER, 0))
        top = len(first)
        begin = max(top, size - TAIL)
        tail = os.pread(descriptor, TAIL, begin) if begin < size else b""
    finally:
        os.close(descriptor)
    header = _split(first)
    for column in (file.timestamp, file.tes):
        if header.count(column) != 1 and not _is_jsonl(file):
            raise Unusable(f"the header does not name a column {column} once")
    rows: list[tuple[int, bytes]] = []
    whole = tail[: tail.rfind(b"\n") + 1]
    # A tail that begins in the middle of the file begins in the middle of a row.
    start = 0 if begin == top else whole.find(b"\n") + 1
    for line in whole[start:].split(b"\n"):
        if line.strip():
            rows.append((begin + start, line))
        start += len(line) + 1
    return header, rows[-MAX_ROWS:][::-1]


def _is_jsonl(file: TesFile) -> bool:
    return file.path.endswith(".jsonl")


def _first_line(head: bytes) -> bytes:
    first, ending, _ = head.partition(b"\n")
    if not ending:
        raise Unusable("it has no header line")
    return first + ending


def _parse(file: TesFile, header: list[str], line: bytes) -> tuple[int, Decimal]:
    time, score = _members(file, line) if _is_jsonl(file) else _cells(file, header, line)
    if not _NUMBER.fullmatch(score) or Decimal(score) > 100:
        raise Unusable("its score is not a number from 0 to 100")
    return parse_moment(time), two_decimals(Decimal(score))


def _cells(file: TesFile, header: list[str], line: bytes) -> tuple[str, str]:
    cells = _split(line)
    if len(cells) != len(header):
        raise Unusable(f"it has {counted(len(cells), 'cell')} instead of {len(header)}")
    return cells[header.index(file.timestamp)].strip(), cells[header.index(file.tes)].strip()


def _members(file: TesFile, line: bytes) -> tuple[str, str]:
    """Numbers stay the text that they are: a float has no exact value."""
    try:
        pairs = json.loads(line, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=list)
    except (ValueError, RecursionError):
        raise Unusable("it is not JSON in UTF-8") from None
    if not isinstance(pairs, list) or any(not isinstance(pair, tuple) for pair in pairs):
        raise Unusable("it is not a JSON object")
    found = []
    for name in (file.timestamp, file.tes):
        values = [value for key, value in pairs if key == name]
        if len(values) != 1 or not isinstance(values[0], str):
            raise Unusable(f"it does not have one text or number {name}")
        found.append(values[0].strip())
    return found[0], found[1]


def parse_moment(text: str) -> int:
    """Seconds since 1970 of an ISO 8601 time, UTC where it names no zone, or of a number of seconds."""
    if _EPOCH.fullmatch(text):
        return int(Decimal(text))
    try:
        if not _CLOCKED.fullmatch(text):
            raise ValueError
        time = datetime.fromisoformat(text)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise Unusable("its time is not ISO 8601") from None


def _split(line: bytes) -> list[str]:
    try:
        rows = list(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")], strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise Unusable("it is not CSV in UTF-8") from None
    return rows[0] if rows else []
