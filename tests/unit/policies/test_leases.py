"""Attacks on intents and leases, and on what is said about a lease before its claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from refusal import refused
from station import Station, fleet, new_station, tree_digest

from keys.canonical import format_json
from policies.names import store_list
from policies.submitter import Draft

OLD, NEW = tree_digest("v1"), tree_digest("v2")


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def test_id_taken_by_another_lease_or_intent(station: Station) -> None:
    station.propose()
    with refused("id_taken"):
        station.say("cbo", "lease", station.lease_fields("LEASE-20260105-090000", "INT-20260105-090000"))
    with refused("id_taken"):
        station.say(
            "cbo", "intent", {"id": "INT-20260105-090000", "target": "web", "what": "again", "why": "the id is free?"}
        )
    station.say("cbo", "lease", station.lease_fields("LEASE-20260105-090000-2", "INT-20260105-090000"))


@pytest.mark.parametrize(
    "name", ["LEASE-20260105-090000", "trust", "INT-20260105", "int-20260105-001", "INT-20260105-001-x"]
)
def test_intent_named_like_something_else(station: Station, name: str) -> None:
    with refused("bad_id"):
        station.say("cbo", "intent", {"id": name, "target": "web", "what": "", "why": ""})


@pytest.mark.parametrize("name", ["INT-20260105-001", "fleet", "LEASE-20260105", "LEASE-20260105-0900001", "lease"])
def test_lease_named_like_something_else(station: Station, name: str) -> None:
    station.say("cbo", "intent", {"id": "INT-20260105-002", "target": "web", "what": "", "why": ""})
    with refused("bad_id"):
        station.say("cbo", "lease", station.lease_fields(name, "INT-20260105-002"))


@pytest.mark.parametrize("who", ["ada", "cp14", "cp19", "cp20"])
def test_proposal_by_someone_who_is_no_proposer(station: Station, who: str) -> None:
    intent = {"id": "INT-20260105-001", "target": "web", "what": "a new version", "why": "a test"}
    with refused("role_missing"):
        station.say(who, "intent", intent)
    station.say("cbo", "intent", intent)
    with refused("role_missing"):
        station.say(who, "lease", station.lease_fields("LEASE-20260105-090000", "INT-20260105-001"))


def change(before: str, after: str, *names: str) -> dict[str, Any]:
    return {"before": before, "after": after, "instances": list(names)}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"intent": "INT-20260105-999"}, "unknown_intent"),
        ({"capability": "deploy_everything"}, "unknown_capability"),
        ({"target": "db"}, "wrong_target"),
        ({"policy": "ab" * 32}, "stale_policy"),
        ({"fleet": "ab" * 32}, "stale_fleet"),
        ({"tiers": [5, 25]}, "bad_tiers"),
        ({"tiers": [25, 5, 100]}, "bad_tiers"),
        ({"tiers": [5, 5, 100]}, "bad_tiers"),
        ({"tiers": []}, "bad_format"),
        ({"tiers": [0, 100]}, "bad_format"),
        ({"interval_s": 0}, "bad_format"),
        ({"rule": "break_glass", "reason": None}, "reason_missing"),
        ({"rule": "break_glass", "reason": ""}, "reason_missing"),
        ({"rule": "one_key"}, "bad_format"),
        ({"hooks": {}}, "not_canonical"),
        ({"changes": [change(OLD, NEW)]}, "bad_changes"),
        ({"changes": []}, "bad_format"),
        ({"changes": [change(OLD, NEW, "web-99")]}, "unknown_instance"),
        ({"changes": [change(NEW, NEW, "web-99")]}, "unknown_instance"),
        ({"changes": [change(NEW, NEW, "web-01"), change(OLD, NEW, "web-99")]}, "unknown_instance"),
        ({"changes": [change(OLD, NEW, "web-01", "web-01")]}, "bad_changes"),
        ({"changes": [change(OLD, NEW, "web-01"), change("absent", NEW, "web-01")]}, "bad_changes"),
        ({"changes": [change(OLD, NEW, "web-01"), change(OLD, NEW, "web-02")]}, "bad_changes"),
        ({"changes": [change(NEW, NEW, "web-01")]}, "bad_changes"),
        ({"changes": [change(OLD, "ab" * 32, "web-01")]}, "bad_changes"),
        ({"changes": [change(OLD, "absent", "web-01")]}, "bad_format"),
        ({"paths": ["b", "a"]}, "bad_format"),
        ({"paths": ["a", "a"]}, "bad_format"),
        ({"paths": ["static/../app.secret"]}, "bad_format"),
        ({"paths": ["/etc/passwd"]}, "bad_format"),
        ({"paths": ["static//x"]}, "bad_format"),
        ({"paths": ["./app.py"]}, "bad_format"),
    ],
)
def test_lease_that_no_one_could_mean(station: Station, changes: dict[str, Any], code: str) -> None:
    with refused(code):
        station.propose(**changes)


def test_windows_in_another_order(station: Station) -> None:
    for changes in (
        {"not_before": station.after(7201)},
        {"approve_by": station.after(7201)},
        {"complete_by": station.after(7199)},
    ):
        with refused("bad_windows"):
            station.say("cbo", "lease", {**lease(station), **changes})
    with refused("lease_expired"):
        past = {"not_before": station.after(-9), "approve_by": station.after(-5), "execute_by": station.after(-1)}
        station.say("cbo", "lease", {**lease(station), **past})
    same = dict.fromkeys(("not_before", "approve_by", "execute_by", "complete_by"), station.after(0))
    station.say("cbo", "lease", {**lease(station), **same})


def lease(station: Station) -> dict[str, Any]:
    if "int-20260105-001" not in station.state.intents:
        station.say("cbo", "intent", {"id": "INT-20260105-001", "target": "web", "what": "", "why": ""})
    return station.lease_fields("LEASE-20260105-090000", "INT-20260105-001")


def test_lease_without_a_fleet_in_force(tmp_path: Path) -> None:
    station = Station(tmp_path)
    station.genesis()
    station.say("cbo", "intent", {"id": "INT-20260105-001", "target": "web", "what": "", "why": ""})
    (tmp_path / "other").mkdir()
    fields = lease(new_station(tmp_path / "other"))
    changes = {"fleet": "0" * 64, "policy": station.state.policy_digest}
    with refused("unknown_target"):
        station.say("cbo", "lease", {**fields, **changes})


def test_lease_over_many_names_carries_a_list_object(tmp_path: Path) -> None:
    station = Station(tmp_path)
    station.genesis()
    station.enact_fleet(fleet(300))
    name, digest = station.propose()
    stated = station.state.leases[digest].lease.changes[0].instances
    assert not isinstance(stated, tuple)
    assert len(station.state.leases[digest].before) == 300
    names = sorted(station.state.leases[digest].before)
    with refused("bad_format"):
        station.propose(f"{name}-2", changes=[{"before": OLD, "after": NEW, "instances": names[:257]}])
    short = station.objects.put(format_json(list(names[:2])))
    _, few = station.propose(f"{name}-3", changes=[{"before": OLD, "after": NEW, "instances": short.to_json()}])
    assert list(station.state.leases[few].before) == names[:2]
    with refused("object_missing"):
        missing = {"sha256": "ab" * 32, "size": 9000}
        station.propose(f"{name}-4", changes=[{"before": OLD, "after": NEW, "instances": missing}])
    spaced = station.objects.put(format_json(list(names)).replace(b",", b", "))
    with refused("not_canonical"):
        station.propose(f"{name}-5", changes=[{"before": OLD, "after": NEW, "instances": spaced.to_json()}])
    other = station.objects.put(b'{"a":1}')
    with refused("bad_format"):
        station.propose(f"{name}-6", changes=[{"before": OLD, "after": NEW, "instances": other.to_json()}])
    huge = {"sha256": "ab" * 32, "size": 17 * 2**20}
    with refused("too_large"):
        station.propose(f"{name}-7", paths=huge)


def test_unsorted_paths_in_an_object(station: Station) -> None:
    paths = [f"static/{n:04}" for n in range(300)]
    stored = store_list(paths, station.objects)
    assert not isinstance(stored, tuple)
    subject = station.propose(paths=stored.to_json())
    assert station.state.leases[subject[1]].paths == tuple(paths)
    swapped = station.objects.put(format_json([*paths[1:], paths[0]]))
    with refused("bad_format"):
        station.propose("LEASE-20260105-090001", paths=swapped.to_json())


def test_review_by_someone_who_is_no_reviewer(station: Station) -> None:
    subject = station.propose()
    fields = {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}
    for who in ("ada", "cbo", "cp18", "cp20"):
        with refused("role_missing"):
            station.say(who, "review", fields, subject)


def test_second_review_by_the_same_agent(station: Station) -> None:
    subject = station.propose()
    station.review("cp14", subject, "fail")
    with refused("already_reviewed"):
        station.review("cp14", subject, "pass")


def test_agent_cosigns_without_its_own_passing_review(station: Station) -> None:
    subject = station.propose()
    with refused("wrong_review"):
        station.vote("cp14", subject, "sentinel")
    with refused("wrong_review"):
        station.vote("cp14", subject, "sentinel", "ab" * 32)
    others = station.say(
        "cp18", "review", {"role": "validator", "verdict": "pass", "summary": "", "findings": None}, subject
    )
    with refused("wrong_review"):
        station.vote("cp14", subject, "sentinel", others.digest)
    failed = station.review("cp14", subject, "fail")
    with refused("review_failed"):
        station.vote("cp14", subject, "sentinel", failed.digest)


def test_review_of_another_lease(station: Station) -> None:
    first = station.propose()
    second = station.propose("LEASE-20260105-090001")
    review = station.say(
        "cp14", "review", {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}, first
    )
    with refused("wrong_review"):
        station.vote("cp14", second, "sentinel", review.digest)


def test_approver_names_a_review(station: Station) -> None:
    subject = station.propose()
    review = station.say(
        "cp14", "review", {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}, subject
    )
    with refused("wrong_review"):
        station.vote("ada", subject, "approver", review.digest)


@pytest.mark.parametrize(
    ("who", "role", "code"),
    [
        ("ada", "sentinel", "role_missing"),
        ("cp14", "approver", "role_missing"),
        ("cp14", "validator", "role_missing"),
        ("cbo", "approver", "role_missing"),
        ("cp20", "sentinel", "role_missing"),
        ("ada", "governor", "wrong_role"),
        ("ada", "operator", "wrong_role"),
    ],
)
def test_cosignature_in_a_role_that_is_not_held(station: Station, who: str, role: str, code: str) -> None:
    subject = station.propose()
    with refused(code):
        station.vote(who, subject, role)


def test_signer_cosigns_twice(station: Station) -> None:
    subject = station.propose()
    station.vote("ada", subject, "approver")
    with refused("already_cosigned"):
        station.vote("ada", subject, "approver")


def test_cosignature_of_what_is_no_proposal(station: Station) -> None:
    station.propose()
    intent = station.state.ids["int-20260105-090000"]
    with refused("unknown_subject"):
        station.vote("ada", ("INT-20260105-090000", intent), "approver")
    with refused("unknown_subject"):
        station.vote("ada", ("LEASE-20260105-090000", "ab" * 32), "approver")


def test_cosignature_after_approve_by(station: Station) -> None:
    subject = station.propose()
    prepared = station.sign("ada", Draft("cosignature", {"role": "approver", "review": None}, subject))
    station.clock.tick(3601)
    with refused("approval_expired"):
        station.vote("ben", subject, "approver")
    with refused("approval_expired"):
        station.append(prepared)


def test_cosignature_in_the_last_second_of_approval(station: Station) -> None:
    subject = station.propose()
    station.clock.tick(3600)
    station.vote("ada", subject, "approver")


def test_cosignature_dated_past_approve_by(station: Station) -> None:
    subject = station.propose()
    station.clock.tick(3590)
    draft = Draft("cosignature", {"role": "approver", "review": None}, subject)
    with refused("approval_expired"):
        station.append(station.sign("ada", draft, made_at=station.after(11)))


def test_cosignature_after_a_denial(station: Station) -> None:
    subject = station.propose()
    station.say("ben", "objection", {"verb": "deny", "reason": "no"}, subject)
    with refused("lease_denied"):
        station.vote("ada", subject, "approver")


@pytest.mark.parametrize(("who", "may"), [("ada", True), ("cbo", True), ("cp14", False), ("cp20", False)])
def test_who_denies(station: Station, who: str, may: bool) -> None:
    subject = station.propose()
    deny = {"verb": "deny", "reason": "no"}
    if may:
        station.say(who, "objection", deny, subject)
        assert station.state.leases[subject[1]].denied is not None
    else:
        with refused("role_missing"):
            station.say(who, "objection", deny, subject)


@pytest.mark.parametrize(("who", "may"), [("ada", True), ("cp14", True), ("cbo", False), ("cp19", False)])
def test_who_withdraws(station: Station, who: str, may: bool) -> None:
    subject = station.propose()
    withdraw = {"verb": "withdraw", "reason": "no"}
    if may:
        # It needs no earlier cosignature: the one that it stops may still be on its way.
        station.say(who, "objection", withdraw, subject)
    else:
        with refused("role_missing"):
            station.say(who, "objection", withdraw, subject)


def test_preflight_of_a_claimed_lease(station: Station) -> None:
    subject = station.propose()
    station.approve(subject)
    with refused("fenced"):
        station.say("cp20", "event", preflight(1), subject)
    station.take_term()
    station.say("cp20", "event", preflight(1), subject)
    assert [code for _, code, _ in station.state.leases[subject[1]].preflight] == ["no_space"]
    station.claim(subject)
    with refused("lease_consumed"):
        station.say("cp20", "event", preflight(1), subject)


def preflight(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "detail": {"type": "PREFLIGHT_FAILED", "code": "no_space", "instance": None, "text": ""}}
