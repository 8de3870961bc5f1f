"""Kits of one approval: made, forged and checked, as a stranger with their own copy of the script does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from programs import require_program
from station import Station, new_station

from executor.signing.kit import SUMS, make_kit, read_script, write_kit

SH = require_program("sh")
TOOLS = ("ssh-keygen", "openssl", "sha256sum")
POSIX = ("cat", "cmp", "cut", "dirname", "grep", "od", "sed", "tail", "tr")
"""What the script uses of a POSIX shell's usual tools."""

Check = Callable[[Path], "subprocess.CompletedProcess[str]"]


def link_tools(directory: Path) -> Path:
    """Make a directory with the three programs, the usual tools of a POSIX shell, and nothing else."""
    directory.mkdir()
    for name in (*TOOLS, *POSIX):
        (directory / name).symlink_to(require_program(name))
    return directory


def new_checker(directory: Path) -> Check:
    """What runs a reader's own copy of the script, kept in `directory`, on a kit."""
    tools, script = link_tools(directory / "bin"), directory / "check.sh"
    script.write_bytes(read_script())

    def run(kit: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SH, str(script), str(kit)],
            env={"PATH": str(tools)},
            cwd=kit,
            check=False,
            capture_output=True,
            errors="replace",
            timeout=60,
        )

    return run


def kit_of(station: Station, lease: tuple[str, str], directory: Path) -> Path:
    state = station.state
    write_kit(directory, make_kit(state, state.leases[lease[1]], station.store, station.store.checkpoint()))
    return directory


def drop(kit: Path, *seqs: int) -> None:
    """Take entries out, as whoever leaves something out does."""
    for seq in seqs:
        for path in kit.glob(f"entry-{seq}.*"):
            path.unlink()
    rows = (kit / "entries").read_text("ascii").splitlines()
    (kit / "entries").write_text("".join(f"{row}\n" for row in rows if int(row.split()[0]) not in seqs), "ascii")
    seal(kit)


def seal(kit: Path) -> None:
    """Make the list of hashes anew, as whoever forges a kit does."""
    rows = [f"{sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted(kit.iterdir())]
    (kit / SUMS).write_text("".join(f"{row}\n" for row in rows if not row.endswith(f"  {SUMS}")), "ascii")


def approved_station(directory: Path) -> Station:
    """A claimed lease, and another one that was approved."""
    found = new_station(directory)
    lease = found.propose()
    found.approve(lease)
    found.take_term()
    found.claim(lease)
    other = found.propose("LEASE-20260105-100000")
    found.approve(other, "ben")
    return found


def subject(station: Station, name: str = "LEASE-20260105-090000") -> tuple[str, str]:
    lease = station.state.find_lease(name)
    assert lease is not None
    return name, lease.digest
