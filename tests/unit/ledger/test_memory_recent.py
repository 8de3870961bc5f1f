"""Heads that are remembered without waiting for the disk: what a kill, a torn write and a loss of power leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from keys.errors import FormatError, Unavailable
from ledger import durable
from ledger.head import Head
from ledger.memory import MAX_RECENT, HeadMemory
from ledger.recent import SLOT_SIZE, SLOTS_SIZE, Slots, format_slot, parse_slots
from ledger.remembered import HeadContradicted

LEDGER, OTHER = "aa" * 32, "bb" * 32
HOME = "/srv/calyx"
NAME = sha256(HOME.encode()).hexdigest()


def head(size: int, fill: str = "0") -> Head:
    return Head(size, f"{size:x}".rjust(64, fill))


def remembered(directory: Path) -> Head:
    """What a process that starts now remembers."""
    found = HeadMemory(directory).load(HOME)
    assert found is not None
    assert found.ledger == LEDGER
    return found.head


def noted(directory: Path, *sizes: int) -> Path:
    """Remember 5 entries, note others; the file with the slots."""
    memory = HeadMemory(directory)
    memory.remember(HOME, LEDGER, head(5))
    for size in sizes:
        assert memory.note(HOME, LEDGER, head(size)).head == head(size)
    return directory / f"{NAME}.recent"


def unreadable(directory: Path, path: Path) -> None:
    memory = HeadMemory(directory)
    actions: list[Callable[[], object]] = [
        lambda: memory.load(HOME),
        lambda: memory.note(HOME, LEDGER, head(99)),
        lambda: memory.remember(HOME, LEDGER, head(99)),
    ]
    for action in actions:
        with pytest.raises(Unavailable) as caught:
            action()
        assert caught.value.code == "memory_unreadable"
        assert str(path) in caught.value.message
        assert "\n" not in caught.value.message


def test_noted_head_is_remembered_and_never_lowered(tmp_path: Path) -> None:
    path = noted(tmp_path, 6, 7)
    assert path.stat().st_mode & 0o777 == 0o600
    assert remembered(tmp_path) == head(7)
    memory = HeadMemory(tmp_path)
    assert memory.note(HOME, LEDGER, head(6)).head == head(7)
    assert memory.remember(HOME, LEDGER, head(6)).head == head(7)
    assert remembered(tmp_path) == head(7)


def test_note_waits_for_no_disk_and_remember_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted(tmp_path, 6)
    synced: list[int] = []
    monkeypatch.setattr(durable, "sync_file", synced.append)
    memory = HeadMemory(tmp_path)
    before = (tmp_path / f"{NAME}.json").read_bytes()
    for size in range(7, 60):
        memory.note(HOME, LEDGER, head(size))
    assert synced == []
    assert (tmp_path / f"{NAME}.json").read_bytes() == before
    # Also for one that was noted already, or is older than that.
    memory.remember(HOME, LEDGER, head(8))
    assert len(synced) == 1
    (tmp_path / f"{NAME}.recent").unlink()
    assert remembered(tmp_path) == head(59)


def test_head_on_the_disk_is_never_far_behind(tmp_path: Path) -> None:
    path = noted(tmp_path, *range(6, 3 * MAX_RECENT, 100))
    path.unlink()
    assert remembered(tmp_path).size >= 2 * MAX_RECENT - 200


def test_first_head_of_a_home_is_on_the_disk_even_if_it_is_only_noted(tmp_path: Path) -> None:
    HeadMemory(tmp_path / "new").note(HOME, LEDGER, head(5))
    (tmp_path / "new" / f"{NAME}.recent").unlink()
    assert remembered(tmp_path / "new") == head(5)


KILLED = """
import os, sys
from pathlib import Path
from ledger.head import Head
from ledger.memory import HeadMemory
memory = HeadMemory(Path(sys.argv[1]))
memory.remember("/srv/calyx", "aa" * 32, Head(5, f"{5:x}".rjust(64, "0")))
for size in (6, 7, 8):
    memory.note("/srv/calyx", "aa" * 32, Head(size, f"{size:x}".rjust(64, "0")))
