"""Each refusal is a line and a hint with its own exit code, never a traceback; a bug is a traceback."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from console import Console

from executor.commands import status
from policies.registrar import Registrar


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    return Console(tmp_path, monkeypatch)


READERS = (
    ["status"],
    ["inbox"],
    ["check", "LEASE-20260105-090000"],
    ["show", "LEASE-20260105-090000"],
    ["ledger", "log"],
    ["ledger", "checkpoint"],
    ["audit"],
    ["keys", "show"],
    ["fleet", "show"],
    ["watch"],
)
WRITERS = (
    ["approve", "LEASE-20260105-090000"],
    ["rollback", "LEASE-20260105-090000"],
    ["propose", "web", "--dir", "."],
    ["agent", "run", "cp14"],
    ["executor", "run"],
)


@pytest.mark.parametrize("command", [*READERS, *WRITERS], ids=" ".join)
def test_missing_ledger_is_said_with_what_to_do(console: Console, command: list[str]) -> None:
    said = console.refused(*command, code="ledger_missing", ends=5)
    assert "hint: name its directory with --home or CALYX_HOME; calyx init makes a new ledger" in said.err


@pytest.mark.parametrize("command", [*READERS, *WRITERS], ids=" ".join)
def test_ledger_whose_init_was_cut_short_is_said_so(
    console: Console, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crash:
        crash.setattr(Registrar, "create", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            console.init()
    said = console.run(*command)
    if command == ["audit"]:
        assert (said.code, "no_genesis" in said.out) == (1, True)
    else:
        assert (said.code, "error: ledger_missing: " in said.err) == (5, True), said


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_corrupt_ledger_is_said_in_one_line(console: Console, command: list[str]) -> None:
    console.home.mkdir()
    (console.home / "ledger.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    said = console.refused(*command, code="ledger_corrupt", ends=1)
    assert len(said.err.splitlines()) == 2


def test_ledger_without_its_log_key_can_be_read_but_not_written(console: Console) -> None:
    console.begin()
    (console.home / "keys" / "log.key").unlink()
    console.done("status")
    console.refused("pause", "LEASE-20260105-090000", code="key_missing", ends=5)


def test_cut_ledger_is_refused_by_a_reader_who_remembers(console: Console) -> None:
    console.begin()
    early = {path.name: path.read_bytes() for path in console.home.glob("ledger.db*")}
    console.propose()
    for path in console.home.glob("ledger.db*"):
        path.unlink()
    for name, data in early.items():
        (console.home / name).write_bytes(data)
    said = console.refused("status", code="head_contradicted", ends=1)
    assert "entries are missing at the end" in said.err
    assert console.run("audit").code == 1


def test_lost_object_is_to_be_restored_and_the_ledger_kept(console: Console) -> None:
    console.begin()
    for path in (console.home / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    said = console.refused("status", code="unlawful_entry", ends=1)
    assert "(object_missing)" in said.err
    assert "hint: restore the objects from a copy of the home" in said.err


def test_damaged_ledger_is_to_be_repaired_and_not_replaced(console: Console) -> None:
    # An older copy in its place would be a cut, which everyone who remembers more refuses.
    console.begin()
    backup = console.root / "backup"
    console.done("ledger", "backup", str(backup))
    console.propose()
    with closing(sqlite3.connect(console.home / "ledger.db")) as connection:
        connection.execute("DELETE FROM tip")
        connection.commit()
    advice = "calyx ledger fsck says what is lost; with --repair --from a copy it comes back"
    said = console.refused("status", code="ledger_corrupt", ends=1)
    assert f"hint: {advice}" in said.err
    said = console.run("audit")
    assert (said.code, said.out.startswith("ledger: ledger_corrupt: ")) == (1, True)
    assert f"note: {advice}" in said.out


def test_lost_ledger_is_to_be_restored_and_not_made_anew(console: Console) -> None:
    console.begin()
    for path in console.home.glob("ledger.db*"):
        path.unlink()
    for command in (["status"], ["propose", "web", "--dir", "."]):
        said = console.refused(*command, code="ledger_missing", ends=5)
        assert "3 entries of it are remembered" in said.err
        assert "hint: restore it from a copy" in said.err


def test_home_may_be_named_before_or_after_the_command(console: Console, tmp_path: Path) -> None:
    console.init()
    here, elsewhere = str(console.home), str(tmp_path / "elsewhere")
    console.monkeypatch.setenv("CALYX_HOME", elsewhere)
    assert console.run("status").code == 5
    assert console.run("status", "--home", here).code == 0
    assert console.run("--home", here, "status").code == 0
    assert console.run("--home", elsewhere, "status", "--home", here).code == 0


def test_unknown_lease_is_a_usage_error(console: Console) -> None:
    console.begin()
    for command in (["check", "LEASE-1"], ["watch", "LEASE-1"], ["rollback", "LEASE-1"], ["deny", "LEASE-1"]):
        console.refused(*command, *(["--reason", "x"] if command[0] == "deny" else []), code="unknown_lease", ends=1)


def test_refusal_of_the_law_names_rule_and_step(console: Console) -> None:
    console.begin()
    source = console.root / "source"
    source.mkdir()
    (source / "other.txt").write_text("x")
    said = console.refused("propose", "web", "--dir", str(source), code="path_not_allowed", ends=1)
    assert "(rule two_key, step 2)" in said.err.splitlines()[0]


def test_order_before_the_claim_is_refused_with_what_works(console: Console) -> None:
    console.begin()
    lease = console.propose()
    said = console.refused("rollback", lease, code="not_claimed", ends=1)
    assert f"hint: calyx deny {lease}" in said.err


def test_bug_is_a_traceback_and_no_refusal(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    console.begin()
    monkeypatch.setattr(status, "_facts", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        console.run("status")


def test_unknown_agent_is_a_usage_error(console: Console) -> None:
    console.init()
    console.refused("agent", "run", "cp99", code="unknown_agent", ends=2)


def test_agent_without_its_own_key_does_not_run_with_another(console: Console) -> None:
    console.init()
    keys = console.home / "keys"
    (keys / "cp14.key").unlink()
    console.refused("agent", "run", "cp14", code="key_missing", ends=5)
    (keys / "cp14.key").write_bytes((keys / "cp18.key").read_bytes())
    (keys / "cp14.key").chmod(0o600)
    console.refused("agent", "run", "cp14", code="key_not_enrolled", ends=1)


@pytest.mark.parametrize("text", ["", "15", "0s", "-1h", "1w", "1.5h", "h", "9" * 10, "\u0661h"])
def test_duration_that_is_none_is_refused(console: Console, text: str) -> None:
    console.begin()
    console.refused("propose", "web", "--dir", ".", "--valid-for", text, code="bad_duration", ends=2)


@pytest.mark.parametrize("text", ["", "5", "5,x", "0,100", "5,101", "5,,100", "100,5", "5,5,100"])
def test_tiers_that_do_not_rise_to_all_are_refused(console: Console, text: str) -> None:
    console.begin()
    source = console.root / "source"
    source.mkdir()
    (source / "app.py").write_text("x = 1\n")
    said = console.run("propose", "web", "--dir", str(source), "--tiers", text)
    assert said.code in {1, 2}
    assert "error: bad_tiers: " in said.err or "error: tiers_missing: " in said.err
    assert not console.state().leases


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("targets: {web: {instances: [{name: a, root: /srv/a, prob: 1}]}}", "there is no such field"),
        ("targets: {web: {instances: [{name: a}]}}", "line 1: targets.web.instances.0.root is missing"),
        (
            "targets:\n  web:\n    instances:\n      - {name: a,\n         root: 7}",
            "line 5: targets.web.instances.0.root: ",
        ),
        (
            "targets:\n  web:\n    max_unavailable: many\n    instances: [{name: a, root: /a}]",
            "line 3: targets.web.max_unavailable: must be a whole number",
        ),
        (
            "targets:\n  web:\n    max_unavailable: 0\n    instances: [{name: a, root: /a}]",
            "line 3: targets.web.max_unavailable: must be at least 1",
        ),
        ("targets:\n  web: here", "line 2: targets.web: must be fields of its own, each with a name"),
        ("targets:\n  web b: {instances: []}", "line 2: targets.web b: "),
        ("targets:\n  web:\n    instances: []", "line 3: targets.web.instances: must have at least 1 item"),
        (
            "targets:\n  web:\n    instances:\n      - {name: a, root: /a, probe: {url: x}}",
            "line 4: targets.web.instances.0.probe.url: not an address that begins with http:// or https://",
        ),
        # A misspelled field is also one that is missing; its name is what can be looked for.
        (
            "targets: {web: {instances: [{name: a, roots: /a}]}}",
            "instances.0.roots: there is no such field; root is missing",
        ),
        ("", "line 1: there is nothing in it"),
        ("targets: {web: {instances: [{name: a, root: /a}, {name: A, root: /b}]}}", "web: two instances of a target"),
    ],
)
def test_fleet_that_is_wrong_is_said_in_a_persons_words(console: Console, content: str, said: str) -> None:
    console.init()
    path = console.root / "fleet.yaml"
    path.write_text(content, "utf-8")
    line = console.refused(
        "fleet", "propose", str(path), code="bad_format" if content else "bad_yaml", ends=1
    ).err.splitlines()[0]
    assert said in line
    assert line.count(str(path)) == 1
    assert f"{path}, line " in line
    # Not a word of the library that found it.
    assert not re.search("[Ii]nput|valid|pydantic|dictionary|string", line)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("fleet.json", '{"targets": {}, "targets": {}}', "bad_format"),
        ("fleet.json", '{"targets": {"web": {"max_unavailable": 1.5}}}', "bad_format"),
        ("fleet.json", "[" * 100_000, "bad_format"),
        ("fleet.yaml", "targets: {}\ntargets: {}\n", "bad_yaml"),
        ("fleet.yaml", "targets: &a {}\n", "bad_yaml"),
        ("fleet.yaml", "nothing: 1\n", "bad_format"),
        ("fleet.yaml", "\xff", "bad_format"),
    ],
)
def test_fleet_that_two_readers_could_read_differently_is_refused(
    console: Console, name: str, content: str, code: str
) -> None:
    console.init()
    path = console.root / name
    path.write_text(content, "latin-1")
    console.refused("fleet", "propose", str(path), code=code, ends=1)
