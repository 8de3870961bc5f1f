"""`calyx init --continues`: a ledger that lost its quorum, or was written past, and the one that succeeds it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from console import Console

from executor.commands.continuing import RUNNERS
from executor.homes.home import Home
from executor.homes.succession import trace_lineage
from executor.process_lock import ProcessLock
from executor.rollout.run import Executor
from executor.rollout.service import run_executor
from keys.errors import Exit
from keys.openssh import fingerprint, load_private_key, new_private_key, store_private_key
from keys.signer import FileSigner
from keys.values import format_time
from ledger.envelope import Envelope, pae
from ledger.log_key import load_log_key
from ledger.record import make_record
from ledger.sqlite.store import SqliteStore
from ledger.statement import make_statement
from ledger.verified import namespace_of
from policies.fold.state import State


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(tmp_path, monkeypatch)
    console.begin()
    return console


@pytest.fixture
def new(old: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    """The same person with another home."""
    console = Console(tmp_path / "second", monkeypatch, clock=old.clock)
    console.root.mkdir()
    at(old)
    return console


def at(console: Console) -> None:
    """Both are one person's: from here on commands are about this home."""
    console.monkeypatch.setenv("CALYX_HOME", str(console.home))


def write_past(console: Console) -> None:
    """An entry that the law refuses, under a checkpoint of the log's own key: whoever has that key can write it."""
    with Home(console.home) as home:
        state = home.open_replay().sync()
        signer = FileSigner("cp14", "agent", load_private_key(home.key_path("cp14")))
        fields = {
            "by": "cp14",
            "ledger": state.ledger,
            "head": {"size": state.size, "hash": state.history.leaf(state.size - 1)},
            "nonce": "00" * 16,
            "made_at": format_time(console.clock.now),
            "id": "INT-20260105-999",
            "target": "web",
            "what": "an agent asks",
            "why": "it may not",
        }
        statement = make_statement("intent", fields, None)
        envelope = Envelope(statement.body, signer.keyid, signer.sign(pae(statement.body), namespace_of("intent")))
        log_key = load_log_key(home.log_key)
    with SqliteStore.open(console.home / "ledger.db") as store:
        head = store.head()
        store.append(head, [make_record(head.size, head.hash, console.clock.now, envelope)], log_key.sign)


def continue_from(console: Console, place: Path, *more: str) -> str:
    return console.done("init", "--human", "ada", "--no-recovery", "--continues", str(place), "--yes", *more)


def before(state: State) -> tuple[str, int, str]:
    assert state.continues is not None
    return state.continues.ledger, state.continues.head.size, state.continues.head.hash


def test_ledger_written_past_is_continued_from_its_last_lawful_entry(old: Console, new: Console) -> None:
    state = old.state()
    write_past(old)
    assert old.size() == state.size + 1
    assert old.run("status").code == 1
    at(new)
    said = continue_from(new, old.home)
    assert f"The old ledger {state.ledger}" in said
    assert f"lawful    {state.size} entries, head {state.history.leaf(state.size - 1)}" in said
    assert "cp14 does not hold the role proposer" in said
    assert before(new.state()) == (state.ledger, state.size, state.history.leaf(state.size - 1))
    assert f"Before  ledger {state.ledger[:16]}, continued after {state.size} entries" in new.done("status")
    assert json.loads(new.done("status", "--json"))["continues"]["ledger"] == state.ledger
    audit = new.run("audit")
    assert audit.code == 0
    assert f"it says that it continues ledger {state.ledger} after {state.size} entries" in audit.out


def test_old_policy_stays_and_machines_get_new_keys(old: Console, new: Console) -> None:
    before_it = old.state()
    at(new)
    continue_from(new, old.home)
    state = new.state()
    assert state.policy == before_it.policy
    assert state.trust is not None
    assert before_it.trust is not None
    for name in ("cbo", "cp14", "cp18", "cp19", "cp20"):
        mine, theirs = state.trust.find_principal(name), before_it.trust.find_principal(name)
        assert mine is not None
        assert theirs is not None
        assert mine.keys != theirs.keys
    assert state.origin.rpartition("-")[0] == before_it.origin.rpartition("-")[0]
    assert state.log_key != before_it.log_key


