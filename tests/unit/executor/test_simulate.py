"""`calyx policy simulate`: recordings, what is made of them, and that CP19 says the same."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from console import Console
from station import GATES, matrix
from watching import INTERVAL, Scene, gate, make_scene

from executor.metrics.gates import RunningJudge, judge_deployment
from executor.metrics.recording import Recorder, Recording, read_recording
from executor.metrics.simulate import HALTING, Simulation, simulate
from keys.errors import FormatError
from policies.fold.deployment import SampleNote
from policies.matrix import CapabilityMatrix, DeployProduction
from policies.replay import Replay

START = 1_790_000_000  # 2026-09-21T14:13:20Z
HEADER = "timestamp,requests,errors,tes"


def policy(gates: list[dict[str, Any]] | None = None, **changes: Any) -> DeployProduction:
    built = CapabilityMatrix.from_json(matrix(gates=gates or GATES, bake_s=60)).deploy_production
    return built.model_copy(update=changes)


def csv(*rows: tuple[Any, ...], header: str = HEADER, every: int = INTERVAL) -> str:
    lines = [",".join(map(str, (START + n * every, *row))) for n, row in enumerate(rows)]
    return "\n".join([header, *lines, ""])


def run(text: str, terms: DeployProduction | None = None, name: str = "metrics.csv", **columns: str) -> Simulation:
    return simulate(terms or policy(), read_recording(name, text, columns))


def outcomes(simulation: Simulation) -> list[tuple[int, str, str | None, int]]:
    return [(tier.tier, tier.outcome, tier.gate, tier.samples) for tier in simulation.tiers]


GOOD, BAD = (100, 1, 90), (100, 60, 90)


def test_healthy_metrics_pass_tier_after_tier() -> None:
    simulation = run(csv(*[GOOD] * 10))
    assert outcomes(simulation) == [(1, "passed", None, 4), (2, "passed", None, 4), (3, "unfinished", None, 1)]
    assert simulation.halted == 0
    assert simulation.tiers[1].began == START + 4 * INTERVAL


def test_trouble_halts_the_tier_that_it_falls_into_once() -> None:
    simulation = run(csv(*[GOOD] * 6, *[BAD] * 2, *[GOOD] * 5))
    assert outcomes(simulation) == [(1, "passed", None, 4), (2, "halted", "error_rate", 2), (3, "passed", None, 4)]
    halted = simulation.tiers[1]
    assert halted.ended == START + 6 * INTERVAL
    (errors,) = [one for one in halted.gates if one.gate == "error_rate"]
    assert (errors.state, errors.first_bad, errors.counts["breach"]) == ("breach", halted.ended, 1)


def test_tiers_of_a_recorded_rollout_are_judged_against_the_row_before_the_first() -> None:
    rows = [(0, 100, 0, 95), *[(5, 100, 0, 95)] * 4, *[(25, 100, 0, 89)] * 4]
    simulation = run(csv(*rows, header="timestamp,tier,requests,errors,tes"))
    assert outcomes(simulation) == [(5, "passed", None, 4), (25, "halted", "tes", 1)]


def test_value_that_was_not_recorded_goes_missing() -> None:
    simulation = run(csv(GOOD, GOOD, *[(100, 1, "")] * 10))
    (tier, *_) = simulation.tiers
    assert (tier.outcome, tier.verdict, tier.gate) == ("halted", "missing", "tes")


def test_hole_in_the_recording_is_missing_data() -> None:
    text = csv(GOOD, GOOD) + f"{START + 3600},100,1,90\n"
    (tier,) = run(text).tiers
    assert (tier.outcome, tier.verdict, tier.gate, tier.samples) == ("halted", "missing", None, 1)


def test_no_traffic_never_passes() -> None:
    (tier,) = run(csv(*[(0, 0, 90)] * 40)).tiers
    assert (tier.outcome, tier.verdict, tier.whole) == ("unfinished", "inconclusive", 0)


def test_gate_whose_source_was_not_recorded_is_left_out_and_named() -> None:
    simulation = run(csv(*[(90,)] * 5, header="timestamp,tes"))
    assert simulation.left_out == ("error_rate",)
    assert [gate.gate for gate in simulation.tiers[0].gates] == ["tes"]


def test_rows_more_often_than_the_interval_are_joined() -> None:
    # 30 of 100 requests of each interval fail, in rows of five seconds.
    rows = [(100, 1, 90), *[(40, 30, 90), (30, 0, 90), (30, 0, 90)] * 4]
    simulation = run(csv(*rows, every=5))
    (tier, *_) = simulation.tiers
    assert tier.gates[0].text == "error_rate was above 10 %; now 30.00 %"


def test_rest_of_the_fleet_is_compared_with() -> None:
    against = [gate(against="rest", absolute="10", limit="5", min_requests=0)]
    header = "timestamp,requests,errors,rest_requests,rest_errors"
    shared = run(csv(*[(100, 40, 1900, 760)] * 5, header=header), policy(against))
    assert outcomes(shared) == [(1, "passed", None, 4)]
    alone = run(csv(*[(100, 40, 1900, 19)] * 5, header=header), policy(against))
    assert outcomes(alone)[0][1:3] == ("halted", "error_rate")


def test_json_lines_and_other_names_of_columns() -> None:
    lines = [
        json.dumps(
            {"iso_ts": f"2026-09-21T14:{13 + n}:20Z", "requests": 100, "error_rate": 0.5, "tes": "91.25", "x": [1]}
        )
        for n in range(6)
    ]
    terms = policy(interval_s=60, bake_s=240)
    simulation = run("\n".join(lines), terms, "agent.jsonl", timestamp="iso_ts")
    assert outcomes(simulation)[0] == (1, "passed", None, 4)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("timestamp,tes\n", "there is no row with a value in it"),
        ("timestamp,mode\n1,a\n", "there is no row with a value in it"),
        ("timestamp,tes\n1,2,3\n", "line 2: it has 3 cells instead of 2"),
        ("timestamp,tes,tes\n", "line 1: a column stands twice"),
        ("tes\n90\n", "line 2: it has no timestamp"),
        ("timestamp,tes\n5,90\n5,90\n", "line 3: its time is not after that of the row before it"),
        ("timestamp,tes\n5,ninety\n", "line 2: tes is not a number"),
        ("timestamp,tes\n5,1e5\n", "line 2: tes is not a number"),
        ("timestamp,requests,errors\n5,10,11\n", "line 2: errors are not a part of requests"),
        ("timestamp,requests,errors\n5,1.5,1\n", "line 2: requests is not a count"),
        ("timestamp,requests,errors\n5,-1,-1\n", "line 2: requests is not a count"),
        ("timestamp,tier,tes\n5,101,90\n", "line 2: tier is not a whole number from 0 to 100"),
        ("timestamp,tier,tes\n5,5,90\n6,,90\n", "line 3: tier is not a whole number from 0 to 100"),
        ("timestamp,tier,tes\n5,0,90\n", "every row is from before the first tier"),
        ('timestamp,tes\n5,"90\n', "line 2: not CSV: unexpected end of data"),
    ],
)
def test_recording_that_two_readers_could_read_differently_is_refused(text: str, why: str) -> None:
    with pytest.raises(FormatError) as caught:
        run(text)
    assert caught.value.message == why


def test_rows_of_which_some_have_a_tier_are_refused() -> None:
    lines = '{"timestamp":1,"tes":90,"tier":5}\n{"timestamp":2,"tes":90}\n'
    with pytest.raises(FormatError, match="either each row has a tier or none"):
        run(lines, name="metrics.jsonl")


@pytest.mark.parametrize("line", ["[1]", "{", '{"timestamp":1,"timestamp":2}', '{"timestamp":1,"tes":NaN}'])
def test_line_that_is_no_object_of_numbers_is_refused(line: str) -> None:
    with pytest.raises(FormatError):
        run(line, name="metrics.jsonl")


def recorded(scene: Scene) -> Recording:
    recorder = Recorder(scene.lease[1])
    Replay(scene.station.store, scene.station.objects, None, recorder.observe).sync()
    return recorder.recording()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("against", ["absolute", "baseline", "rest"])
def test_cp19_and_simulate_say_the_same(tmp_path: Path, against: str, seed: int) -> None:
    random = Random(f"{against}{seed}")
    absolute = None if against == "absolute" else "15"
    gates = [gate(against=against, absolute=absolute, min_requests=20, missing_s=40), GATES[1]]
    scene = make_scene(tmp_path, gates)
    scene.claim()
    scene.world.rates = {f"web-{n:02}": (50, 2) for n in range(1, 21)}
    scene.bake()
    (name,) = scene.deployment.applied
    for _ in range(12):
        lost = random.random() < 0.15
        scene.world.rates[name] = None if lost else (random.choice((0, 5, 60)), random.choice((0, 0, 1, 5)))
        scene.world.tes = random.choice(("90", "90", "91.5", None))
        scene.act(random.choice((INTERVAL, INTERVAL, 2 * INTERVAL)))
    said = [detail for detail in scene.said() if detail["type"] == "VERDICT"]
    samples = [detail for detail in scene.said() if detail["type"] == "SAMPLE"]
    terms = policy(gates, bake_s=30)
    (tier,) = simulate(terms, recorded(scene)).tiers
    whole = 0
    for verdict, sample in zip(said, samples, strict=True):
        whole += all(value["value"] is not None for value in sample["values"])
        if verdict["verdict"] in HALTING or (verdict["verdict"] == "pass" and whole >= tier.needed):
            break
    assert (tier.verdict, tier.gate, tier.text) == (verdict["verdict"], verdict["gate"], verdict["text"])
    assert (tier.samples, tier.whole) == (said.index(verdict) + 1, whole)


def test_long_bake_costs_each_verdict_its_newest_sample_alone(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    scene.claim()
    scene.bake()
    judge, reads = RunningJudge(), 0
    for _ in range(4):
        scene.act(INTERVAL)
        deployment = scene.deployment
        samples = CountingList(deployment.samples)
        deployment.samples = samples
        said = judge.judge(deployment, scene.station.clock.now)
        deployment.samples = list(samples)
        reads += samples.read
        assert said == judge_deployment(deployment, scene.station.clock.now)
    assert reads == 4


class CountingList(list[SampleNote]):
    read = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.read += len(found) if isinstance(key, slice) else 0
        return found


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    return Console(tmp_path, monkeypatch)


def write(console: Console, name: str, text: str) -> str:
    (console.root / name).write_text(text)
    return str(console.root / name)


def test_command_says_what_would_have_been_halted(console: Console) -> None:
    terms = write(console, "policy.json", json.dumps(matrix(gates=GATES, bake_s=60)))
    good, bad = (write(console, f"{n}.csv", csv(*[GOOD] * 4, row, GOOD)) for n, row in enumerate((GOOD, BAD)))
    said = console.run("policy", "simulate", terms, good)
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0] == (
        "tier 1, from 2026-09-21T14:13:20Z: passed after 60 s, 4 of 4 whole samples: every gate passes"
    )
    assert said.out.splitlines()[-1] == "2 tiers: 1 passed, 0 would have been halted"
    said = console.run("policy", "simulate", terms, bad, "--json")
    assert said.code == 1
    assert (said.json["halted"], said.json["left_out"]) == (1, [])
    assert said.json["tiers"][0]["gate"] == "error_rate"


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        ([], 2, "nothing_recorded"),
        (["metrics.csv", "--lease", "LEASE-20260105-090000"], 2, "nothing_recorded"),
        (["absent.csv"], 2, "file_unreadable"),
        (["metrics.csv", "--column", "time=iso_ts"], 2, "unknown_field"),
        (["metrics.csv", "--column", "timestamp"], 2, "bad_option"),
        (["metrics.csv"], 1, "bad_recording"),
        (["--lease", "LEASE-20260105-090000"], 5, "ledger_missing"),
    ],
)
def test_command_refuses_what_it_cannot_replay(console: Console, arguments: list[str], code: int, error: str) -> None:
    terms = write(console, "policy.json", json.dumps(matrix(gates=GATES)))
    write(console, "metrics.csv", csv(GOOD))
    console.monkeypatch.chdir(console.root)
    said = console.run("policy", "simulate", terms, *arguments)
    assert (said.code, said.err.split(":")[1].strip()) == (code, error)
