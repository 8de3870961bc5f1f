from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from instances import write_files

import executor.trees.git
from executor.trees.patch import apply_patch, plan_patch
from executor.trees.patch_format import MAX_PATCH, FileChange, parse_patch
from executor.trees.reverse import check_reverse, reverse_patch
from executor.trees.scan import ingest, scan
from executor.trees.tree import Tree, changed_paths
from keys.errors import CalyxError
from ledger.objects import DirectoryObjects

pytestmark = pytest.mark.usefixtures("git")

BEFORE: dict[str, str | bytes] = {
    "a b/é x.txt": "one\n-- ../../etc\ntwo\n",
    "blob": bytes(range(256)) * 8,
    "run.sh": "#!/bin/sh\n",
    "moved": "".join(f"line {n}\n" for n in range(30)),
    "dropped/only": "x",
    "empty/": "",
}
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "init.defaultBranch=main")


@pytest.fixture
def before(tmp_path: Path, objects: DirectoryObjects) -> Tree:
    root = write_files(tmp_path / "source", BEFORE)
    (root / "link").symlink_to("moved")
    return ingest(root, objects, ())


def git_patch(root: Path, change: str, *, how: str = "diff --binary -M HEAD") -> bytes:
    """What git writes for a shell command's change to a directory."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}

    def run(*command: str) -> bytes:
        return subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True).stdout

    run(*GIT, "init", "-q")
    run(*GIT, "add", "-A")
    run(*GIT, "commit", "-q", "-m", "before")
    run("sh", "-ec", change)
    run(*GIT, "add", "-A")
    if how.startswith("format-patch"):
        run(*GIT, "commit", "-q", "-m", "after\n\ndiff is not a header here\n--- nor this")
    patch = run(*GIT, *how.split())
    subprocess.run(["rm", "-rf", str(root / ".git")], check=True)
    return patch


def code(error: pytest.ExceptionInfo[CalyxError]) -> str:
    return error.value.code


EVERYTHING = """
printf 'one\\ntwo\\nthree\\n' > 'a b/é x.txt'
head -c 700 /dev/zero | tr '\\0' '\\377' > blob
chmod +x run.sh
mv moved 'moved again'; echo more >> 'moved again'
ln -sfn 'moved again' link
rm dropped/only; rmdir dropped
mkdir -p new/deep; : > new/deep/nothing; printf 'no end of line' > "qu'o\\"te"
"""


@pytest.mark.parametrize(
    "how", ["diff --binary -M HEAD", "diff --binary --no-renames HEAD", "format-patch -1 --stdout"]
)
def test_patch_of_every_kind_leads_to_the_tree_that_git_saw(
    before: Tree, objects: DirectoryObjects, scratch: Path, tmp_path: Path, how: str
) -> None:
    patch = git_patch(tmp_path / "source", EVERYTHING, how=how)
    after = plan_patch(before, objects, patch, scratch, ())
    assert after == scan(tmp_path / "source")
    assert "moved again" in changed_paths(before, after)
    assert not list(scratch.iterdir())
    assert objects.get(after.ref) == after.manifest
    reverse = reverse_patch(before, after, objects, scratch)
    check_reverse(reverse, before, after, objects, scratch)
    assert not list(scratch.iterdir())


def test_patch_is_not_lost_within_another_work_tree(
    before: Tree, objects: DirectoryObjects, tmp_path: Path, scratch: Path
) -> None:
    """There `git apply` leaves the files alone and succeeds."""
    patch = git_patch(tmp_path / "source", "echo x > run.sh")
    subprocess.run([*GIT, "init", "-q"], cwd=tmp_path, check=True)
    assert changed_paths(before, plan_patch(before, objects, patch, scratch, ())) == ("run.sh",)


def test_filter_of_a_repository_inside_the_tree_is_not_run(tmp_path: Path) -> None:
    """A `.git` in the tree could name a command that git runs on every file it reads."""
    root = write_files(tmp_path / "source", {"f": "a\n"})
    patch = git_patch(root, "echo b > f")
    tree = write_files(tmp_path / "tree", {"f": "a\n", ".gitattributes": "f filter=x\n"})
    subprocess.run([*GIT, "init", "-q"], cwd=tree, check=True)
    subprocess.run(["git", "config", "filter.x.clean", f"touch {tmp_path}/ran; cat"], cwd=tree, check=True)
    (tmp_path / "patch").write_bytes(patch)
    apply_patch(tmp_path / "patch", tree)
    assert (tree / "f").read_text() == "b\n"
    assert not (tmp_path / "ran").exists()


def test_configuration_of_the_person_has_no_say(
    before: Tree, objects: DirectoryObjects, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = git_patch(tmp_path / "source", "printf 'x  \\n' > run.sh")
    config = tmp_path / "gitconfig"
    config.write_text("[apply]\n\twhitespace = error-all\n[core]\n\tautocrlf = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    after = plan_patch(before, objects, patch, scratch, ())
    assert after == scan(tmp_path / "source")


def test_patch_that_does_not_apply_says_why(
    before: Tree, objects: DirectoryObjects, tmp_path: Path, scratch: Path
) -> None:
    patch = git_patch(tmp_path / "source", "sed -i 's/line 9$/line nine/' moved")
    other = ingest(write_files(tmp_path / "other", {"moved": "nothing like it\n"}), objects, ())
    with pytest.raises(CalyxError) as error:
        plan_patch(other, objects, patch, scratch, ())
    assert code(error) == "patch_failed"
    assert "patch failed: moved:" in error.value.message
    assert not list(scratch.iterdir())


def test_patch_that_changes_nothing_is_refused(before: Tree, objects: DirectoryObjects, scratch: Path) -> None:
    patch = b"diff --git a/run.sh b/run.sh\n--- a/run.sh\n+++ b/run.sh\n@@ -1 +1 @@\n-#!/bin/sh\n+#!/bin/sh\n"
    with pytest.raises(CalyxError) as error:
        plan_patch(before, objects, patch, scratch, ())
    assert code(error) == "patch_failed"


NEW = "diff --git a/{0} b/{0}\nnew file mode 100644\n--- /dev/null\n+++ b/{0}\n@@ -0,0 +1 @@\n+x\n"


@pytest.mark.parametrize(
    "name", ["../out", "a/../../out", "/etc/x", ".git/config", "a/.GIT/hooks/x", "a//b", "./x", "a/./b"]
)
def test_patch_that_names_no_path_of_a_tree_is_refused(name: str) -> None:
    with pytest.raises(CalyxError) as error:
        parse_patch(NEW.format(name).encode())
    assert code(error) == "path_escapes"


@pytest.mark.parametrize("name", [r'"b/..\057out"', r'"b/a\nb"', r'"b/\056\056/out"', r'"b/\377"'])
def test_quoted_name_hides_nothing(name: str) -> None:
    with pytest.raises(CalyxError) as error:
        parse_patch(
            f"diff --git a/x b/x\nnew file mode 100644\n--- /dev/null\n+++ {name}\n@@ -0,0 +1 @@\n+x\n".encode()
        )
    assert code(error) == "path_escapes"


@pytest.mark.parametrize("verb", ["rename", "copy"])
def test_source_of_a_rename_or_copy_is_a_path_too(verb: str) -> None:
    patch = f"diff --git a/x b/y\nsimilarity index 100%\n{verb} from ../../etc/shadow\n{verb} to y\n"
    with pytest.raises(CalyxError) as error:
        parse_patch(patch.encode())
    assert code(error) == "path_escapes"


def test_patch_through_a_link_of_the_tree_is_refused(objects: DirectoryObjects, tmp_path: Path, scratch: Path) -> None:
    root = write_files(tmp_path / "source", {"real/f": "a\n"})
    (root / "way").symlink_to("real")
    before = ingest(root, objects, ())
    with pytest.raises(CalyxError) as error:
        plan_patch(before, objects, NEW.format("way/g").encode(), scratch, ())
    assert code(error) == "path_escapes"


def test_patch_through_a_link_that_it_makes_itself_is_refused(
    before: Tree, objects: DirectoryObjects, tmp_path: Path, scratch: Path
) -> None:
    link = f"diff --git a/way b/way\nnew file mode 120000\n--- /dev/null\n+++ b/way\n@@ -0,0 +1 @@\n+{tmp_path}\n"
    patch = link + "\\ No newline at end of file\n" + NEW.format("way/planted")
    with pytest.raises(CalyxError) as error:
        plan_patch(before, objects, patch.encode(), scratch, ())
    assert code(error) == "path_escapes"
    assert not (tmp_path / "planted").exists()


def test_patch_that_makes_a_link_out_of_the_tree_is_refused(
    before: Tree, objects: DirectoryObjects, scratch: Path
) -> None:
    link = b"diff --git a/way b/way\nnew file mode 120000\n--- /dev/null\n+++ b/way\n@@ -0,0 +1 @@\n+/etc\n"
    with pytest.raises(CalyxError) as error:
        plan_patch(before, objects, link + b"\\ No newline at end of file\n", scratch, ())
    assert code(error) == "link_escapes"


def test_patch_below_a_shared_path_is_refused(objects: DirectoryObjects, tmp_path: Path, scratch: Path) -> None:
    before = ingest(write_files(tmp_path / "source", {"f": "a\n"}), objects, ("logs",))
    write_files(tmp_path / "shared", {"logs/": ""})
    with pytest.raises(CalyxError) as error:
        plan_patch(before, objects, NEW.format("logs/x").encode(), scratch, ("logs",))
    assert code(error) == "path_escapes"


@pytest.mark.parametrize("shared", ["var/log", "var/log/web"])
def test_patch_that_makes_a_file_on_the_way_to_a_shared_path_is_refused(
    before: Tree, objects: DirectoryObjects, scratch: Path, shared: str
) -> None:
    with pytest.raises(CalyxError) as error:
        plan_patch(before, objects, NEW.format("var").encode(), scratch, (shared,))
    assert code(error) == "bad_shared"


def test_new_shared_path_becomes_a_link_of_the_patched_tree(
    before: Tree, objects: DirectoryObjects, scratch: Path
) -> None:
    after = plan_patch(before, objects, NEW.format("f").encode(), scratch, ("dropped",))
    assert changed_paths(before, after) == ("dropped", "dropped/", "dropped/only", "f")


@pytest.mark.parametrize(
    "patch",
    [
        b"",
        b"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n",
        b"diff --cc f\nindex 1,2..3\n--- a/f\n+++ b/f\n@@@ -1,1 -1,1 +1,1 @@@\n",
        b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,9 +1,9 @@\n-a\n+b\n",
        b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n",
        b"diff --git a/f b/g\nold mode 100644\nnew mode 100755\n",
        b"diff --git a/m b/m\nnew file mode 160000\n--- /dev/null\n+++ b/m\n@@ -0,0 +1 @@\n+Subproject commit 1\n",
        b"diff --git a/f b/f\nnew file mode 104755\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n",
        b'diff --git a/f b/f\nnew file mode 100644\n--- /dev/null\n+++ "b/f\n@@ -0,0 +1 @@\n+x\n',
    ],
)
def test_what_is_no_git_patch_is_refused(patch: bytes) -> None:
    with pytest.raises(CalyxError) as error:
        parse_patch(patch)
    assert code(error) == "bad_patch"


def test_hidden_second_patch_without_a_git_header_is_refused(
    before: Tree, objects: DirectoryObjects, scratch: Path
) -> None:
    """git applies it, although no `diff --git` line announces it."""
    hidden = b"--- a/run.sh\n+++ b/run.sh\n@@ -1 +1 @@\n-#!/bin/sh\n+evil\n"
    with pytest.raises(CalyxError) as error:
        plan_patch(before, objects, hidden + NEW.format("f").encode(), scratch, ())
    assert code(error) == "bad_patch"


def test_patch_over_the_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(CalyxError) as error:
        parse_patch(bytes(MAX_PATCH + 1))
    assert code(error) == "too_large"


def test_binary_part_that_announces_too_much_is_refused() -> None:
    with pytest.raises(CalyxError) as error:
        parse_patch(
            b"diff --git a/f b/f\nnew file mode 100644\nindex 0..1\nGIT binary patch\nliteral 99999999999\nzc\n\n"
        )
    assert code(error) == "too_large"


def test_content_that_looks_like_a_header_is_content() -> None:
    patch = (
        b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n"
        b"--- ../../etc/passwd\n+++ ../../etc/shadow\n rename from ../x\n\n"
    )
    assert parse_patch(patch) == (FileChange("f", "f"),)


def test_git_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = write_files(tmp_path / "bin", {"git*": "#!/bin/sh\nexec sleep 60\n"})
    monkeypatch.setenv("PATH", f"{slow}:{os.environ['PATH']}")
    monkeypatch.setattr(executor.trees.git, "TIMEOUT_S", 0.3)
    with pytest.raises(CalyxError) as error:
        executor.trees.git.run_git(["apply"], tmp_path)
    assert code(error) == "git_failed"


def test_missing_git_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CalyxError) as error:
        executor.trees.git.run_git(["apply"], tmp_path)
    assert code(error) == "program_missing"
