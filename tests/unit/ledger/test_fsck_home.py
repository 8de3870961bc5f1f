"""`calyx ledger fsck` over a whole home: file, objects, what crashes left, and modes."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from console import Console
from damaging import edit

from ledger.place import STRAY_AFTER_S


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    found = Console(tmp_path, monkeypatch)
    found.begin()
    found.propose()
    return found


def objects(console: Console) -> list[Path]:
    return sorted(each for each in (console.home / "objects").rglob("*") if each.is_file())


def fsck(console: Console, *options: str) -> tuple[int, Any]:
    said = console.run("ledger", "fsck", "--json", *options)
    assert "Traceback" not in said.err
    return said.code, json.loads(said.out)


def test_whole_home(console: Console) -> None:
    code, said = fsck(console)
    assert (code, said["ok"], said["size"], said["damage"]) == (0, True, console.size(), [])
    assert said["objects"] == len(objects(console))
    before = console.fingerprint()
    assert fsck(console, "--repair")[0] == 0
    assert console.fingerprint() == before


def test_no_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Console(tmp_path, monkeypatch)
    empty.refused("ledger", "fsck", code="ledger_missing", ends=5)
    empty.refused("ledger", "fsck", "--repair", code="ledger_missing", ends=5)


def test_from_wants_repair(console: Console, tmp_path: Path) -> None:
    console.refused("ledger", "fsck", "--from", str(tmp_path), code="bad_option", ends=2)
    console.refused("ledger", "fsck", "--repair", "--from", str(tmp_path), code="not_a_source", ends=2)


def test_no_key_is_read(console: Console) -> None:
    for path in (console.home / "keys").iterdir():
        path.unlink()
    edit(console.home / "ledger.db", "DELETE FROM node", "UPDATE tip SET frontier = zeroblob(8)")
    said = console.run("ledger", "fsck")
    assert (said.code, said.out.splitlines()[-1][-12:]) == (1, "try --repair")
    code, said = fsck(console, "--repair")
    assert (code, said["repaired"]) == (0, True)
    assert list((console.home / "keys").iterdir()) == []
    console.done("audit", "--full")


def test_damaged_and_missing_objects_are_named_with_their_entry_and_come_back(console: Console, tmp_path: Path) -> None:
    console.done("ledger", "export", str(tmp_path / "log"))
    first, second = objects(console)[:2]
    first.chmod(0o644)
    data = bytearray(first.read_bytes())
    data[0] ^= 1
    first.write_bytes(data)
    second.unlink()
    code, said = fsck(console, "--repair")
    assert code == 1
    found = {each["code"]: each["seq"] for each in said["damage"]}
    assert found.keys() == {"object_mismatch", "object_missing"}
    assert None not in found.values()
    assert first.read_bytes() == data, "what cannot be proved is neither made up nor thrown away"
    code, said = fsck(console, "--repair", "--from", str(tmp_path / "log"))
    assert (code, [each["left"] for each in said["damage"]]) == (0, [False, False])
    assert fsck(console)[1]["damage"] == []
    console.done("audit", "--full")


def test_object_of_the_copy_that_is_another_is_not_taken(console: Console, tmp_path: Path) -> None:
    console.done("ledger", "backup", str(tmp_path / "backup"))
    lost = objects(console)[0]
    copy = tmp_path / "backup" / lost.relative_to(console.home)
    copy.chmod(0o644)
    copy.write_bytes(lost.read_bytes()[::-1])
    lost.unlink()
    assert fsck(console, "--repair", "--from", str(tmp_path / "backup"))[0] == 1
    assert not lost.exists()


def test_object_that_no_entry_names_is_checked_too(console: Console) -> None:
    place = console.home / "objects" / "ab"
    place.mkdir(exist_ok=True)
    (place / ("cd" * 31)).write_bytes(b"not that")
    (place / "notes.txt").write_bytes(b"mine")
    code, said = fsck(console, "--repair")
    assert code == 1
    assert {each["code"] for each in said["damage"]} == {"object_mismatch", "stray_file"}
    assert (place / "notes.txt").exists(), "what somebody else put there is left to them"
    assert console.run("ledger", "fsck", "--repair").out.endswith("no repair touches what is left: look at it\n")


def test_what_a_crash_left_goes_when_it_is_old(console: Console) -> None:
    old, new = (console.home / "objects" / f".{name * 24}.tmp" for name in "ab")
    for path in (old, new):
        path.write_bytes(b"half")
    before = time.time() - STRAY_AFTER_S - 60
    os.utime(old, (before, before))
    code, said = fsck(console)
    assert (code, [each["code"] for each in said["damage"]]) == (1, ["stray_file"])
    assert old.exists()
    assert fsck(console, "--repair")[0] == 0
    assert not old.exists()
    assert new.exists(), "somebody may be writing it"


def test_what_a_killed_repair_left_is_named_and_goes(console: Console) -> None:
    """It holds two copies of the ledger."""
    work = console.home / f".{'a' * 24}.tmp"
    (work / "aside").mkdir(parents=True)
    (work / "aside" / "ledger.db").write_bytes(b"half")
    beside = console.home / f".{'b' * 24}.tmp-journal"
    beside.write_bytes(b"half")
    before = time.time() - STRAY_AFTER_S - 60
    for path in (work, beside):
        os.utime(path, (before, before))
    code, said = fsck(console)
    assert (code, [each["code"] for each in said["damage"]]) == (1, ["stray_file"] * 2)
    assert fsck(console, "--repair")[0] == 0
    assert not work.exists()
    assert not beside.exists()


def test_modes(console: Console) -> None:
    log_key = console.home / "keys" / "log.key"
    log_key.chmod(0o644)
    console.home.chmod(0o755)
    (console.home / "ledger.db").chmod(0o666)
    code, said = fsck(console)
    assert (code, {each["code"] for each in said["damage"]}) == (1, {"bad_mode"})
    assert len(said["damage"]) == 3
    assert fsck(console, "--repair")[0] == 0
    assert [stat.S_IMODE(each.stat().st_mode) for each in (log_key, console.home, console.home / "ledger.db")] == [
        0o600,
        0o700,
        0o644,
    ]
    assert fsck(console)[1]["damage"] == []


def test_links_are_not_followed(console: Console, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    outside.chmod(0o666)
    (console.home / "keys" / "eve.key").symlink_to(outside)
    (console.home / "objects" / "cc").symlink_to(tmp_path)
    fsck(console, "--repair")
    assert stat.S_IMODE(outside.stat().st_mode) == 0o666


def test_deep_directories_among_the_objects_are_one_stray(console: Console) -> None:
    """Deeper than a path may be long, and than Python calls itself."""
    top = console.home / "objects" / "deep"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    try:
        for _ in range(1_100):
            os.mkdir("d", dir_fd=here)  # below a descriptor
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        code, said = fsck(console)
        assert (code, [each["code"] for each in said["damage"]]) == (1, ["stray_file"])
    finally:
        os.close(here)
        subprocess.run(["rm", "-rf", str(top)], check=True)


def test_home_that_was_lost_comes_back_from_a_backup_but_for_its_keys(console: Console, tmp_path: Path) -> None:
    console.done("ledger", "backup", str(tmp_path / "backup"))
    (console.home / "ledger.db").unlink()
    shutil.rmtree(console.home / "objects")
    console.refused("status", code="ledger_missing", ends=5)
    assert fsck(console)[0] == 1
    assert fsck(console, "--repair")[0] == 1
    code, said = fsck(console, "--repair", "--from", str(tmp_path / "backup"))
    assert (code, said["repaired"], said["kept"]) == (0, True, None)
    console.done("audit", "--full")
    console.propose()


def test_text_names_what_is_lost_and_where_it_can_come_from(console: Console) -> None:
    edit(console.home / "ledger.db", "DELETE FROM record WHERE seq = 2")
    said = console.run("ledger", "fsck", "--repair")
    assert said.code == 1
    assert "entry 2: entry_lost: what was appended is not in the ledger" in said.out
    assert "they can come back from an export, a backup or another home" in said.out
    assert console.run("ledger", "fsck").out.endswith("from a copy only: --repair --from DIR\n")


def test_copy_that_does_not_help_is_not_asked_for_again(console: Console, tmp_path: Path) -> None:
    console.done("ledger", "backup", str(tmp_path / "backup"))
    console.propose()
    shutil.copy(tmp_path / "backup" / "ledger.db", console.home / "ledger.db")
    for side in ("-wal", "-shm"):
        (console.home / f"ledger.db{side}").unlink(missing_ok=True)
    said = console.run("ledger", "fsck", "--repair", "--from", str(tmp_path / "backup"))
    assert said.code == 1
    assert "head_contradicted" in said.out
    assert said.out.endswith("the copy did not help with what is left; another one may\n")
    assert console.run("ledger", "fsck", "--repair").out.endswith("from a copy only: --repair --from DIR\n")


def test_flips_in_the_file_are_found_or_harmless(console: Console, tmp_path: Path) -> None:
    path = console.home / "ledger.db"
    console.done("ledger", "backup", str(tmp_path / "backup"))
    whole, chance = path.read_bytes(), random.Random(4)
    for _ in range(12):
        data = bytearray(whole)
        data[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        found = fsck(console)[0]
        assert (fsck(console, "--repair", "--from", str(tmp_path / "backup"))[0], found) in {(0, 0), (0, 1)}
        console.done("audit", "--full")
