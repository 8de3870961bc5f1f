"""The kit's script: short, for any POSIX shell, at home anywhere, and deaf to no bit of a kit."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from documents import CHECKOUT
from folders import open_folder
from kits import SH, Check, link_tools, seal
from programs import require_program

from executor.signing.kit import SUMS, read_script

LINES = 120
"""A stranger reads the script in one sitting, or does not run it."""
NOBODY = 65534
FLIPS = 6
"""In each file of the kit."""
FORGED = 1
"""In each file, with the list of hashes made anew."""
CARRIES_NOTHING = {"README.txt", "check.sh"}
"""What a reader with a copy of the script does not use."""


@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"]], ids="-".join)
def test_script_is_posix(kit: Path, shell: list[str], check: Check) -> None:
    program = [require_program(shell[0]), *shell[1:]]
    assert subprocess.run([*program, "-n", kit / "check.sh"], check=False, timeout=60).returncode == 0
    done = subprocess.run([*program, kit / "check.sh"], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, check(kit).stdout)


def test_script_is_short() -> None:
    lines = read_script().decode("ascii").splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= 120


def test_kit_elsewhere_is_checked_by_another_user_who_may_only_read_it(kit: Path) -> None:
    """With no environment but a PATH of the three programs and a shell's tools, the kit's own script confirms it."""
    with open_folder() as place:
        away, tools = place / "a kit", link_tools(place / "bin")
        shutil.copytree(kit, away)
        for path in (*away.iterdir(), away, tools, place):
            path.chmod(0o555 if path.is_dir() else 0o444)
        # Only root may become somebody else; anybody else keeps their own name, and still cannot write.
        other = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        for directory, arguments in (("/", [str(away / "check.sh")]), (str(away), ["check.sh"])):
            done = subprocess.run(
                [SH, *arguments],
                env={"PATH": str(tools)},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                check=False,
                capture_output=True,
                text=True,
                timeout=60,
                **other,  # type: ignore[call-overload]  # a user only where it can be one
            )
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            assert "stands cosigned by ada (approver, entry 5), cp14 (sentinel, entry 7)" in done.stdout
        place.chmod(0o700)
        away.chmod(0o700)
        tools.chmod(0o700)


def test_documents_name_the_script_s_digest() -> None:
    assert sha256(read_script()).hexdigest() in (CHECKOUT / "docs" / "FORMAT.md").read_text("utf-8")


def flips(kit: Path, count: int) -> list[tuple[str, int, int]]:
    chance = random.Random(7)
    places = []
    for path in sorted(kit.iterdir()):
        size = path.stat().st_size
        places += [(path.name, chance.randrange(size), chance.randrange(8)) for _ in range(count if size else 0)]
        places += [(path.name, at, chance.randrange(8)) for at in {0, size - 1} if size]
    return places


def survivors(kit: Path, check: Check, places: list[tuple[str, int, int]], *, forged: bool) -> list[object]:
    """The flips that the script does not see."""

    def run(number: int) -> object:
        name, at, bit = places[number]
        copy = Path(shutil.copytree(kit, kit.with_name(f"kit-{number}")))
        data = bytearray((copy / name).read_bytes())
        data[at] ^= 1 << bit
        (copy / name).write_bytes(data)
        if forged:
            seal(copy)
        said = check(copy)
        shutil.rmtree(copy)
        return places[number] if said.returncode == 0 else None

    with ThreadPoolExecutor(2) as pool:
        return [each for each in pool.map(run, range(len(places))) if each is not None]


def test_bit_flipped_in_any_file_is_found(kit: Path, check: Check) -> None:
    places = flips(kit, FLIPS)
    assert len(places) > 200
    assert not survivors(kit, check, places, forged=False)


def test_bit_flipped_by_a_forger_who_makes_the_list_anew_is_found(kit: Path, check: Check) -> None:
    places = [each for each in flips(kit, FORGED) if each[0] not in {*CARRIES_NOTHING, SUMS}]
    assert len(places) > 80
    assert not survivors(kit, check, places, forged=True)


def test_swapped_files_are_found(kit: Path, check: Check) -> None:
    names = sorted(path.name for path in kit.iterdir() if path.name not in {*CARRIES_NOTHING, SUMS})
    pairs = [(a, b) for a in names for b in names if a < b and Path(a).suffix == Path(b).suffix]
    pairs = [(a, b) for a, b in pairs if (kit / a).read_bytes() != (kit / b).read_bytes()]
    assert len(pairs) > 30
    for one, other in random.Random(3).sample(pairs, 30):
        copy = Path(shutil.copytree(kit, kit.with_name("swapped")))
        (copy / one).rename(copy / "third")
        (copy / other).rename(copy / one)
        (copy / "third").rename(copy / other)
        assert check(copy).returncode != 0, "the list of hashes says so"
        seal(copy)
        assert check(copy).returncode != 0, (one, other)
        shutil.rmtree(copy)