os.kill(os.getpid(), 9)
"""


def test_noted_head_outlives_a_killed_process(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=False, timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert remembered(tmp_path) == head(8)


@pytest.mark.parametrize("kept", [0, 1, 40, 160, 200, SLOT_SIZE - 1])
@pytest.mark.parametrize("rest", ["old", "zeros", "rubbish"])
def test_torn_slot_leaves_the_head_before_it(tmp_path: Path, kept: int, rest: str) -> None:
    path = noted(tmp_path, 6, 7)
    old = path.read_bytes()
    HeadMemory(tmp_path).note(HOME, LEDGER, head(8))
    new = path.read_bytes()
    # 6 was in the first slot, so 8 is.
    assert new[SLOT_SIZE:] == old[SLOT_SIZE:]
    tail = {"old": old[kept:SLOT_SIZE], "zeros": bytes(SLOT_SIZE - kept), "rubbish": b"\xa5" * (SLOT_SIZE - kept)}[rest]
    path.write_bytes(new[:kept] + tail + new[SLOT_SIZE:])
    # What is cut behind the line's end tears nothing.
    assert remembered(tmp_path) == (head(8) if kept >= 240 and rest != "rubbish" else head(7))
    memory = HeadMemory(tmp_path)
    memory.note(HOME, LEDGER, head(9))
    memory.note(HOME, LEDGER, head(10))
    assert remembered(tmp_path) == head(10)


@pytest.mark.parametrize("data", [b"", bytes(SLOTS_SIZE)], ids=["empty", "zeros"])
def test_file_that_a_loss_of_power_left_without_content_is_as_if_nothing_was_noted(tmp_path: Path, data: bytes) -> None:
    path = noted(tmp_path, 6, 7)
    path.write_bytes(data)
    assert remembered(tmp_path) == head(5)
    HeadMemory(tmp_path).note(HOME, LEDGER, head(6))
    assert remembered(tmp_path) == head(6)
    assert path.stat().st_size == SLOTS_SIZE


@pytest.mark.parametrize("size", [1, 100, SLOT_SIZE, SLOTS_SIZE - 1, SLOTS_SIZE + 1, 70_000])
def test_cut_or_lengthened_file_is_not_taken_for_none(tmp_path: Path, size: int) -> None:
    path = noted(tmp_path, 6, 7)
    os.truncate(path, size)
    unreadable(tmp_path, path)


def test_file_without_a_whole_slot_is_not_taken_for_none(tmp_path: Path) -> None:
    path = noted(tmp_path, 6, 7)
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    data[SLOT_SIZE + 20] ^= 1
    path.write_bytes(data)
    unreadable(tmp_path, path)
    # As its hint says.
    path.unlink()
    assert remembered(tmp_path) == head(5)


def test_slots_of_another_home_are_refused(tmp_path: Path) -> None:
    path = noted(tmp_path, 6, 7)
    memory = HeadMemory(tmp_path)
    memory.remember("/other", LEDGER, head(3))
    moved = tmp_path / f"{sha256(b'/other').hexdigest()}.recent"
    path.rename(moved)
    with pytest.raises(Unavailable) as caught:
        memory.load("/other")
    assert caught.value.code == "memory_unreadable"


@pytest.mark.parametrize(
    "slots",
    [
        format_slot(NAME, OTHER, head(9)) + bytes(SLOT_SIZE),
        format_slot(NAME, LEDGER, head(5, "f")) + bytes(SLOT_SIZE),
        format_slot(NAME, LEDGER, head(8)) + format_slot(NAME, OTHER, head(9)),
        format_slot(NAME, LEDGER, head(9)) + format_slot(NAME, LEDGER, head(9, "f")),
    ],
    ids=["another ledger", "another hash", "two ledgers", "two hashes"],
)
def test_memory_that_contradicts_itself_is_refused(tmp_path: Path, slots: bytes) -> None:
    path = noted(tmp_path, 6)
    path.write_bytes(slots)
    unreadable(tmp_path, path)


def test_noting_another_history_is_contradicted(tmp_path: Path) -> None:
    path = noted(tmp_path, 6, 7)
    before = path.read_bytes()
    memory = HeadMemory(tmp_path)
    for ledger, other in ((OTHER, head(50)), (LEDGER, head(7, "f"))):
        with pytest.raises(HeadContradicted):
            memory.note(HOME, ledger, other)
        with pytest.raises(HeadContradicted):
            memory.remember(HOME, ledger, other)
    assert path.read_bytes() == before


def test_process_that_noted_a_head_sees_what_another_remembered_since(tmp_path: Path) -> None:
    memory, other = HeadMemory(tmp_path), HeadMemory(tmp_path)
    memory.remember(HOME, LEDGER, head(5))
    for size in range(6, 30, 3):
        assert memory.note(HOME, LEDGER, head(size)).head == head(size)
        assert other.remember(HOME, LEDGER, head(size + 1)).head == head(size + 1)
        found = memory.load(HOME)
        assert found is not None
        assert found.head == head(size + 1)
        with pytest.raises(HeadContradicted):
            memory.note(HOME, LEDGER, head(size + 1, "f"))
        assert other.note(HOME, LEDGER, head(size + 2)).head == head(size + 2)
        assert memory.note(HOME, LEDGER, head(size)).head == head(size + 2)


@pytest.mark.parametrize("state", ["noted", "older"])
def test_kill_between_the_two_files_leaves_the_higher_head(tmp_path: Path, state: str) -> None:
    path = noted(tmp_path, 6, 7)
    slots = path.read_bytes()
    HeadMemory(tmp_path).remember(HOME, LEDGER, head(9 if state == "older" else 7))
    # As if it had not come to emptying them.
    path.write_bytes(slots)
    assert remembered(tmp_path) == head(9 if state == "older" else 7)
    memory = HeadMemory(tmp_path)
    memory.note(HOME, LEDGER, head(8))
    memory.note(HOME, LEDGER, head(12))
    assert remembered(tmp_path) == head(12)


def test_replaced_memory_forgets_what_was_noted(tmp_path: Path) -> None:
    noted(tmp_path, 6, 7)
    other = HeadMemory(tmp_path)
    assert other.load(HOME) is not None
    HeadMemory(tmp_path).replace(HOME, OTHER, head(1))
    for memory in (other, HeadMemory(tmp_path)):
        found = memory.load(HOME)
        assert found is not None
        assert (found.ledger, found.head) == (OTHER, head(1))
    other.note(HOME, OTHER, head(2))
    found = HeadMemory(tmp_path).load(HOME)
    assert found is not None
    assert found.head == head(2)


def test_noted_head_counts_where_the_other_file_was_removed(tmp_path: Path) -> None:
    noted(tmp_path, 6, 7)
    (tmp_path / f"{NAME}.json").unlink()
    assert remembered(tmp_path) == head(7)


CLIMBER = """
import sys
from pathlib import Path
from ledger.head import Head
from ledger.memory import HeadMemory
memory = HeadMemory(Path(sys.argv[1]))
for size in range(int(sys.argv[2]), 240, 3):
    say = memory.remember if size % 16 == 0 else memory.note
    found = say("/srv/calyx", "aa" * 32, Head(size, f"{size:x}".rjust(64, "0")))
    assert found.size >= size
    assert memory.load("/srv/calyx").size >= size
