"""Where a process works things out: it leaves nothing there, and whoever begins removes what the killed ones left."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from instances import write_files

from executor.trees.materialise import discard
from executor.trees.workplace import Workplace

CONTEXT = multiprocessing.get_context("spawn")


def hold(directory: str, ready: Any) -> None:
    with Workplace(Path(directory)).folder() as folder:
        write_files(folder, {"a/tree": "x" * 1000})
        ready.put(str(folder))
        signal.pause()


@contextmanager
def another(directory: Path) -> Iterator[tuple[int, Path]]:
    """A process that works there: its id, and the folder that it works in."""
    ready = CONTEXT.Queue()
    process = CONTEXT.Process(target=hold, args=(str(directory), ready))
    process.start()
    try:
        assert process.pid is not None
        yield process.pid, Path(ready.get(timeout=60))
    finally:
        process.kill()
        process.join()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "run" / "work" / "cp20"


def left(place: Path) -> list[str]:
    return [str(path.relative_to(place)) for path in place.rglob("*")] if place.exists() else []


def test_folder_is_empty_private_and_gone_afterwards(place: Path) -> None:
    workplace = Workplace(place)
    with workplace.folder() as one, workplace.folder() as two:
        assert one != two
        assert (list(one.iterdir()), one.stat().st_mode & 0o777) == ([], 0o700)
        (one / "file").touch()
        assert {one.parent, two.parent} == {next(place.iterdir())}
    assert not one.exists()
    workplace.close()
    assert left(place) == []


def test_nothing_is_made_for_who_needs_no_folder(place: Path) -> None:
    """A full disk must not keep an executor from a rollback."""
    workplace, said = Workplace(place), list[str]()
    workplace.clear(said.append)
    workplace.close()
    assert (said, place.exists()) == ([], False)


def test_killed_process_leaves_trees_and_the_next_one_removes_them(place: Path) -> None:
    said: list[str] = []
    with another(place) as (pid, folder):
        os.kill(pid, signal.SIGKILL)
    # As in a release: nobody may write there.
    (folder / "a").chmod(0o555)
    assert (folder / "a" / "tree").exists()
    Workplace(place).clear(said.append)
    assert (left(place), said) == ([], [])


def test_folder_of_a_living_process_stays_also_when_it_is_frozen(place: Path) -> None:
    said: list[str] = []
    with another(place) as (pid, folder):
        os.kill(pid, signal.SIGSTOP)
        workplace = Workplace(place)
        workplace.clear(said.append)
        assert (folder / "a" / "tree").read_text() == "x" * 1000
        with workplace.folder() as own:
            Workplace(place).clear(said.append)
            assert own.exists()
        workplace.close()
    assert said == []


def test_place_on_another_disk_is_used_through_a_link(place: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    write_files(far, {"cp20/p-1/a": "x"})
    place.parent.parent.mkdir()
    place.parent.symlink_to(far)
    workplace = Workplace(place)
    workplace.clear(print)
    with workplace.folder():
        assert len(left(far / "cp20")) == 2
    workplace.close()
    assert left(far) == ["cp20"]


def test_what_somebody_else_put_there_stays(place: Path, tmp_path: Path) -> None:
    write_files(place, {"notes": "of a person", "mine/file": "x"})
    write_files(tmp_path / "elsewhere", {"file": "x"})
    (place / "p-link").symlink_to(tmp_path / "elsewhere")
    (place / "p-file").touch()
    said: list[str] = []
    Workplace(place).clear(said.append)
    assert {"notes", "mine", "mine/file", "p-link", "p-file"} <= set(left(place))
    assert (tmp_path / "elsewhere" / "file").exists()
    assert [("cannot be removed" in line, "\n" in line) for line in said] == [(True, False)] * 2


def test_link_in_what_was_left_is_not_followed(place: Path, tmp_path: Path) -> None:
    write_files(tmp_path / "elsewhere", {"file": "x"})
    write_files(place / "p-1", {"w-1/a": "x"})
    (place / "p-1" / "w-1" / "link").symlink_to(tmp_path / "elsewhere")
    Workplace(place).clear(print)
    assert left(place) == []
    assert (tmp_path / "elsewhere" / "file").exists()


def test_git_that_outlived_its_executor_does_not_keep_its_trees(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(place / "p-1", {"w-1/a": "x"})
    late = iter(["one", "two"])

    def fail(path: Path) -> None:
        name = next(late, None)
        if name is not None:
            (path / name).touch()
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))
        discard(path)

    monkeypatch.setattr("executor.trees.workplace.discard", fail)
    said: list[str] = []
    Workplace(place).clear(said.append)
    assert (left(place), said) == ([], [])


def test_disk_that_fails_is_said_in_a_line_and_stops_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(place, {"p-1/a": "x", "p-2/a": "x"})

    def fail(path: Path) -> None:
        if path.name == "p-1":
            raise OSError(errno.EIO, "Input/output error", str(path))
        discard(path)

    monkeypatch.setattr("executor.trees.workplace.discard", fail)
    said: list[str] = []
    Workplace(place).clear(said.append)
    assert [path.name for path in place.iterdir()] == ["p-1"]
    assert said == [f"{place / 'p-1'} was left by an earlier run and cannot be removed: Input/output error"]
    place.chmod(0o700)
    monkeypatch.setattr(os, "listdir", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    Workplace(place).clear(said.append)
    assert len(said) == 2


def test_new_folder_that_another_clears_is_made_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its making and its lock it looks like one that was left."""
    rivals = [2]

    def mkdtemp(**options: Any) -> str:
        made = str(tempfile.mkdtemp(**options))
        rivals[0] -= 1
        if rivals[0] >= 0:
            Workplace(place).clear(print)
        return made

    monkeypatch.setattr("executor.trees.workplace.mkdtemp", mkdtemp)
    workplace = Workplace(place)
    with workplace.folder() as folder:
        assert folder.exists()
    workplace.close()
    rivals[0] = 1_000
    with pytest.raises(OSError, match="somebody removes"), workplace.folder():
        pass
    assert left(place) == []


def test_person_who_tidies_up_stops_nothing(place: Path) -> None:
    workplace = Workplace(place)
    with workplace.folder():
        pass
    next(place.iterdir()).rmdir()
    with workplace.folder() as folder:
        assert folder.exists()
    workplace.close()
    assert left(place) == []
