from __future__ import annotations

import os
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

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
