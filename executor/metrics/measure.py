"""What a monitor measures: readings of instances and of a target, and the one value that each gate gets of them.

A source reads over windows: a reading covers the time since the source read the same instance last, and the first one
only opens a window. What a source could not read is absent from its reading, with a note that says why; absent is never
zero. Nothing here is a float: percentages and scores have two decimals, and a rate as many as give its count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Final, Literal, Protocol, TypeAlias

from executor.hosts.host import Running
from keys.canonical import Json
from keys.values import format_decimal
from policies.event_kinds import GateValue
from policies.fleet import Instance, Target
from policies.law.evidence import count_of
from policies.matrix import Gate

Quantity: TypeAlias = Literal["cpu", "memory", "requests", "errors", "tes"]
"""`cpu`: percent, 100 is one core. `memory`: percent of the machine's. `requests`, `errors`: how many in the window.
`tes`: points, 0 to 100.
"""

MAX_NOTE: Final = 200
_CENT: Final = Decimal("0.01")
_BILLIONTH: Final = Decimal("0.000000001")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one instance, or the target, showed over a window. `notes`: why something is absent."""

    values: Mapping[Quantity, Decimal] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """An instance to measure. `process`: its service process as the host knows it, None when it knows none."""

    instance: Instance
    process: Running | None


class InstanceSource(Protocol):
    """One way to measure instances."""

    def read(self, places: Sequence[Place]) -> Mapping[str, Reading]:
        """A reading for each instance, by name, over the time since it was read last. Never raises for one of them."""
        ...


class TargetSource(Protocol):
    """One way to measure a whole target."""

    def read(self, target: Target, since: int | None) -> Reading:
        """The newest reading. `since`: seconds since 1970, what was measured before then does not count; None for no
        such time. Never raises for what is wrong with the data.
        """
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was read at one moment."""

    instances: Mapping[str, Reading]
    target: Reading


class Meters:
    """All sources for the windows of one deployment."""

    def __init__(self, instances: Sequence[InstanceSource], targets: Sequence[TargetSource]) -> None:
        self._instances: Final = tuple(instances)
        self._targets: Final = tuple(targets)

    def read(self, target: Target, places: Sequence[Place], since: int | None = None) -> Snapshot:
        """Read every source once: the end of one window and the beginning of the next. `since`: as `TargetSource`."""
        read = [source.read(places) for source in self._instances]
        names = [place.instance.name for place in places]
        return Snapshot(
            {name: _merge(by_name[name] for by_name in read if name in by_name) for name in names},
            _merge(source.read(target, since) for source in self._targets),
        )


def two_decimals(value: Decimal | float) -> Decimal:
    """A measured number with two decimals, halves away from zero."""
    return Decimal(value).quantize(_CENT, ROUND_HALF_UP)


def share(bad: int, total: int) -> Decimal | None:
    """Percent of requests that were bad; of no requests there is none.

    Counts are judged, so it has two decimals where these give the count of bad ones again, and nine otherwise.
    """
    if not total:
        return None
    rate = Decimal(bad) * 100 / total
    short = two_decimals(rate)
    return short if count_of(short, total) == bad else rate.quantize(_BILLIONTH, ROUND_HALF_UP)


def gate_values(
    gates: Iterable[Gate], snapshot: Snapshot, cohort: Sequence[str], rest: Sequence[str]
) -> tuple[GateValue, ...]:
    """The value of every gate over `cohort`, null where any of its instances has none.

    For a gate against the rest of the fleet also that of `rest`, over those of them that have one; null where that has
    fewer requests than the gate asks for.
    """
    return tuple(_gate_value(gate, snapshot, cohort, rest) for gate in gates)


def raw_values(snapshot: Snapshot) -> Json:
    """The readings themselves, as material for an object: instance -> quantities and notes."""
    return {
        "instances": {name: _raw(reading) for name, reading in snapshot.instances.items()},
        "target": _raw(snapshot.target),
    }


def _gate_value(gate: Gate, snapshot: Snapshot, cohort: Sequence[str], rest: Sequence[str]) -> GateValue:
    nothing = Reading()
    readings = [snapshot.instances.get(name, nothing) for name in cohort]
    others = [snapshot.instances.get(name, nothing) for name in rest] if gate.against == "rest" else []
    match gate.source:
        case "tes":
            # A score of the whole target has no part that is the rest's alone.
            return _value(gate, _cents(snapshot.target.values.get("tes")))
        case "error_rate":
            value, requests = _error_rate(readings)
            known = [reading for reading in others if {"requests", "errors"} <= reading.values.keys()]
            other, of = _error_rate(known)
            few = of is None or of < gate.min_requests
            return _value(gate, value, requests, None if few else other, None if few else of)
        case "cpu" | "memory":
            known = [reading for reading in others if gate.source in reading.values]
            return _value(gate, _highest(gate.source, readings), rest=_highest(gate.source, known))


def _value(
    gate: Gate,
    value: Decimal | None,
    requests: int | None = None,
    rest: Decimal | None = None,
    rest_requests: int | None = None,
) -> GateValue:
    return GateValue(
        gate=gate.name,
        value=None if value is None else format_decimal(value),
        requests=requests,
        rest=None if rest is None else format_decimal(rest),
        rest_requests=rest_requests,
    )


def _cents(value: Decimal | None) -> Decimal | None:
    return None if value is None else two_decimals(value)


def _highest(quantity: Literal["cpu", "memory"], readings: Sequence[Reading]) -> Decimal | None:
    values = [reading.values.get(quantity) for reading in readings]
    known = [value for value in values if value is not None]
    return two_decimals(max(known)) if known and len(known) == len(values) else None


def _error_rate(readings: Sequence[Reading]) -> tuple[Decimal | None, int | None]:
    """Percent of requests that failed, and how many requests there were; None for both where an instance has none."""
    if not readings or any(not {"requests", "errors"} <= reading.values.keys() for reading in readings):
        return None, None
    requests = sum((reading.values["requests"] for reading in readings), Decimal(0))
    errors = sum((reading.values["errors"] for reading in readings), Decimal(0))
    return share(int(errors), int(requests)), int(requests)


def _merge(readings: Iterable[Reading]) -> Reading:
    values: dict[Quantity, Decimal] = {}
    notes: list[str] = []
    for reading in readings:
        # The first source that has a quantity is the one that counts.
        values = {**reading.values, **values}
        notes += reading.notes
    return Reading(values, tuple(notes))


def _raw(reading: Reading) -> Json:
    return {
        "values": {quantity: format_decimal(value) for quantity, value in reading.values.items()},
        "notes": [note[:MAX_NOTE] for note in reading.notes],
    }
