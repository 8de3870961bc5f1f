"""The executor against a real registrar and law, on a fleet in memory: orders, halts, refusals, takeovers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fleetsim import Simulation
from station import Station, fleet, matrix, tree_digest

from executor.hosts.host import Check
from executor.logbook import Line
from executor.rollout.claim import MAX_TOLD, RETRY_S
from executor.rollout.effects import Outcome, Step
from executor.rollout.speaker import Speaker
from executor.trees.tree import make_tree
from keys.errors import CalyxError, Exit, FormatError, LawRefused
from policies.fleet import Instance
from policies.fold.deployment import Phase
from policies.fold.state import State
from policies.kinds import ABSENT
from policies.law.two_key import VerifiedLease, check_two_key

NAMES = ["web-01", "web-02", "web-03", "web-04"]
OLD = tree_digest("v1")


class Scene(Simulation):
    """A simulation with one lease under both keys."""

    lease: tuple[str, str]
    new: str


def begin(root: Path, *, before: str = OLD, name: str = "LEASE-20260105-090000", **terms: Any) -> Scene:
    station = Station(root, policy=matrix(**{"tiers": [50, 100], "bake_s": 2, "interval_s": 1, **terms}))
    station.genesis()
    station.enact_fleet(fleet(len(NAMES)))
    scene = Scene(station)
    assert station.state.fleet is not None
    for instance in station.state.fleet.targets["web"].instances:
        place = scene.hosts.place(instance)
        if before != ABSENT:
            place.current = place.serving = before
            place.releases.add(before)
    new = make_tree([], ())
    station.objects.put(new.manifest)
    scene.new = new.digest
    scene.lease = station.propose(
        name,
        artifact={"type": "directory", "sha256": new.digest, "size": len(new.manifest)},
        changes=[{"before": before, "after": new.digest, "instances": NAMES}],
    )
    station.approve(scene.lease)
    return scene


def phase(scene: Scene) -> Phase:
    return scene.station.state.deployments[scene.lease[1]].phase


def trees(scene: Scene) -> set[str]:
    return {place.current for place in scene.hosts.places.values()}


def order_at(scene: Scene, tier: int, verb: str, **changes: Any) -> None:
    """Have a person give an order when a tier bakes."""
    monitor = scene.monitor

    def speak() -> None:
        deployment = scene.station.state.deployments[scene.lease[1]]
        baking = deployment.phase is Phase.BAKING and deployment.tier == tier
        if baking and not any(note.verb == verb for note in deployment.commands):
            scene.station.command("ben", scene.lease, verb, **changes)
        monitor()

    scene.monitor = speak  # type: ignore[method-assign]  # a person beside the monitor


def test_first_deployment_from_absent_completes_and_serves(tmp_path: Path) -> None:
    scene = begin(tmp_path, before=ABSENT)
    assert scene.run() is Exit.DONE
    assert phase(scene) is Phase.COMPLETED
    assert {place.serving for place in scene.hosts.places.values()} == {scene.new}


def test_bad_first_deployment_goes_back_to_absent(tmp_path: Path) -> None:
    scene = begin(tmp_path, before=ABSENT)
    scene.bad[scene.new] = "breach"
    assert scene.run() is Exit.ROLLED_BACK
    assert trees(scene) == {ABSENT}
    assert {place.serving for place in scene.hosts.places.values()} == {None}


@pytest.mark.parametrize("verb", ["abort", "rollback"])
def test_order_during_a_bake_takes_everything_back(tmp_path: Path, verb: str) -> None:
    scene = begin(tmp_path)
    order_at(scene, 50, verb)
    assert scene.run() is Exit.ROLLED_BACK
    assert trees(scene) == {OLD}
    assert scene.station.state.deployments[scene.lease[1]].halted_cause == verb


def test_abort_before_the_start_touches_nothing(tmp_path: Path) -> None:
    scene = begin(tmp_path, start="command")
    scene.silent = True
    executor = scene.executor()
    waited = 0

    def wait(seconds: float) -> bool:
        nonlocal waited
        waited += seconds > 0
        if seconds and waited == 3:
            scene.station.command("ada", scene.lease, "abort")
        return scene.wait(seconds)

    executor._wait = wait
    assert executor.run(until_idle=True) is Exit.REFUSED
    assert phase(scene) is Phase.ABORTED
    assert trees(scene) == {OLD}
    assert not any("flip" in name or "stage" in name for name in scene.killer.names)


def test_lease_that_another_fleet_made_void_is_none_that_may_still_be_claimed(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    scene.station.enact_fleet(fleet(len(NAMES) + 1))
    executor = scene.executor()
    assert executor.run(until_idle=True) is Exit.DONE
    assert executor._claims.open == 0


def test_pause_holds_until_resumed_and_gates_stay_live(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    order_at(scene, 50, "pause")
    monitor = scene.monitor

    def breach_while_paused() -> None:
        if phase(scene) is Phase.PAUSED:
            scene.bad[scene.new] = "breach"
        monitor()

    scene.monitor = breach_while_paused  # type: ignore[method-assign]
    assert scene.run() is Exit.ROLLED_BACK
    assert trees(scene) == {OLD}


def test_pause_that_nobody_ends_is_over_when_the_deployment_must_be_complete(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    order_at(scene, 50, "pause")
    wait = scene.wait

    def next_day(seconds: float) -> bool:
        deployment = scene.station.state.deployments.get(scene.lease[1])
        if deployment is not None and deployment.phase is Phase.PAUSED:
            scene.station.clock.tick(86_400)
        return wait(seconds)

    executor = scene.executor()
    executor._wait = next_day
    assert executor.run(until_idle=True) is Exit.ROLLED_BACK
    assert trees(scene) == {OLD}
    assert scene.station.state.deployments[scene.lease[1]].halted_cause == "complete_by_passed"


def test_resume_goes_on(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    order_at(scene, 50, "pause")
    monitor = scene.monitor

    def resume() -> None:
        deployment = scene.station.state.deployments.get(scene.lease[1])
        if deployment is not None and deployment.phase is Phase.PAUSED and deployment.pause_order is not None:
            scene.station.command("ben", scene.lease, "resume")
        monitor()

    scene.monitor = resume  # type: ignore[method-assign]
    assert scene.run() is Exit.DONE
    assert trees(scene) == {scene.new}


def test_manual_promotion_waits_for_the_order(tmp_path: Path) -> None:
    scene = begin(tmp_path, promotion="manual")
    monitor = scene.monitor
    waited = 0

    def promote() -> None:
        nonlocal waited
        deployment = scene.station.state.deployments.get(scene.lease[1])
        if deployment is not None and deployment.phase is Phase.BAKING and deployment.tier == 50:
            waited += 1
            if waited == 10:
                scene.station.command("ben", scene.lease, "promote")
        monitor()

    scene.monitor = promote  # type: ignore[method-assign]
    assert scene.run() is Exit.DONE
    assert waited >= 10


def test_silent_monitor_is_missing_data_and_halts(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    monitor = scene.monitor

    def fall_silent() -> None:
        deployment = scene.station.state.deployments.get(scene.lease[1])
        if deployment is None or deployment.phase is not Phase.BAKING:
            monitor()

    scene.monitor = fall_silent  # type: ignore[method-assign]
    assert scene.run() is Exit.ROLLED_BACK
    assert scene.station.state.deployments[scene.lease[1]].halted_cause == "missing"
    assert trees(scene) == {OLD}


def test_instance_that_drifted_halts_the_rollout(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    monitor = scene.monitor

    def drift() -> None:
        deployment = scene.station.state.deployments.get(scene.lease[1])
        if deployment is not None and deployment.tier == 50:
            # Someone changes an instance of the last tier by hand.
            scene.hosts.places[deployment.cohorts[100][0]].current = tree_digest("by hand")
        monitor()

    scene.monitor = drift  # type: ignore[method-assign]
    assert scene.run() is Exit.ROLLED_BACK
    assert scene.station.state.deployments[scene.lease[1]].halted_cause == "drift"


def test_instance_that_fails_to_start_takes_the_rollout_back(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    scene.hosts.fail["reload", "web-02"] = "service_start_failed"
    first = scene.executor()
    original = first._restore_one

    def mend_then_restore(step: Step) -> Outcome:
        scene.hosts.fail.clear()
        return original(step)

    first._restore_one = mend_then_restore  # type: ignore[method-assign]
    assert first.run(until_idle=True) is Exit.ROLLED_BACK
    assert scene.station.state.deployments[scene.lease[1]].halted_cause == "failed"
    assert trees(scene) == {OLD}


def test_defect_that_an_instance_finds_takes_the_rollout_back(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    settle = scene.hosts.settle

    def stumble(instance: Instance, tree: str, check: Check | None = None) -> None:
        if tree == scene.new:
            raise ValueError("no \x1b[31mCalyxError")
        settle(instance, tree, check)

    scene.hosts.settle = stumble  # type: ignore[method-assign]  # a library that hostile bytes break
    assert scene.run() is Exit.ROLLED_BACK
    deployment = scene.station.state.deployments[scene.lease[1]]
    assert deployment.halted_cause == "failed"
    assert trees(scene) == {OLD}
    assert "\x1b" not in "".join(scene.log)


def test_rollback_that_fails_is_never_called_rolled_back(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    scene.bad[scene.new] = "breach"
    touched: list[str] = []
    monitor = scene.monitor

    def break_a_host() -> None:
        deployment = scene.station.state.deployments.get(scene.lease[1])
        if deployment is not None and deployment.tier == 50 and not touched:
            touched.append(deployment.cohorts[50][0])
            scene.hosts.fail["flip", touched[0]] = "host_io"
        monitor()

    scene.monitor = break_a_host  # type: ignore[method-assign]
    assert scene.run() is Exit.ROLLBACK_FAILED
    assert phase(scene) is Phase.ROLLBACK_FAILED
    levels = {line.facts.get("event"): line.facts.get("level") for line in scene.log if isinstance(line, Line)}
    assert (levels["HALTED"], levels["ROLLBACK_FAILED"], levels["STARTED"]) == ("warning", "error", None)
    # A person mends the host and orders it again.
    scene.hosts.fail.clear()
    scene.monitor = monitor  # type: ignore[method-assign]
    scene.station.command("ada", scene.lease, "rollback")
    assert scene.run() is Exit.ROLLED_BACK
    assert trees(scene) == {OLD}


def test_event_that_the_law_refused_is_told_as_a_refusal_and_as_no_event(tmp_path: Path) -> None:
    """Whoever reads the log's `event` believes that the entry is there."""
    scene = begin(tmp_path)
    station, name = scene.station, scene.lease[0]
    speaker = Speaker(station.registrar, station.signer("cp20"), scene.log.append)
    speaker.take_over()
    assert speaker.say(scene.lease, {"type": "COMPLETED"}) is None
    line = scene.log[-1]
    assert isinstance(line, Line)
    assert line.facts == {"level": "warning", "lease_id": name, "code": "not_claimed"}