def test_no_answer_makes_nothing(old: Console, new: Console) -> None:
    at(new)
    said = new.run("init", "--human", "ada", "--no-recovery", "--continues", str(old.home), typed="\n")
    assert said.code == 1
    assert "WARNING: nothing is wrong with the old ledger" in said.out
    assert "nothing was made" in said.err
    assert not new.home.exists()


def test_same_home_path_after_the_old_one_was_moved(old: Console) -> None:
    state = old.state()
    moved = old.home.rename(old.root / "old")
    said = old.run("init", "--human", "ada", "--no-recovery", "--continues", str(moved), "--yes")
    assert said.code == 0, said.err
    assert before(old.state())[0] == state.ledger
    assert "another ledger of" in said.err


def test_ledger_file_beside_the_new_one_in_the_same_home(old: Console) -> None:
    state = old.state()
    old_keys = {path.name: path.read_bytes() for path in (old.home / "keys").glob("cp*.key")}
    file = (old.home / "ledger.db").rename(old.home / "ledger.old.db")
    said = old.run("init", "--human", "ada", "--no-recovery", "--continues", str(file), "--yes")
    assert said.code == 0, said.err
    assert before(old.state())[0] == state.ledger
    # What is known to the old ledger is set aside, and signs nothing here.
    assert "cp14 gets a new key" in said.err
    for name, content in old_keys.items():
        assert (old.home / "keys" / name).read_bytes() != content
        assert [path.read_bytes() for path in (old.home / "keys").glob(f"{name}.*.old")] == [content]
    assert old.run("audit").code == 0


def test_home_that_has_a_ledger_continues_none(old: Console) -> None:
    old.refused(
        "init", "--human", "ada", "--no-recovery", "--continues", str(old.home), "--yes", code="ledger_exists", ends=1
    )


def test_cut_copy_is_warned_about_by_the_head_that_was_remembered(old: Console, new: Console) -> None:
    copy = old.root / "copy.db"
    copy.write_bytes((old.home / "ledger.db").read_bytes())
    size = old.size()
    old.done("policy", "propose", "--deactivate", "--yes")
    (old.home / "ledger.db").unlink()
    copy.rename(old.home / "ledger.db")
    at(new)
    said = new.run("init", "--human", "ada", "--no-recovery", "--continues", str(old.home), typed="n\n")
    assert f"WARNING: you verified {size + 1} entries of it, and this copy has {size} lawful ones" in said.out
    assert not new.home.exists()


def test_old_ledger_whose_processes_still_run(old: Console, new: Console) -> None:
    at(new)
    with ProcessLock(Home(old.home).lock_path(RUNNERS[-1]), "an executor"):
        arguments = ("init", "--human", "ada", "--no-recovery", "--continues", str(old.home), "--yes")
        new.refused(*arguments, code="still_running", ends=5)
    assert not new.home.exists()


def test_old_ledger_without_its_objects_does_not_end_earlier(old: Console, new: Console) -> None:
    """Without the fleet's body the law is undecided there, and the lawful part would seem shorter than it is."""
    bare = old.root / "bare" / "ledger.db"
    bare.parent.mkdir()
    bare.write_bytes((old.home / "ledger.db").read_bytes())
    at(new)
    arguments = ("init", "--human", "ada", "--no-recovery", "--continues", str(bare), "--yes")
    new.refused(*arguments, code="object_missing", ends=5)


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_old_ledger_that_is_none(old: Console, new: Console, content: bytes | None) -> None:
    place = old.root / "nothing.db"
    if content is not None:
        place.write_bytes(content)
    at(new)
    said = new.run("init", "--human", "ada", "--no-recovery", "--continues", str(place), "--yes")
    assert said.code in {1, 2, 5}
    assert "error: " in said.err
    assert not new.home.exists()


