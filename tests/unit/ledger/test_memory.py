from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import pytest
from refusal import refused

from keys.errors import Unavailable
from ledger.head import Head
from ledger.memory import HeadMemory
from ledger.remembered import HeadContradicted, Remembered, check_remembered

LEDGER, OTHER = "aa" * 32, "bb" * 32
HOME = "/srv/calyx"


def head(size: int, fill: str = "0") -> Head:
    return Head(size, f"{size:x}".rjust(64, fill))


def test_head_is_remembered_and_never_lowered(tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path / "state")
    assert memory.load(HOME) is None
    memory.remember(HOME, LEDGER, head(5))
    assert memory.remember(HOME, LEDGER, head(3)).head == head(5)
    memory.remember(HOME, LEDGER, head(9))
    assert HeadMemory(tmp_path / "state").load(HOME) == Remembered(home=HOME, ledger=LEDGER, size=9, hash=head(9).hash)
    assert memory.load("/elsewhere") is None


def test_file_is_the_users_own(tmp_path: Path) -> None:
    HeadMemory(tmp_path / "state").remember(HOME, LEDGER, head(1))
    path = tmp_path / "state" / f"{sha256(HOME.encode()).hexdigest()}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_bytes() == f'{{"hash":"{head(1).hash}","home":"{HOME}","ledger":"{LEDGER}","size":1}}'.encode()


def test_other_ledger_in_the_same_home_is_contradicted_until_replaced(tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path)
    memory.remember(HOME, LEDGER, head(5))
    with pytest.raises(HeadContradicted):
        memory.remember(HOME, OTHER, head(50))
    with pytest.raises(HeadContradicted):
        memory.remember(HOME, LEDGER, head(5, "f"))
    assert memory.replace(HOME, OTHER, head(1)).ledger == OTHER
    assert memory.load(HOME) is not None
    memory.remember(HOME, OTHER, head(2))


REMEMBERED = Remembered(home=HOME, ledger=LEDGER, size=5, hash=head(5).hash)


def test_history_that_extends_the_remembered_head_is_accepted() -> None:
    check_remembered(REMEMBERED, LEDGER, head(5), lambda seq: head(seq + 1).hash)
    check_remembered(REMEMBERED, LEDGER, head(7), lambda seq: head(seq + 1).hash)


@pytest.mark.parametrize(
    ("ledger", "found", "fill"),
    [(LEDGER, head(4), "0"), (LEDGER, head(7), "f"), (OTHER, head(7), "0")],
    ids=["cut", "rewritten", "other ledger"],
)
def test_contradicted_head_shows_both(ledger: str, found: Head, fill: str) -> None:
    with pytest.raises(HeadContradicted) as caught:
        check_remembered(REMEMBERED, ledger, found, lambda seq: head(seq + 1, fill).hash)
    assert caught.value.code == "head_contradicted"
    assert str(REMEMBERED.head) in caught.value.message
    assert str(found) in caught.value.message
    assert caught.value.fields["found_hash"] == found.hash


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b'{"hash":1}', b"\xff"])
def test_damaged_memory_is_not_taken_for_none(tmp_path: Path, content: bytes) -> None:
    memory = HeadMemory(tmp_path)
    memory.remember(HOME, LEDGER, head(5))
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(content)
    with pytest.raises(Unavailable) as caught:
        memory.load(HOME)
    assert caught.value.code == "memory_unreadable"
    with pytest.raises(Unavailable):
        memory.remember(HOME, LEDGER, head(6))


def test_memory_of_another_home_is_refused(tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path)
    memory.remember(HOME, LEDGER, head(5))
    (path,) = tmp_path.glob("*.json")
    path.rename(tmp_path / f"{sha256(b'/other').hexdigest()}.json")
    with pytest.raises(Unavailable):
        memory.load("/other")


def fail(code: int) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("call", "verb"), [("os.open", "note"), ("os.write", "note"), ("os.open", "remember"), ("replace_file", "remember")]
)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_disk_that_is_full_is_told_from_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, verb: str, code: int
) -> None:
    """A full one passes, and then what is there can be gone on with."""
    memory = HeadMemory(tmp_path)
    memory.remember(HOME, LEDGER, head(5))
    memory.note(HOME, LEDGER, head(6))
    say = getattr(memory, verb)
    with monkeypatch.context() as patch, refused("memory_full"):
        patch.setattr(f"ledger.memory.{call}", fail(code))
        say(HOME, LEDGER, head(7))
    assert say(HOME, LEDGER, head(7)).head == head(7)
    found = HeadMemory(tmp_path).load(HOME)
    assert found is not None
    assert found.head == head(7)


def test_half_of_a_slot_on_a_full_disk_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = HeadMemory(tmp_path)
    memory.remember(HOME, LEDGER, head(5))
    memory.note(HOME, LEDGER, head(6))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr("ledger.memory.os.write", lambda file, data: write(file, bytes(data)[:10]))
        with refused("memory_full"):
            memory.note(HOME, LEDGER, head(7))
    found = HeadMemory(tmp_path).load(HOME)
    assert found is not None
    assert found.head == head(6)
    assert memory.note(HOME, LEDGER, head(7)).head == head(7)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_failed_sync_is_never_taken_for_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """What the disk holds is unknown then, whatever it says why."""
    memory = HeadMemory(tmp_path)
    memory.remember(HOME, LEDGER, head(5))
    with monkeypatch.context() as patch:
        patch.setattr("ledger.durable.os.fsync", fail(code))
        with refused("memory_write_failed"):
            memory.remember(HOME, LEDGER, head(6))


def test_lock_that_a_stopped_process_holds_is_not_waited_for_without_end(tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path, wait_s=0.05)
    memory.remember(HOME, LEDGER, head(1))
    (lock,) = tmp_path.glob("*.lock")
    with lock.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for write in (memory.remember, memory.note, memory.replace):
            with refused("memory_busy"):
                write(HOME, LEDGER, head(2))
        # No lock is needed to read it.
        assert memory.load(HOME) == Remembered(home=HOME, ledger=LEDGER, size=1, hash=head(1).hash)
    assert memory.remember(HOME, LEDGER, head(2)).head == head(2)


def test_disk_that_failed_is_not_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = HeadMemory(tmp_path)
    monkeypatch.setattr("ledger.memory.os.open", fail(errno.EROFS))
    with refused("memory_write_failed"):
        memory.remember(HOME, LEDGER, head(6))


CLIMBER = """
import sys
from pathlib import Path
from ledger.head import Head
from ledger.memory import HeadMemory
memory = HeadMemory(Path(sys.argv[1]))
for size in range(int(sys.argv[2]), 60, 3):
    memory.remember("/srv/calyx", "aa" * 32, Head(size, f"{size:x}".rjust(64, "0")))
"""


def test_processes_that_remember_at_once_keep_the_highest(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen([sys.executable, "-c", CLIMBER, str(tmp_path), str(start)], env=environment)
        for start in (1, 2, 3)
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    remembered = HeadMemory(tmp_path).load(HOME)
    assert remembered is not None
    assert remembered.head == head(59)
