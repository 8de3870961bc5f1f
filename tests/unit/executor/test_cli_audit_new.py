"""`calyx audit --new`, as an auditor uses it: what it says, what it leaves out, and that it says so."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from console import Console

from executor.homes.home import Home
from executor.homes.snapshots import scratch_place, snapshots_of
from policies.pin import Pin


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(tmp_path, monkeypatch)
    console.begin()
    return console


def kept() -> list[Path]:
    """What this user keeps of ledgers, but for heads."""
    places = [Path(os.environ["XDG_STATE_HOME"]), Path(os.environ["XDG_CACHE_HOME"])]
    return sorted(path for place in places for path in place.glob("calyx/snapshots/*"))


def test_whole_audit_then_what_is_new(console: Console) -> None:
    size = console.size()
    whole = console.run("audit", "--json").json
    assert (whole["ok"], whole["first_seq"], whole["before"]) == (True, 0, None)
    assert {path.suffix for path in kept()} == {".json", ".snapshot"}
    assert all(path.stat().st_mode & 0o77 == 0 for path in kept())
    console.propose()
    said = console.done("audit", "--new")
    assert f"note: entries 0 to {size - 1} were audited before, on " in said
    assert "is not looked at; run without --new for that" in said
    assert f"ok: entries {size} to {console.size() - 1} of " in said
    again = console.run("audit", "--new", "--json").json
    assert again["ok"]
    assert again["first_seq"] == console.size()
    assert again["before"]["size"] == console.size()
    assert again["before"]["whole_size"] == size
    assert f"ok: nothing new behind {console.size()} entries" in console.done("audit", "--new")


def test_without_a_snapshot_it_says_why_and_audits_all(console: Console) -> None:
    said = console.run("audit", "--new", "--json").json
    assert said["ok"]
    assert said["first_seq"] == 0
    assert said["before"] is None
    assert said["notes"][0] == "a whole audit, because no snapshot of an earlier audit is kept"
    for path in kept():
        if path.suffix == ".snapshot":
            path.write_bytes(path.read_bytes() + b" ")
    said = console.run("audit", "--new", "--json").json
    assert said["notes"][0] == "a whole audit, because the snapshot is not the one that was kept"


def test_pipe_in_the_place_of_the_snapshot_is_not_waited_for(console: Console) -> None:
    console.done("audit")
    (snapshot,) = (path for path in kept() if path.suffix == ".snapshot")
    snapshot.unlink()
    os.mkfifo(snapshot)
    said = console.run("audit", "--new", "--json").json
    assert said["ok"]
    assert said["notes"][0].startswith("a whole audit, because the snapshot cannot be read: ")
    assert snapshot.is_file(), "the audit was whole, and another one was kept"


def test_older_copy_in_the_homes_place_is_contradicted_with_both_heads(console: Console, tmp_path: Path) -> None:
    console.done("ledger", "backup", str(tmp_path / "old"))
    size = console.size()
    console.propose()
    copy = tmp_path / "copy"
    console.done("ledger", "backup", str(copy))
    # Nobody but an auditor ever looks at the copy, so nothing but the audit remembers its head.
    assert console.run("audit", "--home", str(copy)).code == 0
    shutil.copy(tmp_path / "old" / "ledger.db", copy / "ledger.db")
    found = console.run("audit", "--home", str(copy), "--new")
    assert found.code == 1
    assert f"remembered {console.size()} entries" in found.out
    assert f"found {size} entries" in found.out
    assert "ledger: head_contradicted: " in found.out


def change_record(console: Console, seq: int) -> None:
    with closing(sqlite3.connect(console.home / "ledger.db")) as connection:
        (data,) = connection.execute("SELECT data FROM record WHERE seq = ?", (seq,)).fetchone()
        changed = data.replace(b'"time":"2026', b'"time":"2025')
        assert changed != data
        connection.execute("UPDATE record SET data = ? WHERE seq = ?", (changed, seq))
        connection.commit()


def test_new_does_not_say_ok_over_what_a_whole_audit_just_found_wrong(console: Console) -> None:
    console.done("audit")
    change_record(console, 1)
    assert console.run("audit", "--new").code == 0, "it looks at nothing that was audited before"
    assert console.run("audit").code == 1
    said = console.run("audit", "--new")
    assert said.code == 1
    assert "entry 1: broken_chain: " in said.out
    assert "note: a whole audit, because the snapshot is gone" in said.out


def test_snapshot_that_cannot_be_removed_is_said_to_be_false(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    console.done("audit")
    change_record(console, 1)
    (snapshot,) = (path for path in kept() if path.suffix == ".snapshot")
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == snapshot:
            raise PermissionError
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    said = console.run("audit")
    assert said.code == 1
    assert f"note: do not believe audit --new, it goes on from an earlier audit: remove {snapshot}\n" in said.out


def test_new_entries_that_are_wrong_are_not_called_nothing_new(console: Console) -> None:
    console.done("audit")
    size = console.size()
    console.propose()
    change_record(console, size)
    said = console.run("audit", "--new")
    assert said.code == 1
    assert f"entry {size}: broken_chain: " in said.out
    assert f"NOT OK: entries from {size} on of " in said.out


def test_last_entry_that_was_changed_is_contradicted_with_two_heads(console: Console) -> None:
    console.done("audit")
    change_record(console, console.size() - 1)
    said = console.run("audit", "--new")
    assert said.code == 1
    remembered, found = re.findall(r"(?:remembered|found) [0-9]+ entries, ([0-9a-f]{16})", said.out)
    assert remembered != found


@pytest.mark.parametrize("other", [["--full"], ["--from", "somewhere"]])
def test_new_does_not_go_with_what_looks_at_all_of_it(console: Console, other: list[str]) -> None:
    console.refused("audit", "--new", *other, code="not_new", ends=2)


def test_snapshot_of_a_home_is_found_under_the_name_of_its_head(console: Console) -> None:
    console.done("audit")
    with scratch_place() as scratch, Home(console.home) as home:
        pin: Pin = home.pin()
        assert snapshots_of(pin, scratch).load(home.open_store()).folded.state == console.state()
