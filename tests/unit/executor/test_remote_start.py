"""A home elsewhere of which this user has read much is read on from there, and nothing is believed that is not here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from refusal import refused
from remoting import Remote, copy_of
from station import Station, new_station

from executor.homes.snapshots import keep_fold
from executor.remote import home as home_module
from policies.submitter import Draft

QUESTION = Draft("message", {"type": "question", "to": None, "reply_to": None, "text": "Who is there?"})


@pytest.fixture(autouse=True)
def few_entries_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep_fold, "__kwdefaults__", {"least": 1})


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path / "station")


@pytest.fixture
def remote(station: Station) -> Remote:
    return Remote(station)


def sync(remote: Remote) -> tuple[int, int]:
    """Read the home: how many entries there are, and how many of them were not read again."""
    with remote.home() as home:
        replay = home.open_replay()
        state = replay.sync()
        return state.size, 0 if replay.begun is None else replay.begun.size


def cache(name: str) -> Path:
    return Path(os.environ["XDG_CACHE_HOME"]) / "calyx" / name


def test_only_what_is_new_is_asked_for_and_judged(
    station: Station, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, begun = sync(remote)
    assert begun == 0
    station.propose()
    monkeypatch.setattr(home_module, "KeptRecords", lambda *_: pytest.fail("all records were read"))
    asked = remote.note_asked()
    size = station.state.size
    assert sync(remote) == (size, before)
    # Which ledger it is, that it has the head that was verified, and what follows that.
    assert asked == [(0, 1), (before - 1, before), (before, size)]
    asked = remote.note_asked()
    assert sync(remote) == (size, size)
    assert asked == [(0, 1), (size - 1, size)]


def test_whoever_submits_goes_on_too_and_keeps_what_it_read(station: Station, remote: Remote) -> None:
    before, _ = sync(remote)
    with remote.home() as home:
        receipt = remote.open_registrar(home).submit(station.signer("ada"), QUESTION)
    assert receipt.seq == before
    assert sync(remote) == (before + 1, before + 1)


def test_whoever_observes_sees_every_entry(station: Station, remote: Remote) -> None:
    size, _ = sync(remote)
    seen: list[int] = []
    with remote.home() as home:
        home.open_replay(lambda entry, _: seen.append(entry.seq)).sync()
    assert seen == list(range(size))


def test_fork_is_contradicted_though_nothing_before_it_is_read(
    station: Station, remote: Remote, tmp_path: Path
) -> None:
    fork = new_station(tmp_path / "fork")
    station.propose("LEASE-20260105-090001")
    fork.propose("LEASE-20260105-090002")
    fork.propose("LEASE-20260105-090003")
    size, _ = sync(remote)
    remote.serve = remote.honest(fork.root)
    for _ in range(2):
        with refused("head_contradicted"):
            sync(remote)
    remote.serve = remote.honest()
    assert sync(remote) == (size, size)


def test_shortened_ledger_is_contradicted(station: Station, remote: Remote, tmp_path: Path) -> None:
    before = copy_of(station, tmp_path / "copy")
    station.propose()
    sync(remote)
    remote.serve = remote.honest(before)
    with refused("head_contradicted"):
        sync(remote)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damaged_state_is_made_anew_from_records_that_are_kept(station: Station, remote: Remote, damage: str) -> None:
    size, _ = sync(remote)
    (file,) = cache("folds").glob("*.snapshot")
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    asked = remote.note_asked()
    assert sync(remote) == (size, 0)
    # The last record that is kept is compared with the host's; the others are looks at one leaf each.
    assert asked == [(0, 1), (size - 1, size), (size - 1, size)]
    assert sync(remote) == (size, size)


def test_unlawful_entry_behind_the_state_is_refused(station: Station, remote: Remote) -> None:
    sync(remote)
    said = station.sign("ada", QUESTION)
    station.force(said)
    station.force(said)
    for _ in range(2):
        with refused("unlawful_entry"):
            sync(remote)
