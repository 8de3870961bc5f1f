"""An attack at both doors: at `Registrar.append`, and in the ledger's file for whoever can write to it.

Append and audit have one law. So what append refuses is put past it into a copy of the ledger, chained and covered by a
checkpoint of the true log key, and there every reader must stop at that entry for the same reason.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from claims import claim_fields
from fleetsim import InlinePool, Killer, SimHosts
from governing import propose_trust
from refusal import refused
from station import Station
from typer.testing import CliRunner

from executor.command_line import app
from executor.rollout.run import Executor
from keys.errors import CalyxError, LawRefused, SignatureRefused
from ledger.envelope import Envelope, pae
from ledger.merkle import hash_leaf
from ledger.record import Record, make_record
from ledger.sqlite.store import SqliteStore
from ledger.verified import namespace_of
from policies.law.governance import quorum_progress
from policies.law.two_key import examine_lease
from policies.pin import Pin
from policies.registrar import Registrar
from policies.submitter import Draft

Lease = tuple[str, str]

QUESTION: Final = Draft("message", {"type": "question", "to": None, "reply_to": None, "text": "?"})

_numbers = itertools.count(1)


def approval(subject: Lease, role: str = "approver", review: str | None = None) -> Draft:
    """A cosignature of a lease or proposal."""
    return Draft("cosignature", {"role": role, "review": review}, subject)


def objection(subject: Lease, verb: str = "withdraw") -> Draft:
    """A withdrawal, or a denial."""
    return Draft("objection", {"verb": verb, "reason": "a test"}, subject)


def signed(station: Station, who: str, body: bytes, kind: str) -> Envelope:
    """Bytes of one's choice under a true signature of `who`, made as statements of `kind` are signed."""
    signer = station.signer(who)
    return Envelope(body, signer.keyid, signer.sign(pae(body), namespace_of(kind)))


def claim_of(station: Station, lease: Lease, *counted: int, who: str = "cp20", **changes: Any) -> Envelope:
    """An executor's claim that counts what it is told to, signed and not submitted."""
    fields = {**claim_fields(station.state, lease, *counted), **changes}
    return station.sign(who, Draft("claim", fields, lease))


def approved(station: Station) -> Lease:
    """A lease with both keys under a term: an honest claim of it is lawful."""
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    return lease


def enact(station: Station, *voters: str) -> None:
    """Bring the station's people, as they are now, into force."""
    proposal = propose_trust(station, station.trust(), who=voters[0])
    for voter in voters:
        station.vote(voter, ("trust", proposal.digest), "governor")
    assert station.state.trust_digest == proposal.digest


def standing(station: Station) -> object:
    """Everything that counts: each lease's steps, each proposal's quorum, and what is in force."""
    state, now = station.state, station.clock.now

    def steps(digest: str) -> list[object]:
        return [(result.number, result.ok, result.code, result.text) for result in examine_lease(state, digest, now)]

    return (
        {digest: steps(digest) for digest in state.leases},
        {digest: quorum_progress(state, proposal) for digest, proposal in state.proposals.items()},
        (state.trust_digest, state.policy_digest, state.fleet_digest, state.term),
        {digest: (one.phase, one.counted, one.tier, one.state_leaf) for digest, one in state.deployments.items()},
    )


def repelled(station: Station, envelope: Envelope, code: str, **fields: object) -> None:
    """Append refuses the envelope with this code and these fields; the ledger is as long as before, and nothing counts
    that did not. Past the registrar, the audit names the entry, and every reader stops there for the same reason.
    """
    before, size = standing(station), station.store.head().size
    with pytest.raises(CalyxError) as caught:
        station.append(envelope)
    error = caught.value
    assert error.code == code, f"refused as {error}"
    assert not isinstance(error, LawRefused) or error.rule, "a refusal of the law names its rule"
    for name, value in fields.items():
        assert error.fields.get(name) == value, f"{name} is {error.fields.get(name)!r}"
    assert station.store.head().size == size, "a refused statement was appended"
    assert standing(station) == before, "a refused statement counts"
    with Forced.after(station, envelope) as forced:
        forced.is_unlawful(error)


def appended(station: Station, envelope: Envelope) -> int:
    """Append takes the envelope, and so do the audit and every reader: it is lawful, whatever it counts. Its seq."""
    seq = station.append(envelope).seq
    with Forced.copy(station) as copy:
        report = copy.audit()
        assert report["ok"], report["findings"]
    return seq


def judged(station: Station, envelope: Envelope, code: str | None, **fields: object) -> None:
    """`repelled` with this code; with None, `appended`."""
    if code is None:
        appended(station, envelope)
    else:
        repelled(station, envelope, code, **fields)


