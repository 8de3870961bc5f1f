"""Attacks on a running deployment: who says what when, in which order, and what a stop stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from governing import propose_policy, revoke
from refusal import refused
from station import Station, new_station, tree_digest

from policies.fold.deployment import FORWARD, MOVES, Phase
from policies.submitter import Draft

Lease = tuple[str, str]


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


@pytest.fixture
def lease(station: Station) -> Lease:
    """A deployment after STARTED, with a baseline."""
    lease = station.propose()
    station.begin(lease)
    return lease


def phase(station: Station, lease: Lease) -> Phase:
    return station.state.deployments[lease[1]].phase


def halt(station: Station, lease: Lease, cause: str = "test", evidence: str | None = None) -> None:
    station.event("cp20", lease, "HALTED", cause=cause, gate=None, evidence=evidence, text="")


def go_back(station: Station, lease: Lease, command: str | None = None) -> None:
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="test", command=command)
    deployment = station.state.deployments[lease[1]]
    for name in sorted(deployment.intended - deployment.restored):
        station.event(
            "cp20", lease, "INSTANCE_RESTORED", instance=name, tree=deployment.before[name], rebuilt=False, warning=None
        )
    station.event("cp20", lease, "ROLLED_BACK")


EXECUTORS: dict[str, dict[str, Any]] = {
    "STARTED": {},
    "TIER_INTENT": {"tier": 5},
    "INSTANCE_APPLIED": {"tier": 5, "instance": "web-01", "tree": "ab" * 32},
    "TIER_APPLIED": {"tier": 5},
    "BAKE_STARTED": {"tier": 5},
    "CANARY_PROMOTED": {"tier": 5, "to": 25},
    "PAUSED": {"command": None, "cause": "test", "text": ""},
    "RESUMED": {"command": None},
    "HALTED": {"cause": "test", "gate": None, "evidence": None, "text": ""},
    "ROLLBACK_STARTED": {"cause": "test", "command": None},
    "INSTANCE_RESTORED": {"instance": "web-01", "tree": "ab" * 32, "rebuilt": False, "warning": None},
    "ROLLED_BACK": {},
    "ROLLBACK_FAILED": {"instances": ["web-01"], "text": ""},
    "COMPLETED": {},
    "ABORTED": {"cause": "test", "text": ""},
    "PREFLIGHT_FAILED": {"code": "x", "instance": None, "text": ""},
}
MONITORS: dict[str, dict[str, Any]] = {
    "BASELINE": {"values": []},
    "SAMPLE": {"tier": 5, "n": 1, "values": [], "trees": [], "raw": None},
    "VERDICT": {"tier": 5, "n": 0, "verdict": "breach", "gate": None, "text": ""},
}
SANITY: dict[str, Any] = {"verdict": "pass", "report": None, "text": ""}


@pytest.mark.parametrize("type_", [*EXECUTORS, *MONITORS, "SANITY"])
def test_event_by_the_wrong_signer(station: Station, lease: Lease, type_: str) -> None:
    members = {**EXECUTORS, **MONITORS, "SANITY": SANITY}[type_]
    rightful = {"cp20", "cp20b"} if type_ in EXECUTORS else {"cp19"} if type_ in MONITORS else {"cp18"}
    code = "role_missing" if type_ == "SANITY" else "wrong_kind"
    for who in {"ada", "cbo", "cp14", "cp18", "cp19", "cp20"} - rightful:
        with refused(code):
            station.say(who, "event", {"epoch": None, "detail": {"type": type_, **members}}, lease)


@pytest.mark.parametrize("type_", [*MONITORS, "SANITY"])
def test_observation_that_carries_an_epoch(station: Station, lease: Lease, type_: str) -> None:
    members = {**MONITORS, "SANITY": SANITY}[type_]
    who = "cp18" if type_ == "SANITY" else "cp19"
    with refused("bad_event"):
        station.say(who, "event", {"epoch": 1, "detail": {"type": type_, **members}}, lease)


def test_forward_events_are_those_of_the_law() -> None:
    assert {"STARTED", "TIER_INTENT", "BAKE_STARTED", "CANARY_PROMOTED", "RESUMED", "COMPLETED"} == FORWARD
    # After a halt nothing leads on, and only going back leads out.
    assert {event for (at, event) in MOVES if at is Phase.HALTED} == {
        "INSTANCE_APPLIED",
        "TIER_APPLIED",
        "ROLLBACK_STARTED",
        "SANITY",
    }
    for end in (Phase.ABORTED, Phase.ROLLED_BACK):
        assert {event for (at, event) in MOVES if at is end} == {"SANITY"}


def test_illegal_transition_changes_nothing(station: Station, lease: Lease) -> None:
    before = station.registrar.head
    for type_ in ("STARTED", "BAKE_STARTED", "CANARY_PROMOTED", "RESUMED", "COMPLETED", "ROLLED_BACK", "ABORTED"):
        with refused("wrong_tier" if type_ == "BAKE_STARTED" else "illegal_transition"):
            station.event("cp20", lease, type_, **EXECUTORS[type_])
    with refused("illegal_transition"):
        station.event("cp20", lease, "ROLLBACK_STARTED", cause="test", command=None)
    assert station.store.head() == before


def test_event_before_the_claim(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    with refused("not_claimed"):
        station.event("cp20", lease, "STARTED")
    with refused("not_claimed"):
        fields = {"verb": "pause", "expires_at": station.after(60), "state": None, "tier": None, "skip_bake": False}
        station.say("ada", "command", {**fields, "reason": "early"}, lease)
    with refused("unknown_subject"):
        station.event("cp20", (lease[0], "ab" * 32), "STARTED")


def test_tier_out_of_turn(station: Station, lease: Lease) -> None:
    for tier in (25, 100, 50):
        with refused("wrong_tier"):
            station.event("cp20", lease, "TIER_INTENT", tier=tier)
    station.deploy_tier(lease, 5)
    station.bake(lease, 5)
    with refused("wrong_tier"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=100)
    with refused("wrong_tier"):
        station.event("cp20", lease, "COMPLETED")
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    with refused("wrong_tier"):
        station.event("cp20", lease, "TIER_INTENT", tier=100)
    with refused("wrong_tier"):
        station.event("cp20", lease, "TIER_INTENT", tier=5)


def test_second_intent_before_the_first_tier_is_promoted(station: Station, lease: Lease) -> None:
    station.event("cp20", lease, "TIER_INTENT", tier=5)
    with refused("illegal_transition"):
        station.event("cp20", lease, "TIER_INTENT", tier=25)


def test_result_without_an_intent(station: Station, lease: Lease) -> None:
    deployment = station.state.deployments[lease[1]]
    first, later = deployment.cohorts[5][0], deployment.cohorts[100][0]
    tree = tree_digest("v2")
    with refused("not_intended"):
        station.event("cp20", lease, "INSTANCE_APPLIED", tier=5, instance=first, tree=tree)
    station.event("cp20", lease, "TIER_INTENT", tier=5)
    for tier, name in ((5, later), (25, first), (5, "web-99"), (100, later)):
        with refused("not_intended"):
            station.event("cp20", lease, "INSTANCE_APPLIED", tier=tier, instance=name, tree=tree)
    with refused("wrong_tree"):
        station.event("cp20", lease, "INSTANCE_APPLIED", tier=5, instance=first, tree=tree_digest("v1"))
    with refused("not_applied"):
        station.event("cp20", lease, "TIER_APPLIED", tier=5)
    station.event("cp20", lease, "INSTANCE_APPLIED", tier=5, instance=first, tree=tree)
    with refused("repeated"):
        station.event("cp20", lease, "INSTANCE_APPLIED", tier=5, instance=first, tree=tree)
    with refused("wrong_tier"):
        station.event("cp20", lease, "BAKE_STARTED", tier=5)


def test_start_after_execute_by(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    station.claim(lease)
    station.clock.tick(7201)
    with refused("lease_expired"):
        station.event("cp20", lease, "STARTED")
    station.event("cp20", lease, "ABORTED", cause="expired", text="")
    assert phase(station, lease) is Phase.ABORTED
    with refused("deployment_ended"):
        station.command("ada", lease, "abort")
    with refused("nothing_to_roll_back"):
        station.command("ada", lease, "rollback")


@pytest.mark.parametrize("late", [0, 1])
def test_step_forward_after_complete_by(tmp_path: Path, late: int) -> None:
    station = new_station(tmp_path)
    lease = station.propose(complete_by=station.after(7200))
    station.begin(lease)
    station.clock.tick(7200 + late)
    if late:
        with refused("complete_by_passed"):
            station.event("cp20", lease, "TIER_INTENT", tier=5)
    else:
        station.event("cp20", lease, "TIER_INTENT", tier=5)
        first = station.state.deployments[lease[1]].cohorts[5][0]
        station.clock.tick()
        # The result of what was intended in time is recorded; the next step is not taken.
        station.event("cp20", lease, "INSTANCE_APPLIED", tier=5, instance=first, tree=tree_digest("v2"))
        station.event("cp20", lease, "TIER_APPLIED", tier=5)
        with refused("complete_by_passed"):
            station.event("cp20", lease, "BAKE_STARTED", tier=5)
    halt(station, lease, "complete_by_passed")
    go_back(station, lease)


def test_capability_switched_off_while_it_runs(station: Station, lease: Lease) -> None:
    proposal = propose_policy(station, enabled=False)
    station.vote("ada", ("policy", proposal.digest), "governor")
    with refused("capability_disabled"):
        station.event("cp20", lease, "TIER_INTENT", tier=5)
    halt(station, lease, "capability_disabled")


def test_compromised_cosignature_taints_what_runs(station: Station, lease: Lease) -> None:
    station.event("cp20", lease, "TIER_INTENT", tier=5)
    first = station.state.deployments[lease[1]].cohorts[5][0]
    revoke(station, "ada", station.state.leases[lease[1]].seq)
    station.event("cp20", lease, "INSTANCE_APPLIED", tier=5, instance=first, tree=tree_digest("v2"))
    station.event("cp20", lease, "TIER_APPLIED", tier=5)
    with refused("tainted"):
        station.event("cp20", lease, "BAKE_STARTED", tier=5)
    halt(station, lease, "tainted")
    # A person decides: the rollback itself is what whoever stole the key may want.
    with refused("rollback_not_ordered"):
        station.event("cp20", lease, "ROLLBACK_STARTED", cause="tainted", command=None)
    order = station.command("ben", lease, "rollback")
    go_back(station, lease, order.digest)
    assert phase(station, lease) is Phase.ROLLED_BACK


def test_compromise_after_the_vote_leaves_it_alone(station: Station, lease: Lease) -> None:
    revoke(station, "ada", station.state.size)
    station.event("cp20", lease, "TIER_INTENT", tier=5)


def test_results_after_a_halt_are_lawful_and_steps_forward_are_not(station: Station, lease: Lease) -> None:
    station.event("cp20", lease, "TIER_INTENT", tier=5)
    halt(station, lease)
    first = station.state.deployments[lease[1]].cohorts[5][0]
    station.event("cp20", lease, "INSTANCE_APPLIED", tier=5, instance=first, tree=tree_digest("v2"))
    station.event("cp20", lease, "TIER_APPLIED", tier=5)
    for type_ in sorted(FORWARD):
        with refused("illegal_transition"):
            station.event("cp20", lease, type_, **EXECUTORS[type_])
    go_back(station, lease)
    assert station.state.deployments[lease[1]].restored == {first}


def test_evidence_that_was_never_said(station: Station, lease: Lease) -> None:
    with refused("unknown_evidence"):
        halt(station, lease, evidence="ab" * 32)


def test_evidence_that_is_about_something_else(station: Station, lease: Lease) -> None:
    with refused("unknown_evidence"):
        halt(station, lease, evidence=lease[1])
    with refused("unknown_command"):
        station.event("cp20", lease, "PAUSED", command="ab" * 32, cause="command", text="")
    resume = station.command("ada", lease, "pause")
    station.event("cp20", lease, "PAUSED", command=resume.digest, cause="command", text="")
    station.command("ada", lease, "resume")
    with refused("unknown_command"):
        station.event("cp20", lease, "RESUMED", command=resume.digest)


def test_rollback_restores_what_was_intended_and_nothing_else(station: Station, lease: Lease) -> None:
    station.deploy_tier(lease, 5)
    halt(station, lease)
    deployment = station.state.deployments[lease[1]]
    touched, other = deployment.cohorts[5][0], deployment.cohorts[100][0]
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="test", command=None)
    with refused("not_restored"):
        station.event("cp20", lease, "ROLLED_BACK")
    with refused("not_intended"):
        station.event(
            "cp20", lease, "INSTANCE_RESTORED", instance=other, tree=tree_digest("v1"), rebuilt=False, warning=None
        )
    with refused("wrong_tree"):
        station.event(
            "cp20", lease, "INSTANCE_RESTORED", instance=touched, tree=tree_digest("v2"), rebuilt=False, warning=None
        )
    station.event(
        "cp20", lease, "INSTANCE_RESTORED", instance=touched, tree=tree_digest("v1"), rebuilt=False, warning=None
    )
    with refused("repeated"):
        station.event(
            "cp20", lease, "INSTANCE_RESTORED", instance=touched, tree=tree_digest("v1"), rebuilt=False, warning=None
        )
    with refused("wrong_instances"):
        station.event("cp20", lease, "ROLLBACK_FAILED", instances=[touched], text="")
    station.event("cp20", lease, "ROLLED_BACK")


def test_failed_rollback_names_every_instance_that_it_left(station: Station, lease: Lease) -> None:
    station.deploy_tier(lease, 5)
    station.bake(lease, 5)
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    station.event("cp20", lease, "TIER_INTENT", tier=25)
    halt(station, lease)
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="test", command=None)
    left = sorted(station.state.deployments[lease[1]].intended)
    assert len(left) == 5
    for stated in (left[1:], [*left, "web-99"], [left[0], *left], []):
        with refused("wrong_instances"):
            station.event("cp20", lease, "ROLLBACK_FAILED", instances=stated, text="")
    station.event("cp20", lease, "ROLLBACK_FAILED", instances=left, text="")
    assert not station.state.live
    # Another attempt is a person's decision, and begins anew.
    with refused("rollback_not_ordered"):
        station.event("cp20", lease, "ROLLBACK_STARTED", cause="test", command=None)
    order = station.command("ada", lease, "rollback")
    go_back(station, lease, order.digest)
    assert phase(station, lease) is Phase.ROLLED_BACK


def test_halt_before_the_start_and_abort_after_it(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    station.claim(lease)
    with refused("illegal_transition"):
        halt(station, lease)
    station.event("cp20", lease, "PAUSED", command=None, cause="test", text="")
    with refused("illegal_transition"):
        halt(station, lease)
    station.event("cp20", lease, "RESUMED", command=None)
    station.event("cp20", lease, "STARTED")
    with refused("illegal_transition"):
        station.event("cp20", lease, "ABORTED", cause="test", text="")
    station.event("cp20", lease, "PAUSED", command=None, cause="test", text="")
    with refused("illegal_transition"):
        station.event("cp20", lease, "ABORTED", cause="test", text="")


def test_statement_of_one_deployment_replayed_on_another(station: Station, lease: Lease) -> None:
    halt(station, lease)
    go_back(station, lease)
    second = station.propose("LEASE-20260105-090001")
    station.approve(second)
    station.claim(second)
    body = station.sign("ada", Draft("command", order(station, "pause"), lease))
    with refused("deployment_ended"):
        station.append(body)
    with refused("unknown_subject"):
        station.say("ada", "command", order(station, "pause"), (second[0], lease[1]))


def order(station: Station, verb: str) -> dict[str, Any]:
    return {
        "verb": verb,
        "expires_at": station.after(600),
        "state": None,
        "tier": None,
        "skip_bake": False,
        "reason": "a test",
    }
