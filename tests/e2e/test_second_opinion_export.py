"""The audit and the second opinion say the same of an export, whole or with a fault in any of its files."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from publishing import export_in_two_steps
from station import Station, new_station, talk
from verdicts import FOLDER, SCRIPT, SECOND, Ledger, load_stories, vector_ledger

from keys.errors import CalyxError
from ledger.exports.export import OBJECTS
from ledger.exports.reader import ExportReader
from ledger.merkle import hash_leaf, hash_root
from ledger.objects import DirectoryObjects
from ledger.tiles import WIDTH, bundles_of, format_bundle, format_path, format_tile, tiles_of
from policies.auditing.export import export_ledger
from policies.auditing.exported import audit_export

FLIPS = 6
"""In each file of the export."""


def audit_verdict(root: Path) -> tuple[int | None, str | None]:
    """Entry and code of what the audit finds first."""
    report = audit_export(ExportReader(root), DirectoryObjects(root / OBJECTS), remembered=None)
    if report.ok:
        return None, None
    first = report.findings[0]
    refusal = re.match(r"it is not lawful \((\w+)", first.message)
    return first.entry, refusal[1] if first.code == "unlawful_entry" and refusal else first.code


def second_verdict(root: Path) -> tuple[int | None, str | None]:
    """Entry and code of what the second opinion finds first."""

    def find(digest: str) -> Any:
        path = root / OBJECTS / digest[:2] / digest[2:]
        return path.open("rb") if path.is_file() else None

    wrong = SECOND.examine_export(root, SECOND.Objects(find), [])
    return (None, None) if wrong is None else (wrong.entry, wrong.code)


def write_export(ledger: Ledger, root: Path) -> None:
    """An export of a ledger in memory, right or wrong."""
    root.mkdir()
    files = {"checkpoint": ledger.note}
    hashes = [hash_leaf(record) for record in ledger.records]
    for bundle in bundles_of(len(hashes)):
        files[format_path(bundle)] = format_bundle(ledger.records[bundle.start : bundle.start + bundle.width])
    for tile in tiles_of(len(hashes)):
        assert tile.level == 0
        files[format_path(tile)] = format_tile(hashes[tile.index * WIDTH : tile.index * WIDTH + tile.width])
    files |= {f"{OBJECTS}/{digest[:2]}/{digest[2:]}": data for digest, data in ledger.objects.items()}
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def run_script(root: Path) -> Any:
    command = [sys.executable, "-I", str(SCRIPT), str(root), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert done.returncode == (0 if said["ok"] else 1)
    return said


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """A ledger with a completed deployment and 600 entries: two full bundles, and a tile of level 1."""
    station = new_station(tmp_path_factory.mktemp("station"))
    lease = station.propose()
    station.begin(lease)
    station.complete(lease)
    talk(station, 600)
    return station


@pytest.fixture(scope="module")
def exported(deployed: Station, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export. Tests that change it work on copies."""
    root = tmp_path_factory.mktemp("export") / "log"
    export_ledger(deployed.store, deployed.objects, root, remembered=None)
    return root


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """An export of a deployment in two steps, so that older partial files lie beside the newest."""
    return export_in_two_steps(tmp_path)


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def test_script_says_of_an_export_what_it_says_of_the_store(deployed: Station, exported: Path) -> None:
    said = run_script(exported)
    assert said["ok"]
    assert (said["size"], said["head"]) == (600, deployed.store.head().hash)
    assert said == run_script(deployed.root)


def test_both_name_the_same_entry_for_a_flipped_bit_in_any_file(short: Path) -> None:
    chance, odd, tried = random.Random(11), [], 0
    for path in sorted(each for each in short.rglob("*") if each.is_file()):
        name, whole = str(path.relative_to(short)), path.read_bytes()
        path.chmod(0o644)
        for at in {0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(FLIPS))}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << chance.randrange(8))]) + whole[at + 1 :])
            tried += 1
            theirs = second_verdict(short)
            try:
                ours = audit_verdict(short)
            except CalyxError:
                # What is no checkpoint at all, the audit cannot begin with.
                ours = (None, "bad_checkpoint")
            if ours != theirs or theirs == (None, None):
                odd.append((name, at, ours, theirs))
        path.write_bytes(whole)
    assert odd == []
    assert tried > 50


