from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from watching import INTERVAL, NEW, Scene, gate, make_scene

from executor.agents.loop import MANY, Tries, run
from executor.hosts.host import Host
from executor.metrics.gates import judge_deployment
from executor.rollout.decide import Observations, Say, decide
from keys.canonical import parse_json
from keys.errors import CalyxError, Unavailable
from ledger.objects import ObjectRef
from policies.fleet import Instance


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def values(detail: dict[str, Any]) -> dict[str, str | None]:
    return {value["gate"]: value["value"] for value in detail["values"]}


def test_baseline_is_taken_once_before_the_first_tier(scene: Scene) -> None:
    scene.claim()
    scene.act()
    scene.act(1)
    (baseline,) = scene.said()
    assert baseline["type"] == "BASELINE"
    assert values(baseline) == {"error_rate": None, "tes": "90.00"}
    scene.act(INTERVAL)
    scene.restart()
    scene.act(INTERVAL)
    assert len(scene.said()) == 1


def test_baseline_from_absent_is_null(scene: Scene) -> None:
    names = [f"web-{n:02}" for n in range(1, 21)]
    scene.claim(changes=[{"before": "absent", "after": NEW, "instances": names}])
    scene.act()
    assert scene.said() == [{"type": "BASELINE", "values": None}]


def test_baseline_of_a_rate_is_taken_over_an_interval(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, [gate(against="baseline", absolute="10", min_requests=10)])
    scene.world.rates = {f"web-{n:02}": (5, 1) for n in range(1, 21)}
    scene.claim()
    scene.act()
    scene.act(INTERVAL - 1)
    assert scene.said() == []
    scene.act(1)
    assert values(scene.said()[0]) == {"error_rate": "20.00"}


def test_baseline_of_too_few_requests_is_null_after_a_while(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, [gate(against="baseline", absolute="10", min_requests=10, missing_s=40)])
    scene.world.rates.update({f"web-{n:02}": (0, 0) for n in range(2, 21)})
    scene.world.rates["web-01"] = (9, 9)
    scene.claim()
    for _ in range(3):
        scene.act(INTERVAL)
        assert scene.said() == []
    scene.act(INTERVAL)
    assert values(scene.said()[0]) == {"error_rate": None}


