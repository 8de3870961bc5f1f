"""`calyx lease show --json` in each state of a lease, held to its JSON Schema and to the ledger."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
from governing import revoke, withdraw
from jsonschema import Draft202012Validator
from msgspec import structs
from station import Station, fleet, new_station

from executor.views.lease_view import list_lease, read_schema, view_lease
from keys.errors import FormatError
from keys.plain import Plain
from ledger.statement import HeadRef
from policies.fold.deployment import Phase
from policies.kinds import Artifact, Change, Lease
from policies.matrix import Gate

SCHEMA: Final[dict[str, Any]] = json.loads(read_schema())
VALIDATOR: Final = Draft202012Validator(SCHEMA)
STATES: Final = (
    "open",
    "approved",
    "withdrawn",
    "denied",
    "expired",
    "void",
    "not ready",
    "base moved",
    "claimed",
    "completed",
    "halted",
    "rolled back",
    "rollback failed",
    "break-glass",
    "compromised",
)


def shown(station: Station, lease: tuple[str, str]) -> Any:
    """What the command prints, through JSON."""
    state = station.state
    view = view_lease(state, state.leases[lease[1]], station.store, station.clock.now)
    return json.loads(json.dumps(view))


def lease_seq(station: Station, lease: tuple[str, str]) -> int:
    return station.state.leases[lease[1]].seq


def bring(station: Station, to: str) -> tuple[str, str]:
    """A lease that has come to a state."""
    if to == "break-glass":
        until = station.after(600)
        lease = station.propose(rule="break_glass", reason="the shop is down", approve_by=until, execute_by=until)
        for person in ("ada", "ben"):
            station.vote(person, lease, "approver")
        station.take_term()
        station.claim(lease)
        return lease
    lease = station.propose()
    match to:
        case "open":
            station.vote("ada", lease, "approver")
        case "approved":
            station.approve(lease)
        case "withdrawn":
            station.approve(lease)
            withdraw(station, "ada", lease)
        case "denied":
            station.approve(lease)
            withdraw(station, "cbo", lease, "deny")
        case "expired":
            station.clock.tick(100_000)
        case "void":
            station.enact_fleet(fleet(5))
        case "not ready":
            station.take_term()
            station.event("cp20", lease, "PREFLIGHT_FAILED", code="host_unreachable", instance=None, text="no answer")
        case "base moved":
            station.approve(lease)
            station.take_term()
            station.event("cp20", lease, "PREFLIGHT_FAILED", code="base_moved", instance="web-1", text="elsewhere")
        case "compromised":
            station.approve(lease)
            revoke(station, "ada", lease_seq(station, lease))
        case _:
            station.begin(lease)
            deploy(station, lease, to)
    return lease


def deploy(station: Station, lease: tuple[str, str], to: str) -> None:
    if to == "claimed":
        return
    if to == "completed":
        station.complete(lease)
        return
    station.deploy_tier(lease, 5)
    station.event("cp20", lease, "HALTED", cause="failed", gate=None, evidence=None, text="no answer")
    if to == "halted":
        return
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="failed", command=None)
    deployment = station.state.deployments[lease[1]]
    touched = sorted(deployment.intended)
    if to == "rollback failed":
        station.event("cp20", lease, "ROLLBACK_FAILED", instances=touched, text="no answer")
        return
    for name in touched:
        station.event(
            "cp20", lease, "INSTANCE_RESTORED", instance=name, tree=deployment.before[name], rebuilt=False, warning=None
        )
    station.event("cp20", lease, "ROLLED_BACK")


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


@pytest.fixture
def view(station: Station) -> Any:
    return shown(station, bring(station, "halted"))


def test_schema_is_a_schema_of_this_draft() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"].startswith("https://station.calyx/")


@pytest.mark.parametrize("to", STATES)
def test_lease_is_of_its_schema(station: Station, to: str) -> None:
    view = shown(station, bring(station, to))
    assert [error.message for error in VALIDATOR.iter_errors(view)] == []


def objects_of(schema: Any, where: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every place in a schema that describes an object."""
    if isinstance(schema, dict):
        if "properties" in schema and "required" in schema:
            yield where, schema
        for name, value in schema.items():
            yield from objects_of(value, f"{where}/{name}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from objects_of(value, f"{where}/{number}")


def test_every_object_is_closed_requires_all_its_fields_and_is_described() -> None:
    found = dict(objects_of(SCHEMA))
    assert len(found) > 15
    for where, schema in found.items():
        assert schema.get("additionalProperties") is False, where
        assert sorted(schema["required"]) == sorted(schema["properties"]), where
        assert schema.get("description"), where
        for name, value in schema["properties"].items():
            described = value if "$ref" not in value else {**SCHEMA["$defs"][value["$ref"].rsplit("/", 1)[1]], **value}
            assert described.get("description"), f"{where} {name}"


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every member of every object in a value."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if isinstance(value, dict):
            yield (*path, key)
        yield from paths(inner, (*path, key))


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def test_schema_refuses_each_field_missing_misnamed_or_of_another_kind(view: Any) -> None:
    everything = list(paths(view))
    assert len(everything) > 150
    for path in everything:
        free = path[:-1] == ("deployment", "instances")
        for spoil in ("missing", "unknown", "kind"):
            changed = copy.deepcopy(view)
            holder = at(changed, path[:-1])
            if spoil == "missing":
                del holder[path[-1]]
            elif spoil == "unknown":
                holder[f"{path[-1]}_"] = holder[path[-1]]
            else:
                holder[path[-1]] = 1.5
            if not (free and spoil != "kind"):
                assert not VALIDATOR.is_valid(changed), f"{spoil}: {path}"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("lease_id",), "LEASE-1"),
        (("intent_id",), "INTENT-20260105-001"),
        (("digest",), "A" * 64),
        (("state",), "maybe"),
        (("timestamp",), "2026-01-05T09:00:00+00:00"),
        (("seq",), -1),
        (("cosigners", 0, "role"), "governor"),
        (("cosigners", 0, "role"), "sentinel"),
        (("cosigners", 0, "scheme"), "ed25519"),
        (("cosigners", 1, "role"), "approver"),
        (("cosigners", 1, "review"), None),
        (("cosigners", 0, "sig"), ""),
        (("cosigners", 0, "sig"), "not base64!"),
        (("cosigners", 0, "counts"), False),
        (("cosigners", 0, "keyid"), "MD5:aa"),
        (("claim", "counted"), [1]),
        (("lease", "tiers"), [5, 5, 100]),
        (("lease", "tiers"), [5, 101]),
        (("lease", "changes"), []),
        (("lease", "rule"), "one_key"),
        (("deployment", "instances", "web-01"), "gone"),
    ],
    ids=str,
)
def test_schema_refuses_a_wrong_value(view: Any, path: tuple[str | int, ...], value: Any) -> None:
    assert VALIDATOR.is_valid(view)
    at(view, path[:-1])[path[-1]] = value
    assert not VALIDATOR.is_valid(view)


