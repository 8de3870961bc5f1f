"""Starting where this user verified the ledger before: as good as from the first entry, and never from a cache that was
swapped, torn, of another ledger or of a history that was cut.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from judged import count_judged
from refusal import refused
from station import Station, new_station

import keys
import ledger
import policies
from executor.agents.loop import run as run_loop
from executor.commands import agent as agent_module
from executor.commands.ledger import _listed
from executor.commands.running import stopping
from executor.homes import snapshots as snapshots_module
from executor.homes.home import Home
from executor.homes.snapshots import begin_fold, folds_of, keep_fold, scratch_place
from executor.rollout.service import run_executor
from keys.errors import Exit, Unavailable
from keys.openssh import store_private_key
from ledger.log_key import store_log_key
from ledger.place import locked
from ledger.store import Reader
from policies.fold import code
from policies.fold.code import fingerprint_code
from policies.fold.scratch import Scratch, Unnamed
from policies.submitter import Draft

QUESTION = {"type": "question", "to": None, "reply_to": None, "text": "Who is there?"}


def station_at(root: Path, **options: Any) -> Station:
    root.mkdir(mode=0o700)
    station = new_station(root, **options)
    home = Home(station.root)
    home.make()
    for name, key in station.keys.items():
        store_private_key(home.key_path(name), key)
    store_log_key(home.log_key, station.log_key)
    return station


@pytest.fixture
def station(tmp_path: Path) -> Station:
    station = station_at(tmp_path / "home")
    lease = station.propose()
    station.begin(lease)
    station.complete(lease)
    return station


@pytest.fixture(autouse=True)
def _all_is_worth_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep_fold, "__kwdefaults__", {"least": 1})


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seqs that readers judge."""
    return count_judged(monkeypatch)


def read(station: Station) -> int:
    """What a command does: read, and end."""
    with Home(station.root) as home:
        return home.open_replay().sync().size


def kept() -> tuple[Path, Path]:
    """The one snapshot and its note."""
    (file,) = (Path(os.environ["XDG_CACHE_HOME"]) / "calyx/folds").glob("*.snapshot")
    (note,) = (Path(os.environ["XDG_STATE_HOME"]) / "calyx/folds").glob("*.json")
    return file, note


def test_second_reader_judges_what_is_new_alone(station: Station, judged: list[int]) -> None:
    size = read(station)
    judged.clear()
    with Home(station.root) as home:
        replay = home.open_replay()
        assert replay.sync() == station.state
        assert replay.begun is not None
        assert replay.begun.size == size
    assert judged == []
    seq = station.say("ada", "message", QUESTION).seq
    judged.clear()
    with Home(station.root) as home:
        assert home.open_registrar().sync() == station.state
    assert judged == [seq]


def test_whoever_observes_sees_every_entry(station: Station) -> None:
    size = read(station)
    seen: list[int] = []
    with Home(station.root) as home:
        home.open_replay(lambda entry, _: seen.append(entry.seq)).sync()
    assert seen == list(range(size))


def test_few_entries_are_not_worth_a_snapshot(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep_fold, "__kwdefaults__", {"least": snapshots_module.WORTH_KEEPING})
    read(station)
    assert not (Path(os.environ["XDG_CACHE_HOME"]) / "calyx/folds").exists()


