"""A pipe that stands in the place of a file of ours, with nobody at its other end, is never waited for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusal import refused

from executor.homes.reserve import Reserve
from executor.homes.settings import load_settings
from executor.homes.succession import LINEAGE, trace_lineage
from executor.hosts.fence import load_fence
from executor.hosts.layout import Layout, layout_of
from executor.hosts.local_host import _load_flip
from executor.hosts.process import last_log_line, load_running, trim_log
from executor.hosts.releases import load_manifest
from executor.logbook import LogFile
from executor.notify.outbox import Outbox, read_outbox
from executor.remote.kept import KeptRecords
from executor.rollout.turn import Turn
from executor.rollout.watchman import MonitorProcess
from ledger.head import Head
from ledger.memory import HeadMemory
from ledger.objects import DirectoryObjects
from policies.fleet import Instance
from policies.fold.snapshots import Snapshots
from policies.kinds import Continues

LEDGER = "ab" * 32
HOME = "/srv/calyx"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = layout_of(Instance.model_validate({"name": "web-01", "root": str(tmp_path / "srv"), "probe": None}))
    found.private.mkdir(parents=True)
    return found


def instead(path: Path) -> Path:
    """Put a pipe in the place of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def test_settings(tmp_path: Path) -> None:
    with refused("bad_settings"):
        load_settings(instead(tmp_path / "settings.json"))


def test_first_record_of_a_ledger_before(tmp_path: Path) -> None:
    instead(tmp_path / LINEAGE / LEDGER)
    before = Continues.model_validate({"ledger": LEDGER, "head": {"size": 1, "hash": LEDGER}})
    assert trace_lineage(tmp_path, before) == ((LEDGER,), ())


def test_beat_of_the_executor_that_acts(tmp_path: Path) -> None:
    instead(tmp_path / "run/executor.beat")
    turn = Turn(tmp_path / "run", "cp20", lambda _: None, monotonic=lambda: 0.0)
    turn.take()
    turn.release()


def test_output_of_a_monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(tmp_path / "cp19.log")
    outputs: list[bool] = []

    def start(*_: Any, stdout: Any, **__: Any) -> None:
        outputs.append(os.path.sameopenfile(stdout.fileno(), null))

    monkeypatch.setattr(subprocess, "Popen", start)
    null = os.open(os.devnull, os.O_RDONLY)
    MonitorProcess(tmp_path, tmp_path / "cp19.lock", "cp19").ensure()
    os.close(null)
    assert outputs == [True]


def test_log_that_nobody_reads(tmp_path: Path) -> None:
    LogFile(instead(tmp_path / "log")).write("lost")


def test_log_that_somebody_reads(tmp_path: Path) -> None:
    reader = os.open(instead(tmp_path / "log"), os.O_RDONLY | os.O_NONBLOCK)
    LogFile(tmp_path / "log").write("line")
    assert os.read(reader, 100) == b"line\n"
    os.close(reader)


def test_reserve(tmp_path: Path) -> None:
    reserve = Reserve(instead(tmp_path / "reserve"), 4096)
    with refused("no_reserve"):
        reserve.ensure()
    reserve.ensure()
    assert (tmp_path / "reserve").stat().st_size == 4096


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_lies_beside_the_outbox(tmp_path: Path, suffix: str) -> None:
    Outbox.open(tmp_path / "outbox.db", LEDGER).close()
    instead(tmp_path / f"outbox.db{suffix}")
    with refused("ledger_unreadable"):
        read_outbox(tmp_path / "outbox.db")
    with refused("ledger_unreadable"):
        Outbox.open(tmp_path / "outbox.db", LEDGER)


@pytest.mark.parametrize("suffix", ["json", "records"])
def test_records_of_a_home_elsewhere(tmp_path: Path, suffix: str) -> None:
    kept = KeptRecords(tmp_path, HOME)
    (path,) = tmp_path.glob("*.records")
    kept.close()
    instead(path.with_suffix(f".{suffix}"))
    kept = KeptRecords(tmp_path, HOME)
    assert kept.count == 0
    kept.close()


def test_files_that_a_machine_keeps_of_a_service(layout: Layout) -> None:
    for name in ("process.json", "service.log", "flip"):
        instead(layout.private / name)
    instead(layout.manifest(LEDGER))
    trim_log(layout)
    assert (load_running(layout), last_log_line(layout), _load_flip(layout)) == (None, "", ("", 0))
    assert load_manifest(layout, LEDGER) is None


def test_fence_lets_nobody_through(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="regular"):
        load_fence(instead(tmp_path / "fence"))


@pytest.mark.parametrize(
    ("suffix", "use", "code"),
    [
        ("json", HeadMemory.note, "memory_unreadable"),
        ("json", HeadMemory.remember, "memory_unreadable"),
        ("recent", HeadMemory.note, "memory_write_failed"),
        ("recent", HeadMemory.remember, "memory_unreadable"),
        ("recent.new", HeadMemory.note, "memory_write_failed"),
    ],
)
def test_remembered_head(
    tmp_path: Path, suffix: str, use: Callable[[HeadMemory, str, str, Head], object], code: str
) -> None:
    HeadMemory(tmp_path).remember(HOME, LEDGER, Head(1, "1" * 64))
    (path,) = tmp_path.glob("*.json")
    instead(path.with_suffix(f".{suffix}"))
    with refused(code):
        use(HeadMemory(tmp_path), HOME, LEDGER, Head(2, "2" * 64))


def test_remembered_head_is_not_taken_for_none(tmp_path: Path) -> None:
    HeadMemory(tmp_path).remember(HOME, LEDGER, Head(1, "1" * 64))
    (path,) = tmp_path.glob("*.json")
    instead(path)
    with refused("memory_unreadable"):
        HeadMemory(tmp_path).load(HOME)


def test_snapshot_of_an_earlier_audit(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "memory", tmp_path / "cache", HOME)
    instead(snapshots._note)
    assert snapshots.note() is None


def test_content_of_an_object(tmp_path: Path) -> None:
    with refused("file_unreadable"):
        DirectoryObjects(tmp_path / "objects").put_file(instead(tmp_path / "content"))