@dataclass
class Forced:
    """A copy of a station's ledger in a home of its own; entry `seq` is the first that no registrar took."""

    station: Station
    home: Path
    store: SqliteStore
    seq: int

    @classmethod
    def copy(cls, station: Station) -> Forced:
        """A copy as it stands."""
        home = station.root / f"copy-{next(_numbers)}"
        home.mkdir(mode=0o700)
        (home / "objects").symlink_to(station.root / "objects")
        with (
            closing(sqlite3.connect(station.root / "ledger.db")) as source,
            closing(sqlite3.connect(home / "ledger.db")) as copy,
        ):
            source.backup(copy)
        store = SqliteStore.open(home / "ledger.db")
        return cls(station, home, store, store.head().size)

    @classmethod
    def after(cls, station: Station, envelope: Envelope, *, time: int | None = None) -> Forced:
        """A copy in which an envelope is the newest entry, at the clock's time or the one given."""
        forced = cls.copy(station)
        head = forced.store.head()
        forced.append(make_record(head.size, head.hash, forced.time() if time is None else time, envelope))
        return forced

    @classmethod
    def raw(cls, station: Station, envelope: Envelope, change: Callable[[Any], bytes | None]) -> Forced:
        """A copy whose newest record `change` made from the members of an honest one: in place, or as bytes."""
        forced = cls.copy(station)
        head = forced.store.head()
        record = make_record(head.size, head.hash, forced.time(), envelope)
        members = json.loads(record.data)
        data = change(members) or json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
        leaf = hash_leaf(data).hex()
        forced.append(Record(record.seq, record.prev, record.time, record.seconds, envelope, data, leaf))
        return forced

    def append(self, record: Record) -> None:
        """Write a record and a checkpoint that covers it, as a host with the log key can."""
        self.store.append(self.store.head(), [record], self.station.log_key.sign)

    def time(self) -> int:
        """The clock, and not before the newest record."""
        history = self.station.state.history
        return max(self.station.clock.now, history.time(history.size - 1) if history.size else 0)

    def __enter__(self) -> Forced:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def audit(self) -> Any:
        """What `calyx audit` reports."""
        result = CliRunner().invoke(app, ["audit", "--home", str(self.home), "--json"], catch_exceptions=False)
        report = json.loads(result.stdout)
        assert result.exit_code == (0 if report["ok"] else 1)
        return report

    def is_unlawful(self, error: CalyxError) -> None:
        """The audit and every reader stop at the forced entry, and say what append said (`error`)."""
        report = self.audit()
        found = report["findings"][0]
        assert found["seq"] == self.seq, f"the audit names another entry: {report['findings']}"
        if isinstance(error, SignatureRefused):
            assert found["code"] == error.code
        else:
            rule = f", rule {error.rule}" if isinstance(error, LawRefused) else ""
            step = f", step {error.fields['step']}" if "step" in error.fields else ""
            assert found["code"] == "unlawful_entry"
            assert f"({error.code}{rule}{step})" in found["message"]
        assert report["decided"] == self.seq, "the law was decided past the entry"
        self.stops_every_reader("unlawful_entry", cause=error.code)

    def stops_every_reader(self, code: str, **fields: object) -> None:
        """A command, and the executor through the registrar that would append for it, refuse the ledger at the forced
        entry.
        """
        size = self.store.head().size
        fields = {"entry": self.seq, **fields}
        result = CliRunner().invoke(app, ["status", "--home", str(self.home)], catch_exceptions=False)
        assert result.exit_code == 1
        assert f"error: {code}: " in result.stderr
        with refused(code, **fields):
            self.executor().run(until_idle=True)
        assert self.store.head().size == size, "something was appended after an unlawful entry"

    def registrar(self, pin: Pin | None = None, *, accept_clock: bool = False) -> Registrar:
        """A registrar on this ledger."""
        station = self.station
        return Registrar(
            self.store,
            station.objects,
            station.log_key,
            pin,
            clock=station.clock,
            random=station.random,
            accept_clock=accept_clock,
        )

    def executor(self, pin: Pin | None = None) -> Executor:
        """An executor on this ledger, which fails the test when it touches a host."""
        return Executor(
            self.registrar(pin),
            self.station.signer("cp20"),
            self.station.objects,
            SimHosts(Killer(at=1)),
            _NoMonitor(),
            wait=lambda _: False,
            log=lambda _: None,
            pools=InlinePool,
        )


class _NoMonitor:
    """An executor that stops before any deployment starts no monitor."""

    def ensure(self) -> None:
        raise AssertionError("the executor went on")

    def stop(self) -> None:
        """There is nothing to stop."""