def test_order_in_the_ledger_waits_for_an_executor_however_long_that_takes(tmp_path: Path) -> None:
    """Its expiry is for who holds it back on its way there; a person who was told its entry need not order again."""
    scene = begin(tmp_path)
    scene.station.take_term()
    scene.station.claim(scene.lease)
    scene.station.command("ada", scene.lease, "abort", expires_at=scene.station.after(60))
    scene.station.clock.tick(600)
    assert scene.run() is Exit.REFUSED
    assert phase(scene) is Phase.ABORTED
    assert scene.station.state.deployments[scene.lease[1]].abort_order is not None


def test_completed_deployment_is_rolled_back_by_command(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    assert scene.run() is Exit.DONE
    scene.station.command("ada", scene.lease, "rollback")
    assert scene.run() is Exit.ROLLED_BACK
    assert trees(scene) == {OLD}


def test_swapped_artifact_is_refused_before_the_claim(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    path = scene.station.root / "objects" / scene.new[:2] / scene.new[2:]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"v1", b"v2"))
    assert scene.run() is Exit.REFUSED
    state = scene.station.state.leases[scene.lease[1]]
    assert [code for _, code, _ in state.preflight] == ["object_mismatch"]
    assert state.claim_seq is None
    # Another executor meets the same problem and does not repeat it in the ledger.
    assert scene.run("cp20b") is Exit.REFUSED
    assert len(scene.station.state.leases[scene.lease[1]].preflight) == 1


