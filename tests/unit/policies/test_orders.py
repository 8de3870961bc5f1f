"""Attacks on people's orders: stale ones, orders past a breach, and rollbacks that come too late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from governing import propose_policy
from refusal import refused
from station import Station, matrix, new_station, tree_digest

from policies.fold.deployment import Phase
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


def waiting(station: Station, name: str = "LEASE-20260105-090000", **changes: Any) -> Lease:
    """A lease that was claimed."""
    lease = station.propose(name, **changes)
    station.approve(lease)
    station.take_term()
    station.claim(lease)
    return lease


def go_back(station: Station, lease: Lease, command: str | None = None) -> None:
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="test", command=command)
    deployment = station.state.deployments[lease[1]]
    for name in sorted(deployment.intended):
        station.event(
            "cp20", lease, "INSTANCE_RESTORED", instance=name, tree=deployment.before[name], rebuilt=False, warning=None
        )
    station.event("cp20", lease, "ROLLED_BACK")


@pytest.mark.parametrize("who", ["cbo", "cp14", "cp19", "cp20"])
def test_machine_gives_an_order(station: Station, lease: Lease, who: str) -> None:
    with refused("role_missing"):
        station.command(who, lease, "pause")


@pytest.mark.parametrize("verb", ["pause", "abort", "rollback"])
def test_order_after_its_expiry(station: Station, lease: Lease, verb: str) -> None:
    expires = station.after(60)
    fields = {"verb": verb, "expires_at": expires, "state": None, "tier": None, "skip_bake": False, "reason": ""}
    prepared = station.sign("ada", Draft("command", fields, lease))
    station.clock.tick(61)
    with refused("command_expired"):
        station.append(prepared)
    station.clock.tick(-1)
    station.append(prepared)


@pytest.mark.parametrize(
    "changes",
    [
        {"verb": "pause", "state": "ab" * 32},
        {"verb": "rollback", "tier": 5},
        {"verb": "abort", "skip_bake": True},
        {"verb": "resume", "state": None},
        {"verb": "promote", "tier": None},
    ],
)
def test_order_with_members_of_another(station: Station, lease: Lease, changes: dict[str, Any]) -> None:
    verb = changes.pop("verb")
    with refused("bad_command"):
        station.command("ada", lease, verb, **changes)


def test_order_for_a_state_that_moved_on(station: Station, lease: Lease) -> None:
    station.deploy_tier(lease, 5)
    seen = station.state.deployments[lease[1]].state_leaf
    station.sample(lease, 5, 1)
    station.verdict(lease, 5, 1)
    # What the monitor says does not move the state that a person looked at.
    station.command("ada", lease, "promote", state=seen)
    with refused("stale_command"):
        station.command("ben", lease, "promote", state=seen)
    assert station.state.deployments[lease[1]].state_leaf != seen


@pytest.mark.parametrize("verdict", ["breach", "abort", "missing"])
def test_promote_or_resume_past_a_breach(tmp_path: Path, verdict: str) -> None:
    station = new_station(tmp_path, policy=matrix(skip_bake=True))
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.bake(lease, 5)
    station.command("ada", lease, "promote", skip_bake=True)
    station.sample(lease, 5, 3, error_rate="99")
    station.verdict(lease, 5, 3, verdict)
    with refused("health_refused"):
        station.command("ada", lease, "promote", skip_bake=True)
    # An order from before the breach does not lead past it either.
    with refused("not_healthy" if verdict == "missing" else "health_refused"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    station.command("ada", lease, "pause")
    station.event("cp20", lease, "PAUSED", command=None, cause="command", text="")
    with refused("health_refused"):
        station.command("ada", lease, "resume")


@pytest.mark.parametrize("verdict", ["breach", "abort"])
def test_pass_after_a_breach_leads_nowhere(station: Station, lease: Lease, verdict: str) -> None:
    station.deploy_tier(lease, 5)
    station.bake(lease, 5)
    station.sample(lease, 5, 3)
    said = station.verdict(lease, 5, 3, verdict)
    station.sample(lease, 5, 4)
    station.verdict(lease, 5, 4, "breach")
    station.sample(lease, 5, 5)
    station.verdict(lease, 5, 5, "pass")
    bad = station.state.deployments[lease[1]].bad_verdict
    assert bad is not None
    assert (bad.digest, bad.verdict) == (said.digest, verdict)
    with refused("health_refused"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    with refused("health_refused"):
        station.command("ada", lease, "promote")
    with refused("bad_command"):
        station.command("ada", lease, "start")
    station.event("cp20", lease, "PAUSED", command=None, cause="test", text="")
    with refused("health_refused"):
        station.command("ada", lease, "resume")
    with refused("health_refused"):
        station.event("cp20", lease, "RESUMED", command=None)
    station.event("cp20", lease, "HALTED", cause=verdict, gate=None, evidence=said.digest, text="")
    go_back(station, lease)


def test_breach_under_a_pause_outlives_the_next_pass(station: Station, lease: Lease) -> None:
    station.deploy_tier(lease, 5)
    station.bake(lease, 5)
    station.command("ada", lease, "pause")
    station.event("cp20", lease, "PAUSED", command=None, cause="command", text="")
    station.sample(lease, 5, 3)
    station.verdict(lease, 5, 3, "breach")
    station.sample(lease, 5, 4)
    station.verdict(lease, 5, 4, "pass")
    with refused("health_refused"):
        station.command("ada", lease, "resume")


def test_missing_data_that_came_back_lets_a_tier_pass(station: Station, lease: Lease) -> None:
    station.deploy_tier(lease, 5)
    station.bake(lease, 5)
    station.sample(lease, 5, 3)
    station.verdict(lease, 5, 3, "missing")
    station.sample(lease, 5, 4)
    station.verdict(lease, 5, 4, "pass")
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)


def test_promote_of_a_tier_that_does_not_bake(station: Station, lease: Lease) -> None:
    with refused("bad_command"):
        station.command("ada", lease, "promote", tier=5)
    station.deploy_tier(lease, 5)
    with refused("bad_command"):
        station.command("ada", lease, "promote", tier=25)


def test_skipped_bake_without_the_policys_leave(station: Station, lease: Lease) -> None:
    station.deploy_tier(lease, 5)
    station.bake(lease, 5, 1)
    with refused("skip_not_allowed"):
        station.command("ada", lease, "promote", skip_bake=True)
    station.command("ada", lease, "promote")
    with refused("not_baked"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)


def test_skipped_bake_still_needs_a_passing_sample(tmp_path: Path) -> None:
    station = new_station(tmp_path, policy=matrix(skip_bake=True))
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.command("ada", lease, "promote", skip_bake=True)
    with refused("not_healthy"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    station.bake(lease, 5, 1)
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    station.deploy_tier(lease, 25)
    station.bake(lease, 25, 1)
    # The order was for the tier before.
    with refused("not_baked"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=25, to=100)


def test_manual_promotion_waits_for_its_order(tmp_path: Path) -> None:
    station = new_station(tmp_path, policy=matrix(promotion="manual"))
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.bake(lease, 5)
    with refused("promotion_not_ordered"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    station.command("ada", lease, "promote")
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    station.deploy_tier(lease, 25)
    station.bake(lease, 25)
    with refused("promotion_not_ordered"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=25, to=100)


def test_start_by_command(tmp_path: Path) -> None:
    station = new_station(tmp_path, policy=matrix(start="command"))
    lease = waiting(station)
    with refused("start_not_ordered"):
        station.event("cp20", lease, "STARTED")
    station.command("ada", lease, "start")
    station.event("cp20", lease, "STARTED")
    with refused("bad_command"):
        station.command("ada", lease, "start")


def test_start_of_what_starts_by_itself(station: Station) -> None:
    with refused("bad_command"):
        station.command("ada", waiting(station), "start")


@pytest.mark.parametrize("verb", ["abort", "rollback"])
def test_step_forward_after_an_order_to_stop(station: Station, lease: Lease, verb: str) -> None:
    station.command("ada", lease, verb)
    with refused("stopped"):
        station.event("cp20", lease, "TIER_INTENT", tier=5)
    station.event("cp20", lease, "PAUSED", command=None, cause="test", text="")
    with refused("stopped"):
        station.event("cp20", lease, "RESUMED", command=None)
    station.event("cp20", lease, "HALTED", cause=verb, gate=None, evidence=None, text="")
    go_back(station, lease)


def test_order_to_stop_before_the_start(station: Station) -> None:
    for number, verb in enumerate(("abort", "rollback")):
        lease = waiting(station, name=f"LEASE-20260105-09000{number}")
        station.command("ada", lease, verb)
        with refused("stopped"):
            station.event("cp20", lease, "STARTED")
        station.event("cp20", lease, "ABORTED", cause=verb, text="")
        assert not station.state.live


def test_pause_before_the_start(station: Station) -> None:
    lease = waiting(station)
    station.command("ada", lease, "pause")
    with refused("paused"):
        station.event("cp20", lease, "STARTED")
    station.event("cp20", lease, "PAUSED", command=None, cause="command", text="")
    station.baseline(lease)
    with refused("paused"):
        station.event("cp20", lease, "RESUMED", command=None)
    station.command("ada", lease, "resume")
    station.event("cp20", lease, "RESUMED", command=None)
    assert station.state.deployments[lease[1]].phase is Phase.CLAIMED
    station.event("cp20", lease, "STARTED")


def test_pause_binds_at_once_and_until_it_is_resumed(station: Station, lease: Lease) -> None:
    with refused("bad_command"):
        station.command("ada", lease, "resume")
    station.event("cp20", lease, "TIER_INTENT", tier=5)
    station.command("ada", lease, "pause")
    name = station.state.deployments[lease[1]].cohorts[5][0]
    station.event("cp20", lease, "INSTANCE_APPLIED", tier=5, instance=name, tree=tree_digest("v2"))
    station.event("cp20", lease, "TIER_APPLIED", tier=5)
    with refused("paused"):
        station.event("cp20", lease, "BAKE_STARTED", tier=5)
    station.event("cp20", lease, "PAUSED", command=None, cause="command", text="")
    station.command("ada", lease, "resume")
    station.command("ben", lease, "pause")
    with refused("paused"):
        station.event("cp20", lease, "RESUMED", command=None)
    station.command("ada", lease, "resume")
    station.event("cp20", lease, "RESUMED", command=None)
    station.event("cp20", lease, "BAKE_STARTED", tier=5)


def test_gates_stay_live_while_paused(station: Station, lease: Lease) -> None:
    station.deploy_tier(lease, 5)
    station.event("cp20", lease, "PAUSED", command=None, cause="test", text="")
    station.sample(lease, 5, 1, error_rate="99")
    verdict = station.verdict(lease, 5, 1, "breach")
    evidence = verdict.digest
    station.event("cp20", lease, "HALTED", cause="breach", gate="error_rate", evidence=evidence, text="")
    go_back(station, lease)


@pytest.mark.parametrize(("late", "lawful"), [(0, True), (1, False)])
def test_rollback_within_retention(station: Station, lease: Lease, late: int, lawful: bool) -> None:
    station.complete(lease)
    station.clock.tick(7 * 86_400 + late)
    if not lawful:
        with refused("retention_over"):
            station.command("ada", lease, "rollback")
        return
    order = station.command("ada", lease, "rollback")
    station.clock.tick()
    # The order came in time; the executor that begins a second later does not.
    with refused("retention_over"):
        go_back(station, lease, order.digest)
    station.clock.tick(-1)
    go_back(station, lease, order.digest)
    assert station.state.deployments[lease[1]].phase is Phase.ROLLED_BACK


def test_retention_is_that_of_the_leases_policy(station: Station, lease: Lease) -> None:
    station.complete(lease)
    proposal = propose_policy(station, retention_s=0)
    station.vote("ada", ("policy", proposal.digest), "governor")
    station.clock.tick(3600)
    station.command("ada", lease, "rollback")


def test_rollback_of_a_completed_deployment_without_an_order(station: Station, lease: Lease) -> None:
    station.complete(lease)
    with refused("rollback_not_ordered"):
        go_back(station, lease)


def later(station: Station, name: str = "LEASE-20260105-090001") -> Lease:
    """A later deployment of the same target, started."""
    names = sorted(station.state.deployments[next(iter(station.state.deployments))].before)
    change = {"before": tree_digest("v2"), "after": station.put_tree("v3").sha256, "instances": names}
    ref = station.put_tree("v3")
    artifact = {"type": "directory", "sha256": ref.sha256, "size": ref.size}
    lease = station.propose(name, changes=[change], artifact=artifact)
    station.begin(lease)
    return lease


def test_rollback_superseded_by_a_later_deployment(station: Station, lease: Lease) -> None:
    station.complete(lease)
    second = later(station)
    station.complete(second)
    with refused("superseded", later=second[0]) as caught:
        station.command("ada", lease, "rollback")
    # Whoever reads it knows what came later, and what to type.
    assert second[0] in caught.value.message
    assert f"calyx rollback {lease[0]} --revert" in caught.value.hint
    go_back(station, second, station.command("ada", second, "rollback").digest)
    with refused("superseded", later=second[0]):
        station.command("ada", lease, "rollback")


def test_rollback_while_another_deployment_is_live(station: Station, lease: Lease) -> None:
    station.complete(lease)
    second = later(station)
    with refused("target_busy"):
        station.command("ada", lease, "rollback")
    assert second[1] in station.state.live.values()


def test_rollback_order_is_void_once_the_target_is_claimed(station: Station, lease: Lease) -> None:
    station.complete(lease)
    order = station.command("ada", lease, "rollback")
    second = later(station)
    with refused("rollback_not_ordered"):
        go_back(station, lease, order.digest)
    station.event("cp20", second, "HALTED", cause="test", gate=None, evidence=None, text="")
    go_back(station, second)
    # The second one touched nothing, and yet the old order does not wake up again.
    assert not station.state.deployments[second[1]].intended
    with refused("rollback_not_ordered"):
        go_back(station, lease, order.digest)
    go_back(station, lease, station.command("ben", lease, "rollback").digest)


def test_claim_while_a_completed_deployment_is_rolled_back(station: Station, lease: Lease) -> None:
    station.complete(lease)
    second = station.propose("LEASE-20260105-090001")
    station.approve(second)
    fields = station.claim_fields(second)
    order = station.command("ada", lease, "rollback")
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="test", command=order.digest)
    with refused("target_busy"):
        station.say("cp20", "claim", fields, second)


def test_second_rollback(station: Station, lease: Lease) -> None:
    station.complete(lease)
    go_back(station, lease, station.command("ada", lease, "rollback").digest)
    with refused("nothing_to_roll_back"):
        station.command("ada", lease, "rollback")
