"""The feed's daily files: what they hold, what a kill leaves, and what is refused instead of being written over."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from executor.process_lock import ProcessLock
from executor.svf.files import LOCK, SvfFiles
from executor.svf.lines import Line
from keys.errors import CalyxError, Unavailable
from ledger.durable import sync_directory, sync_file


def line(seq: int, day: str, text: str = "") -> Line:
    return Line(seq, day, json.dumps({"seq": seq, "text": text or "x" * 20}).encode() + b"\n")


FEED = [
    line(1, "2026-01-05"),
    line(4, "2026-01-05"),
    line(7, "2026-01-06"),
    line(9, "2026-01-09"),
    line(9, "2026-01-09", "second of the same entry"),
]


def export(directory: Path, lines: list[Line]) -> int:
    with SvfFiles(directory) as files:
        return files.take(lines)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.name != LOCK}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    export(tmp_path / "whole", FEED)
    return contents(tmp_path / "whole")


def refused(directory: Path, lines: list[Line]) -> str:
    before = contents(directory)
    with pytest.raises(CalyxError) as caught:
        export(directory, lines)
    assert caught.value.code == "svf_contradicted"
    assert "\n" not in caught.value.message
    assert contents(directory) == before, "a refused export changed something"
    return caught.value.message


def test_one_file_a_day_and_none_for_a_day_without_lines(whole: dict[str, bytes]) -> None:
    assert list(whole) == ["svf-2026-01-05.jsonl", "svf-2026-01-06.jsonl", "svf-2026-01-09.jsonl"]
    assert b"".join(whole.values()) == b"".join(each.data for each in FEED)


def test_export_again_adds_nothing(tmp_path: Path, whole: dict[str, bytes]) -> None:
    assert export(tmp_path / "whole", FEED) == 0
    assert contents(tmp_path / "whole") == whole


@pytest.mark.parametrize("first", range(len(FEED) + 1))
def test_export_goes_on_where_another_stopped(tmp_path: Path, whole: dict[str, bytes], first: int) -> None:
    export(tmp_path / "part", FEED[:first])
    assert export(tmp_path / "part", FEED) == len(FEED) - first
    assert contents(tmp_path / "part") == whole


def test_one_export_takes_what_comes(tmp_path: Path, whole: dict[str, bytes]) -> None:
    with SvfFiles(tmp_path / "steps") as files:
        assert [files.take([each]) for each in FEED] == [1] * len(FEED)
        assert files.take([]) == 0
    assert contents(tmp_path / "steps") == whole


def test_half_a_line_at_the_end_is_cut_off(tmp_path: Path, whole: dict[str, bytes]) -> None:
    for cut in range(1, len(FEED[-1].data) + 1):
        directory = tmp_path / f"cut-{cut}"
        export(directory, FEED)
        newest = directory / "svf-2026-01-09.jsonl"
        os.truncate(newest, newest.stat().st_size - cut)
        assert export(directory, FEED) == 1
        assert contents(directory) == whole


def test_garbage_without_a_newline_at_the_end_is_cut_off(tmp_path: Path, whole: dict[str, bytes]) -> None:
    with (tmp_path / "whole" / "svf-2026-01-09.jsonl").open("ab") as file:
        file.write(b"\0" * 300)
    assert export(tmp_path / "whole", FEED) == 0
    assert contents(tmp_path / "whole") == whole


@pytest.mark.parametrize("left", [b"", FEED[3].data[:7]])
def test_day_that_was_only_begun_is_gone_on_with(tmp_path: Path, whole: dict[str, bytes], left: bytes) -> None:
    export(tmp_path / "begun", FEED[:3])
    (tmp_path / "begun" / "svf-2026-01-09.jsonl").write_bytes(left)
    assert export(tmp_path / "begun", FEED) == 2
    assert contents(tmp_path / "begun") == whole


@pytest.mark.parametrize("left", [b"", b"half a line"])
def test_day_that_the_ledger_does_not_have_is_refused(tmp_path: Path, left: bytes) -> None:
    export(tmp_path, FEED)
    (tmp_path / "svf-2027-01-01.jsonl").write_bytes(left)
    assert "gives this day no line" in refused(tmp_path, FEED)


def test_line_that_the_ledger_contradicts_is_refused(tmp_path: Path) -> None:
    export(tmp_path, FEED)
    path = tmp_path / "svf-2026-01-05.jsonl"
    path.write_bytes(path.read_bytes().replace(b"4", b"5"))
    assert "svf-2026-01-05.jsonl: line 2 is not what the ledger's entry 4 gives" in refused(tmp_path, FEED)


def test_files_newer_than_the_ledger_are_refused(tmp_path: Path) -> None:
    export(tmp_path, FEED)
    assert "svf-2026-01-09.jsonl: the ledger ends before line 2" in refused(tmp_path, FEED[:4])
    assert "svf-2026-01-05.jsonl: the ledger ends before line 1" in refused(tmp_path, [])


def test_files_of_another_ledger_are_refused_before_anything_is_added(tmp_path: Path) -> None:
    export(tmp_path, FEED[:2])
    refused(tmp_path, [line(1, "2026-01-05", "another"), *FEED[1:]])


def test_line_that_was_taken_out_is_refused(tmp_path: Path) -> None:
    export(tmp_path, FEED)
    path = tmp_path / "svf-2026-01-05.jsonl"
    path.write_bytes(FEED[1].data)
    refused(tmp_path, FEED)


def test_file_that_was_taken_from_the_middle_is_refused(tmp_path: Path) -> None:
    export(tmp_path, FEED)
    (tmp_path / "svf-2026-01-06.jsonl").unlink()
    refused(tmp_path, FEED)


@pytest.mark.parametrize("kept", [FEED[2].data[:5], b""])
def test_older_day_that_was_cut_is_refused(tmp_path: Path, kept: bytes) -> None:
    export(tmp_path, FEED)
    (tmp_path / "svf-2026-01-06.jsonl").write_bytes(kept)
    refused(tmp_path, FEED)


def test_line_without_an_end_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    export(tmp_path, FEED)
    with (tmp_path / "svf-2026-01-09.jsonl").open("ab") as file:
        file.truncate(1 << 30)
    with pytest.raises(CalyxError, match=r"svf_contradicted.*has no end"):
        export(tmp_path, FEED)


def test_days_moved_away_stay_away(tmp_path: Path, whole: dict[str, bytes]) -> None:
    export(tmp_path / "moved", FEED[:3])
    (tmp_path / "moved" / "svf-2026-01-05.jsonl").unlink()
    assert export(tmp_path / "moved", FEED) == 2
    assert contents(tmp_path / "moved") == {name: data for name, data in whole.items() if name > "svf-2026-01-06"}


def test_file_named_for_no_day_is_refused(tmp_path: Path) -> None:
    (tmp_path / "svf-2026-02-30.jsonl").touch()
    assert "there is no such day" in refused(tmp_path, FEED)


def test_files_of_others_are_let_be(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert export(tmp_path, FEED) == len(FEED)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_link_in_place_of_a_file_is_not_written_through(tmp_path: Path) -> None:
    directory, elsewhere = tmp_path / "svf", tmp_path / "elsewhere"
    export(directory, FEED[:3])
    (directory / "svf-2026-01-06.jsonl").rename(elsewhere)
    (directory / "svf-2026-01-06.jsonl").symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises(CalyxError, match=r"svf_contradicted.*it is a link"):
        export(directory, FEED)
    assert elsewhere.read_bytes() == before


def test_pipe_in_place_of_a_file_does_not_keep_us_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "svf-2026-01-05.jsonl")
    with pytest.raises(CalyxError, match=r"svf_contradicted.*another program changed it"):
        export(tmp_path, FEED)


def test_another_programs_line_stops_a_running_export(tmp_path: Path) -> None:
    with SvfFiles(tmp_path) as files:
        files.take(FEED[:1])
        with (tmp_path / "svf-2026-01-05.jsonl").open("ab") as file:
            file.write(b"{}\n")
        with pytest.raises(CalyxError, match="svf_contradicted"):
            files.take(FEED[1:])


def test_file_taken_away_stops_a_running_export(tmp_path: Path) -> None:
    with SvfFiles(tmp_path) as files:
        files.take(FEED[:1])
        (tmp_path / "svf-2026-01-05.jsonl").unlink()
        with pytest.raises(CalyxError, match="it was taken away"):
            files.take(FEED[1:])


def test_two_exports_into_one_directory(tmp_path: Path) -> None:
    with SvfFiles(tmp_path), pytest.raises(Unavailable, match="already_running"):
        export(tmp_path, FEED)
    assert export(tmp_path, FEED) == len(FEED)


def test_refused_start_lets_the_lock_go(tmp_path: Path) -> None:
    (tmp_path / "svf-2026-02-30.jsonl").touch()
    with pytest.raises(CalyxError, match="svf_contradicted"):
        export(tmp_path, FEED)
    assert not ProcessLock(tmp_path / LOCK, "an export").held()


def test_file_is_on_the_disk_before_its_name_and_before_the_next_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def noted(name: str, original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            steps.append(name)
            return original(*arguments)

        return call

    monkeypatch.setattr("executor.svf.files.sync_file", noted("file", sync_file))
    monkeypatch.setattr("executor.svf.files.sync_directory", noted("directory", sync_directory))
    monkeypatch.setattr(SvfFiles, "_append", noted("day", SvfFiles._append))
    export(tmp_path, FEED[:3])
    assert steps == ["day", "file", "directory"] * 2
    steps.clear()
    # Who wrote them may have been killed before the sync, so it is done again before anything is added.
    export(tmp_path, FEED)
    assert steps == ["file", "directory", "day", "file", "directory"]


def test_full_disk_is_one_line_and_the_next_export_goes_on(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, write = tmp_path / "full", os.write
    export(directory, FEED[:3])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", nearly_full(write))
        with pytest.raises(
            Unavailable, match=r"svf_write_failed: cannot write the feed in .*: No space left on device"
        ):
            export(directory, FEED)
    assert (directory / "svf-2026-01-09.jsonl").read_bytes() == FEED[3].data[:10]
    assert export(directory, FEED) == 2
    assert contents(directory) == whole


def nearly_full(write: Callable[[int, memoryview], int]) -> Callable[[int, memoryview], int]:
    """A disk that takes ten more bytes. The process id in the lock, which is shorter, is let through."""
    room = [10]

    def call(descriptor: int, data: memoryview) -> int:
        if len(data) <= 10:
            return write(descriptor, data)
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[: room.pop()])

    return call
