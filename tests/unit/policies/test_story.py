"""The main story of the law, told through the registrar."""

from __future__ import annotations

from pathlib import Path

import pytest
from station import Station, new_station

from policies.fold.deployment import Phase
from policies.replay import Replay


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def test_a_deployment_under_both_keys_completes(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.complete(lease)
    deployment = station.state.deployments[lease[1]]
    assert deployment.phase is Phase.COMPLETED
    assert deployment.tiers == (5, 25, 100)
    assert [len(names) for names in deployment.cohorts.values()] == [1, 4, 15]
    assert not station.state.live
    replayed = Replay(station.store, station.objects, None).sync()
    assert replayed.deployments[lease[1]].phase is Phase.COMPLETED


def test_a_breach_leads_back(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.sample(lease, 5, 1, error_rate="33.3")
    verdict = station.verdict(lease, 5, 1, "breach")
    station.event("cp20", lease, "HALTED", cause="breach", gate="error_rate", evidence=verdict.digest, text="33 %")
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="breach", command=None)
    deployment = station.state.deployments[lease[1]]
    for name in deployment.intended:
        station.event(
            "cp20", lease, "INSTANCE_RESTORED", instance=name, tree=deployment.before[name], rebuilt=False, warning=None
        )
    station.event("cp20", lease, "ROLLED_BACK")
    assert station.state.deployments[lease[1]].phase is Phase.ROLLED_BACK
