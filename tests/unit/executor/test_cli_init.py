"""`calyx init`: what it makes, what it refuses, and what a crash in its middle leaves."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from console import Console

from executor.homes.home import Home
from keys.openssh import format_public, load_private_key, new_private_key, store_private_key
from ledger.head import Head
from policies.registrar import Registrar


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    return Console(tmp_path, monkeypatch)


def new_key(path: Path, seed: int = 7, passphrase: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    store_private_key(path, new_private_key(lambda size: bytes([seed]) * size), passphrase)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_private_keys_are_for_their_owner_alone(console: Console) -> None:
    console.init()
    assert mode(console.home) == 0o700
    assert mode(console.home / "keys") == 0o700
    names = {"ada.key", "cbo.key", "cp14.key", "cp18.key", "cp19.key", "cp20.key", "log.key"}
    assert {path.name for path in (console.home / "keys").iterdir() if path.suffix == ".key"} == names
    assert {mode(console.home / "keys" / name) for name in names} == {0o600}


def test_each_machine_has_its_own_role_and_custodian(console: Console) -> None:
    console.init()
    trust = console.state().trust
    assert trust is not None
    found = {p.id: (p.kind, p.roles, p.custodian) for p in trust.principals}
    assert found == {
        "ada": ("human", ("approver", "governor", "operator"), "ada"),
        "cbo": ("overseer", ("proposer",), "cbo"),
        "cp14": ("agent", ("sentinel",), "cp14"),
        "cp18": ("agent", ("validator",), "cp18"),
        "cp19": ("monitor", (), "cp19"),
        "cp20": ("executor", (), "cp20"),
    }


def test_second_init_changes_nothing(console: Console) -> None:
    console.init()
    before = console.fingerprint()
    console.refused("init", "--no-recovery", "--human", "ben", code="ledger_exists", ends=1)
    assert console.fingerprint() == before


def test_init_without_a_word_on_recovery_is_refused(console: Console) -> None:
    console.refused("init", code="recovery_undecided", ends=2)
    assert not console.home.exists()


def test_recovery_key_governs_and_does_nothing_else(console: Console, tmp_path: Path) -> None:
    key = new_key(tmp_path / "safe" / "recovery")
    console.done("init", "--human", "ada", "--recovery-key", str(key) + ".pub")
    trust = console.state().trust
    assert trust is not None
    recovery = trust.find_principal("recovery")
    assert recovery is not None
    assert (recovery.roles, recovery.custodian) == (("governor",), "recovery")


def test_private_key_given_as_recovery_key_is_refused_and_not_echoed(console: Console, tmp_path: Path) -> None:
    key = new_key(tmp_path / "safe" / "recovery")
    said = console.refused("init", "--human", "ada", "--recovery-key", str(key), code="private_key_given", ends=2)
    assert key.read_text().splitlines()[1] not in said.err


def test_own_key_as_recovery_key_is_refused(console: Console, tmp_path: Path) -> None:
    key = new_key(tmp_path / "id")
    arguments = ("init", "--human", "ada", "--key", str(key), "--recovery-key", str(key) + ".pub")
    console.refused(*arguments, code="same_key", ends=2)
    assert not console.home.exists()


@pytest.mark.parametrize("name", ["cp14", "CBO", "log", "recovery", "Notify", "a b", "../x", "x" * 65])
def test_human_with_a_name_that_is_taken_or_unfit_is_refused(console: Console, name: str) -> None:
    console.refused("init", "--no-recovery", "--human", name, code="bad_name", ends=2)
    assert not console.home.exists()


def test_existing_key_of_the_person_is_used_where_it_lies(console: Console) -> None:
    key = new_key(Path.home() / ".ssh" / "id_ed25519")
    console.init()
    trust = console.state().trust
    assert trust is not None
    ada = trust.find_principal("ada")
    assert ada is not None
    assert ada.keys[0].key == format_public(load_private_key(key).public)
    assert not (console.home / "keys" / "ada.key").exists()
    assert Home(console.home).find_key("ada") == key


def test_key_that_others_can_read_is_refused_before_anything_is_made(console: Console, tmp_path: Path) -> None:
    key = new_key(tmp_path / "id")
    key.chmod(0o644)
    console.refused("init", "--no-recovery", "--human", "ada", "--key", str(key), code="bad_key_mode", ends=1)
    assert not console.home.exists()


def test_policy_with_a_mistake_is_refused_with_its_line(console: Console, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nphases: {}\nphases: {}\n")
    said = console.refused(
        "init", "--no-recovery", "--human", "ada", "--policy", str(policy), code="bad_policy", ends=1
    )
    assert "line 3" in said.err
    assert not console.home.exists()


def test_mistake_in_the_policy_is_said_before_the_key_is_opened(console: Console, tmp_path: Path) -> None:
    new_key(Path.home() / ".ssh" / "id_ed25519", passphrase=b"secret")
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nphases: {}\nphases: {}\n")
    asked = ["init", "--no-recovery", "--human", "ada"]
    console.refused(*asked, "--policy", str(policy), code="bad_policy", ends=1)
    console.refused(*asked, code="passphrase_needed", ends=2)


def test_new_key_without_a_passphrase_is_named(console: Console) -> None:
    said = console.run("init", "--no-recovery", "--human", "ada")
    assert said.code == 0
    assert f"ada got a new key, without a passphrase: {console.home / 'keys' / 'ada.key'}" in said.err


def test_crash_before_genesis_blocks_no_second_init(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as crash:
        crash.setattr(Registrar, "create", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            console.init()
    left = load_private_key(console.home / "keys" / "cp14.key").public
    old_log_key = (console.home / "keys" / "log.key").read_bytes()
    console.init()
    trust = console.state().trust
    assert trust is not None
    cp14 = trust.find_principal("cp14")
    assert cp14 is not None
    assert cp14.keys[0].key == format_public(left)
    # A log key may have signed before, so it is set aside and not used again.
    assert (console.home / "keys" / "log.key").read_bytes() != old_log_key
    assert [path.read_bytes() for path in (console.home / "keys").glob("log.key.*.old")] == [old_log_key]


def test_empty_home_forgets_the_ledger_that_was_remembered_there(console: Console) -> None:
    home = Home(console.home)
    pin = home.pin()
    pin.store("ab" * 32, Head(5, "cd" * 32))
    said = console.run("init", "--human", "ada", "--no-recovery")
    assert said.code == 0, said.err
    assert "5 entries was remembered here" in said.err
    remembered = pin.load()
    assert remembered is not None
    assert remembered.ledger == console.state().ledger
