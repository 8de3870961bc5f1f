from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from programs import require_program

from executor.trees.patch import plan_patch
from executor.trees.patch_format import parse_patch
from executor.trees.reverse import check_reverse, reverse_patch
from executor.trees.scan import ingest
from executor.trees.tree import Directory, changed_paths
from keys.errors import CalyxError
from ledger.objects import DirectoryObjects

names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/"), min_size=1, max_size=6
).filter(lambda name: name not in {".", ".."} and name.lower() not in {".git", ".gitattributes", ".gitmodules"})
lines = st.lists(st.sampled_from(["a", "b", "-- ../x", "+++ b/y", "diff --git a/z b/z", "", "é"]), max_size=6)
contents = st.one_of(lines.map(lambda parts: "\n".join(parts).encode()), st.binary(max_size=40))
files = st.dictionaries(
    st.tuples(st.sampled_from(["", "d/", "d d/e/"]), names), st.tuples(contents, st.booleans()), max_size=5
)


def write(root: Path, entries: dict[tuple[str, str], tuple[bytes, bool]]) -> None:
    root.mkdir()
    for (directory, name), (content, executable) in entries.items():
        path = root / directory / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:
            continue  # a file and a directory of one name
        path.chmod(0o755 if executable else 0o644)


def git_diff(scratch: Path) -> bytes:
    """What git writes for the way from the directory `a` to the directory `b`."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    base = [
        require_program("git"),
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b.example",
        f"--git-dir={scratch}/repository",
    ]

    def git(side: str, *arguments: str) -> bytes:
        command = [*base, f"--work-tree={scratch / side}", *arguments]
        return subprocess.run(command, cwd=scratch / side, env=environment, check=True, capture_output=True).stdout

    git("a", "init", "-q")
    git("a", "add", "-A", "-f")
    git("a", "commit", "-q", "--allow-empty", "-m", "before")
    git("b", "add", "-A", "-f")
    return git("b", "diff", "--cached", "--binary", "-M", "HEAD")


@given(files, files)
@settings(max_examples=8)
def test_what_git_writes_leads_there_and_back(
    one: dict[tuple[str, str], tuple[bytes, bool]], two: dict[tuple[str, str], tuple[bytes, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        write(scratch / "a", one)
        write(scratch / "b", two)
        work = scratch / "work"
        work.mkdir()
        objects = DirectoryObjects(scratch / "objects")
        before, after = (ingest(scratch / side, objects, ()) for side in ("a", "b"))
        diff = git_diff(scratch)
        moved = {path for path in changed_paths(before, after) if not path.endswith("/")}
        if not moved:
            return
        named = {path for change in parse_patch(diff) for path in (change.old, change.new) if path}
        assert moved <= named
        planned = plan_patch(before, objects, diff, work, ())
        assert [entry for entry in planned.entries if not isinstance(entry, Directory)] == [
            entry for entry in after.entries if not isinstance(entry, Directory)
        ]
        reverse = reverse_patch(before, after, objects, work)
        check_reverse(reverse, before, after, objects, work)


@given(st.binary(max_size=200), st.data())
def test_reading_a_patch_ends_in_paths_or_a_refusal(noise: bytes, data: st.DataObject) -> None:
    patch = (
        b"diff --git a/x b/y\nsimilarity index 90%\nrename from x\nrename to y\nindex 1..2 100644\n"
        b'--- a/x\n+++ "b/y"\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n\\ No newline at end of file\n'
    )
    at = data.draw(st.integers(0, len(patch)))
    end = data.draw(st.integers(at, len(patch)))
    try:
        changes = parse_patch(patch[:at] + noise + patch[end:])
    except CalyxError:
        return
    assert changes
    for change in changes:
        for path in (change.old, change.new):
            assert path is None or not (path.startswith("/") or ".." in path.split("/"))
