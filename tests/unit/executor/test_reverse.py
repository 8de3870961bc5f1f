"""The evidence of the way back: made for what changes, proved by applying it, bound in the claim."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fleetsim import Simulation
from instances import write_files
from station import Station, fleet, matrix, tree_digest

import executor.trees.reverse
from executor.trees.reverse import check_reverse, parse_way_back, prove_way_back, reverse_patch
from executor.trees.scan import ingest
from executor.trees.tree import Tree, load_tree, make_tree
from executor.trees.workplace import Workplace
from keys.errors import CalyxError, Exit, FormatError, Unavailable
from ledger.chain import Entry
from ledger.objects import DirectoryObjects, ObjectRef
from policies.fold.state import State
from policies.kinds import ABSENT
from policies.replay import Replay

pytestmark = pytest.mark.usefixtures("git")


def tree(tmp_path: Path, objects: DirectoryObjects, name: str, files: dict[str, str | bytes]) -> Tree:
    return ingest(write_files(tmp_path / name, files), objects, ())


def test_reverse_patch_restores_directories_that_no_patch_can_name(
    objects: DirectoryObjects, tmp_path: Path, scratch: Path
) -> None:
    before = ingest(write_files(tmp_path / "one", {"f": "a\n", "was/empty/": "", "filled/": ""}), objects, ())
    after = ingest(write_files(tmp_path / "two", {"f": "b\n", "is/empty/": "", "filled/x": "x"}), objects, ())
    for start, end in ((before, after), (after, before)):
        reverse = reverse_patch(start, end, objects, scratch)
        check_reverse(reverse, start, end, objects, scratch)
        with pytest.raises(CalyxError):
            check_reverse(reverse, end, start, objects, scratch)


def test_reverse_patch_that_leads_elsewhere_is_refused(
    objects: DirectoryObjects, tmp_path: Path, scratch: Path
) -> None:
    before = tree(tmp_path, objects, "one", {"run.sh*": "#!/bin/sh\n"})
    after = tree(tmp_path, objects, "two", {"run.sh*": "x\n"})
    reverse = reverse_patch(before, after, objects, scratch)
    with pytest.raises(CalyxError) as error:
        check_reverse(reverse.replace(b"+#!/bin/sh", b"+#!/bin/zz"), before, after, objects, scratch)
    assert error.value.code == "patch_not_reversible"


@pytest.mark.parametrize("line", [b'{"make":["../x"],"remove":[]}', b'{"make":[1],"remove":[]}', b'{"make":[]}', b"x"])
def test_reverse_patch_with_a_wrong_list_of_directories_is_refused(
    objects: DirectoryObjects, tmp_path: Path, scratch: Path, line: bytes
) -> None:
    before = tree(tmp_path, objects, "one", {"f": "a\n"})
    with pytest.raises(CalyxError):
        check_reverse(b"Calyx-Directories: " + line + b"\n", before, before, objects, scratch)


def test_reverse_patch_is_made_of_what_changes_and_holds_for_the_whole_trees(
    objects: DirectoryObjects, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It removes the only file that differs in a directory where others stay, and nothing large is written out."""
    big: dict[str, str | bytes] = {
        "big/one": b"x" * 70_000,
        "d/stays": "s",
        "d/e/stays": "s" * 50_000,
        "far/off/x": "x",
    }
    before = tree(tmp_path, objects, "one", {**big, "d/e/was": "was\n", "empty/": "", "gone/f": "f\n"})
    after = tree(tmp_path, objects, "two", {**big, "d/is": "is\n", "n/e/w": "w\n"})
    monkeypatch.setattr(executor.trees.reverse, "MAX_CONTENT", 2 * 50_000 + 1_000)
    reverse = reverse_patch(before, after, objects, scratch)
    check_reverse(reverse, before, after, objects, scratch)
    first = json.loads(reverse.split(b"\n")[0].removeprefix(b"Calyx-Directories: "))
    assert first == {"make": ["empty"], "remove": []}


