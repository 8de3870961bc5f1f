"""A place that changes its name between two fleets: what works there is still one thing at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from station import Station, fleet, matrix, tree_digest

from keys.errors import LawRefused
from policies.law.two_key import check_two_key

PATHS = {"paths": ["app.py"]}


def renamed(root: str) -> dict[str, Any]:
    """A fleet where `api` has one instance at `root`."""
    return {"targets": {"api": {"instances": [{"name": "api-1", "root": root}]}}}


@pytest.fixture
def station(tmp_path: Path) -> Station:
    made = Station(tmp_path, policy=matrix(tiers=[100], targets={"web": PATHS, "api": PATHS}))
    made.genesis()
    made.enact_fleet(fleet(2))
    return made


def root_of_web(station: Station) -> str:
    assert station.state.fleet is not None
    return station.state.fleet.targets["web"].instances[0].root


def propose_api(station: Station, root: str) -> tuple[str, str]:
    """Bring the other fleet into force, and a lease on `api` under both keys."""
    station.enact_fleet(renamed(root))
    station.clock.tick()
    name, tree = "LEASE-20260105-100000", station.put_tree("v3")
    station.say("cbo", "intent", {"id": "INT-20260105-100000", "target": "api", "what": "a version", "why": "a test"})
    assert station.state.policy is not None
    terms = station.state.policy.deploy_production
    fields = {
        "id": name,
        "intent": "INT-20260105-100000",
        "capability": "deploy_production",
        "target": "api",
        "fleet": station.state.fleet_digest,
        "policy": station.state.policy_digest,
        "rule": "two_key",
        "artifact": {"type": "directory", "sha256": tree.sha256, "size": tree.size},
        "changes": [{"before": tree_digest("v2"), "after": tree.sha256, "instances": ["api-1"]}],
        "paths": ["app.py"],
        "not_before": station.after(0),
        "approve_by": station.after(3600),
        "execute_by": station.after(7200),
        "complete_by": station.after(36_000),
        "tiers": list(terms.tiers),
        "bake_s": terms.bake_s,
        "interval_s": terms.interval_s,
        "gates": [gate.to_json() for gate in terms.gates],
        "start": "auto",
        "promotion": "auto",
        "hooks": {"drain": None, "undrain": None},
        "reason": None,
    }
    lease = name, station.say("cbo", "lease", fields).digest
    station.approve(lease)
    return lease


def test_second_rollout_at_one_place_under_another_target_is_not_claimed(station: Station) -> None:
    first = station.propose()
    station.begin(first)
    root = root_of_web(station)
    second = propose_api(station, root)
    with pytest.raises(LawRefused) as refusal:
        check_two_key(station.state, second[1], station.clock.now)
    assert (refusal.value.code, refusal.value.fields["step"]) == ("target_busy", 8)
    assert first[0] in refusal.value.message


def test_rollout_elsewhere_under_another_fleet_is_claimed(station: Station) -> None:
    station.begin(station.propose())
    station.claim(propose_api(station, "/srv/elsewhere"))
    assert set(station.state.live) == {"web", "api"}


def test_rollback_over_what_came_later_under_another_target_is_superseded(station: Station) -> None:
    first = station.propose()
    station.begin(first)
    station.complete(first)
    second = propose_api(station, root_of_web(station))
    station.claim(second)
    station.baseline(second)
    with pytest.raises(LawRefused) as refusal:
        station.command("ada", first, "rollback")
    assert refusal.value.code == "target_busy"
    station.event("cp20", second, "STARTED")
    station.complete(second)
    with pytest.raises(LawRefused) as refusal:
        station.command("ada", first, "rollback")
    assert refusal.value.code == "superseded"
    assert second[0] in refusal.value.message
