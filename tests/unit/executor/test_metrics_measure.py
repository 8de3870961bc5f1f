from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from executor.metrics.measure import (
    Meters,
    Place,
    Quantity,
    Reading,
    Snapshot,
    gate_values,
    raw_values,
    two_decimals,
)
from keys.canonical import format_json
from policies.fleet import Instance, Target
from policies.matrix import Gate


def gate(source: str, against: str = "absolute", min_requests: int = 0) -> Gate:
    values: dict[str, Any] = {
        "name": source,
        "source": source,
        "against": against,
        "breach": "above",
        "limit": "10",
        "absolute": "10",
        "for_s": 0,
        "min_samples": 1,
        "missing_s": 60,
        "min_requests": min_requests,
    }
    return Gate(**values)


def reading(**values: int | str) -> Reading:
    known: dict[Quantity, Decimal] = {key: Decimal(value) for key, value in values.items()}  # type: ignore[misc]  # names of quantities
    return Reading(known)


def value(the_gate: Gate, instances: Mapping[str, Reading], rest: Sequence[str] = (), tes: str | None = None) -> Any:
    target = Reading() if tes is None else reading(tes=tes)
    cohort = [name for name in instances if name not in rest]
    (measured,) = gate_values([the_gate], Snapshot(instances, target), cohort, rest)
    return measured.value, measured.requests, measured.rest


def test_error_rate_is_that_of_all_requests_together() -> None:
    busy, idle = reading(requests=990, errors=0), reading(requests=10, errors=10)
    assert value(gate("error_rate"), {"a": busy, "b": idle}) == ("1.00", 1000, None)


def test_of_no_requests_there_is_no_error_rate() -> None:
    assert value(gate("error_rate"), {"a": reading(requests=0, errors=0)}) == (None, 0, None)


@pytest.mark.parametrize(
    ("requests", "errors", "rate"), [(3, 1, "33.33"), (1_000_003, 333, "0.033299900"), (1_000_000, 333, "0.033300000")]
)
def test_error_rate_has_as_many_digits_as_give_its_count(requests: int, errors: int, rate: str) -> None:
    shown, total, _ = value(gate("error_rate"), {"a": reading(requests=requests, errors=errors)})
    assert (shown, total) == (rate, requests)
    assert round(Decimal(shown) * total / 100) == errors


def test_one_unreadable_instance_leaves_no_value() -> None:
    assert value(gate("error_rate"), {"a": reading(requests=9, errors=0), "b": Reading()}) == (None, None, None)
    assert value(gate("error_rate"), {"a": reading(requests=9)}) == (None, None, None)
    assert value(gate("cpu"), {"a": reading(cpu="1"), "b": reading(memory="1")}) == (None, None, None)


@pytest.mark.parametrize("source", ["cpu", "memory"])
def test_highest_instance_is_the_value(source: str) -> None:
    instances = {"a": reading(**{source: "12.5"}), "b": reading(**{source: "99.125"})}
    assert value(gate(source), instances) == ("99.13", None, None)


def test_no_instance_is_no_value() -> None:
    assert value(gate("cpu"), {}) == (None, None, None)
    assert value(gate("error_rate"), {}) == (None, None, None)


def test_instance_that_was_not_read_is_no_value() -> None:
    (measured,) = gate_values([gate("cpu")], Snapshot({}, Reading()), ["a"], [])
    assert measured.value is None


def test_score_is_the_targets() -> None:
    assert value(gate("tes"), {"a": reading(cpu="1")}, tes="95.5") == ("95.50", None, None)
    assert value(gate("tes"), {"a": reading(cpu="1")}) == (None, None, None)


def test_rest_of_the_fleet_is_measured_apart() -> None:
    instances = {"a": reading(cpu="80"), "b": reading(cpu="20"), "c": Reading(), "d": reading(cpu="30")}
    assert value(gate("cpu", "rest"), instances, rest=["b", "c", "d"]) == ("80.00", None, "30.00")
    assert value(gate("cpu", "baseline"), instances, rest=["b", "c", "d"]) == ("80.00", None, None)


def test_rest_with_too_few_requests_is_nothing_to_compare_with() -> None:
    instances = {"a": reading(requests=50, errors=5), "b": reading(requests=4, errors=4)}
    assert value(gate("error_rate", "rest", 5), instances, rest=["b"]) == ("10.00", 50, None)
    assert value(gate("error_rate", "rest", 4), instances, rest=["b"]) == ("10.00", 50, "100.00")


class Fixed:
    def __init__(self, one: Reading) -> None:
        self._reading = one

    def read(self, places: Sequence[Place]) -> dict[str, Reading]:
        return {place.instance.name: self._reading for place in places}


def test_first_source_that_has_a_quantity_counts() -> None:
    meters = Meters([Fixed(reading(cpu="1")), Fixed(Reading(reading(cpu="2", memory="3").values, ("a note",)))], [])
    instance = Instance(name="a", root="/srv/a")
    snapshot = meters.read(Target(instances=(instance,)), [Place(instance, None)])
    assert snapshot.instances["a"] == Reading(reading(cpu="1", memory="3").values, ("a note",))


def test_raw_values_have_a_canonical_form() -> None:
    snapshot = Snapshot({"a": Reading(reading(cpu="1.25").values, ("x" * 999,))}, reading(tes="90.00"))
    assert format_json(raw_values(snapshot)).startswith(b'{"instances":{"a":{"notes":["xxx')
    assert b'"target":{"notes":[],"values":{"tes":"90.00"}}' in format_json(raw_values(snapshot))


def test_floats_become_two_decimals() -> None:
    assert str(two_decimals(0.1 + 0.2)) == "0.30"
    assert str(two_decimals(Decimal("89.995"))) == "90.00"
