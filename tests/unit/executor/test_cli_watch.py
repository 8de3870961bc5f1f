"""What `calyx watch` and `calyx inbox` say of a deployment, at each of its turns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from rich.console import Console as Screen
from station import Station, fleet, new_station, tree_digest

from executor.commands.watch import _headline, _lines, _Looks, _objects, _picture, _plain, _View, _wait_for_claim
from executor.render.text import shown_distance
from executor.rollout.decide import Observations, Say, decide
from executor.views.deeds import list_deeds
from executor.views.progress import Progress, measure_progress
from executor.views.waiting import awaited_order, list_waiting
from keys.errors import LawRefused
from policies.replay import Replay


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def progress(station: Station, lease: tuple[str, str]) -> Progress:
    return measure_progress(station.state.deployments[lease[1]], station.clock.now)


def test_bake_shows_its_gates_and_the_time_left(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    assert progress(station, lease).left_s == 30
    station.sample(lease, 5, 1, error_rate="7.5")
    station.verdict(lease, 5, 1)
    now = progress(station, lease)
    assert (now.phase, now.tier, now.samples, now.left_s) == ("BAKING", 5, (1, 2), 15)
    assert [tier.state for tier in now.tiers] == ["baking", "waiting", "waiting"]
    rows = {gate.gate: (gate.value, gate.baseline, gate.limit) for gate in now.gates}
    assert rows == {"error_rate": ("7.5", "", "10"), "tes": ("90", "90", "85")}
    assert "1 of 2 samples, 15 s of the bake left" in _headline(now)
    assert "  tier 5 %: baking, 1 new" in _lines(now)


def test_time_left_is_that_of_the_samples_that_lack(station: Station) -> None:
    # Nobody looked while the executor was down: that time is not baked.
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.clock.tick(100)
    assert progress(station, lease).left_s == 15
    for n in (6, 7):
        station.sample(lease, 5, n)
        assert progress(station, lease).left_s == 0
        station.clock.tick(15)


def test_failed_way_back_says_why(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.event("cp20", lease, "HALTED", cause="failed", gate=None, evidence=None, text="no answer")
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="failed", command=None)
    deployment = station.state.deployments[lease[1]]
    station.event("cp20", lease, "ROLLBACK_FAILED", instances=sorted(deployment.intended), text="Read-only file system")
    last = list_deeds(station.state, deployment, station.store)[-1]
    assert (last.did, last.text) == ("said ROLLBACK_FAILED", "Read-only file system")


def test_halt_names_its_cause_and_its_gate(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.sample(lease, 5, 1, tes="50")
    verdict = station.verdict(lease, 5, 1, "breach")
    station.event("cp20", lease, "HALTED", cause="breach", gate="tes", evidence=verdict.digest, text="50")
    now = progress(station, lease)
    assert now.note == "halted at tier 5 %: breach: 50"
    assert {gate.gate: gate.state for gate in now.gates}["tes"] == "breach"
    assert not now.ended


def test_end_claims_nothing_of_what_runs_today(station: Station) -> None:
    # A later deployment may have changed every instance, or a machine may have lost its service.
    lease = station.propose()
    station.begin(lease)
    station.complete(lease)
    assert progress(station, lease).note == "every instance came to the new tree"


def test_end_still_says_why_it_was_halted(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.event("cp20", lease, "HALTED", cause="failed", gate=None, evidence=None, text="instance web-1: no answer")
    assert progress(station, lease).note == "halted at tier 5 %: failed: instance web-1: no answer"


def test_end_shows_no_gate_that_nobody_judges_any_more(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.complete(lease)
    now = progress(station, lease)
    assert (now.ended, now.gates, now.left_s) == (True, (), None)
    assert {state for tier in now.tiers for state in tier.instances.values()} == {"new"}


def test_claim_that_waits_for_its_start_is_in_the_inbox(station: Station) -> None:
    lease = station.propose(start="command")
    station.approve(lease)
    station.take_term()
    station.claim(lease)
    waiting = list_waiting(station.state, "ada", station.clock.now)
    assert [item.command for item in waiting] == [f"calyx start {lease[0]}"]
    station.command("ada", lease, "start")
    assert list_waiting(station.state, "ada", station.clock.now) == []


def test_tier_that_passed_waits_for_its_promotion_and_not_before(station: Station) -> None:
    lease = station.propose(promotion="manual")
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.bake(lease, 5, 1)
    assert awaited_order(station.state.deployments[lease[1]]) is None
    station.sample(lease, 5, 2)
    assert awaited_order(station.state.deployments[lease[1]]) is None
    station.verdict(lease, 5, 2)
    assert awaited_order(station.state.deployments[lease[1]]) == ("promote", "tier 5 % passed and waits to be promoted")
    station.command("ada", lease, "promote")
    assert awaited_order(station.state.deployments[lease[1]]) is None


def test_last_tier_waits_for_the_same_word_as_the_executor(station: Station) -> None:
    lease = station.propose(promotion="manual", tiers=[5, 25, 100])
    station.begin(lease)
    for tier, following in ((5, 25), (25, 100)):
        station.deploy_tier(lease, tier)
        station.bake(lease, tier)
        station.command("ada", lease, "promote")
        station.event("cp20", lease, "CANARY_PROMOTED", tier=tier, to=following)
    station.deploy_tier(lease, 100)
    station.bake(lease, 100)
    deployment = station.state.deployments[lease[1]]
    action = decide(station.state, deployment, Observations(), station.clock.now)
    completes = isinstance(action, Say) and action.detail.get("type") == "COMPLETED"
    assert (awaited_order(deployment) is None) == completes


def test_wait_for_a_promotion_does_not_end_with_each_sample_until_its_verdict(station: Station) -> None:
    lease = station.propose(promotion="manual")
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.sample(lease, 5, 1)
    station.verdict(lease, 5, 1)
    station.sample(lease, 5, 2)
    # The bake has all of its samples, and nobody has said what the last one means.
    assert awaited_order(station.state.deployments[lease[1]]) is None
    station.verdict(lease, 5, 2)
    waits = awaited_order(station.state.deployments[lease[1]])
    assert waits is not None
    assert waits[0] == "promote"
    station.sample(lease, 5, 3)
    assert awaited_order(station.state.deployments[lease[1]]) == waits
    station.verdict(lease, 5, 3, "inconclusive")
    assert awaited_order(station.state.deployments[lease[1]]) is None
    station.sample(lease, 5, 4)
    assert awaited_order(station.state.deployments[lease[1]]) is None


def test_pause_is_in_the_inbox_of_whoever_can_resume(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    order = station.command("ada", lease, "pause")
    station.event("cp20", lease, "PAUSED", command=order.digest, cause="command", text="")
    waiting = list_waiting(station.state, "ben", station.clock.now)
    assert [(item.text, item.command) for item in waiting] == [("paused by ada", f"calyx resume {lease[0]}")]


def test_picture_takes_no_markup_from_a_name(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    screen = Screen(width=200, record=True, file=(station.root / "screen").open("w"))
    try:
        deployment = station.state.deployments[lease[1]]
        screen.print(_picture(_View(progress(station, lease), list_deeds(station.state, deployment, station.store))))
    finally:
        screen.file.close()
    text = screen.export_text()
    assert "BAKING at 5 %" in text
    assert "web-" in text
    assert "error_rate" in text
    assert "ada (approver) approved it, entry" in text


def test_lease_that_is_not_claimed_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    station = new_station(tmp_path)
    lease = station.propose()
    replay = Replay(station.store, station.objects, None)
    replay.sync()

    def approve_and_claim(_: float) -> None:
        station.approve(lease)
        station.take_term()
        station.claim(lease)

    monkeypatch.setattr("executor.homes.home.system_clock", station.clock)
    monkeypatch.setattr("executor.commands.watch.time.sleep", approve_and_claim)
    _wait_for_claim(replay, lease[1], once=False, as_json=False)
    assert lease[1] in replay.state.deployments
    assert "open, step 5: no human approver's key" in capsys.readouterr().out


@pytest.mark.parametrize("as_json", [False, True])
def test_lease_that_was_denied_is_told_and_not_waited_for(
    station: Station, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    lease = station.propose()
    station.say("ada", "objection", {"verb": "deny", "reason": "no"}, lease)
    replay = Replay(station.store, station.objects, None)
    replay.sync()
    monkeypatch.setattr("executor.homes.home.system_clock", station.clock)
    with pytest.raises(LawRefused, match="is denied and was not claimed") as refused:
        _wait_for_claim(replay, lease[1], once=False, as_json=as_json)
    assert (refused.value.code, refused.value.exit_code) == ("not_claimed", 1)
    said = capsys.readouterr().out
    if as_json:
        told = {"lease_id": lease[0], "note": "by ada in entry 5", "state": "denied", "target": "web"}
        assert json.loads(said) == told
    else:
        assert said == f"{lease[0]} on web: denied, by ada in entry 5\n"


def test_lease_that_another_fleet_made_void_is_told_and_not_waited_for(
    station: Station, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = station.propose()
    station.approve(lease)
    station.enact_fleet(fleet(5))
    replay = Replay(station.store, station.objects, None)
    replay.sync()
    monkeypatch.setattr("executor.homes.home.system_clock", station.clock)
    monkeypatch.setattr("executor.commands.watch.time.sleep", lambda _: pytest.fail("it is waited for"))
    with pytest.raises(LawRefused, match="is void and was not claimed") as refused:
        _wait_for_claim(replay, lease[1], once=False, as_json=False)
    assert (refused.value.code, refused.value.exit_code) == ("not_claimed", 1)
    assert "void, step 2: another fleet is in force since entry" in capsys.readouterr().out


def test_lease_that_it_is_too_late_to_approve_is_told_and_not_waited_for(
    station: Station, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    until = station.after(600)
    lease = station.propose(approve_by=until)
    station.clock.tick(601)
    replay = Replay(station.store, station.objects, None)
    replay.sync()
    monkeypatch.setattr("executor.homes.home.system_clock", station.clock)
    monkeypatch.setattr("executor.commands.watch.time.sleep", lambda _: pytest.fail("it is waited for"))
    with pytest.raises(LawRefused, match="is expired and was not claimed"):
        _wait_for_claim(replay, lease[1], once=False, as_json=False)
    assert f"approval was possible until {until}" in capsys.readouterr().out


@pytest.mark.parametrize("as_json", [False, True])
def test_one_look_at_a_lease_that_waits_is_no_failure(
    station: Station, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    lease = station.propose()
    replay = Replay(station.store, station.objects, None)
    replay.sync()
    monkeypatch.setattr("executor.homes.home.system_clock", station.clock)
    with pytest.raises(typer.Exit) as ended:
        _wait_for_claim(replay, lease[1], once=True, as_json=as_json)
    assert ended.value.exit_code == 0
    said = capsys.readouterr().out
    assert "step 5: no human approver's key" in said
    assert not as_json or json.loads(said)["state"] == "open"


def test_everyone_who_did_something_is_named_with_their_role_and_words(
    station: Station, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = station.propose(start="command", promotion="manual", tiers=[5, 25, 100])
    station.approve(lease)
    station.vote("ben", lease, "approver")
    station.take_term()
    station.claim(lease)
    station.baseline(lease)
    station.command("ben", lease, "start", reason="all are at their desks")
    station.event("cp20", lease, "STARTED")
    station.deploy_tier(lease, 5)
    station.bake(lease, 5)
    station.command("ada", lease, "promote", reason="")
    station.event("cp20", lease, "CANARY_PROMOTED", tier=5, to=25)
    station.deploy_tier(lease, 25)
    order = station.command("ada", lease, "pause", reason="a look at the database\x1b[31m")
    station.event("cp20", lease, "PAUSED", command=order.digest, cause="command", text="")
    station.sample(lease, 25, 1, tes="50")
    station.verdict(lease, 25, 1, "breach")
    station.command("ben", lease, "abort", reason="enough")
    monkeypatch.setattr("executor.homes.home.system_clock", station.clock)
    replay = Replay(station.store, station.objects, None)
    replay.sync()
    _plain(_Looks(replay, station.store, lease[1]), once=True)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    deeds = [line.split("Z ", 1)[1].split(", entry")[0] for line in said.splitlines() if ", entry " in line]
    assert deeds == [
        "cbo (proposer) asked for it",
        "ada (approver) approved it",
        "cp14 (sentinel) approved it",
        "ben (approver) approved it, and was not counted",
        "cp20 (executor) claimed it",
        "ben (approver, operator) ordered start",
        "ada (approver, operator) ordered promote from 5 %",
        "ada (approver, operator) ordered pause",
        "cp19 (monitor) found a breach at 25 %",
        "ben (approver, operator) ordered abort",
    ]
    assert ": all are at their desks" in said
    # One look shows all that there is to see of each gate, and each instance.
    assert "(value 50, limit 85, compared with 90)" in said
    assert "web-01 " in said
    assert "s of the bake left" in said


def test_distance_of_no_time_is_now() -> None:
    assert [shown_distance(seconds) for seconds in (-1, 0, 1)] == ["1 s ago", "now", "in 1 s"]


def test_program_reads_one_object_for_each_change(
    station: Station, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = station.propose()
    station.begin(lease)
    replay = Replay(station.store, station.objects, None)
    replay.sync()
    turns: Iterator[Callable[[], object]] = iter(
        [
            lambda: None,
            lambda: station.deploy_tier(lease, 5),
            lambda: station.event("cp20", lease, "HALTED", cause="abort", gate=None, evidence=None, text="enough"),
            lambda: station.event("cp20", lease, "ROLLBACK_STARTED", cause="abort", command=None),
            lambda: [
                station.event(
                    "cp20",
                    lease,
                    "INSTANCE_RESTORED",
                    instance=name,
                    tree=tree_digest("v1"),
                    rebuilt=False,
                    warning=None,
                )
                for name in station.state.deployments[lease[1]].intended
            ],
            lambda: station.event("cp20", lease, "ROLLED_BACK"),
        ]
    )
    monkeypatch.setattr("executor.commands.watch.time.sleep", lambda _: next(turns)())
    _objects(_Looks(replay, station.store, lease[1]), once=False)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["state"] for each in said] == [
        "DEPLOYING", "BAKING", "HALTED", "ROLLING_BACK", "ROLLING_BACK", "ROLLED_BACK"
    ]  # fmt: skip
    assert said[-1]["live"] is False
    assert said[-1]["deeds"][-1]["did"] == "said ROLLED_BACK"
    assert {each["lease_id"] for each in said} == {lease[0]}
