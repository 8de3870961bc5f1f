"""Each signed field is before the eyes of whoever signs: statements that differ in one render differently, not only by
their digests.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from governing import newcomer
from station import Station, fleet, matrix, new_station

from executor.render.bounds import FULL
from executor.render.statement import render_lease, render_own, render_proposal
from executor.render.text import format_rendering, format_section
from keys.canonical import Json
from keys.errors import CalyxError
from ledger.objects import ObjectRef
from ledger.statement import SELF_SUBJECT, Statement, make_statement
from policies.fleet import Fleet
from policies.fold.state import LeaseState, ProposalState, SignerRef
from policies.kinds import FleetProposal, Lease, PolicyProposal, TrustProposal
from policies.law.position import parse_predicate
from policies.matrix import CapabilityMatrix

WORDS = (
    "auto", "command", "manual", "two_key", "break_glass", "patch", "directory", "absent", "above", "below", "tes",
    "absolute", "baseline", "rest", "cpu", "error_rate", "approver", "operator", "governor", "sentinel", "withdraw",
    "deny", "start", "pause", "promote", "question", "answer", "implemented", "pending", "human", "agent", "reload",
    "restart", "validator", "executor", "monitor", "overseer", "pass", "fail",
)  # fmt: skip
"""Values of the fields that have a few."""


def other_values(value: Json) -> list[Any]:
    """What could stand in place of a value."""
    if value is None:
        return ["x", 7, "0" * 64, "5", {"requests": "n", "errors": "e", "url": "http://127.0.0.1/"}]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, str):
        flipped = [
            value[:at] + ("1" if value[at] != "1" else "2") + value[at + 1 :] for at in {0, len(value) - 2} if value
        ]
        return [*flipped, f"{value}x", f"{value}\n", f"{value}\t", f"x{value}", "http://127.0.0.1/x", *WORDS, None]
    return []


def mutations(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place in a JSON value, with what could stand there instead. The place is named for the report."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from mutations(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from mutations(inner, (*path, at))
        if value:
            yield path, value[:-1]
            yield path, [*value[1:], value[0]]
    else:
        for other in other_values(value):
            if other != value or type(other) is not type(value):
                yield path, other


def changed(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """A copy with another value at one place."""
    result = copy.deepcopy(value)
    inner = result
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = other
    return result


def leaves(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from leaves(inner, (*path, at))
    else:
        yield path


def without_digests(lines: list[str], statement: Statement) -> str:
    """The text, with nothing in it that differs for every statement whatever is shown."""
    text = "\n".join(lines).replace(statement.digest, "").replace(statement.digest[:12], "")
    return text.replace(statement.subject_digest, "") if statement.kind in SELF_SUBJECT else text


def check_every_field_shows(kind: str, predicate: Any, show: Any, *, fixed: frozenset[str] = frozenset()) -> None:
    """`show` gives the text of a statement. `fixed`: fields with one possible value."""
    subject = None if kind in SELF_SUBJECT else ("LEASE-20260105-090000", "ab" * 32)
    plain = show(make_statement(kind, predicate, subject))
    tried: set[tuple[Any, ...]] = set()
    for path, other in mutations(predicate):
        mutated = changed(predicate, path, other)
        try:
            statement = make_statement(kind, mutated, subject)
            parse_predicate(statement)
        except (CalyxError, UnicodeEncodeError):
            continue
        if mutated == predicate:
            continue
        tried.add(path)
        assert show(statement) != plain, f"{kind}: {path} as {other!r} shows like the original"
    untried = {path for path in leaves(predicate) if path not in tried and path[0] not in fixed}
    assert not untried, f"no other value was found for {untried}"


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def common(station: Station, who: str = "ada") -> dict[str, Any]:
    head = station.registrar.head
    return {
        "by": who,
        "ledger": station.state.ledger,
        "head": {"size": head.size, "hash": head.hash},
        "nonce": "0f" * 16,
        "made_at": station.after(0),
    }


def lease_predicate(station: Station) -> dict[str, Any]:
    station.say("cbo", "intent", {"id": "INT-20260105-001", "target": "web", "what": "w", "why": "y"})
    fields = station.lease_fields("LEASE-20260105-090000", "INT-20260105-001")
    after = station.put_tree("v2").sha256
    fields["changes"] = [
        {"before": station.put_tree(before).sha256, "after": after, "instances": names}
        for before, names in (("v1", ["web-01", "web-02"]), ("v0", ["web-03"]))
    ]
    fields["gates"][0]["absolute"] = "5"
    return {**fields, **common(station, "cbo"), "reason": "two\nlines"}


def show_lease(station: Station, statement: Statement) -> str:
    asked = parse_predicate(statement)
    assert isinstance(asked, Lease)
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    for change in asked.changes:
        assert not isinstance(change.instances, ObjectRef)
        for name in change.instances:
            before[name], after[name] = change.before, change.after
    assert not isinstance(asked.paths, ObjectRef)
    proposer = SignerRef("cbo", "overseer", station.signer("cbo").keyid, "00" * 32, "cbo")
    lease = LeaseState(statement.digest, 5, station.clock.now, asked, proposer, before, after, asked.paths)
    state = station.registrar.state
    state.leases[statement.digest] = lease
    try:
        rendering = render_lease(state, lease, statement, station.objects, station.clock.now, FULL)
    finally:
        del state.leases[statement.digest]
    return without_digests(format_rendering(rendering), statement)


def test_leases_that_differ_in_one_signed_field_never_look_alike(station: Station) -> None:
    check_every_field_shows("lease", lease_predicate(station), lambda statement: show_lease(station, statement))


def test_long_lists_in_objects_do_not_look_like_other_objects(station: Station) -> None:
    names = station.objects.put(b'["web-01"]').to_json()
    fields = {**lease_predicate(station), "paths": station.objects.put(b'["app.py"]').to_json()}
    fields["changes"] = [{**fields["changes"][0], "instances": names}]

    def show(statement: Statement) -> str:
        asked = parse_predicate(statement)
        assert isinstance(asked, Lease)
        proposer = SignerRef("cbo", "overseer", "", "", "cbo")
        change = asked.changes[0]
        lease = LeaseState(
            statement.digest, 5, 0, asked, proposer, {"web-01": change.before}, {"web-01": change.after}, ("app.py",)
        )
        state = station.state
        state.leases[statement.digest] = lease
        text = format_rendering(render_lease(state, lease, statement, station.objects, station.clock.now, FULL))
        del state.leases[statement.digest]
        return without_digests(text, statement)

    plain = show(make_statement("lease", fields))
    for path in (("paths", "size"), ("changes", 0, "instances", "size")):
        assert show(make_statement("lease", changed(fields, path, 99))) != plain
    for path in (("paths", "sha256"), ("changes", 0, "instances", "sha256")):
        assert show(make_statement("lease", changed(fields, path, "12" * 32))) != plain


def proposal_predicate(station: Station, kind: str) -> dict[str, Any]:
    bodies: dict[str, Any] = {
        "trust": newcomer(station),
        "policy": CapabilityMatrix.from_json(
            matrix(bake_s=60, hooks={"drain": {"argv": ["drain", "x"], "timeout_s": 5}}, notify={"HALTED": ["all"]})
        ).to_json(),
        "fleet": station.objects.put(Fleet.from_json(fleet(3)).canonical()).to_json(),
    }
    bases = {"trust": station.state.trust_digest, "policy": station.state.policy_digest, "fleet": "00" * 32}
    terms = {"base": bases[kind], "approve_by": station.after(60), "reason": "a test", kind: bodies[kind]}
    return {**terms, **common(station)}


def show_proposal(station: Station, statement: Statement, body: Fleet | None = None) -> str:
    asked = parse_predicate(statement)
    assert isinstance(asked, TrustProposal | PolicyProposal | FleetProposal)
    proposal = ProposalState(statement.digest, 5, statement.kind, asked, body)
    return without_digests(
        format_rendering(render_proposal(station.registrar.state, proposal, statement, FULL)), statement
    )


@pytest.mark.parametrize("kind", ["trust", "policy", "fleet"])
def test_proposals_that_differ_in_one_signed_field_never_look_alike(station: Station, kind: str) -> None:
    # A law other than 1, or a version other than 1, is no proposal at all.
    fixed = {"trust": frozenset({"trust"}), "policy": frozenset({"policy"}), "fleet": frozenset[str]()}[kind]
    predicate = proposal_predicate(station, kind)
    check_every_field_shows(kind, predicate, lambda statement: show_proposal(station, statement), fixed=fixed)


def test_fleets_that_differ_in_one_field_never_look_alike(station: Station) -> None:
    body = fleet(3)
    body["targets"]["web"]["instances"][0] |= {
        "process": {"argv": ["serve"], "env": {"PORT": "1"}, "user": "www", "stop_s": 5},
        "labels": {"canary": "true"},
        "shared": ["log"],
    }
    material = Fleet.from_json(body).to_json()
    statement = make_statement("fleet", proposal_predicate(station, "fleet"))
    plain = show_proposal(station, statement, Fleet.from_json(body))
    tried = 0
    for path, other in mutations(material):
        try:
            mutated = Fleet.from_json(changed(material, path, other))
        except CalyxError:
            continue
        if mutated != Fleet.from_json(body):
            tried += 1
            assert show_proposal(station, statement, mutated) != plain, f"{path} as {other!r}"
    assert tried > 20


def own_predicates(station: Station) -> dict[str, dict[str, Any]]:
    """A statement of every kind that a person signs."""
    spoken: dict[str, dict[str, Any]] = {
        "cosignature": {"role": "approver", "review": None},
        "objection": {"verb": "deny", "reason": "not\ntoday"},
        "command": {
            "verb": "promote",
            "expires_at": station.after(60),
            "state": "cd" * 32,
            "tier": 25,
            "skip_bake": False,
            "reason": "",
        },
        "message": {"type": "question", "to": "ben", "reply_to": None, "text": "why?"},
        "review": {"role": "sentinel", "verdict": "pass", "summary": "s", "findings": None},
        "intent": {"id": "INT-20260105-001", "target": "web", "what": "w", "why": "y"},
    }
    own = {kind: {**fields, **common(station)} for kind, fields in spoken.items()}
    return {**own, **{kind: proposal_predicate(station, kind) for kind in ("trust", "policy", "fleet")}}


KINDS = ["cosignature", "objection", "command", "message", "review", "intent", "trust", "policy", "fleet"]


@pytest.mark.parametrize("kind", KINDS)
def test_own_statements_that_differ_in_one_field_never_look_alike(station: Station, kind: str) -> None:
    def show(statement: Statement) -> str:
        return without_digests(format_section(render_own(statement, None)), statement)

    fixed = frozenset({kind}) if kind in {"trust", "policy"} else frozenset({"findings"})
    check_every_field_shows(kind, own_predicates(station)[kind], show, fixed=fixed)


def test_statement_about_another_subject_looks_different(station: Station) -> None:
    fields = own_predicates(station)["cosignature"]
    shown = {
        "\n".join(format_section(render_own(make_statement("cosignature", fields, subject), None))[:4])
        for subject in (("LEASE-1", "ab" * 32), ("LEASE-2", "ab" * 32), ("LEASE-1", "ac" * 32))
    }
    assert len(shown) == 3