def test_way_back_of_several_groups_is_one_object(objects: DirectoryObjects, tmp_path: Path, scratch: Path) -> None:
    one = tree(tmp_path, objects, "one", {"f": "a\n"})
    two = tree(tmp_path, objects, "two", {"f": "b\n", "blob": bytes(range(256))})
    new = tree(tmp_path, objects, "new", {"f": "Calyx-Reverse: {}\n"})
    pairs = [(two.digest, new.digest), (one.digest, new.digest), (ABSENT, new.digest)]
    found = prove_way_back(pairs, objects)
    assert found.ref is not None
    patches = parse_way_back(objects.get(found.ref))
    assert patches.keys() == {(two.digest, new.digest), (one.digest, new.digest)}
    for (before, after), patch in patches.items():
        check_reverse(patch, load_tree(before, objects), load_tree(after, objects), objects, scratch)
    assert prove_way_back(reversed(pairs[:2]), objects) == found  # type: ignore[arg-type]


def test_nothing_leads_back_to_absent(objects: DirectoryObjects) -> None:
    assert prove_way_back([(ABSENT, "a" * 64)], objects).ref is None


def test_what_no_patch_can_say_has_no_evidence_and_says_why(
    objects: DirectoryObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tree(tmp_path, objects, "one", {".git/config": "a\n"})
    two = tree(tmp_path, objects, "two", {".git/config": "b\n"})
    found = prove_way_back([(one.digest, two.digest)], objects)
    assert (found.ref, ".git/config" in found.why) == (None, True)
    monkeypatch.setattr(executor.trees.reverse, "MAX_CONTENT", 3)
    assert "too many" in prove_way_back([(one.digest, two.digest)], objects).why
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(executor.trees.reverse, "MAX_CONTENT", 4)
    assert "git is not installed" in prove_way_back([(one.digest, two.digest)], objects).why


def test_no_directory_to_work_in_is_said_with_its_place(objects: DirectoryObjects, tmp_path: Path) -> None:
    one, two = tree(tmp_path, objects, "one", {"f": "a\n"}), tree(tmp_path, objects, "two", {"f": "b\n"})
    (tmp_path / "run").touch()
    with pytest.raises(Unavailable) as error:
        prove_way_back([(one.digest, two.digest)], objects, Workplace(tmp_path / "run" / "work" / "cp20").folder)
    assert (error.value.code, str(tmp_path / "run") in error.value.message) == ("scratch_failed", True)


def test_tree_before_whose_files_are_lost_is_no_way_back(objects: DirectoryObjects, tmp_path: Path) -> None:
    one, two = tree(tmp_path, objects, "one", {"f": "a\n"}), tree(tmp_path, objects, "two", {"f": "b\n"})
    digest = one.files()[0].sha256
    (tmp_path / "objects" / digest[:2] / digest[2:]).unlink()
    with pytest.raises(Unavailable) as error:
        prove_way_back([(one.digest, two.digest)], objects)
    assert error.value.code == "object_missing"


PAIR = b'Calyx-Reverse: {"after":"a","before":"b","size":'


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"\n",
        b"Calyx-Reverse: {}\n",
        PAIR + b"5}\nabc",
        PAIR + b"3}\nabcd",
        PAIR[:-8] + b"}\n",
        PAIR + b"3}",
        PAIR + b"true}\nx",
        PAIR + b'1,"zip":0}\nx',
        (PAIR + b"1}\nx") * 2,
    ],
)
def test_object_that_is_no_way_back_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_way_back(data)


def test_claim_binds_the_patch_that_leads_back(tmp_path: Path, scratch: Path) -> None:
    station = Station(tmp_path, policy=matrix(tiers=[100], bake_s=2, interval_s=1))
    station.genesis()
    station.enact_fleet(fleet(1))
    scene = Simulation(station)
    assert station.state.fleet is not None
    place = scene.hosts.place(station.state.fleet.targets["web"].instances[0])
    place.current = place.serving = tree_digest("v1")
    place.releases.add(place.current)
    new = make_tree([])
    station.objects.put(new.manifest)
    lease = station.propose(
        artifact={"type": "directory", "sha256": new.digest, "size": len(new.manifest)},
        changes=[{"before": tree_digest("v1"), "after": new.digest, "instances": ["web-01"]}],
    )
    station.approve(lease)
    assert scene.run() is Exit.DONE
    claims = []

    def take(entry: Entry, state: State) -> None:
        del state
        said = json.loads(entry.record.envelope.body)
        if said["predicateType"].endswith("/claim/v1"):
            claims.append(said["predicate"])

    Replay(station.store, station.objects, None, take).sync()
    ((pair, patch),) = parse_way_back(station.objects.get(ObjectRef.from_json(claims[0]["reverse"]))).items()
    assert pair == (tree_digest("v1"), new.digest)
    check_reverse(patch, load_tree(pair[0], station.objects), new, station.objects, scratch)