@pytest.mark.parametrize(
    ("place", "model"),
    [
        (("$defs", "statement"), Lease),
        (("$defs", "statement", "properties", "head"), HeadRef),
        (("$defs", "statement", "properties", "artifact"), Artifact),
        (("$defs", "statement", "properties", "changes", "items"), Change),
        (("$defs", "gate"), Gate),
    ],
)
def test_schema_has_the_fields_of_the_signed_lease(place: tuple[str, ...], model: Any) -> None:
    fields = {field.name for field in structs.fields(model)} if issubclass(model, Plain) else model.model_fields
    assert set(at(SCHEMA, place)["properties"]) == set(fields)


def test_state_words_are_those_of_the_deployment_table() -> None:
    words = set(SCHEMA["$defs"]["deployment"]["properties"]["state"]["enum"])
    assert words == {phase.value for phase in Phase}
    unclaimed = {"open", "approved", "base_moved", "denied", "expired", "void"}
    assert set(SCHEMA["properties"]["state"]["enum"]) == words | unclaimed


# what it says


def test_signed_lease_is_shown_as_it_was_signed(station: Station) -> None:
    lease = station.propose()
    view = shown(station, lease)
    (record,) = station.store.read(view["seq"], view["seq"] + 1)
    envelope = json.loads(record)["envelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert view["lease"] == statement["predicate"]
    assert view["digest"] == sha256(base64.b64decode(envelope["payload"])).hexdigest() == lease[1]
    assert view["proposer"] == {"by": "cbo", "keyid": envelope["signatures"][0]["keyid"]}


@pytest.mark.parametrize(
    ("to", "state", "counts"),
    [
        ("open", "open", [True]),
        ("approved", "approved", [True, True]),
        ("withdrawn", "open", [False, True]),
        ("denied", "denied", [True, True]),
        ("compromised", "open", [False, True]),
        ("claimed", "DEPLOYING", [True, True]),
        ("completed", "COMPLETED", [True, True]),
        ("rollback failed", "ROLLBACK_FAILED", [True, True]),
        ("break-glass", "CLAIMED", [True, True]),
    ],
)
def test_state_and_what_counts(station: Station, to: str, state: str, counts: list[bool]) -> None:
    view = shown(station, bring(station, to))
    assert view["state"] == state
    assert [cosigner["counts"] for cosigner in view["cosigners"]] == counts
    claimed = view["claim"] is not None
    assert [cosigner["counted"] for cosigner in view["cosigners"]] == [claimed] * len(counts)
    assert claimed == (view["deployment"] is not None)


def test_why_a_cosignature_does_not_count_is_said_with_the_entry_in_the_way(station: Station) -> None:
    view = shown(station, bring(station, "withdrawn"))
    (withdrawal,) = view["withdrawals"]
    assert view["cosigners"][0]["why_not"]["code"] == "withdrawn"
    assert view["cosigners"][0]["why_not"]["seq"] == withdrawal["seq"]
    assert withdrawal["by"] == "ada"


def test_revoked_key_s_cosignature_names_the_root_that_revoked_it(station: Station) -> None:
    view = shown(station, bring(station, "compromised"))
    state = station.state
    assert view["cosigners"][0]["why_not"]["code"] == "key_compromised"
    assert view["cosigners"][0]["why_not"]["seq"] == state.in_force_since(state.trust_digest)


def test_failed_rollback_names_the_instances_that_are_left(station: Station) -> None:
    instances = shown(station, bring(station, "rollback failed"))["deployment"]["instances"]
    assert list(instances.values()).count("failed") == 1
    assert list(instances.values()).count("old") == 19


def test_list_names_who_stands(station: Station) -> None:
    lease = bring(station, "withdrawn")
    state = station.state
    row = list_lease(state, state.leases[lease[1]], station.clock.now)
    assert (row["lease_id"], row["state"], row["cosigners"]) == (lease[0], "open", ["cp14"])


def test_bytes_that_changed_after_they_were_verified_are_not_shown(station: Station) -> None:
    lease = bring(station, "approved")
    state = station.state

    class Changed:
        def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
            del stop
            yield from station.store.read(start + 1, start + 2)

        def __getattr__(self, name: str) -> Any:
            return getattr(station.store, name)

    reader: Any = Changed()
    with pytest.raises(FormatError) as caught:
        view_lease(state, state.leases[lease[1]], reader, station.clock.now)
    assert caught.value.code == "ledger_corrupt"
