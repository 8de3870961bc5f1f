"""Attacks with time between processes: a no that races the claim, and what is sent again after a restart."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from assault import Forced, Lease, appended, approval, approved, claim_of, objection, repelled
from racing import Racer, Round, race, sealed
from refusal import refused
from station import Station, new_station

from ledger.envelope import Envelope
from ledger.sqlite.store import SqliteStore
from policies.auditing.audit import audit
from policies.replay import Replay

RACES = 60
LEADS = (0.0, 0.004, 0.001)
"""Seconds by which one or the other is held back in turn, so that both orders are met whatever the machine does."""


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def copies(station: Station, count: int) -> list[Path]:
    """The station's ledger so many times."""
    found = []
    for number in range(count):
        path = station.root / f"race-{number:02}.db"
        with closing(sqlite3.connect(station.root / "ledger.db")) as source, closing(sqlite3.connect(path)) as copy:
            source.backup(copy)
        found.append(path)
    return found


def test_withdrawal_or_denial_racing_a_claim(station: Station) -> None:
    """Two processes, many ledgers: either the no comes first and nothing is claimed, or the claim does and the no is
    refused. Never both, never neither.
    """
    lease = approved(station)
    size = station.state.size
    rounds = []
    for number, path in enumerate(copies(station, RACES)):
        verb = ("withdraw", "deny")[number % 2]
        lead = LEADS[number % 3]
        no = Racer("ada", "human", verb, lead_s=lead if number % 6 < 3 else 0.0)
        claim = Racer("cp20", "executor", "claim", lead_s=lead if number % 6 >= 3 else 0.0)
        rounds.append(Round(path, lease, (no, claim)))
    outcomes = race(station, rounds)
    orders = set()
    for number, (one, (no_got, claim_got)) in enumerate(zip(rounds, outcomes, strict=True)):
        with SqliteStore.open(one.ledger, read_only=True) as store:
            assert number % 10 or audit(store, station.objects, remembered=None).ok
            state = Replay(store, station.objects, None).sync()
        known = state.leases[lease[1]]
        said_no = bool(known.ballot.withdrawals) or known.denied is not None
        assert state.size == size + 1
        unmet = "lease_denied" if one.racers[0].says == "deny" else "quorum_unmet"
        assert (no_got, claim_got) in {("ok", unmet), ("lease_consumed", "ok")}
        assert said_no == (no_got == "ok")
        assert (known.claim_seq is not None) == (claim_got == "ok") == bool(state.deployments)
        orders.add(no_got)
    assert orders == {"ok", "lease_consumed"}, "only one order was met: the race proves less than it says"


def test_two_claims_of_one_lease_at_once(station: Station) -> None:
    """Two executors' processes under one term each: one claims, the other is fenced or finds it claimed."""
    lease = approved(station)
    rounds = [
        Round(path, lease, (Racer("cp20", "executor", "claim"), Racer("cp20b", "executor", "claim")))
        for path in copies(station, 6)
    ]
    for one, outcome in zip(rounds, race(station, rounds), strict=True):
        assert outcome == ["ok", "fenced"]
        with SqliteStore.open(one.ledger, read_only=True) as store:
            assert len(Replay(store, station.objects, None).sync().deployments) == 1


def test_one_approval_sent_by_two_processes_at_once(station: Station) -> None:
    lease = station.propose()
    vote = sealed(station.sign("ada", approval(lease)))
    racers = (Racer("ada", "human", "approve", envelope=vote), Racer("ben", "human", "approve", envelope=vote))
    rounds = [Round(path, lease, racers) for path in copies(station, 6)]
    for one, outcome in zip(rounds, race(station, rounds), strict=True):
        assert outcome == ["ok", "ok"]
        with SqliteStore.open(one.ledger, read_only=True) as store:
            state = Replay(store, station.objects, None).sync()
            assert state.size == station.state.size + 1
            assert len(state.leases[lease[1]].ballot.votes) == 1


def restarted(station: Station, lease: Lease, envelope: Envelope) -> tuple[int, str]:
    """Send an envelope from a process that was started for it; the ledger's size after, and what it got."""
    ((outcome,),) = race(
        station,
        [Round(station.root / "ledger.db", lease, (Racer("ada", "human", "replay", envelope=sealed(envelope)),))],
    )
    return station.state.size, outcome


def test_replay_after_restart(station: Station) -> None:
    """A new process knows only the ledger, and that is enough: before and after the withdrawal, and after the claim."""
    lease = station.propose()
    vote, leaked = station.sign("ada", approval(lease)), station.sign("ada", approval(lease))
    station.append(vote)
    size = station.state.size
    assert restarted(station, lease, vote) == (size, "ok")
    station.review("cp14", lease)
    station.take_term()
    withdrawn = station.append(station.sign("ada", objection(lease)))
    # The entry that it made is named, and it stays withdrawn.
    assert restarted(station, lease, vote) == (withdrawn.seq + 1, "ok")
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=5)
    # One that was held back comes in, and does not stand.
    assert restarted(station, lease, leaked) == (withdrawn.seq + 2, "ok")
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=5)
    station.vote("ben", lease, "approver")
    votes = {v.signer.principal: v.seq for v in station.state.leases[lease[1]].ballot.votes}
    late = station.sign("ada", approval(lease))
    appended(station, claim_of(station, lease, votes["cp14"], votes["ben"]))
    size = station.state.size
    assert restarted(station, lease, vote) == (size, "ok")
    assert restarted(station, lease, late) == (size, "lease_consumed")
    repelled(station, late, "lease_consumed", rule="claim")


def test_claim_replayed_after_its_deployment_ended(station: Station) -> None:
    lease = approved(station)
    claim = claim_of(station, lease)
    first = station.append(claim)
    station.event("cp20", lease, "ABORTED", cause="test", text="")
    size = station.state.size
    assert station.append(claim) == first
    assert station.state.size == size
    with Forced.after(station, claim) as forced:
        forced.stops_every_reader("unlawful_entry", cause="repeated")


def test_head_remembered_before_a_restart_outlives_it(station: Station) -> None:
    """A ledger that is put back to an earlier state, while nobody ran, is refused by whoever runs next."""
    lease = station.propose()
    before = copies(station, 1)[0]
    station.append(station.sign("ada", objection(lease, "deny")))
    remembered = station.memory.load(str(station.root))
    assert remembered is not None
    assert remembered.size == station.state.size
    station.store.close()
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (station.root / name).unlink(missing_ok=True)
    before.replace(station.root / "ledger.db")
    station.store = SqliteStore.open(station.root / "ledger.db")
    with refused("head_contradicted"):
        station.new_registrar().sync()
