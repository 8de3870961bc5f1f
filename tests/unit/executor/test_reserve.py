"""The reserve for a full disk: real blocks, given up toward safety alone, made again when there is room."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from disk_steps import watch_disk
from fleetsim import Simulation
from msgspec.structs import replace
from station import Station, fleet, matrix, tree_digest

import executor.homes.reserve
from executor.homes.reserve import Reserve
from keys.errors import CalyxError, Exit, LawRefused, Unavailable
from keys.signer import Signer
from ledger.store import DISK_FULL
from policies.event_kinds import Verdict
from policies.fold.deployment import EXECUTOR_EVENTS, FORWARD, MONITOR_EVENTS, Phase
from policies.kinds import Command
from policies.law.safety import EVENTS, leads_back
from policies.submitter import Draft, Receipt

SIZE = 1024 * 1024
OLD = tree_digest("v1")


def test_reserve_is_blocks_and_not_a_hole(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", SIZE)
    reserve.ensure()
    status = (tmp_path / "reserve").stat()
    assert (status.st_size, status.st_blocks * 512 >= SIZE, status.st_mode & 0o777) == (SIZE, True, 0o600)
    before = status.st_ino
    reserve.ensure()
    assert (tmp_path / "reserve").stat().st_ino == before
    assert (reserve.give_up(), reserve.give_up()) == (True, False)


def test_reserve_that_a_loss_of_power_would_take_is_not_counted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system gives blocks when it writes; until then a full disk may have none for it."""
    seen = watch_disk(monkeypatch)
    Reserve(tmp_path / "reserve", SIZE).ensure()
    assert [path for _, path in seen.synced] == [tmp_path / "reserve", tmp_path]


def test_hole_left_by_a_kill_is_filled(tmp_path: Path) -> None:
    with (tmp_path / "reserve").open("wb") as file:
        file.truncate(SIZE)
    Reserve(tmp_path / "reserve", SIZE).ensure()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= SIZE