def test_one_sample_and_one_verdict_per_interval(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    began = scene.deployment.bake_started_at
    assert [detail["type"] for detail in scene.said()] == ["BASELINE"]
    scene.act(INTERVAL - 1)
    assert len(scene.said()) == 1
    scene.act(1)
    scene.act()
    sample, verdict = scene.said()[1:]
    assert (sample["tier"], sample["n"], values(sample)) == (5, 1, {"error_rate": "0.00", "tes": "90.00"})
    assert sample["values"][0]["requests"] == 100
    assert (verdict["verdict"], verdict["gate"], verdict["n"]) == ("pass", None, 1)
    assert sample["trees"] == [{"tree": NEW, "instances": sorted(scene.deployment.applied)}]
    for n in (2, 3, 4):
        scene.act(INTERVAL)
        assert scene.deployment.samples[-1].n == n
        assert scene.deployment.verdict is not None
        assert scene.deployment.verdict.n == n
    # A score from before the bake says nothing of the new release.
    assert scene.world.since == [None, None, began, began, began, began]


def test_raw_values_are_kept_as_an_object(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    (name,) = scene.deployment.applied
    scene.world.rates[name] = None
    scene.act(INTERVAL)
    raw = scene.said()[1]["raw"]
    kept: Any = parse_json(scene.station.objects.get(ObjectRef(**raw)))
    assert kept["window_s"] == INTERVAL
    assert kept["readings"]["instances"] == {name: {"notes": ["counters: ConnectError"], "values": {}}}


def test_breach_is_said_at_once(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    (name,) = scene.deployment.applied
    scene.world.rates[name] = (100, 11)
    scene.act(INTERVAL)
    assert scene.said()[-1]["verdict"] == "inconclusive"
    scene.world.rates[name] = (100, 40)
    scene.act(INTERVAL)
    verdict = scene.said()[-1]
    assert (verdict["verdict"], verdict["gate"]) == ("breach", "error_rate")
    assert verdict["text"] == "error_rate was above 10 %; now 40.00 %"


def test_value_that_could_not_be_read_is_null_and_never_passes(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    (name,) = scene.deployment.applied
    scene.world.rates[name] = None
    verdicts = []
    for _ in range(4):
        scene.act(INTERVAL)
        verdicts.append(scene.said()[-1]["verdict"])
    assert values(scene.said()[-2]) == {"error_rate": None, "tes": "90.00"}
    assert verdicts == ["inconclusive", "inconclusive", "inconclusive", "missing"]
    assert scene.deployment.whole_samples() == 0


def test_another_tree_on_a_host_aborts(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    (name,) = scene.deployment.applied
    scene.world.trees[name] = "ee" * 32
    scene.act(INTERVAL)
    sample, verdict = scene.said()[-2:]
    assert sample["trees"] == [{"tree": "ee" * 32, "instances": [name]}]
    assert verdict["verdict"] == "abort"
    assert verdict["text"] == f"instance {name} is on eeeeeeeeeeeeeeee, not on the lease's tree"


def test_host_in_an_unknown_state_aborts_and_one_out_of_reach_does_not(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    (name,) = scene.deployment.applied
    scene.world.trees[name] = Unavailable("host_io", "no answer")
    scene.act(INTERVAL)
    sample, verdict = scene.said()[-2:]
    assert sample["trees"] == []
    assert verdict["verdict"] == "pass"
    scene.world.trees[name] = CalyxError("current_unknown", "current leads out of releases")
    scene.act(INTERVAL)
    assert scene.said()[-1]["verdict"] == "abort"


def test_gate_stays_live_while_paused(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    scene.station.command("ada", scene.lease, "pause")
    order = scene.deployment.pause_order
    assert order is not None
    scene.station.event("cp20", scene.lease, "PAUSED", command=order.digest, cause="command", text="paused")
    (name,) = scene.deployment.applied
    scene.world.rates[name] = (10, 10)
    scene.act(INTERVAL)
    assert scene.said()[-1]["verdict"] == "breach"


def test_missed_intervals_are_skipped_and_not_invented(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    scene.act(INTERVAL)
    scene.act(3 * INTERVAL + 5)
    assert [sample.n for sample in scene.deployment.samples] == [1, 4]


def test_restarted_monitor_opens_a_new_window_and_goes_on(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    scene.act(INTERVAL)
    scene.restart()
    scene.act(INTERVAL + 1)
    # It has no left edge for the second interval, and says nothing until it has watched for half of one.
    assert [sample.n for sample in scene.deployment.samples] == [1]
    scene.act(7)
    assert [sample.n for sample in scene.deployment.samples] == [1]
    scene.act(1)
    assert [sample.n for sample in scene.deployment.samples] == [1, 2]
    raw = parse_json(_raw_of(scene))
    assert isinstance(raw, dict)
    assert raw["window_s"] == 8


def test_clock_that_jumps_ahead_makes_no_window_of_an_instant(scene: Scene) -> None:
    """By the clock an hour has passed since the newest sample, and nothing was watched in it."""
    scene.claim()
    scene.bake()
    scene.act(INTERVAL)
    scene.station.clock.tick(3_600)
    reads = scene.world.reads
    scene.act(1)
    assert [sample.n for sample in scene.deployment.samples] == [1]
    assert scene.world.reads == reads
    # The window that was open goes on until it is long enough to say something, and says how long it was.
    scene.act(7)
    assert [sample.n for sample in scene.deployment.samples] == [1, 1 + (3_600 + 8) // INTERVAL]
    raw = parse_json(_raw_of(scene))
    assert isinstance(raw, dict)
    assert raw["window_s"] == 8


def test_clock_that_jumps_ahead_shortens_no_wait_for_a_baseline(scene: Scene) -> None:
    scene.claim()
    scene.world.tes = None
    scene.act()
    scene.station.clock.tick(3_600)
    scene.act(1)
    scene.world.tes = "90"
    assert scene.deployment.baseline is None
    scene.act(INTERVAL - 1)
    assert scene.deployment.baseline is not None


def _raw_of(scene: Scene) -> bytes:
    return scene.station.objects.get(ObjectRef(**scene.said()[-2]["raw"]))


def test_next_tier_begins_with_a_window_of_its_own(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    scene.act(INTERVAL)
    scene.act(INTERVAL)
    scene.station.event("cp20", scene.lease, "CANARY_PROMOTED", tier=5, to=25)
    scene.station.deploy_tier(scene.lease, 25)
    for name in scene.deployment.applied:
        scene.world.trees[name] = NEW
    scene.act(3)
    reads = scene.world.reads
    scene.act(INTERVAL)
    newest = scene.deployment.samples[-1]
    assert (newest.tier, newest.n) == (25, 1)
    assert scene.world.reads == reads + 1
    assert newest.values["error_rate"] == (Decimal(0), 500)


def test_tier_is_watched_while_the_next_one_is_applied(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    (name,) = scene.deployment.applied
    scene.act(INTERVAL)
    scene.act(INTERVAL)
    scene.station.event("cp20", scene.lease, "CANARY_PROMOTED", tier=5, to=25)
    scene.act(INTERVAL)
    scene.station.event("cp20", scene.lease, "TIER_INTENT", tier=25)
    first, second, *_ = scene.deployment.cohorts[25]
    scene.station.event("cp20", scene.lease, "INSTANCE_APPLIED", tier=25, instance=first, tree=NEW)
    scene.world.trees[first] = NEW
    # What restarts for the next tier is no trouble of this one.
    scene.world.rates |= {first: None, second: (10, 10)}
    scene.act(INTERVAL)
    sample, verdict = scene.said()[-2:]
    assert (sample["tier"], sample["n"], verdict["verdict"]) == (5, 4, "pass")
    assert sample["trees"] == [{"tree": NEW, "instances": [name]}]
    assert sample["values"][0]["requests"] == 100
    scene.world.rates[name] = (100, 90)
    scene.act(INTERVAL)
    assert (scene.said()[-1]["tier"], scene.said()[-1]["verdict"]) == (5, "breach")
    action = decide(scene.station.state, scene.deployment, Observations(), scene.station.clock.now)
    assert isinstance(action, Say)
    assert (action.detail["type"], action.detail["cause"]) == ("HALTED", "breach")


def test_rest_of_the_fleet_is_what_no_tier_has_touched(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, [gate(against="rest", absolute="50", limit="5")])
    scene.claim()
    scene.bake()
    scene.act(INTERVAL)
    scene.act(INTERVAL)
    scene.station.event("cp20", scene.lease, "CANARY_PROMOTED", tier=5, to=25)
    scene.station.event("cp20", scene.lease, "TIER_INTENT", tier=25)
    scene.act(INTERVAL)
    (value,) = scene.said()[-2]["values"]
    assert (value["requests"], value["rest_requests"]) == (100, 1500)


def test_verdict_is_what_a_reader_computes_from_the_ledger(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    (name,) = scene.deployment.applied
    for rate in ((100, 0), None, (0, 0), (100, 50)):
        scene.world.rates[name] = rate
        scene.act(INTERVAL)
        said = scene.said()[-1]
        made_at = scene.statements()[-1].made_at
        computed = judge_deployment(scene.deployment, made_at)
        assert (computed.verdict, computed.gate, computed.text) == (said["verdict"], said["gate"], said["text"])


def test_rest_of_the_fleet_is_in_the_sample(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, [gate(against="rest", absolute="50", limit="5")])
    scene.world.rates = {f"web-{n:02}": (100, 10) for n in range(1, 21)}
    scene.claim()
    scene.bake()
    scene.act(INTERVAL)
    (value,) = scene.said()[-2]["values"]
    assert (value["value"], value["rest"]) == ("10.00", "10.00")
    (name,) = scene.deployment.applied
    assert (value["requests"], value["rest_requests"]) == (100, 1900)
    scene.world.rates[name] = (100, 60)
    scene.act(INTERVAL)
    verdict = scene.said()[-1]
    assert (verdict["verdict"], verdict["text"]) == (
        "breach",
        "error_rate was above 15.00 % (10.00 % on the rest of the fleet); now 60.00 %",
    )


def test_ended_and_halted_deployments_are_left_alone(scene: Scene) -> None:
    scene.claim()
    scene.bake()
    scene.station.event("cp20", scene.lease, "HALTED", cause="breach", gate=None, evidence=None, text="")
    size = scene.station.state.size
    scene.act(10 * INTERVAL)
    assert scene.station.state.size == size


def test_full_disk_does_not_blind_the_monitor(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.claim()
    scene.bake()

    def full(data: bytes) -> None:
        raise Unavailable("object_write_failed", "no space left on device")

    monkeypatch.setattr(scene.station.objects, "put", full)
    scene.act(INTERVAL)
    assert scene.said()[-2]["raw"] is None
    assert scene.said()[-1]["verdict"] == "pass"


def test_source_with_a_defect_is_tried_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.claim()
    scene.bake()

    def broken(instance: Instance) -> Host:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(scene.monitor, "_hosts", broken)
        scene.act(INTERVAL)
    assert scene.deployment.samples == []
    assert "internal_error: ZeroDivisionError" in scene.lines[-1]
    scene.act(INTERVAL)
    assert [sample.n for sample in scene.deployment.samples] == [2]


class Once:
    def __init__(self, error: CalyxError | None) -> None:
        self.error = error
        self.acts = 0

    def act(self, state: object) -> None:
        self.acts += 1
        if self.error is not None:
            raise self.error


def test_loop_goes_on_after_an_outage_and_stops_when_told(scene: Scene) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 9

    agent = Once(Unavailable("ledger_busy", "later"))
    run(agent, scene.station.registrar, wait=wait, log=scene.lines.append)
    assert agent.acts == 9
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert scene.lines[0] == "ledger_busy: later; trying again in 1 s"


@pytest.mark.parametrize(
    "code", ["head_contradicted", "unlawful_entry", "broken_chain", "ledger_corrupt", "tip_mismatch"]
)
def test_loop_stops_on_a_ledger_that_contradicts_itself(scene: Scene, code: str) -> None:
    with pytest.raises(CalyxError) as caught:
        run(Once(CalyxError(code, "")), scene.station.registrar, wait=lambda _: False, log=scene.lines.append)
    assert caught.value.code == code


def test_failures_that_nobody_tries_again_are_forgotten() -> None:
    now = [0.0]
    tries = Tries(lambda: now[0], lambda _: None)

    def fail() -> None:
        raise Unavailable("host_io", "it does not answer")

    for number in range(3 * MANY):
        tries.run(f"lease {number}", "a lease", fail)
        now[0] += 1
    assert len(tries._later) <= MANY