def test_both_name_the_same_entry_for_a_file_that_is_gone_short_or_long(copied: Path) -> None:
    faults: dict[str, Callable[[bytes], bytes | None]] = {
        "gone": lambda _: None,
        "empty": lambda _: b"",
        "short": lambda data: data[:-7],
        "long": lambda data: data + data[-40:],
    }
    odd = []
    for path in sorted(each for each in (copied / "tile").rglob("*") if each.is_file()):
        whole = path.read_bytes()
        path.chmod(0o644)
        for what, fault in faults.items():
            data = fault(whole)
            path.unlink() if data is None else path.write_bytes(data)
            ours, theirs = audit_verdict(copied), second_verdict(copied)
            if ours != theirs or theirs == (None, None):
                odd.append((str(path.relative_to(copied)), what, ours, theirs))
            path.write_bytes(whole)
    assert odd == []


def test_both_name_the_entry_of_a_tile_above_the_leaves(copied: Path) -> None:
    path = copied / "tile" / "1" / "000.p" / "2"
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:32] + hash_root([whole[:32], whole[32:]]))
    assert audit_verdict(copied) == second_verdict(copied) == (256, "tile_mismatch")


def test_both_compare_the_last_hash_of_a_full_tile(copied: Path) -> None:
    path = copied / "tile" / "0" / "001"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-32] + bytes(32))
    assert audit_verdict(copied) == second_verdict(copied) == (511, "tile_mismatch")


def test_both_compare_the_last_tile_above_full_ones(deployed: Station, copied: Path) -> None:
    """Of a ledger of 512 entries there is no partial tile of leaves, and two hashes above."""
    leaves = [hash_leaf(record) for record in ExportReader(copied).read(0, 512)]
    (copied / "checkpoint").write_bytes(deployed.log_key.sign(512, hash_root(leaves)))
    assert audit_verdict(copied) == second_verdict(copied) == (None, None)
    path = copied / "tile" / "1" / "000.p" / "2"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:32] + bytes(32))
    assert audit_verdict(copied) == second_verdict(copied) == (256, "tile_mismatch")


def test_full_file_stands_for_a_partial_one(exported: Path, copied: Path) -> None:
    """A publisher may drop partial files once full ones are there: an older checkpoint is still answered."""
    ledger = ExportReader(exported)
    for kind in ("entries", "0"):
        beside = copied / "tile" / kind / "002.p"
        shutil.rmtree(beside)
    more = list(ledger.read())
    records = [*more[512:], *more[: WIDTH - 88]]
    (copied / "tile" / "entries" / "002").write_bytes(format_bundle(records))
    (copied / "tile" / "0" / "002").write_bytes(format_tile([hash_leaf(record) for record in records]))
    assert audit_verdict(copied) == second_verdict(copied) == (None, None)


def test_no_link_is_followed(exported: Path, copied: Path) -> None:
    for name in ("tile/0/000", "tile/entries/001"):
        (copied / name).unlink()
        (copied / name).symlink_to(exported / name)
        assert audit_verdict(copied) == second_verdict(copied)
        assert second_verdict(copied) != (None, None)


@pytest.mark.parametrize("name", ["tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/001"])
def test_what_is_no_file_is_not_read(copied: Path, name: str) -> None:
    path = copied / name
    path.unlink()
    path.symlink_to("nowhere")
    assert audit_verdict(copied) == second_verdict(copied)
    linked = second_verdict(copied)
    path.unlink()
    path.mkdir()
    assert audit_verdict(copied) == second_verdict(copied) == linked != (None, None)


def test_names_that_are_no_width_are_passed_over(copied: Path) -> None:
    for place in ("tile/0/000.p", "tile/entries/000.p", "tile/entries/002.p"):
        (copied / place).mkdir(exist_ok=True)
        for name in ("0", "01", "256", "257", "999", "1000", "notes", "\u0661", "-1", "1.5"):
            if not (copied / place / name).exists():
                (copied / place / name).write_bytes(b"something else")
    (copied / "tile/entries/002.p/89").write_bytes(b"wider than the newest")
    assert audit_verdict(copied) == second_verdict(copied) == (None, None)


