"""The home: where it is, what it opens, and whose key it gives to whom."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ledgers import next_record
from refusal import refused
from station import Station, new_station

from executor.homes.home import Home, find_home
from executor.homes.reserve import Reserve
from executor.homes.settings import Settings
from keys.errors import CalyxError, Refused
from keys.openssh import format_public, new_private_key, store_private_key
from keys.principals import TrustRoot
from ledger import durable
from ledger.head import Head
from ledger.log_key import LogKey, store_log_key
from policies.submitter import Draft


@pytest.fixture
def station(tmp_path: Path) -> Station:
    root = tmp_path / "home"
    root.mkdir(mode=0o700)
    return new_station(root)


@pytest.fixture
def home(station: Station) -> Home:
    home = Home(station.root)
    home.make()
    for name, key in station.keys.items():
        store_private_key(home.key_path(name), key)
    store_log_key(home.log_key, station.log_key)
    return home


def test_option_wins_over_environment_and_that_over_the_default(tmp_path: Path) -> None:
    environment = {"CALYX_HOME": str(tmp_path / "named")}
    assert find_home(tmp_path / "option", environment) == tmp_path / "option"
    assert find_home(None, environment) == tmp_path / "named"
    assert find_home(None, {"CALYX_HOME": ""}) == Path(os.environ["XDG_DATA_HOME"]) / "calyx"


def test_home_relative_to_the_person_is_found(tmp_path: Path) -> None:
    assert find_home(Path("~/x"), {}) == Path(os.environ["HOME"]) / "x"
    assert find_home(Path("x"), {}).is_absolute()


def test_reader_needs_no_key(station: Station, home: Home) -> None:
    home.log_key.unlink()
    with home:
        assert home.open_replay().sync().size == station.state.size


def test_reader_cannot_write_through_the_store(station: Station, home: Home) -> None:
    before = station.store.head()
    with home:
        store: Any = home.open_store()
        with pytest.raises(CalyxError, match="cannot be written"):
            store.append(before, [next_record(before)], station.log_key.sign)
    assert station.store.head() == before


def test_each_principal_signs_with_its_own_key(station: Station, home: Home) -> None:
    for name in station.people:
        assert home.load_signer(name, station.state).principal == name


def test_key_file_under_anothers_name_is_refused(station: Station, home: Home) -> None:
    home.key_path("cp14").write_bytes(home.key_path("ada").read_bytes())
    with pytest.raises(CalyxError, match="enrolled for ada, not for cp14") as caught:
        home.load_signer("cp14", station.state)
    assert caught.value.code == "key_not_enrolled"


def test_key_that_others_can_read_is_refused(station: Station, home: Home) -> None:
    home.key_path("cp20").chmod(0o640)
    with pytest.raises(CalyxError) as caught:
        home.load_signer("cp20", station.state)
    assert caught.value.code == "bad_key_mode"


def test_key_of_a_proposed_root_cosigns_that_root_alone(station: Station, home: Home, tmp_path: Path) -> None:
    key = new_private_key(station.random)
    store_private_key(tmp_path / "eve", key)
    trust = station.trust()
    entry = {"key": format_public(key.public), "user_verification": False}
    eve = {"id": "eve", "kind": "human", "custodian": "eve", "roles": ["governor"], "keys": [entry]}
    proposed = TrustRoot.from_json({**trust, "principals": [*trust["principals"], eve]})
    assert home.load_signer("eve", station.state, None, tmp_path / "eve", proposed).principal == "eve"
    with pytest.raises(CalyxError) as caught:
        home.load_signer("eve", station.state, None, tmp_path / "eve")
    assert caught.value.code == "unknown_principal"
    with pytest.raises(CalyxError) as caught:
        home.load_signer("ada", station.state, None, tmp_path / "eve", proposed)
    assert caught.value.code == "key_not_enrolled"


def test_wrong_passphrase_is_refused(station: Station, home: Home, tmp_path: Path) -> None:
    path = tmp_path / "locked"
    store_private_key(path, station.keys["ada"], b"right")
    assert home.load_signer("ada", station.state, lambda _: b"right", path).principal == "ada"
    with pytest.raises(CalyxError) as caught:
        home.load_signer("ada", station.state, lambda _: b"other", path)
    assert caught.value.code == "bad_passphrase"


def test_key_outside_the_home_is_found_by_the_settings(station: Station, home: Home, tmp_path: Path) -> None:
    path = tmp_path / "id"
    home.key_path("ada").rename(path)
    assert home.find_key("ada") is None
    home.store_settings(Settings(version=1, me="ada", keys={"ada": str(path)}))
    assert home.load_signer("ada", station.state).principal == "ada"
    assert home.find_me(station.state).id == "ada"


@pytest.mark.parametrize("text", ["", "{}", '{"version":2,"me":null,"keys":{}}', "not json", '{"keys":{"../x":"y"}}'])
def test_damaged_settings_are_refused(home: Home, text: str) -> None:
    home.settings.write_text(text)
    with pytest.raises(CalyxError) as caught:
        home.load_settings()
    assert caught.value.code == "bad_settings"


def test_person_is_asked_for_when_two_could_be_meant(station: Station, home: Home) -> None:
    with pytest.raises(CalyxError) as caught:
        home.find_me(station.state)
    assert caught.value.code == "who_are_you"
    home.key_path("ben").unlink()
    assert home.find_me(station.state).id == "ada"


def test_person_whom_the_trust_root_does_not_know_is_not_guessed(station: Station, home: Home) -> None:
    home.key_path("ben").unlink()
    home.store_settings(Settings(version=1, me="eve", keys={}))
    with pytest.raises(CalyxError) as caught:
        home.find_me(station.state)
    assert caught.value.code == "who_are_you"


def test_wrong_log_key_is_refused_before_anything_is_signed(station: Station, home: Home) -> None:
    home.log_key.unlink()
    store_log_key(home.log_key, LogKey.generate("station.example/calyx", os.urandom))
    before = station.store.head()
    with home:
        registrar = home.open_registrar(station.clock)
        with pytest.raises(Refused) as refusal:
            registrar.sync()
        assert refusal.value.code == "wrong_log_key"
        with pytest.raises(Refused):
            registrar.submit(station.signer("cbo"), Draft("intent", {}))
    assert station.store.head() == before


def test_home_remembers_heads_outside_itself(station: Station, home: Home) -> None:
    with home:
        home.open_replay().sync()
    remembered = home.pin().load()
    assert remembered is not None
    assert remembered.head == station.store.head()
    assert not any(path.name == "heads" for path in home.root.rglob("*"))


@pytest.mark.parametrize("low", [True, False])
def test_order_toward_safety_on_a_disk_too_full_to_remember_a_head(
    station: Station, home: Home, monkeypatch: pytest.MonkeyPatch, low: bool
) -> None:
    """What a person remembers lies on the same disk as the ledger, and another one's entry is new to them."""
    reserve = home.root / "reserve"
    reserve.touch()
    replace = durable.replace_file

    def full(*arguments: Any) -> None:
        if reserve.exists():
            raise OSError(28, "No space left on device")
        replace(*arguments)

    monkeypatch.setattr("ledger.memory.replace_file", full)
    monkeypatch.setattr(Reserve, "low", lambda _: low)
    with home:
        if low:
            assert home.open_for_safety(station.clock).sync() == station.state
        else:
            with refused("memory_full"):
                home.open_for_safety(station.clock)
    assert reserve.exists() is not low