def test_people_of_the_old_ledger_stay_where_that_is_said(old: Console, new: Console) -> None:
    ben = old.root / "ben"
    store_private_key(ben, new_private_key(lambda size: b"\x31" * size))
    enrol = ("--enrol", f"ben={ben}.pub", "--role", "governor", "--role", "approver")
    old.done("trust", "propose", *enrol, "--approve", "--yes")
    at(new)
    arguments = ("init", "--human", "ada", "--no-recovery", "--continues", str(old.home), "--yes")
    assert "left out  ben: --keep ben" in new.run(*arguments[:-1], typed="n\n").out
    new.refused(*arguments, "--keep", "zoe", code="unknown_principal", ends=1)
    new.refused(*arguments, "--keep", "cp14", code="not_a_human", ends=1)
    new.refused(*arguments, "--keep", "ada", code="id_taken", ends=1)
    new.refused(*arguments, "--keep", "ben", "--keep", "BEN", code="unknown_principal", ends=1)
    new.done(*arguments, "--keep", "ben")
    trust = new.state().trust
    assert trust is not None
    found = trust.find_principal("ben")
    assert found is not None
    assert fingerprint(found.keys[0].public) == fingerprint(load_private_key(ben).public)
    assert trust.thresholds.governors == 1


def test_keep_without_an_old_ledger(old: Console, new: Console) -> None:
    del old
    at(new)
    new.refused("init", "--human", "ada", "--no-recovery", "--keep", "ben", code="bad_option", ends=2)


def test_compromised_key_of_the_old_ledger_is_worthless_in_the_new_one(old: Console, new: Console) -> None:
    second = old.root / "second-key"
    store_private_key(second, new_private_key(lambda size: b"\x32" * size))
    old.done("trust", "propose", "--add-key", f"ada={second}.pub", "--approve", "--yes")
    trust = old.state().trust
    assert trust is not None
    ada = trust.find_principal("ada")
    assert ada is not None
    stolen = ada.keys[0]
    arguments = ("--compromised", f"{fingerprint(stolen.public)}@1", "--approve", "--yes", "--key", str(second))
    old.done("trust", "propose", *arguments)
    at(new)
    begin = ("init", "--human", "ada", "--no-recovery", "--continues", str(old.home), "--yes", "--key")
    new.refused(*begin, str(old.home / "keys" / "ada.key"), code="bad_trust_root", ends=1)
    new.done(*begin, str(second))
    after = new.state().trust
    assert after is not None
    assert [(item.key, item.position) for item in after.compromised] == [(stolen.key, 0)]


def earlier_of_executor(console: Console) -> object:
    """The ledgers before the one that genesis names, as `calyx executor run` hands them to its executor."""
    given: dict[str, object] = {}

    class Recorder(Executor):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            given.update(options)
            super().__init__(*arguments, **options)

        def run(self, *, until_idle: bool) -> Exit:
            return Exit.DONE if until_idle else Exit.REFUSED

    with console.monkeypatch.context() as patch, Home(console.home) as home:
        patch.setattr("executor.rollout.service.Executor", Recorder)
        patch.setattr("executor.rollout.service.NotifierProcess", lambda *_: SimpleNamespace(stop=lambda: None))
        assert run_executor(home, until_idle=True, wait=lambda _: True, log=lambda _: None) is Exit.DONE
    return given["earlier"]


def test_line_of_three_ledgers_is_proved_by_hashes_alone(old: Console, tmp_path: Path) -> None:
    first = old.state().ledger
    homes = [old.home]
    consoles = [old]
    for number in (2, 3):
        console = Console(tmp_path / f"home-{number}", old.monkeypatch, clock=old.clock)
        console.root.mkdir()
        at(console)
        continue_from(console, homes[-1])
        homes.append(console.home)
        consoles.append(console)
    second, third = consoles[1].state(), consoles[2].state()
    assert trace_lineage(homes[2], third.continues)[0] == (second.ledger, first)
    assert earlier_of_executor(consoles[2]) == (first,)
    assert earlier_of_executor(consoles[1]) == ()
    # A record that was swapped proves nothing, and one that is gone ends the line; what genesis itself says stays.
    record = homes[2] / "lineage" / second.ledger
    content = record.read_bytes()
    record.write_bytes(content.replace(b'"seq":0', b'"seq":1'))
    assert trace_lineage(homes[2], third.continues)[0] == (second.ledger,)
    record.unlink()
    assert trace_lineage(homes[2], third.continues)[0] == (second.ledger,)
    assert trace_lineage(homes[2], None) == ((), ())
