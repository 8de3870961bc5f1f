"""Attacks on health: samples before their time, verdicts on other samples, and no data sold as health."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from refusal import refused
from station import Station, new_station, tree_digest

from executor.metrics.gates import RunningJudge, judge_deployment
from policies.fold.deployment import Deployment
from policies.fold.packer import adapter_of
from policies.law.tiers import WINDOW, TierJudge
from policies.submitter import Draft

Lease = tuple[str, str]


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


@pytest.fixture
def lease(station: Station) -> Lease:
    """A deployment whose first tier bakes."""
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    return lease


def values(**given: str | None) -> list[dict[str, Any]]:
    rows = {"error_rate": "0", "tes": "90", **given}
    return [
        {"gate": gate, "value": value, "requests": None, "rest": None, "rest_requests": None}
        for gate, value in rows.items()
    ]


def say_sample(station: Station, lease: Lease, n: int, rows: list[dict[str, Any]] | None = None, tier: int = 5) -> None:
    rows = values() if rows is None else rows
    station.event("cp19", lease, "SAMPLE", tier=tier, n=n, values=rows, trees=[], raw=None)


@pytest.mark.parametrize(("n", "wait", "lawful"), [(1, 14, True), (1, 13, False), (2, 29, True), (2, 28, False)])
def test_sample_before_its_time(station: Station, lease: Lease, n: int, wait: int, lawful: bool) -> None:
    station.clock.tick(wait)
    if lawful:
        say_sample(station, lease, n)
    else:
        with refused("early_sample"):
            say_sample(station, lease, n)


def test_sample_whose_signer_is_two_minutes_ahead_shortens_no_bake(station: Station, lease: Lease) -> None:
    detail = {"type": "SAMPLE", "tier": 5, "n": 1, "values": values(), "trees": [], "raw": None}
    ahead = station.sign("cp19", Draft("event", {"epoch": None, "detail": detail}, lease), made_at=station.after(119))
    with refused("early_sample"):
        station.append(ahead)


def test_sample_counted_twice(station: Station, lease: Lease) -> None:
    station.sample(lease, 5, 1)
    station.clock.tick(60)
    with refused("repeated"):
        say_sample(station, lease, 1)
    say_sample(station, lease, 3)
    with refused("repeated"):
        say_sample(station, lease, 2)


def test_sample_of_another_tier_or_time(station: Station, lease: Lease) -> None:
    station.clock.tick(60)
    with refused("wrong_tier"):
        say_sample(station, lease, 1, tier=25)
    station.bake(lease, 5)
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    with refused("wrong_tier"):
        say_sample(station, lease, 9, tier=25)


def test_sample_before_the_first_bake(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.event("cp20", lease, "TIER_INTENT", tier=5)
    with refused("not_baking"):
        say_sample(station, lease, 1)
    station.event("cp20", lease, "PAUSED", command=None, cause="test", text="")
    with refused("not_baking"):
        say_sample(station, lease, 1)


def test_tier_is_watched_while_the_next_one_is_applied(station: Station, lease: Lease) -> None:
    station.bake(lease, 5)
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    station.sample(lease, 5, 3)
    station.event("cp20", lease, "TIER_INTENT", tier=25)
    with refused("repeated"):
        say_sample(station, lease, 3)
    station.sample(lease, 5, 4)
    station.verdict(lease, 5, 4)
    with refused("wrong_sample"):
        station.verdict(lease, 25, 4)
    station.event("cp20", lease, "PAUSED", command=None, cause="test", text="")
    station.sample(lease, 5, 5)
    station.verdict(lease, 5, 5, "missing")
    # Missing data of what runs is not overridden because another tier is on its way.
    with refused("health_refused"):
        station.command("ada", lease, "resume")


def test_breach_while_the_next_tier_is_applied_stops_it(station: Station, lease: Lease) -> None:
    station.bake(lease, 5)
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    station.event("cp20", lease, "TIER_INTENT", tier=25)
    station.sample(lease, 5, 3, error_rate="99")
    verdict = station.verdict(lease, 5, 3, "breach")
    for name in station.state.deployments[lease[1]].cohorts[25]:
        station.event("cp20", lease, "INSTANCE_APPLIED", tier=25, instance=name, tree=tree_digest("v2"))
    station.event("cp20", lease, "TIER_APPLIED", tier=25)
    with refused("health_refused"):
        station.event("cp20", lease, "BAKE_STARTED", tier=25)
    station.event("cp20", lease, "HALTED", cause="breach", gate=None, evidence=verdict.digest, text="")


def test_next_bake_begins_its_samples_anew(station: Station, lease: Lease) -> None:
    station.bake(lease, 5)
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    station.sample(lease, 5, 3)
    station.deploy_tier(lease, 25)
    deployment = station.state.deployments[lease[1]]
    assert (deployment.watched_tier, deployment.samples, deployment.whole_samples()) == (25, [], 0)
    with refused("wrong_tier"):
        say_sample(station, lease, 4)
    with refused("wrong_sample"):
        station.verdict(lease, 5, 3)
    station.bake(lease, 25)


def test_sample_without_a_gate_or_with_a_strange_one(station: Station, lease: Lease) -> None:
    station.clock.tick(60)
    for rows in (values()[:1], [*values(), *values()[:1]], values(speed="1"), [values()[0], values()[0]]):
        with refused("bad_values"):
            say_sample(station, lease, 1, rows)
    with refused("bad_format"):
        say_sample(station, lease, 1, values(tes="9e1"))


def test_sample_with_missing_data_does_not_count(station: Station, lease: Lease) -> None:
    station.sample(lease, 5, 1)
    station.sample(lease, 5, 2, tes=None)
    station.verdict(lease, 5, 2)
    with refused("not_baked"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    station.sample(lease, 5, 3)
    station.verdict(lease, 5, 3)
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)


def test_samples_of_the_tier_before_do_not_count(station: Station, lease: Lease) -> None:
    station.bake(lease, 5)
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    station.deploy_tier(lease, 25)
    with refused("not_baked"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=25, to=100)
    station.bake(lease, 25, 1)
    with refused("not_baked"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=25, to=100)


def test_no_data_is_not_health(station: Station, lease: Lease) -> None:
    with refused("not_healthy"):
        station.verdict(lease, 5, 0, "pass")
    station.verdict(lease, 5, 0, "missing")
    with refused("not_baked"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)


def test_verdict_on_an_older_sample(station: Station, lease: Lease) -> None:
    station.bake(lease, 5)
    station.sample(lease, 5, 3, error_rate="99")
    with refused("wrong_sample"):
        station.verdict(lease, 5, 2)
    # The newest verdict passes, and is not of the newest sample.
    with refused("not_healthy"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    with refused("wrong_sample"):
        station.verdict(lease, 25, 3)
    station.verdict(lease, 5, 3, "inconclusive")
    with refused("not_healthy"):
        station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)


@pytest.mark.parametrize("verdict", ["breach", "abort", "missing", "inconclusive"])
def test_anything_but_a_pass_completes_nothing(station: Station, lease: Lease, verdict: str) -> None:
    for tier, to in ((5, 25), (25, 100)):
        station.bake(lease, tier)
        station.event("cp20", lease, "CANARY_PROMOTED", tier=tier, to=to)
        station.deploy_tier(lease, to)
    station.bake(lease, 100)
    station.verdict(lease, 100, 2, verdict)
    lasting = verdict in {"breach", "abort"}
    with refused("health_refused" if lasting else "not_healthy"):
        station.event("cp20", lease, "COMPLETED")
    station.verdict(lease, 100, 2)
    if lasting:
        with refused("health_refused"):
            station.event("cp20", lease, "COMPLETED")
    else:
        station.event("cp20", lease, "COMPLETED")


def test_first_tier_without_a_baseline(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    station.claim(lease)
    station.event("cp20", lease, "STARTED")
    with refused("no_baseline"):
        station.event("cp20", lease, "TIER_INTENT", tier=5)
    with refused("bad_baseline"):
        station.event("cp19", lease, "BASELINE", values=None)
    station.baseline(lease)
    with refused("late_baseline"):
        station.baseline(lease)


def test_baseline_after_the_first_tier(station: Station, lease: Lease) -> None:
    with refused("illegal_transition"):
        station.baseline(lease)
    station.event("cp20", lease, "PAUSED", command=None, cause="test", text="")
    with refused("late_baseline"):
        station.baseline(lease)


def test_baseline_of_a_first_deployment_is_null(station: Station) -> None:
    fields = station.lease_fields("LEASE-20260105-090000", "INT-20260105-090000")
    lease = station.propose(changes=[{**fields["changes"][0], "before": "absent"}])
    station.approve(lease)
    station.take_term()
    station.claim(lease)
    with refused("bad_baseline"):
        station.baseline(lease)
    station.event("cp19", lease, "BASELINE", values=None)


def test_two_bakes_of_one_tier(station: Station, lease: Lease) -> None:
    with refused("illegal_transition"):
        station.event("cp20", lease, "BAKE_STARTED", tier=5)


def test_finished_deployment_keeps_no_samples(station: Station, lease: Lease) -> None:
    station.bake(lease, 5)
    assert len(station.state.deployments[lease[1]].samples) == 2
    station.event("cp20", lease, "HALTED", cause="test", gate=None, evidence=None, text="")
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="test", command=None)
    left = sorted(station.state.deployments[lease[1]].intended)
    station.event("cp20", lease, "ROLLBACK_FAILED", instances=left, text="")
    assert not station.state.deployments[lease[1]].samples


def retained(station: Station, lease: Lease) -> int:
    """Bytes of everything that is kept of a deployment."""
    return len(adapter_of(Deployment).dump_json(station.state.deployments[lease[1]]))


def test_bake_of_a_month_keeps_no_more_than_one_of_an_hour(station: Station, lease: Lease) -> None:
    """A month has 172,800 samples, one every 15 s: the judgement rests on all, and what is kept does not grow."""
    deployment, began = station.state.deployments[lease[1]], station.clock.now
    whole = TierJudge(
        deployment.lease.gates,
        deployment.baseline,
        bake_started_at=began,
        interval_s=15,
        planned=deployment.samples_needed,
    )
    running, kept = RunningJudge(), []
    for n in range(1, 4 * WINDOW + 1):
        station.clock.tick(15)
        # Now and then an interval that was bad, without a request, or without a value.
        rows = values(error_rate=("100", "0", None, "3")[n % 4], tes=None if n % 7 == 0 else str(80 + n % 20))
        rows[0]["requests"] = (3, 0, None, 40)[n % 4]
        say_sample(station, lease, n, rows)
        deployment = station.state.deployments[lease[1]]
        whole.see(deployment.samples[-1])
        assert len(deployment.samples) < 2 * WINDOW
        expected = whole.judge(station.clock.now)
        assert judge_deployment(deployment, station.clock.now) == expected
        assert running.judge(deployment, station.clock.now) == expected
        if len(deployment.samples) == WINDOW:
            kept.append(retained(station, lease))
    assert deployment.earlier is not None
    assert deployment.earlier.count + len(deployment.samples) == 4 * WINDOW
    assert len(kept) == 4
    # Numbers of more digits are all that there is more of.
    assert kept[-1] - kept[1] < 1_000


def test_wait_for_a_word_is_counted_from_the_sample_that_ended_the_bake(station: Station, lease: Lease) -> None:
    for n in range(1, 4):
        station.clock.tick(15)
        say_sample(station, lease, n, values(tes=None) if n == 1 else None)
    deployment = station.state.deployments[lease[1]]
    assert deployment.samples_needed == 2
    assert deployment.baked_at == station.clock.now
    for n in range(4, 2 * WINDOW + 4):
        station.clock.tick(15)
        say_sample(station, lease, n)
    assert deployment.baked_at == station.clock.now - 15 * 2 * WINDOW
