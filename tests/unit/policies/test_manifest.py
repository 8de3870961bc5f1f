"""A manifest that is not the one spelling of a tree: the audit names it, as the executor refuses it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusal import refused
from station import new_station, tree_digest

from executor.trees.tree import parse_manifest
from keys.canonical import Json, format_json
from keys.errors import CalyxError
from ledger.sqlite.store import SqliteStore
from policies.auditing.audit import audit
from policies.manifest import TREE_MAGIC, manifest_files

DIGEST = sha256(b"v2").hexdigest()


def file(path: str) -> list[Json]:
    return [path, "file", DIGEST, 2]


BAD: dict[str, tuple[str, list[list[Json]]]] = {
    "out of order": ("bad_tree", [file("b"), file("a")]),
    "sorted by characters and not by bytes": ("bad_tree", [file("\U0001f600"), file("\uffee")]),
    "twice": ("bad_tree", [file("a"), file("a")]),
    "a directory twice": ("bad_tree", [["a", "dir"], ["a", "dir"], file("a/b")]),
    "in no directory": ("bad_tree", [file("a/b")]),
    "in a file": ("bad_tree", [file("a"), file("a/b")]),
    "in a link": ("bad_tree", [["a", "link", "b"], file("a/b")]),
    "a directory after what is in it": ("bad_tree", [file("a/b"), ["a", "dir"]]),
    "out of the tree": ("bad_path", [file("../a")]),
    "out of the tree and back": ("bad_path", [["a", "dir"], file("a/../../b")]),
    "absolute": ("bad_path", [file("/etc/passwd")]),
    "the root": ("bad_path", [file("")]),
    "here": ("bad_path", [file(".")]),
    "a slash at the end": ("bad_path", [["a/", "dir"]]),
    "two slashes": ("bad_path", [["a", "dir"], file("a//b")]),
    "a control character": ("bad_path", [file("a\nb")]),
    "a control character of the second set": ("bad_path", [file("a\x85b")]),
    "a long name": ("bad_path", [file("a" * 256)]),
    "a long name in bytes": ("bad_path", [file("\u00e4" * 128)]),
    "too deep": ("bad_path", [[("a/" * n) + "a", "dir"] for n in range(65)]),
    "a link to nothing": ("bad_path", [["a", "link", ""]]),
    "a link to the system": ("bad_path", [["a", "link", "/etc"]]),
    "a link with a control character": ("bad_path", [["a", "link", "b\0"]]),
    "no digest": ("bad_format", [["a", "file", "xy", 2]]),
    "a socket": ("bad_format", [["a", "socket"]]),
}
GOOD: list[list[list[Json]]] = [
    [],
    [file("a"), ["b", "dir"], ["b/c", "dir"], ["b/c/d", "exec", DIGEST, 2], ["b/e", "link", "c/d"]],
    # By bytes `a-b` comes before what is in `a`.
    [["a", "dir"], file("a-b"), file("a/b"), file("\u00e4"), file("\uffee"), file("\U0001f600")],
]


def manifest(rows: list[list[Json]]) -> bytes:
    return format_json([TREE_MAGIC, *rows])


@pytest.mark.parametrize(("code", "rows"), BAD.values(), ids=BAD)
def test_manifest_that_stands_for_no_tree(code: str, rows: list[list[Json]]) -> None:
    with refused(code):
        manifest_files(manifest(rows))
    with pytest.raises(CalyxError):
        parse_manifest(manifest(rows))


@pytest.mark.parametrize("rows", GOOD)
def test_manifest_of_a_tree(rows: list[list[Json]]) -> None:
    data = manifest(rows)
    assert list(manifest_files(data)) == list(parse_manifest(data).files())


@given(
    st.lists(
        st.tuples(
            st.text(st.sampled_from("ab./-\n\u00e4"), max_size=6), st.sampled_from(["file", "exec", "dir", "link"])
        ),
        max_size=6,
    )
)
def test_audit_and_executor_accept_the_same(rows: list[tuple[str, str]]) -> None:
    listed: list[Any] = []
    for path, kind in sorted(rows, key=lambda row: row[0].encode()):
        tails: dict[str, list[Json]] = {"dir": [], "link": ["a"], "file": [DIGEST, 2], "exec": [DIGEST, 2]}
        tail = tails[kind]
        listed.append([path, kind, *tail])
    data = manifest(listed)
    try:
        files = list(parse_manifest(data).files())
    except CalyxError as error:
        # Only the executor follows links.
        if error.code != "link_escapes":
            with pytest.raises(CalyxError):
                manifest_files(data)
        return
    assert list(manifest_files(data)) == files


@pytest.mark.parametrize("name", ["twice", "out of the tree"])
def test_lease_whose_artifact_is_such_a_manifest(tmp_path: Path, name: str) -> None:
    station = new_station(tmp_path)
    station.objects.put(b"v2")
    code, rows = BAD[name]
    ref = station.objects.put(manifest(rows))
    names = sorted(i.name for i in station.state.fleets[station.state.fleet_digest].targets["web"].instances)
    change = {"before": tree_digest("v1"), "after": ref.sha256, "instances": names}
    artifact = {"type": "directory", "sha256": ref.sha256, "size": ref.size}
    lease = station.state.leases[station.propose(artifact=artifact, changes=[change])[1]]
    with SqliteStore.open(tmp_path / "ledger.db", read_only=True) as store:
        report = audit(store, station.objects, remembered=None)
    assert [(finding.code, finding.entry) for finding in report.findings] == [(code, lease.seq)]
