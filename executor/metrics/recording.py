"""Recorded metrics: from a CSV or JSONL file of a person's, or from the samples of a deployment in the ledger.

A row is what was measured over the time since the row before it. Its fields: `timestamp` (ISO 8601, UTC where it names
no zone, or seconds since 1970), `tier` (percent, 0 for before the first tier; a recording without is one tier after
another), `requests` and `errors` (of that time alone) or `requests` and `error_rate` (percent), `cpu`, `memory`, `tes`,
and with `rest_` in front what the rest of the fleet had. Empty or null is no value. Other fields are ignored.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from executor.metrics.tes import Unusable, parse_moment
from keys.errors import FormatError
from keys.values import parse_decimal
from keys.words import counted
from ledger.chain import Entry
from ledger.statement import parse_statement
from policies.event_kinds import BakeStarted, Baseline, Event, GateValue, Sample
from policies.fold.state import State
from policies.kinds import Lease
from policies.law.evidence import Counts, count_of
from policies.law.position import parse_predicate

MAX_ROWS: Final = 1_000_000
GAUGES: Final = ("cpu", "memory", "tes")
REST: Final = "rest_"
FIELDS: Final = ("timestamp", "tier", "requests", "errors", "error_rate", *GAUGES)

_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?[0-9]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Side:
    """What was measured on the instances of a tier, or on the rest of the fleet. None: nothing was."""

    gauges: Mapping[str, Decimal | None] = field(default_factory=dict)
    counts: Counts | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `at`: seconds since 1970, the end of the time that it is about."""

    at: int
    here: Side
    rest: Side


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one tier. `began`: when it began to be watched, None where only the rows say that."""

    tier: int
    began: int | None
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Recording:
    """Rows of known tiers in `parts`, or in `rows` where no tier is named. `baseline`: before the first tier.
    `sources`: what of gates' sources was recorded. `interval_s`: where the rows are samples, how often one was taken.
    """

    sources: frozenset[str]
    parts: Sequence[Part] = ()
    rows: Sequence[Row] = ()
    baseline: Side | None = None
    interval_s: int | None = None


def read_recording(name: str, text: str, columns: Mapping[str, str]) -> Recording:
    """Read a file: JSON lines where its name ends in `.jsonl`, else CSV. `columns`: field -> what the file calls it.

    Raises: FormatError (`bad_recording`) with the line, counted from 1.
    """
    records = _lines(text) if name.endswith(".jsonl") else _table(text)
    seen: set[str] = set()
    rows: list[tuple[int | None, Row]] = []
    for line, record in records:
        values = {known: record[title] for known, title in _titles(columns).items() if title in record}
        seen |= values.keys()
        try:
            tier, row = _row(values)
            if rows and row.at <= rows[-1][1].at:
                raise Unusable("its time is not after that of the row before it")
            if rows and (tier is None) != (rows[-1][0] is None):
                raise Unusable("either each row has a tier or none")
        except Unusable as error:
            raise _bad(f"line {line}: {error}", line) from None
        rows.append((tier, row))
        if len(rows) > MAX_ROWS:
            raise _bad(f"it has more than {MAX_ROWS} rows", line)
    sources = frozenset({*GAUGES} & seen | ({"error_rate"} if "requests" in seen else set()))
    if not rows or not sources:
        wanted = ", ".join(title for known, title in _titles(columns).items() if not known.startswith(REST))
        raise FormatError("there is no row with a value in it", code="bad_recording", hint=f"it may have {wanted}")
    if rows[0][0] is None:
        return Recording(sources, rows=[row for _, row in rows])
    return _by_tier([(tier or 0, row) for tier, row in rows], sources)


class Recorder:
    """Collects what a monitor said of one deployment: the observer of a `Replay`. `digest`: the lease's."""

    def __init__(self, digest: str) -> None:
        self._digest: Final = digest
        self._lease: Lease | None = None
        self._baseline: Side | None = None
        self._parts: Final[list[tuple[int, int, list[Row]]]] = []

    def observe(self, entry: Entry, state: State) -> None:
        """Take note of an entry, after it was judged."""
        statement = parse_statement(entry.record.envelope.body)
        if statement.kind != "event" or statement.subject_digest != self._digest:
            return
        event = parse_predicate(statement)
        if not isinstance(event, Event):
            return
        self._lease = state.leases[self._digest].lease
        match event.detail:
            case Baseline(values=values) if values is not None:
                self._baseline = _side(self._lease, values)
            case BakeStarted(tier=tier):
                self._parts.append((tier, entry.record.seconds, []))
            case Sample(values=values):
                rest = [
                    GateValue(gate=v.gate, value=v.rest, requests=v.rest_requests, rest=None, rest_requests=None)
                    for v in values
                ]
                row = Row(statement.made_at, _side(self._lease, values), _side(self._lease, rest))
                self._parts[-1][2].append(row)
            case _:
                pass

    def recording(self) -> Recording:
        """What was said so far. Raises: FormatError (`bad_recording`) when no tier was watched."""
        parts = [Part(tier, began, rows) for tier, began, rows in self._parts]
        if self._lease is None or not parts:
            raise FormatError("no tier of this deployment was watched", code="bad_recording")
        sources = frozenset(gate.source for gate in self._lease.gates)
        return Recording(sources, parts, baseline=self._baseline, interval_s=self._lease.interval_s)


