"""`calyx svf`, `calyx lease` and `calyx intent` as a person uses them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from children import running
from console import Console
from jsonschema import Draft202012Validator
from station import new_station
from typer.testing import CliRunner

from executor.command_line import app
from executor.commands import svf
from executor.commands.svf import follow_ledger
from executor.svf.lines import Feed, Line
from policies.replay import Replay
from policies.submitter import Draft

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(tmp_path, monkeypatch)
    console.begin()
    return console


class Interrupt:
    """A person who waits for some looks at the ledger, does something at each, and then presses Ctrl-C."""

    def __init__(self, *doings: Callable[[], object]) -> None:
        self.doings = list(doings)

    def __call__(self) -> None:
        if not self.doings:
            raise KeyboardInterrupt
        self.doings.pop(0)()


def files(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.glob("svf-*.jsonl")))


def test_tail_prints_the_last_lines_and_the_files_hold_the_same_bytes(console: Console, tmp_path: Path) -> None:
    for _ in range(4):
        lease = console.propose()
        console.done("approve", lease, "--yes")
        console.done("deny", lease, "--reason", "not today", "--yes")
        console.clock.tick(40_000)
    said = console.done("svf", "export", str(tmp_path / "feed"))
    assert "12 lines added" in said
    everything = files(tmp_path / "feed").decode()
    assert console.done("svf", "tail", "--from", "0") == everything
    assert console.done("svf", "tail") == "".join(everything.splitlines(keepends=True)[-10:])
    assert console.done("svf", "tail", "-n", "1") == everything.splitlines(keepends=True)[-1]
    assert console.done("svf", "tail", "-n", "0") == ""
    middle = json.loads(everything.splitlines()[6])["metadata"]["seq"]
    assert console.done("svf", "tail", "--from", str(middle)) == "".join(everything.splitlines(keepends=True)[6:])
    again = json.loads(console.done("svf", "export", str(tmp_path / "feed"), "--json"))
    assert again == {"added": 0, "size": console.size(), "ledger": console.state().ledger}


def test_follow_goes_on_live_and_ends_with_130(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = console.propose()
    for words in (("tail",), ("export", str(tmp_path / "feed"))):
        approve = Interrupt(lambda: console.done("withdraw", lease, "--yes"), lambda: None)
        monkeypatch.setattr(svf, "wait", approve)
        said = console.run("svf", *words, "--follow")
        assert said.code == 130
        assert "interrupted" in said.err
        if words == ("tail",):
            rows = [json.loads(line) for line in said.out.splitlines()]
            assert [row["metadata"]["event_type"] for row in rows] == ["lease_event.PROPOSED", "lease_event.WITHDRAWN"]
    assert files(tmp_path / "feed").decode() == console.done("svf", "tail", "--from", "0")


def test_follow_from_an_entry_to_come_waits_for_it(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = console.propose()
    first = console.size() + 1
    monkeypatch.setattr(svf, "wait", Interrupt(*[lambda: console.done("withdraw", lease, "--yes")] * 2))
    said = console.run("svf", "tail", "--from", str(first), "--follow")
    assert [json.loads(line)["metadata"]["seq"] for line in said.out.splitlines()] == [first]


def test_contradicted_file_is_refused_in_a_line(console: Console, tmp_path: Path) -> None:
    console.propose()
    console.done("svf", "export", str(tmp_path / "feed"))
    (path,) = (tmp_path / "feed").glob("svf-*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"success", b"failure"))
    said = console.refused("svf", "export", str(tmp_path / "feed"), code="svf_contradicted", ends=1)
    assert len(said.err.splitlines()) == 2
    assert b"failure" in path.read_bytes()


def test_no_ledger_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(tmp_path, monkeypatch)
    console.refused("svf", "export", str(tmp_path / "feed"), code="ledger_missing", ends=5)
    assert not (tmp_path / "feed").exists()


def test_nothing_of_a_ledger_that_breaks_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    station = new_station(tmp_path / "home")
    lease = station.propose()
    station.vote("ada", lease, "approver")
    # The same key in the same role a second time: unlawful, and the entries before it are not.
    station.force(station.sign("ada", Draft("cosignature", {"role": "approver", "review": None}, lease)))
    monkeypatch.setenv("CALYX_HOME", str(tmp_path / "home"))
    said = CliRunner().invoke(app, ["svf", "export", str(tmp_path / "feed")])
    assert said.exit_code == 1
    assert "unlawful_entry" in said.stderr
    assert files(tmp_path / "feed") == b""


def test_cut_ledger_is_told_of_to_nobody(console: Console, tmp_path: Path) -> None:
    lease = console.propose()
    copy = (console.home / "ledger.db").read_bytes()
    console.done("deny", lease, "--reason", "no", "--yes")
    (console.home / "ledger.db").write_bytes(copy)
    said = console.refused("svf", "export", str(tmp_path / "feed"), code="head_contradicted", ends=1)
    assert said.out == ""
    assert files(tmp_path / "feed") == b""
    assert console.refused("svf", "tail", code="head_contradicted", ends=1).out == ""


def test_follower_hands_on_only_what_is_new(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    feed, got = Feed(), list[Line]()
    replay = Replay(station.store, station.objects, None, feed)
    replay.sync()
    assert feed.take() == []
    lease = station.propose()

    def deny() -> None:
        station.say("ada", "objection", {"verb": "deny", "reason": ""}, lease)

    with pytest.raises(KeyboardInterrupt):
        follow_ledger(replay, feed, got.extend, Interrupt(lambda: None, lambda: None, deny, lambda: None))
    assert [line.seq for line in got] == [station.state.leases[lease[1]].seq, station.state.size - 1]


@contextmanager
def start_tail(home: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "CALYX_HOME": str(home)}
    command = [sys.executable, "-m", "executor", "svf", "tail", "--follow", *more]
    pipe = subprocess.PIPE
    with running(command, cwd=CHECKOUT, env=environment, stdout=pipe, stderr=pipe) as process:
        yield process


@pytest.mark.parametrize("end", ["interrupt", "reader leaves"])
def test_real_follower_ends_as_other_commands_do(tmp_path: Path, end: str) -> None:
    station = new_station(tmp_path / "home")
    lease = station.propose()
    with start_tail(tmp_path / "home") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        assert first["metadata"]["lease_id"] == lease[0]
        station.vote("ada", lease, "approver")
        assert json.loads(process.stdout.readline())["agent"] == "ada"
        if end == "interrupt":
            process.send_signal(signal.SIGINT)
            assert (process.wait(60), process.stderr.read()) == (130, b"interrupted\n")
        else:
            process.stdout.close()
            station.vote("ben", lease, "approver")
            assert (process.wait(60), process.stderr.read()) == (141, b"")


# lease, intent


def test_lease_list_and_show(console: Console) -> None:
    assert console.done("lease", "list") == "There is no lease.\n"
    lease = console.propose()
    console.done("approve", lease, "--yes")
    (row,) = json.loads(console.done("lease", "list", "--json"))
    assert (row["lease_id"], row["state"], row["cosigners"]) == (lease, "open", ["ada"])
    assert lease in console.done("lease", "list")
    view = json.loads(console.done("lease", "show", lease, "--json"))
    schema = json.loads(console.done("lease", "schema"))
    assert Draft202012Validator(schema).is_valid(view)
    assert [cosigner["id"] for cosigner in view["cosigners"]] == ["ada"]
    text = console.done("lease", "show", lease)
    for part in (lease, "ada", "approver", "yes", view["cosigners"][0]["keyid"]):
        assert part in text
    console.refused("lease", "show", "LEASE-20990101-000000", code="unknown_lease", ends=1)


def test_intent_list_and_show(console: Console) -> None:
    assert console.done("intent", "list") == "There is no intent.\n"
    lease = console.propose(None, "--why", "a reason")
    (row,) = json.loads(console.done("intent", "list", "--json"))
    assert (row["lease_ids"], row["why"], row["by"]) == ([lease], "a reason", "cbo")
    assert json.loads(console.done("intent", "show", row["intent_id"].lower(), "--json")) == row
    assert lease in console.done("intent", "show", row["intent_id"])
    assert row["intent_id"] in console.done("intent", "list")
    console.refused("intent", "show", "INT-20990101-001", code="unknown_intent", ends=1)


def test_hostile_intent_reaches_the_terminal_inert(console: Console) -> None:
    lease = console.propose(None, "--what", "\x1b[31mred\u202e", "--why", "two\nlines")
    for words in (
        ("lease", "show", lease),
        ("intent", "list"),
        ("intent", "show", "INT-20260105-001"),
        ("svf", "tail"),
    ):
        out = console.done(*words)
        assert "\x1b" not in out
        assert "\u202e" not in out