def _flip_a_bit(file: Path, note: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _tear(file: Path, note: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _remove(file: Path, note: Path) -> None:
    file.unlink()


def _forge_with_a_note_of_another_home(file: Path, note: Path) -> None:
    note.write_bytes(note.read_bytes().replace(b'"home":"/', b'"home":"/x/'))


def _spoil_the_note(file: Path, note: Path) -> None:
    note.write_bytes(b"{}")


def _shut(file: Path, note: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "harm",
    [_flip_a_bit, _tear, _remove, _forge_with_a_note_of_another_home, _spoil_the_note, _shut],
)
def test_cache_that_is_not_what_was_kept_is_as_if_there_were_none(
    station: Station, judged: list[int], harm: Callable[[Path, Path], None]
) -> None:
    size = read(station)
    harm(*kept())
    judged.clear()
    with Home(station.root) as home:
        assert home.open_replay().sync() == station.state
    # Entry 0 is looked at for the log's key first.
    assert judged == [0, *range(size)]
    if harm is not _shut:
        # And it was made again, although a note said that there is one of so many entries.
        judged.clear()
        assert read(station) == size
        assert judged == []


def test_snapshot_by_another_version_is_made_again(
    station: Station, judged: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = read(station)
    with monkeypatch.context() as patch:
        patch.setattr("policies.fold.snapshots.fingerprint_code", lambda: "ab" * 32)
        judged.clear()
        read(station)
        assert len(judged) == size + 1
        judged.clear()
        read(station)
        assert judged == []


def test_every_source_file_that_judges_tells_one_version_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an older law let pass is not believed by the one that mended it."""

    def fingerprint() -> str | None:
        fingerprint_code.cache_clear()
        return fingerprint_code()

    ours = fingerprint()
    for room in (keys, ledger, policies):
        copy = tmp_path / room.__name__
        shutil.copytree(Path(str(room.__file__)).parent, copy)
        with monkeypatch.context() as patch:
            patch.setattr(room, "__file__", str(copy / "__init__.py"))
            assert fingerprint() == ours
            changed = max(copy.rglob("*.py"))
            changed.write_bytes(changed.read_bytes() + b"#")
            assert fingerprint() != ours
            changed.write_bytes(changed.read_bytes()[:-1])
            assert fingerprint() == ours
            (copy / "new.py").touch()
            assert fingerprint() != ours
    fingerprint_code.cache_clear()


def test_code_put_in_place_while_an_old_one_runs_vouches_for_nothing(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weeks later what runs keeps a snapshot, and it says which code made it, not which lies there then."""
    monkeypatch.setattr(keep_fold, "__kwdefaults__", {"least": 1_000})
    fingerprint_code.cache_clear()
    ours = fingerprint_code()
    fingerprint_code.cache_clear()
    with Home(station.root) as home:
        registrar = home.open_registrar(station.clock)
        registrar.sync()
        begin_fold(registrar, lambda _: None)
        with monkeypatch.context() as patch:
            patch.setattr(code, "LAWS", (1, 2))
            assert fingerprint_code() == ours
    fingerprint_code.cache_clear()


def test_snapshot_swapped_for_one_of_another_ledger(station: Station, tmp_path: Path, judged: list[int]) -> None:
    """The attacker has a snapshot in which something else is lawful, and may write to the victim's cache."""
    other = station_at(tmp_path / "other", seed=2)
    read(other)
    theirs, _ = kept()
    forged = theirs.read_bytes()
    theirs.unlink()
    size = read(station)
    ours = next(path for path in theirs.parent.glob("*.snapshot") if path != theirs)
    ours.write_bytes(forged)
    judged.clear()
    with Home(station.root) as home:
        assert home.open_replay().sync() == station.state
    assert judged == [0, *range(size)]


def test_other_ledger_put_where_the_remembered_one_was(station: Station, tmp_path: Path) -> None:
    read(station)
    other = station_at(tmp_path / "other", seed=2)
    other.store.backup(tmp_path / "copy.db")
    for path in station.root.glob("ledger.db*"):
        path.unlink()
    shutil.copy(tmp_path / "copy.db", station.root / "ledger.db")
    with Home(station.root) as home, refused("head_contradicted"):
        home.open_replay().sync()


@pytest.mark.parametrize("door", ["reader", "executor"])
def test_ledger_cut_behind_a_snapshot_of_the_longer_one(station: Station, tmp_path: Path, door: str) -> None:
    """The snapshot knows the entries that were cut; nobody goes on from it as if they were there, or had never been."""
    station.store.backup(tmp_path / "older.db")
    station.say("ada", "message", QUESTION)
    read(station)
    for path in station.root.glob("ledger.db*"):
        path.unlink()
    shutil.copy(tmp_path / "older.db", station.root / "ledger.db")
    with Home(station.root) as home, refused("head_contradicted"):
        if door == "reader":
            home.open_replay().sync()
        else:
            act(home)


def test_unlawful_entry_behind_the_snapshot_stops_the_executor(station: Station) -> None:
    read(station)
    station.force(station.sign("cp20", Draft("term", {"epoch": 7, "reason": "jump"})))
    with Home(station.root) as home, refused("unlawful_entry"):
        act(home)


def act(home: Home, log: list[str] | None = None) -> Exit:
    """An executor that ends when nothing is left to do."""
    said: list[str] = [] if log is None else log
    clock = lambda: 1_767_606_000 + 86_400  # noqa: E731  # a day after the station's time
    return run_executor(home, until_idle=True, wait=lambda _: False, log=said.append, clock=clock)


def test_executor_begins_at_its_snapshot_and_keeps_one_as_it_ends(station: Station, judged: list[int]) -> None:
    with Home(station.root) as home:
        assert act(home) is Exit.DONE
    head = station.store.head()
    assert json.loads(kept()[1].read_bytes())["size"] == head.size
    judged.clear()
    with Home(station.root) as home:
        assert act(home) is Exit.DONE
    # Its own term, and nothing that was there before.
    assert judged == [head.size]
    station.registrar.sync()
    assert station.state.term is not None
    assert station.state.term.epoch == 3


@pytest.mark.parametrize("fault", ["a file", "busy", "full"])
def test_cache_that_cannot_be_written_is_said_and_stops_nothing(
    station: Station, judged: list[int], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    folds = Path(os.environ["XDG_CACHE_HOME"]) / "calyx/folds"
    folds.parent.mkdir(parents=True)
    log: list[str] = []
    with ExitStack() as stack:
        if fault == "a file":
            folds.write_bytes(b"")
        elif fault == "busy":
            folds.mkdir()
            stack.enter_context(locked(folds, "busy", "another process"))
        else:

            def full(*_: object) -> None:
                raise OSError(28, "No space left on device")

            monkeypatch.setattr("policies.fold.snapshots.write_snapshot", full)
        home = stack.enter_context(Home(station.root))
        assert act(home, log) is Exit.DONE
    assert any(line.startswith("nothing is kept for the next start: ") for line in log)
    judged.clear()
    read(station)
    assert judged[:2] == [0, 0]


def test_executor_says_that_what_was_kept_is_not_believed(station: Station) -> None:
    read(station)
    _flip_a_bit(*kept())
    log: list[str] = []
    with Home(station.root) as home:
        assert act(home, log) is Exit.DONE
    assert log[0] == "every entry was read again: the snapshot is not the one that was kept"
    log.clear()
    with Home(station.root) as home:
        assert act(home, log) is Exit.DONE
    assert not any("read again" in line for line in log)


def test_what_a_killed_one_left_is_removed(station: Station) -> None:
    read(station)
    left = kept()[0].parent / ".0123456789abcdef01234567.tmp"
    left.write_bytes(b"half a snapshot")
    station.say("ada", "message", QUESTION)
    read(station)
    assert not left.exists()


def test_agent_keeps_what_it_read(station: Station, judged: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def once(agent: Any, ledger: Any, **options: Any) -> None:
        run_loop(agent, ledger, wait=lambda _: True, log=options["log"])

    monkeypatch.setattr("executor.agents.loop.run", once)
    monkeypatch.setattr(agent_module, "log_line", lambda _: None)
    with Home(station.root) as home, stopping() as stop:
        agent_module._run(home, "cp19", stop, accept_clock=True)
        judged.clear()
    read(station)
    assert judged == []


def test_snapshot_that_failed_is_tried_again_later(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    with Home(station.root) as home:
        registrar = home.open_registrar(station.clock)
        registrar.sync()
        with monkeypatch.context() as patch:

            def full(*_: object) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr("policies.fold.snapshots.write_snapshot", full)
            with pytest.raises(Unavailable, match="cannot be kept"):
                registrar.keep_new(1, 0)
        assert not registrar.keep_new(1, 0)
        registrar.submit(station.signer("ada"), Draft("message", QUESTION))
        assert registrar.keep_new(1, 0)


def test_full_disk_leaves_the_fold_in_memory(station: Station, judged: list[int]) -> None:
    """A reader that must go on where there is no space at all: it needs none."""
    read(station)

    class Full(Scratch):
        def open(self) -> Any:
            return Unnamed("/dev/full", "r+b")

    with Full(spill=True) as full, Home(station.root) as home:
        home._scratch = full
        assert home.open_replay().sync() == station.state
        begun = folds_of(home.pin(), scratch_place()).note()
    assert begun is not None
    assert begun.size == station.state.size


def test_listed_entry_is_the_one_that_was_verified_before(station: Station) -> None:
    """What is shown from behind a snapshot is read from the ledger now, and held against what the reader verified."""
    read(station)
    with Home(station.root) as home:
        state = home.open_replay().sync()
        assert [row["seq"] for row in _listed(home, state, 3, 4)] == [3, 4, 5, 6]
        assert _listed(home, state, state.size, 4) == []
        (other,) = home.open_store().read(5, 6)
        home.open_store = lambda: cast(Reader, SimpleNamespace(read=lambda *_: iter([other])))  # type: ignore[method-assign]
        with refused("broken_chain", entry=3):
            _listed(home, state, 3, 1)
