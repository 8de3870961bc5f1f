"""What we publish, read by an implementation of the C2SP formats that is not ours: golang.org/x/mod/sumdb."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from documents import CHECKOUT
from programs import missing, require_program
from station import Station, new_station, talk

from executor.signing.kit import make_kit
from ledger.checkpoint import parse_checkpoint
from ledger.proof import format_proof, make_consistency, make_inclusion
from policies.auditing.export import export_ledger

GOPATH = Path("/usr/share/gocode")
"""Where Debian's golang-golang-x-mod-dev puts its source. Nothing is fetched."""
SIZE = 300
FLIPS = 24
"""In each file."""
HIGH = (4, 5, 6, 7)
"""Bits of a byte that always count. Go's base64 reads past the two spare ones in a hash's last digit; ours does not."""


class Stranger:
    """The program in tests/interop, for one log."""

    def __init__(self, program: Path, vkey: str) -> None:
        self._command = [str(program), vkey]

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*self._command, *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", timeout=60)

    def accepts(self, *arguments: str | Path) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refuses(self, *arguments: str | Path) -> str:
        done = self.run(*arguments)
        assert done.returncode == 1, (arguments, done.stdout, done.stderr)
        assert done.stderr.startswith("c2sp: "), done.stderr
        return done.stderr.removeprefix("c2sp: ").strip()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = require_program("go")
    if not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        missing("the Go package golang.org/x/mod (Debian: golang-golang-x-mod-dev) is not installed")
    made = tmp_path_factory.mktemp("go")
    settings = {"GOENV": "off", "GOFLAGS": "", "GO111MODULE": "off", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
    places = {"GOPATH": str(GOPATH), "GOCACHE": str(made / "cache"), "PATH": os.environ["PATH"]}
    source = CHECKOUT / "tests" / "interop" / "c2sp.go"
    command = [go, "build", "-o", str(made / "c2sp"), str(source)]
    done = subprocess.run(command, env=settings | places, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(made / "cache")
    return made / "c2sp"


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """A ledger of more entries than a tile has hashes. Read it only."""
    found = new_station(tmp_path_factory.mktemp("station"))
    lease = found.propose()
    found.approve(lease)
    talk(found, SIZE)
    return found


@pytest.fixture(scope="module")
def exported(station: Station, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export. Tests that change it work on copies."""
    root = tmp_path_factory.mktemp("export") / "log"
    export_ledger(station.store, station.objects, root, remembered=None)
    return root


@pytest.fixture
def stranger(program: Path, station: Station) -> Stranger:
    return Stranger(program, str(station.log_key.vkey))


def inclusion(station: Station, seq: int) -> bytes:
    note = station.store.checkpoint()
    record = next(iter(station.store.read(seq, seq + 1)))
    return format_proof(make_inclusion(seq, record, note, parse_checkpoint(note, station.log_key.vkey), station.store))


def flips(path: Path, seed: int) -> list[bytes]:
    """The file's bytes with one of `HIGH` flipped: in its first byte, in its last, and elsewhere."""
    chance, whole = random.Random(seed), path.read_bytes()
    places = {0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(FLIPS))}
    return [whole[:at] + bytes([whole[at] ^ (1 << chance.choice(HIGH))]) + whole[at + 1 :] for at in sorted(places)]


def test_stranger_reads_checkpoint_entries_and_tiles(stranger: Stranger, exported: Path, station: Station) -> None:
    said = stranger.accepts("export", exported)
    assert said.startswith(f"{SIZE} entries, 3 tiles, root ")
    assert said.endswith((exported / "checkpoint").read_text("utf-8").splitlines()[2])


def test_stranger_reads_an_export_that_grew(stranger: Stranger, tmp_path: Path, program: Path) -> None:
    found, out = new_station(tmp_path / "station", seed=2), tmp_path / "log"
    reader = Stranger(program, str(found.log_key.vkey))
    for size in (7, 8, 31):
        talk(found, size)
        export_ledger(found.store, found.objects, out, remembered=None)
        assert reader.accepts("export", out).startswith(f"{size} entries, 1 tiles")
    assert "signature" in stranger.refuses("export", out), "another log's key"


def test_stranger_refuses_a_flipped_bit_in_any_file_of_the_log(
    stranger: Stranger, exported: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(exported, tmp_path / "log"))
    files = [copy / "checkpoint", *sorted(path for path in (copy / "tile").rglob("*") if path.is_file())]
    assert len(files) == 6
    for number, path in enumerate(files):
        whole = path.read_bytes()
        path.chmod(0o644)
        for flipped in flips(path, number):
            path.write_bytes(flipped)
            stranger.refuses("export", copy)
        for cut in (whole[:-1], whole + b"\0"):
            path.write_bytes(cut)
            stranger.refuses("export", copy)
        path.write_bytes(whole)
    stranger.accepts("export", copy)


@pytest.mark.parametrize("seq", [0, 1, 255, 256, SIZE - 1])
def test_stranger_checks_an_inclusion_proof(
    stranger: Stranger, exported: Path, station: Station, tmp_path: Path, seq: int
) -> None:
    path = tmp_path / "one.tlog-proof"
    path.write_bytes(inclusion(station, seq))
    assert stranger.accepts("proof", path, exported).startswith(f"entry {seq} of {SIZE}, by ")
    path.write_bytes(inclusion(station, seq).replace(f"\nindex {seq}\n".encode(), f"\nindex {seq ^ 2}\n".encode()))
    stranger.refuses("proof", path, exported)


def test_stranger_checks_the_proofs_of_a_kit(
    stranger: Stranger, exported: Path, station: Station, tmp_path: Path
) -> None:
    lease = next(iter(station.state.leases.values()))
    kit = make_kit(station.state, lease, station.store, station.store.checkpoint())
    proofs = [name for name in kit if name.endswith(".tlog-proof")]
    assert len(proofs) == 4
    for name in proofs:
        (tmp_path / name).write_bytes(kit[name])
        seq = name.removeprefix("entry-").removesuffix(".tlog-proof")
        assert stranger.accepts("proof", tmp_path / name, exported).startswith(f"entry {seq} of {SIZE}")
    assert kit["log.vkey"].decode() == f"{station.log_key.vkey}\n"


def test_stranger_refuses_a_flipped_bit_in_a_proof(
    stranger: Stranger, exported: Path, station: Station, tmp_path: Path
) -> None:
    path = tmp_path / "one.tlog-proof"
    path.write_bytes(inclusion(station, 5))
    wrong = [flipped for seed in range(4) for flipped in flips(path, seed)]
    for flipped in wrong:
        path.write_bytes(flipped)
        stranger.refuses("proof", path, exported)


def test_stranger_checks_that_a_log_only_grew(stranger: Stranger, tmp_path: Path, program: Path) -> None:
    found = new_station(tmp_path / "station", seed=2)
    reader = Stranger(program, str(found.log_key.vkey))
    old, grown = tmp_path / "kept.txt", tmp_path / "grown.proof"
    old.write_bytes(found.store.checkpoint())
    size = found.store.head().size
    found.approve(found.propose())
    note = found.store.checkpoint()
    proof = make_consistency(size, note, parse_checkpoint(note, found.log_key.vkey), found.store)
    grown.write_bytes(format_proof(proof))
    assert reader.accepts("consistency", grown, old).startswith(f"{found.store.head().size} entries extend {size}, by ")
    # A proof stays good for an export that has grown since.
    (tmp_path / "5.tlog-proof").write_bytes(inclusion(found, 5))
    found.approve(found.propose("LEASE-20260105-100000"))
    export_ledger(found.store, found.objects, tmp_path / "log", remembered=None)
    assert reader.accepts("proof", tmp_path / "5.tlog-proof", tmp_path / "log").startswith("entry 5 of ")
    for flipped in flips(grown, 1):
        (tmp_path / "flipped.proof").write_bytes(flipped)
        reader.refuses("consistency", tmp_path / "flipped.proof", old)
    stranger.refuses("consistency", grown, old)