def _side(lease: Lease, values: Iterable[GateValue]) -> Side:
    """Values of gates as what was measured: gates on the same source measured the same."""
    source = {gate.name: gate.source for gate in lease.gates}
    gauges: dict[str, Decimal | None] = {}
    counts: Counts | None = None
    for value in values:
        number = None if value.value is None else parse_decimal(value.value)
        of = source[value.gate]
        if of != "error_rate":
            gauges[of] = gauges.get(of) if number is None else number
        elif value.requests is not None and (number is not None or value.requests == 0):
            counts = Counts(0 if number is None else count_of(number, value.requests), value.requests)
    return Side(gauges, counts)


def _by_tier(rows: Sequence[tuple[int, Row]], sources: frozenset[str]) -> Recording:
    parts: list[Part] = []
    baseline: Side | None = None
    begin = 0
    for end in range(1, len(rows) + 1):
        if end < len(rows) and rows[end][0] == rows[begin][0]:
            continue
        tier, run = rows[begin][0], [row for _, row in rows[begin:end]]
        if tier:
            parts.append(Part(tier, None, run))
        elif not parts:
            baseline = run[-1].here
        begin = end
    if not parts:
        raise FormatError("every row is from before the first tier", code="bad_recording")
    return Recording(sources, parts, baseline=baseline)


def _titles(columns: Mapping[str, str]) -> dict[str, str]:
    names = [*FIELDS, *(REST + name for name in FIELDS[2:] if name != "tes")]
    return {name: columns.get(name, name) for name in names}


def _table(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) != len(header):
            raise _bad("line 1: a column stands twice", 1)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                line = reader.line_num
                raise _bad(f"line {line}: it has {counted(len(cells), 'cell')} instead of {len(header)}", line)
            yield reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise _bad(f"line {reader.line_num}: not CSV: {error}", reader.line_num) from None


def _lines(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            # Numbers stay the text that they are: a float has no exact value.
            record = json.loads(line, parse_int=str, parse_float=str, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            raise _bad(f"line {number}: not JSON without duplicate keys", number) from None
        if not isinstance(record, dict):
            raise _bad(f"line {number}: not a JSON object", number)
        yield number, record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _row(values: Mapping[str, Any]) -> tuple[int | None, Row]:
    at = values.get("timestamp")
    if not isinstance(at, str):
        raise Unusable("it has no timestamp")
    tier = None
    if "tier" in values:
        number = _number(values, "tier")
        if number is None or number != int(number) or not 0 <= number <= 100:
            raise Unusable("tier is not a whole number from 0 to 100")
        tier = int(number)
    return tier, Row(parse_moment(at), _measured(values, ""), _measured(values, REST))


def _measured(values: Mapping[str, Any], prefix: str) -> Side:
    gauges = {name: _number(values, prefix + name) for name in GAUGES}
    requests, errors = (_count(values, prefix + name) for name in ("requests", "errors"))
    rate = _number(values, f"{prefix}error_rate")
    if requests is not None and errors is None and (rate is not None or requests == 0):
        errors = 0 if rate is None else count_of(rate, requests)
    if requests is None or errors is None:
        return Side(gauges)
    if not 0 <= errors <= requests:
        raise Unusable(f"{prefix}errors are not a part of {prefix}requests")
    return Side(gauges, Counts(errors, requests))


def _count(values: Mapping[str, Any], name: str) -> int | None:
    number = _number(values, name)
    if number is None:
        return None
    if number < 0 or number != int(number):
        raise Unusable(f"{name} is not a count")
    return int(number)


def _number(values: Mapping[str, Any], name: str) -> Decimal | None:
    text = values.get(name)
    if text is None or text == "":
        return None
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise Unusable(f"{name} is not a number")
    return Decimal(text)


def _bad(message: str, line: int) -> FormatError:
    return FormatError(message, code="bad_recording", line=line)