def test_lease_without_an_agent_key_is_not_claimed(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    other = scene.station.propose("LEASE-20260105-090001", changes=[
        {"before": OLD, "after": scene.new, "instances": NAMES}
    ], artifact={"type": "directory", "sha256": scene.new, "size": 17})  # fmt: skip
    scene.station.vote("ada", other, "approver")
    scene.station.say("ada", "objection", {"verb": "deny", "reason": "not this one"}, scene.lease)
    assert scene.run() is Exit.DONE
    assert not scene.station.state.deployments


def test_executor_of_an_older_term_is_fenced_out(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    old = scene.executor("cp20")
    old._take_over()
    scene.executor("cp20b")._take_over()
    with pytest.raises(LawRefused) as refusal:
        while True:
            old._round()
            scene.wait(1)
    assert refusal.value.code == "fenced"
    assert trees(scene) == {OLD}


def test_moved_base_is_named_and_consumes_nothing(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    scene.hosts.places["web-03"].current = tree_digest("other")
    assert scene.run() is Exit.REFUSED
    ((_, code, text),) = scene.station.state.leases[scene.lease[1]].preflight
    assert code == "base_moved"
    assert "web-03" in text


def test_reason_against_a_lease_is_told_when_it_changes_and_not_without_end(tmp_path: Path) -> None:
    """What stands last is what people see; a host that flaps does not fill the ledger."""
    scene = begin(tmp_path)
    executor = scene.executor()
    executor._take_over()
    artifact = scene.station.root / "objects" / scene.new[:2] / scene.new[2:]
    hidden = tmp_path / "hidden"
    scene.hosts.places["web-03"].current = tree_digest("other")

    def told() -> list[str]:
        for _ in range(5):
            executor._round()
        scene.station.clock.tick(RETRY_S + 1)
        scene.station.registrar.sync()
        return [code for _, code, _ in scene.station.state.leases[scene.lease[1]].preflight]

    assert [told(), told()] == [["base_moved"]] * 2
    artifact.rename(hidden)
    assert [told(), told()] == [["base_moved", "object_missing"]] * 2
    hidden.rename(artifact)
    assert told() == ["base_moved", "object_missing", "base_moved"]
    for _ in range(MAX_TOLD):
        artifact.rename(hidden)
        told()
        hidden.rename(artifact)
        told()
    assert len(told()) == MAX_TOLD


def test_instance_that_stands_in_the_way_next_is_named_although_the_reason_is_the_same(tmp_path: Path) -> None:
    """A person who mends the first one would look at it for ever."""
    scene = begin(tmp_path)
    executor = scene.executor()
    executor._take_over()
    other = tree_digest("other")

    def told() -> list[str]:
        for _ in range(5):
            executor._round()
        scene.station.clock.tick(RETRY_S + 1)
        scene.station.registrar.sync()
        return [text.partition(":")[0] for _, _, text in scene.station.state.leases[scene.lease[1]].preflight]

    first = scene.hosts.places["web-01"]
    first.current = scene.hosts.places["web-03"].current = other
    assert [told(), told()] == [["instance web-01"]] * 2
    # The same one on yet another tree is no news.
    first.current = tree_digest("third")
    assert told() == ["instance web-01"]
    first.current = OLD
    assert [told(), told()] == [["instance web-01", "instance web-03"]] * 2


def test_broken_ledger_stops_the_executor(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    executor = scene.executor()
    executor._registrar.sync()
    with scene.station.store._connection as connection:
        connection.execute("UPDATE record SET data = x'00' WHERE seq = 3")
    with pytest.raises(CalyxError):
        scene.executor("cp20b").run(until_idle=True)


def test_long_wait_for_the_order_to_start_is_no_silence(tmp_path: Path) -> None:
    scene = begin(tmp_path, start="command")
    monitor = scene.monitor
    waited = 0

    def start_late() -> None:
        nonlocal waited
        waited += 1
        deployment = scene.station.state.deployments.get(scene.lease[1])
        if deployment is not None and waited == 300:
            scene.station.command("ada", scene.lease, "start")
        if waited > 305:
            monitor()

    scene.monitor = start_late  # type: ignore[method-assign]
    assert scene.run() is Exit.DONE


def test_lease_whose_claim_fits_no_record_does_not_stop_the_executor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = begin(tmp_path)

    def too_large(*_: object) -> dict[str, Any]:
        raise FormatError("a record is over the limit", code="too_large")

    monkeypatch.setattr("executor.rollout.claim.claim_fields", too_large)
    assert scene.run() is Exit.REFUSED
    state = scene.station.state.leases[scene.lease[1]]
    assert state.claim_seq is None
    assert [code for _, code, _ in state.preflight] == ["too_large"]
    monkeypatch.undo()
    scene.station.clock.tick(60)
    assert scene.run() is Exit.DONE


def test_preflight_that_was_mended_is_no_refusal_in_the_end(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    scene.hosts.fail["inspect", "web-03"] = "host_io"
    executor = scene.executor()
    executor._take_over()
    while phase_or_none(scene) is not Phase.COMPLETED:
        executor._round()
        scene.wait(1)
        if scene.station.state.leases[scene.lease[1]].preflight:
            scene.hosts.fail.clear()
    assert executor._outcome() is Exit.DONE


def test_lease_that_waits_is_judged_once_a_second_and_an_expired_one_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = begin(tmp_path)
    waiting = scene.station.propose("LEASE-20260105-090001")
    for person in ("ada", "ben"):
        scene.station.vote(person, waiting, "approver")
    scene.station.say("ada", "objection", {"verb": "deny", "reason": "not this one"}, scene.lease)
    judged: list[str] = []

    def count(state: State, digest: str, now: int) -> VerifiedLease:
        judged.append(digest)
        return check_two_key(state, digest, now)

    monkeypatch.setattr("executor.rollout.claim.check_two_key", count)
    executor = scene.executor()
    executor._take_over()
    for _ in range(10):
        executor._round()
    assert judged == [waiting[1]]
    scene.station.clock.tick()
    executor._round()
    assert len(judged) == 2
    scene.station.clock.tick(7200)
    executor._round()
    assert len(judged) == 2


def phase_or_none(scene: Scene) -> Phase | None:
    deployment = scene.station.state.deployments.get(scene.lease[1])
    return None if deployment is None else deployment.phase


def test_slow_host_keeps_no_order_waiting(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    scene.pools = ThreadPoolExecutor
    working, go_on = threading.Event(), threading.Event()
    stage = scene.hosts.stage

    def slow_stage(instance: Any, plan: Any) -> None:
        working.set()
        assert go_on.wait(60)
        stage(instance, plan)

    scene.hosts.stage = slow_stage  # type: ignore[method-assign]
    executor = scene.executor()

    def wait(seconds: float) -> bool:
        deployment = scene.station.state.deployments.get(scene.lease[1])
        if seconds and deployment is not None and working.is_set():
            if not deployment.commands:
                scene.station.command("ada", scene.lease, "abort")
            elif deployment.phase is Phase.ROLLING_BACK:
                # Halted while the host still works; the way back waits for it, and for nothing else.
                go_on.set()
        elif seconds:
            working.wait(0.01)
        return scene.wait(seconds)

    scene.patience = 20_000
    executor._wait = wait
    assert executor.run(until_idle=True) is Exit.ROLLED_BACK
    assert go_on.is_set()
    assert trees(scene) == {OLD}


def test_instance_that_hangs_on_its_way_forward_keeps_no_other_from_going_back(tmp_path: Path) -> None:
    scene = begin(tmp_path, tiers=[100])
    scene.pools = ThreadPoolExecutor
    hangs, go_on = threading.Event(), threading.Event()
    reload = scene.hosts.reload
    first: list[str] = []

    def slow_reload(instance: Any, fence: Any, check: Any = None) -> None:
        if scene.hosts.places[instance.name].current == scene.new and (not first or first == [instance.name]):
            first.append(instance.name)
            hangs.set()
            assert go_on.wait(60)
        reload(instance, fence, check)

    scene.hosts.reload = slow_reload  # type: ignore[method-assign]
    executor = scene.executor()
    alone: list[set[str]] = []

    def wait(seconds: float) -> bool:
        deployment = scene.station.state.deployments.get(scene.lease[1])
        if seconds and deployment is not None and hangs.is_set() and not go_on.is_set():
            if not deployment.commands:
                scene.station.command("ada", scene.lease, "abort")
            elif len(deployment.restored) == len(deployment.intended) - 1:
                alone.append(deployment.intended - deployment.restored)
                go_on.set()
        elif seconds:
            hangs.wait(0.01)
        return scene.wait(seconds)

    scene.patience = 20_000
    executor._wait = wait
    assert executor.run(until_idle=True) is Exit.ROLLED_BACK
    assert alone == [{first[0]}]
    assert trees(scene) == {OLD}
    assert not any("refused" in line for line in scene.log)


def test_lease_withdrawn_during_its_preflight_is_not_waited_for(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    scene.pools = ThreadPoolExecutor
    looking, go_on = threading.Event(), threading.Event()
    inspect = scene.hosts.inspect

    def slow_inspect(instance: Any) -> Any:
        looking.set()
        assert go_on.wait(60)
        return inspect(instance)

    scene.hosts.inspect = slow_inspect  # type: ignore[method-assign]
    executor = scene.executor()
    waits = 0

    def wait(seconds: float) -> bool:
        nonlocal waits
        if not seconds:
            return False
        assert looking.wait(60)
        waits += 1
        if waits == 1:
            scene.station.say("ada", "objection", {"verb": "withdraw", "reason": "not yet"}, scene.lease)
        if waits == 3:
            go_on.set()
        return waits > 100

    executor._wait = wait
    assert executor.run(until_idle=False) is Exit.DONE
    assert executor._idle()
    assert not scene.station.state.deployments


def test_breach_that_nobody_acted_on_is_not_taken_back_by_a_later_pass(tmp_path: Path) -> None:
    scene = begin(tmp_path)
    executor = scene.executor()
    executor._take_over()
    executor._round()
    while phase_or_none(scene) is not Phase.BAKING:
        scene.wait(0.1)
        executor._round()
    # The executor is down; the monitor sees a breach, and then a day of good health.
    scene.station.sample(scene.lease, 50, 1)
    scene.station.verdict(scene.lease, 50, 1, "breach")
    for n in (2, 3, 4):
        scene.station.sample(scene.lease, 50, n)
        scene.station.verdict(scene.lease, 50, n)
    scene.silent = True
    assert scene.run("cp20b") is Exit.ROLLED_BACK
    assert trees(scene) == {OLD}
    assert scene.station.state.deployments[scene.lease[1]].halted_cause == "breach"