"""


def test_processes_that_note_and_remember_at_once_keep_the_highest(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen([sys.executable, "-c", CLIMBER, str(tmp_path), str(start)], env=environment)
        for start in (1, 2, 3)
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert remembered(tmp_path) == head(239)


def test_slots_are_read_as_they_were_written() -> None:
    first, second = format_slot(NAME, LEDGER, head(6)), format_slot(NAME, LEDGER, head(2**53 - 1))
    assert len(first) == len(second) == SLOT_SIZE
    assert parse_slots(NAME, first + bytes(SLOT_SIZE)) == Slots(LEDGER, head(6), 1)
    assert parse_slots(NAME, first + second) == Slots(LEDGER, head(2**53 - 1), 0)
    assert parse_slots(NAME, second + first) == Slots(LEDGER, head(2**53 - 1), 1)
    assert parse_slots(NAME, b"") == parse_slots(NAME, bytes(SLOTS_SIZE)) == Slots(None, None, 0)
    with pytest.raises(FormatError):
        parse_slots(OTHER, first + second)


@pytest.mark.parametrize("before", [(), (6,), (6, 7)])
@pytest.mark.parametrize("share", [0, 1, 4])
def test_killed_in_the_middle_of_a_note_it_remembers_the_head_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: tuple[int, ...], share: int
) -> None:
    noted(tmp_path, *before)
    write = os.write

    def torn(descriptor: int, data: bytes) -> int:
        write(descriptor, data[: len(data) * share // 4 if share < 4 else len(data) // 2])
        raise KeyboardInterrupt  # as far as this process comes

    memory = HeadMemory(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "write", torn)
        memory.note(HOME, LEDGER, head(9))
    # Half of a slot may be all that it says; the rest is zeros.
    assert remembered(tmp_path) in {head(max((5, *before))), head(9)}
    assert HeadMemory(tmp_path).note(HOME, LEDGER, head(10)).head == head(10)
    assert remembered(tmp_path) == head(10)