def test_reserve_is_not_made_of_the_last_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    room = type("Room", (), {"f_bavail": (2 * SIZE - 1) // real.f_frsize, "f_frsize": real.f_frsize})
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    with pytest.raises(Unavailable) as error:
        Reserve(tmp_path / "reserve", SIZE).ensure()
    assert error.value.code == "no_reserve"
    assert not (tmp_path / "reserve").exists()


def test_reserve_that_the_disk_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(executor.homes.reserve, "_fill", full)
    with pytest.raises(Unavailable):
        Reserve(tmp_path / "reserve", SIZE).ensure()
    assert not (tmp_path / "reserve").exists()


def test_only_what_stops_or_takes_back_leads_toward_safety(tmp_path: Path) -> None:
    assert EVENTS.isdisjoint(FORWARD)
    station = Station(tmp_path)
    station.genesis()
    registrar = station.new_registrar()
    registrar.sync()

    def leads(kind: str, **fields: Any) -> bool:
        about = ("LEASE-20260105-090000", "a" * 64) if kind in {"event", "command"} else None
        return leads_back(registrar.draft_statement("cp20", Draft(kind, fields, about)))

    hostile: list[Any] = [["HALTED"], {"HALTED": 1}, None, 1]
    for told in hostile:
        assert not leads("command", verb=told)
        assert not leads("event", detail={"type": told})
        assert not leads("event", detail={"type": "VERDICT", "verdict": told})
    for detail in (None, 1, "HALTED", ["HALTED"]):
        assert not leads("event", detail=detail)
    back = {"PAUSED", "HALTED", "ABORTED", "ROLLBACK_STARTED", "INSTANCE_RESTORED", "ROLLED_BACK", "ROLLBACK_FAILED"}
    every = {*EXECUTOR_EVENTS, *MONITOR_EVENTS, "SANITY"}
    assert {each for each in every if leads("event", detail={"type": each})} == back
    verbs = get_args(get_type_hints(Command)["verb"])
    assert {each for each in verbs if leads("command", verb=each)} == {"pause", "abort", "rollback"}
    verdicts = get_args(get_type_hints(Verdict)["verdict"])
    bad = {each for each in verdicts if leads("event", detail={"type": "VERDICT", "verdict": each})}
    assert bad == {"breach", "abort", "missing"}
    assert leads("term", epoch=1)
    assert not leads("message", text="x")
    assert not leads("intent", id="INT-20260105-001")


def test_word_of_an_order_or_verdict_elsewhere_gives_up_no_reserve(tmp_path: Path) -> None:
    """Whoever writes a message fills the disk as well as anybody."""
    station = Station(tmp_path)
    station.genesis()
    for kind, fields in (
        ("message", {"verb": "pause"}),
        ("intent", {"verb": "rollback"}),
        ("event", {"detail": {"type": "SAMPLE", "verdict": "breach"}}),
        ("event", {"detail": {"type": "COMPLETED", "verdict": "abort"}}),
    ):
        about = ("LEASE-20260105-090000", "a" * 64) if kind == "event" else None
        assert not leads_back(station.registrar.draft_statement("cp20", Draft(kind, fields, about)))


class Room:
    """A reserve in memory."""

    def __init__(self, *, low: bool) -> None:
        self.left, self.is_low = True, low

    def low(self) -> bool:
        return self.is_low

    def give_up(self) -> bool:
        given, self.left = self.left, False
        return given


@pytest.mark.parametrize("low", [True, False])
def test_full_ledger_takes_a_step_toward_safety_and_no_other(tmp_path: Path, low: bool) -> None:
    station = Station(tmp_path)
    station.genesis()
    room = Room(low=low)
    registrar = station.new_registrar(reserve=room)
    append = registrar._append

    def full_until_given_up(*arguments: Any, **options: Any) -> list[Receipt]:
        if room.left:
            raise Unavailable(DISK_FULL, "the disk is full")
        return append(*arguments, **options)

    registrar._append = full_until_given_up  # type: ignore[method-assign]
    said = Draft("message", {"type": "question", "to": None, "reply_to": None, "text": "x"})
    with pytest.raises(Unavailable, match="disk is full"):
        registrar.submit(station.signer("ada"), said)
    assert room.left
    registrar.submit(station.signer("cp20"), Draft("term", {"epoch": 1, "reason": "start"}))
    assert not room.left


@pytest.mark.parametrize("low", [True, False])
@pytest.mark.parametrize("forge", ["signature", "signer"])
def test_forged_step_toward_safety_costs_no_reserve(tmp_path: Path, low: bool, forge: str) -> None:
    station = Station(tmp_path)
    station.genesis()
    room = Room(low=low)
    registrar = station.new_registrar(reserve=room)
    said = station.sign("cp20", Draft("term", {"epoch": 1, "reason": "start"}))
    other = station.sign("cbo", Draft("term", {"epoch": 1, "reason": "start"}))
    forged = replace(said, sig=other.sig) if forge == "signature" else replace(said, keyid=other.keyid)
    for _ in range(2):
        with pytest.raises(CalyxError) as caught:
            registrar.append([forged])
        assert caught.value.code in {"bad_signature", "unknown_key"}
    assert room.left


def test_order_that_stands_in_the_ledger_is_sent_again_and_costs_no_reserve(tmp_path: Path) -> None:
    """Whoever read the ledger has it, signature and all."""
    station = Station(tmp_path)
    station.genesis()
    room = Room(low=True)
    registrar = station.new_registrar(reserve=room)
    said = station.sign("cp20", Draft("term", {"epoch": 1, "reason": "start"}))
    first = station.new_registrar().append([said])
    assert registrar.append([said]) == first
    assert registrar.append([]) == []
    assert room.left


@pytest.mark.parametrize("low", [True, False])
def test_unlawful_step_toward_safety_costs_no_reserve(tmp_path: Path, low: bool) -> None:
    """A stolen key of an agent signs it well enough; it would not be appended on an empty disk either."""
    station = Station(tmp_path)
    station.genesis()
    room = Room(low=low)
    registrar = station.new_registrar(reserve=room)

    def full(*_: object, **__: object) -> list[Receipt]:
        raise Unavailable(DISK_FULL, "the disk is full")

    terms = [("cp14", 1), ("cp20", 7)]
    unlawful = [station.sign(by, Draft("term", {"epoch": epoch, "reason": "start"})) for by, epoch in terms]
    for said in unlawful:
        with pytest.raises(LawRefused):
            registrar.append([said])
    registrar._append = full  # type: ignore[method-assign]
    for said in unlawful:
        with pytest.raises(Unavailable):
            registrar.append([said])
    assert room.left


@pytest.mark.parametrize("found", ["before", "at the commit"])
@pytest.mark.parametrize("at", ["STARTED", "TIER_INTENT", "INSTANCE_APPLIED", "BAKE_STARTED", "COMPLETED"])
def test_step_forward_that_does_not_fit_is_followed_by_steps_back(tmp_path: Path, at: str, found: str) -> None:
    """Also where only the commit finds that the disk is full: then what was read is forgotten, and read again."""
    station = Station(tmp_path, policy=matrix(tiers=[100], bake_s=2, interval_s=1))
    station.genesis()
    station.enact_fleet(fleet(2))
    scene = Simulation(station)
    scene.serve(OLD)
    lease, _ = scene.ask(OLD, ["web-01", "web-02"])
    executor = scene.executor()
    submit, full = executor._registrar.submit, [False]

    def out_of_room(signer: Signer, draft: Draft) -> Receipt:
        told = draft.fields["detail"]["type"] if draft.kind == "event" else ""
        full[0] |= told == at
        if full[0] and told not in EVENTS:
            if found == "at the commit":
                executor._registrar._replay.forget()
            raise Unavailable(DISK_FULL, "the disk is full")
        return submit(signer, draft)

    executor._registrar.submit = out_of_room  # type: ignore[method-assign]
    assert executor.run(until_idle=True) is (Exit.REFUSED if at == "STARTED" else Exit.ROLLED_BACK)
    deployment = station.state.deployments[lease[1]]
    assert deployment.phase is (Phase.ABORTED if at == "STARTED" else Phase.ROLLED_BACK)
    assert deployment.halted_cause == (None if at == "STARTED" else "no_space")
    assert {place.serving for place in scene.hosts.places.values()} == {OLD}


def test_failed_commit_is_not_taken_for_an_empty_ledger(tmp_path: Path) -> None:
    """What was read is forgotten then, for instance when the refusal of another target's lease did not fit: what lives
    is not left alone for that, and what this run ended is still known.
    """
    station = Station(tmp_path, policy=matrix(tiers=[100], bake_s=2, interval_s=1))
    station.genesis()
    station.enact_fleet(fleet(2))
    scene = Simulation(station)
    scene.serve(OLD)
    lease, _ = scene.ask(OLD, ["web-01", "web-02"])
    executor = scene.executor()
    looks: list[bool] = []

    def wait(seconds: float) -> bool:
        if seconds:
            executor._registrar._replay.forget()
            looks.append(executor._idle())
            executor._registrar._replay.forget()
        return scene.wait(seconds)

    executor._wait = wait
    assert executor.run(until_idle=True) is Exit.DONE
    assert station.state.deployments[lease[1]].phase is Phase.COMPLETED
    assert looks
    assert not any(looks)
    executor._registrar._replay.forget()
    assert executor._outcome() is Exit.DONE