@pytest.mark.parametrize("width", [1, 255])
def test_partial_file_beside_a_full_one_is_its_beginning(copied: Path, width: int) -> None:
    ledger = ExportReader(copied)
    records = list(ledger.read(0, width))
    tile, bundle = copied / "tile" / "0" / "000.p", copied / "tile" / "entries" / "000.p"
    for folder in (tile, bundle):
        folder.mkdir(exist_ok=True)
    hashes = [hash_leaf(record) for record in records]
    (tile / str(width)).write_bytes(format_tile(hashes))
    (bundle / str(width)).write_bytes(format_bundle(records))
    assert audit_verdict(copied) == second_verdict(copied) == (None, None)
    (tile / str(width)).write_bytes(format_tile([*hashes[:-1], bytes(32)]))
    assert audit_verdict(copied) == second_verdict(copied) == (width - 1, "tile_mismatch")
    (tile / str(width)).write_bytes(format_tile(hashes))
    (bundle / str(width)).write_bytes(format_bundle(records) + b"x")
    assert audit_verdict(copied) == second_verdict(copied) == (width - 1, "tile_mismatch")


def test_bundle_with_an_entry_more_or_less_is_damaged(copied: Path) -> None:
    path = copied / "tile" / "entries" / "002.p" / "88"
    records = list(ExportReader(copied).read(512))
    for changed in ([*records, records[-1]], records[:-1], [*records[:4], *records[5:]]):
        path.chmod(0o644)
        path.write_bytes(format_bundle(changed))
        assert audit_verdict(copied) == second_verdict(copied) != (None, None)


def test_older_bundle_is_compared_with_what_a_damaged_one_still_holds(copied: Path) -> None:
    newest, older = (copied / "tile" / "entries" / "002.p" / str(width) for width in (88, 40))
    records = list(ExportReader(copied).read(512))
    whole = newest.read_bytes()
    newest.chmod(0o644)
    newest.write_bytes(whole[:-7])
    older.write_bytes(format_bundle(records[:40]))
    assert audit_verdict(copied) == second_verdict(copied) == (599, "export_damaged")
    older.write_bytes(format_bundle([*records[:10], records[11], *records[11:40]]))
    assert audit_verdict(copied) == second_verdict(copied) == (522, "tile_mismatch")
    older.write_bytes(format_bundle(records[:40]))
    newest.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert audit_verdict(copied) == second_verdict(copied) == (512, "export_damaged")


def test_vectors_are_refused_as_exports_too(tmp_path: Path) -> None:
    stories = load_stories()
    paths = sorted(path for path in FOLDER.glob("*.json") if path.stem != "stories")
    paths = [path for at, path in enumerate(paths) if path.stem.startswith(("chain-", "object-")) or at % 12 == 0]
    odd = []
    for path in paths:
        vector = json.loads(path.read_text("ascii"))
        ledger = vector_ledger(stories, vector)
        # What no bundle has room for, or its checkpoint does not ask for, an export does not have.
        size = re.match(rb"[^\n]*\n([0-9]+)\n", ledger.note)
        if size is None or int(size[1]) != len(ledger.records) or max(map(len, ledger.records)) > 65_535:
            continue
        write_export(ledger, tmp_path / path.stem)
        found = second_verdict(tmp_path / path.stem)
        coarser = "left-out" in path.stem and found == (vector["entry"], "bad_format")
        if found != (vector["entry"], vector["code"]) and not coarser:
            odd.append((path.stem, vector["entry"], vector["code"], found))
    assert odd == []
    assert len(paths) > 100


def test_script_says_that_a_checkpoint_is_none(copied: Path) -> None:
    (copied / "checkpoint").chmod(0o644)
    (copied / "checkpoint").write_bytes(b"something else\n")
    assert run_script(copied)["code"] == "bad_checkpoint"