def test_home_without_its_log_key_keeps_its_reserve(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (home.root / "reserve").touch()
    home.log_key.unlink()
    monkeypatch.setattr(Reserve, "low", lambda _: True)
    with home, refused("key_missing"):
        home.open_for_safety()
    assert (home.root / "reserve").exists()


def test_home_reached_through_a_link_has_the_same_memory(home: Home, tmp_path: Path) -> None:
    home.pin().store("ab" * 32, Head(3, "cd" * 32))
    (tmp_path / "link").symlink_to(home.root)
    assert Home(tmp_path / "link").pin().load() == home.pin().load()


def test_open_home_is_closed_to_others(tmp_path: Path) -> None:
    root = tmp_path / "open"
    root.mkdir(mode=0o755)
    Home(root).make()
    assert root.stat().st_mode & 0o077 == 0
    assert (root / "keys").stat().st_mode & 0o077 == 0


def test_home_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CalyxError) as caught:
        Home(tmp_path / "file" / "home").make()
    assert caught.value.code == "home_write_failed"


def test_missing_key_is_not_made_by_loading(station: Station, home: Home) -> None:
    home.key_path("cp19").unlink()
    with pytest.raises(CalyxError) as caught:
        home.load_signer("cp19", station.state)
    assert caught.value.code == "key_missing"
    assert not home.key_path("cp19").exists()


def test_home_turned_to_an_older_copy_by_a_link_is_contradicted(home: Home, station: Station, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(home.root, older)
    station.propose()
    home.open_replay().sync()
    home.root.rename(tmp_path / "aside")
    home.root.symlink_to(older)
    with Home(home.root) as turned, pytest.raises(CalyxError) as refused:
        turned.open_replay().sync()
    assert refused.value.code == "head_contradicted"


def test_home_turned_to_another_ledger_by_a_link_is_contradicted(home: Home, tmp_path: Path) -> None:
    home.open_replay().sync()
    (tmp_path / "other").mkdir()
    other = new_station(tmp_path / "other", seed=2)
    with Home(other.root) as another:
        another.open_replay().sync()
    home.root.rename(tmp_path / "aside")
    home.root.symlink_to(other.root)
    with Home(home.root) as turned, pytest.raises(CalyxError) as refused:
        turned.open_replay().sync()
    assert refused.value.code == "head_contradicted"
