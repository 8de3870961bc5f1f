"""Records that were verified once do not come again, and what is kept of them is never evidence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from refusal import refused
from remoting import ADDRESS, Lying, Remote, copy_of
from station import Station, new_station

from executor.remote.kept import KeptRecords
from ledger.memory import HeadMemory


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path / "station")


@pytest.fixture
def remote(station: Station) -> Remote:
    return Remote(station)


def folder() -> Path:
    return Path(os.environ["XDG_CACHE_HOME"]) / "calyx" / "records"


def kept() -> KeptRecords:
    return KeptRecords(folder(), ADDRESS)


def sync(remote: Remote) -> int:
    with remote.home() as home:
        return home.open_replay().sync().size


def test_verified_records_are_not_asked_for_again(station: Station, remote: Remote) -> None:
    before = sync(remote)
    station.propose()
    size = station.state.size
    asked = remote.note_asked()
    assert sync(remote) == size
    assert asked == [(before - 1, before), (before, size)]
    asked = remote.note_asked()
    assert sync(remote) == size
    assert asked == [(size - 1, size)]
    records = kept()
    assert list(records.read(0, size)) == list(station.store.read())
    assert records.count == size
    records.close()


def test_whoever_submits_reads_what_is_kept(station: Station, remote: Remote) -> None:
    lease = station.propose()
    size = sync(remote)
    asked = remote.note_asked()
    with remote.home() as home:
        from policies.submitter import Draft

        draft = Draft("objection", {"verb": "deny", "reason": "no"}, lease)
        remote.open_registrar(home).submit(station.signer("ada"), draft)
    # The host's own registrar reads all of it; the laptop only what is new.
    assert (size - 1, size) in asked and (size, size + 1) in asked
    records = kept()
    assert records.count == size + 1
    records.close()


def test_audit_and_rendering_read_what_the_host_has(station: Station, remote: Remote) -> None:
    sync(remote)
    with remote.home() as home:
        asked = remote.note_asked()
        assert len(list(home.open_store().read())) == station.state.size
    assert asked and asked[0][0] == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "empty", "count", "json", "no json"])
def test_damaged_file_is_dropped_and_filled_again(station: Station, remote: Remote, damage: str) -> None:
    size = sync(remote)
    records, json = (next(folder().glob(pattern)) for pattern in ("*.records", "*.json"))
    data = records.read_bytes()
    changed = {
        "flip": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
        "cut": data[:-1],
        "longer": b"\0\0\0\1x" + data,
        "empty": b"",
    }
    if damage in changed:
        records.write_bytes(changed[damage])
    elif damage == "no json":
        json.unlink()
    else:
        json.write_bytes(b"{}" if damage == "json" else json.read_bytes().replace(b'"count":', b'"count":1'))
    assert sync(remote) == size
    asked = remote.note_asked()
    assert sync(remote) == size
    assert asked == [(size - 1, size)]


def test_bytes_behind_what_counts_are_not_read(station: Station, remote: Remote) -> None:
    size = sync(remote)
    with next(folder().glob("*.records")).open("ab") as file:
        file.write(b"\xff" * 99)
    station.propose()
    assert sync(remote) == station.state.size > size
    assert sync(remote) == station.state.size


def test_fork_is_contradicted_whatever_is_kept(station: Station, remote: Remote, tmp_path: Path) -> None:
    fork = new_station(tmp_path / "fork")
    station.propose("LEASE-20260105-090001")
    fork.propose("LEASE-20260105-090002")
    fork.propose("LEASE-20260105-090003")
    size = sync(remote)
    remote.serve = remote.honest(fork.root)
    for _ in range(2):
        with refused("head_contradicted"):
            sync(remote)
    remote.serve = remote.honest()
    assert sync(remote) == size


def test_shortened_ledger_is_contradicted_whatever_is_kept(station: Station, remote: Remote, tmp_path: Path) -> None:
    before = copy_of(station, tmp_path / "copy")
    station.propose()
    sync(remote)
    remote.serve = remote.honest(before)
    with refused("head_contradicted"):
        sync(remote)


def test_what_was_not_verified_is_not_kept(station: Station, remote: Remote) -> None:
    class Changing(Lying):
        def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
            for seq, data in enumerate(self.true.read(start, stop), start):
                yield data.replace(b'"time":"2026', b'"time":"2027') if seq == 2 else data

    with remote.home() as home:
        replay = home.open_replay()
        remote.serve = remote.honest(reader_of=Changing)
        with refused("broken_chain"):
            replay.sync()
        assert not list(folder().glob("*.json"))
        # The same process goes on with a host that is honest again.
        home._client.close()
        remote.serve = remote.honest()
        assert replay.sync().size == station.state.size
    records = kept()
    assert list(records.read(0, records.count)) == list(station.store.read())
    records.close()


def test_ledger_that_the_person_forgot_begins_anew(station: Station, remote: Remote, tmp_path: Path) -> None:
    sync(remote)
    other = Station(tmp_path / "other", seed=5)
    other.genesis()
    for path in (Path(os.environ["XDG_STATE_HOME"]) / "calyx" / "heads").glob("*.json"):
        path.unlink()
    remote.serve = remote.honest(other.root)
    for _ in range(2):
        assert sync(remote) == 1
    records = kept()
    assert list(records.read(0, 9)) == list(other.store.read())
    records.close()


def test_two_processes_at_once_do_not_mix(station: Station, remote: Remote) -> None:
    sync(remote)
    writer, reader = kept(), kept()
    data = next(station.store.read())
    for each in (reader, writer):
        each.add(each.added, data)
        assert list(each.read(0, 99)) == list(station.store.read())
    assert reader.added == writer.added == station.state.size
    station.propose()
    assert sync(remote) == station.state.size
    writer.close()
    reader.close()


def test_record_that_does_not_follow_is_not_added(station: Station, remote: Remote) -> None:
    records = kept()
    first, second, third = list(station.store.read())[:3]
    for seq, data in ((0, second), (1, first), (0, first), (1, third), (1, second), (1, second)):
        records.add(seq, data)
    assert records.added == 2 and records.count == 0
    records.commit(1)
    assert records.count == 0
    records.commit(2)
    assert list(records.read(0, 9)) == [first, second]
    records.add(2, third)
    records.rewind()
    assert records.added == 2
    records.add(2, third)
    records.commit(3)
    records.close()
    again = kept()
    assert list(again.read(1, 9)) == [second, third]
    again.close()


def test_place_that_cannot_be_written_keeps_nothing_and_stops_nothing(station: Station, remote: Remote) -> None:
    folder().parent.mkdir(parents=True)
    folder().write_text("a file where the folder belongs")
    for _ in range(2):
        assert sync(remote) == station.state.size


def test_kept_records_are_the_users_alone(station: Station, remote: Remote) -> None:
    sync(remote)
    assert {path.stat().st_mode & 0o777 for path in folder().iterdir()} == {0o600}
    assert folder().stat().st_mode & 0o777 == 0o700


def test_remembered_head_does_not_depend_on_what_is_kept(station: Station, remote: Remote) -> None:
    sync(remote)
    heads = HeadMemory(Path(os.environ["XDG_STATE_HOME"]) / "calyx" / "heads")
    before = heads.load(ADDRESS)
    for path in folder().iterdir():
        path.unlink()
    sync(remote)
    assert heads.load(ADDRESS) == before
