"""An order from another machine while the ledger's disk is full: it takes the reserve, as one given there does."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from refusal import refused
from remoting import Remote
from station import Station, new_station

from executor.commands.serve import _HomeDesk
from executor.homes.home import Home
from executor.homes.reserve import Reserve
from executor.remote.frames import Channel
from executor.remote.server import Server
from ledger import durable
from ledger.log_key import store_log_key
from policies.submitter import Draft


@pytest.fixture
def station(tmp_path: Path) -> Station:
    root = tmp_path / "home"
    root.mkdir(mode=0o700)
    return new_station(root)


@pytest.fixture
def remote(station: Station, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A person elsewhere, and a home where no head can be remembered while there is a reserve."""
    home = Home(station.root)
    home.make()
    store_log_key(home.log_key, station.log_key)
    person = Remote(station)
    reserve, replace = station.root / "reserve", durable.replace_file
    remembered = sha256(str(station.root.resolve()).encode()).hexdigest()

    def full(path: Path, *rest: Any) -> None:
        if path.stem == remembered and reserve.exists():
            raise OSError(28, "No space left on device")
        replace(path, *rest)

    def serve(channel: Channel) -> None:
        with Home(station.root) as place:
            Server(channel, _HomeDesk(place, read_only=False), person.said.append).run()

    monkeypatch.setattr("ledger.memory.replace_file", full)
    monkeypatch.setattr("executor.homes.home.system_clock", station.clock)
    monkeypatch.setattr(Reserve, "low", lambda _: True)
    reserve.touch()
    person.serve = serve
    return person


def order(station: Station, verb: str, lease: tuple[str, str]) -> Draft:
    state = station.state.deployments[lease[1]].state_leaf if verb == "resume" else None
    fields = {"verb": verb, "expires_at": station.after(600), "state": state, "tier": None, "skip_bake": False}
    return Draft("command", {**fields, "reason": "a test"}, lease)


def test_order_toward_safety_takes_the_reserve(station: Station, remote: Remote) -> None:
    lease = station.propose()
    station.begin(lease)
    with remote.home() as home:
        remote.open_registrar(home).submit(station.signer("ada"), order(station, "pause", lease))
    assert station.state.deployments[lease[1]].pause_order is not None
    assert not (station.root / "reserve").exists()
    remembered = Home(station.root).pin().load()
    assert remembered is not None
    assert remembered.head == station.store.head()


def test_what_leads_on_or_is_not_lawful_takes_no_reserve(station: Station, remote: Remote) -> None:
    """Whoever may connect could use it up, and nothing could be taken back any more."""
    lease, other = station.propose(), ("LEASE-20260105-235959", "a" * 64)
    station.begin(lease)
    station.command("ada", lease, "pause")
    said = [("ada", order(station, "resume", lease)), ("cp14", order(station, "pause", lease))]
    said += [("ada", Draft("command", order(station, "pause", lease).fields, other))]
    for who, draft in said:
        with remote.home() as home, refused("memory_full"):
            remote.open_registrar(home).submit(station.signer(who), draft)
    assert (station.root / "reserve").exists()
