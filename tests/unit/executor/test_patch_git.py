"""Git's own hard cases: what real git writes for a change leads to the tree that the change made, and a way back is
proved.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from instances import write_files

from executor.trees.patch import plan_patch
from executor.trees.patch_format import parse_patch, split_patch
from executor.trees.reverse import check_reverse, reverse_patch
from executor.trees.scan import ingest, scan
from keys.errors import CalyxError
from ledger.objects import DirectoryObjects

pytestmark = pytest.mark.usefixtures("git")

LINES = "".join(f"line {n}\n" for n in range(40))
BEFORE: dict[str, str | bytes] = {
    "text": LINES,
    "other": LINES.replace("line", "row"),
    "tool*": "#!/bin/sh\nexit 0\n",
    "blob": bytes(range(256)) * 40,
    "no end": "one\ntwo",
    "empty": "",
    "crlf": "a\r\nb\r\n",
    "dir/only": "x\n",
    "dir2/a": "a\n",
    "dir2/b": "b\n",
    'qu"ote/back\\slash é': "one\n",
    " lead/trail ": "one\n",
    "tab-less\u2028": "one\n",
    ".gitattributes": "*.x text eol=crlf\ncrlf -diff\n",
    "f.x": "a\nb\n",
}
CHANGES = {
    "text": "sed -i 's/line 9$/line nine/' text",
    "binary": "printf '\\0\\1\\2' >> blob",
    "binary rewritten": "head -c 9000 /dev/urandom > blob",
    "binary made": "head -c 3000 /dev/urandom > new.bin",
    "binary removed": "rm blob",
    "binary moved and changed": "mv blob moved.bin; printf x >> moved.bin",
    "moved": "mkdir away; mv text away/text",
    "moved and changed": "mv text renamed; echo more >> renamed",
    "moved and made executable": "mv text renamed; chmod +x renamed; echo more >> renamed",
    "moved in a ring": "mv text t; mv other text; mv t other",
    "copied": "cp text copy",
    "copied and changed": "cp text copy; echo more >> copy; echo less >> text",
    "mode alone": "chmod -x tool; chmod +x text empty",
    "mode of a binary": "chmod +x blob; printf x >> blob",
    "link made": "ln -s text link; ln -s dir2/a deep",
    "link changed": "ln -sfn other way",
    "link removed": "rm way",
    "file becomes link": "rm text; ln -s other text",
    "link becomes file": "rm way; echo file > way",
    "file becomes directory": "rm text; mkdir text; echo x > text/in",
    "directory becomes file": "rm -r dir; echo x > dir",
    "link becomes directory": "rm way; mkdir way; echo x > way/in",
    "directory becomes link": "rm -r dir; ln -s dir2 dir",
    "no end made": "printf 'line 0\\n' > text; printf 'no end' >> text",
    "end made": "printf 'one\\ntwo\\n' > 'no end'",
    "no end on both sides": "printf 'one\\nthree' > 'no end'",
    "empty made": ": > 'made empty'; mkdir d; : > d/e",
    "empty removed": "rm empty",
    "emptied": ": > text",
    "filled": "echo x > empty",
    "empty moved": "mv empty hollow",
    "last file of a directory removed": "rm -r dir",
    "all but one removed": "rm dir2/a",
    "carriage returns": "printf 'a\\r\\nc\\r\\nb\\n' > crlf; printf 'a\\r\\nb\\n' > f.x",
    "odd names": """
        echo two > 'qu"ote/back\\slash é'; echo two > ' lead/trail '; echo x > "qu'o"
        mkdir -p 'a b/c"d'; echo x > 'a b/c"d/\\'; mv 'tab-less\u2028' 'ünï\u2029'
    """,
    "names like headers": "mkdir -p a/b dev; echo x > a/b/a; echo x > '--- a'; echo x > '+++ b'; echo x > dev/null",
    "content like headers": "printf '%s\\n' 'diff --git a/x b/y' '--- a/x' '+++ b/y' '@@ -1 +1 @@' '-- ' > text",
    "long line": "head -c 300000 /dev/zero | tr '\\0' a > text",
    "everything removed": "find . -mindepth 1 -maxdepth 1 ! -name .git ! -name text -exec rm -r {} +",
}
WAYS = {
    "plain": "diff --binary --no-renames HEAD",
    "copies": "diff --binary -M -C --find-copies-harder HEAD",
    "rewrites": "diff --binary -B -M --full-index HEAD",
    "raw names": "-c core.quotePath=false diff --binary -M -U1 HEAD",
    "mail": "format-patch -1 --stdout --binary",
}


def git(root: Path, *words: str) -> bytes:
    environment = {
        "PATH": os.environ["PATH"], "HOME": "/dev/null", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"
    }  # fmt: skip
    person = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "init.defaultBranch=main")
    command = ["git", *person, "-c", "core.autocrlf=false", *words]
    return subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True).stdout


def commit(root: Path) -> None:
    # Trees hold bytes; what attributes would make of them is git's own affair.
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "attributes").write_text("* -text -ident -filter\n")
    git(root, "add", "-A", "-f")
    git(root, "commit", "-q", "--allow-empty", "-m", "change\n\ndiff is no header here\n--- nor this\n")


def source(tmp_path: Path) -> Path:
    root = write_files(tmp_path / "source", BEFORE)
    (root / "way").symlink_to("dir2")
    git(root, "init", "-q")
    commit(root)
    return root


def without_git(root: Path, name: Path) -> Path:
    subprocess.run(["cp", "-a", str(root), str(name)], check=True)
    subprocess.run(["rm", "-rf", str(name / ".git")], check=True)
    return name


@pytest.mark.parametrize("change", CHANGES)
def test_what_git_writes_for_a_change_leads_there_and_back(
    change: str, objects: DirectoryObjects, tmp_path: Path
) -> None:
    root = source(tmp_path)
    before = ingest(without_git(root, tmp_path / "before"), objects, ())
    subprocess.run(["sh", "-ec", CHANGES[change]], cwd=root, check=True, capture_output=True)
    after = scan(without_git(root, tmp_path / "after"))
    git(root, "add", "-A", "-f")
    patches = {name: git(root, *way.split()) for name, way in WAYS.items() if name != "mail"}
    if not any(ord(char) > 0x7F for char in CHANGES[change]):
        del patches["raw names"]
    commit(root)
    patches["mail"] = git(root, *WAYS["mail"].split())
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for patch in dict.fromkeys(patches.values()):
        assert plan_patch(before, objects, patch, scratch, ()) == after
    reverse = reverse_patch(before, after, objects, scratch)
    check_reverse(reverse, before, after, objects, scratch)
    with pytest.raises(CalyxError):
        check_reverse(reverse, after, before, objects, scratch)


def test_mails_of_several_commits_are_one_change(objects: DirectoryObjects, tmp_path: Path) -> None:
    root = source(tmp_path)
    before = ingest(without_git(root, tmp_path / "before"), objects, ())
    for change in (
        "sed -i 's/9/nine/' text; cp other new",
        "mv text renamed; echo x >> new",
        "chmod +x renamed; rm new",
    ):
        subprocess.run(["sh", "-ec", change], cwd=root, check=True)
        commit(root)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    patch = git(root, "format-patch", "-3", "--stdout", "--binary")
    assert plan_patch(before, objects, patch, scratch, ()) == scan(without_git(root, tmp_path / "after"))


def test_changes_of_one_file_after_each_other_are_refused_where_git_would_take_them_for_one(tmp_path: Path) -> None:
    root = source(tmp_path)
    patch = b""
    for change in ("sed -i 's/9/nine/' text", "mv text renamed"):
        subprocess.run(["sh", "-ec", change], cwd=root, check=True)
        git(root, "add", "-A")
        patch += git(root, "diff", "--binary", "-M", "HEAD")
        commit(root)
    with pytest.raises(CalyxError) as refused:
        split_patch(patch)
    assert refused.value.code == "bad_patch"
    assert "changes text twice" in refused.value.message


def test_file_that_only_an_earlier_change_made_is_not_there(objects: DirectoryObjects, tmp_path: Path) -> None:
    """git would take the file of the change before, and leave it where it was."""
    root = source(tmp_path)
    before = ingest(without_git(root, tmp_path / "before"), objects, ())
    patch = b""
    for change in ("seq 50 > new", "mv new newer"):
        subprocess.run(["sh", "-ec", change], cwd=root, check=True)
        git(root, "add", "-A")
        patch += git(root, "diff", "--binary", "-M", "HEAD")
        commit(root)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(CalyxError) as refused:
        plan_patch(before, objects, patch, scratch, ())
    assert refused.value.code == "patch_failed"
    assert "new is not there" in refused.value.message


def test_mail_whose_message_quotes_another_mail_is_one_change(objects: DirectoryObjects, tmp_path: Path) -> None:
    root = source(tmp_path)
    before = ingest(without_git(root, tmp_path / "before"), objects, ())
    (root / "text").write_text(f"From {'a' * 40} Mon Sep 17 00:00:00 2001\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", f"quotes\n\n From {'a' * 40} Mon Sep 17 00:00:00 2001")
    patch = git(root, "format-patch", "-1", "--stdout").replace(b"\n From ", b"\nFrom ")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert plan_patch(before, objects, patch, scratch, ()) == scan(without_git(root, tmp_path / "after"))


def test_moved_link_with_a_directory_in_its_place_is_more_than_git_applies(
    objects: DirectoryObjects, tmp_path: Path
) -> None:
    root = source(tmp_path)
    before = ingest(without_git(root, tmp_path / "before"), objects, ())
    subprocess.run(["sh", "-ec", "mv way gone; mkdir way; echo x > way/in"], cwd=root, check=True)
    git(root, "add", "-A")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(CalyxError) as refused:
        plan_patch(before, objects, git(root, "diff", "--binary", "-M", "HEAD"), scratch, ())
    assert refused.value.code == "path_escapes"
    patch = git(root, "diff", "--binary", "--no-renames", "HEAD")
    assert plan_patch(before, objects, patch, scratch, ()) == scan(without_git(root, tmp_path / "after"))


@pytest.mark.parametrize(
    "change", ["echo x > dir/only", "chmod +x dir/only", "mv dir/only dir/moved; echo x >> dir/moved"]
)
def test_patch_without_prefixes_is_refused_and_not_applied_one_directory_too_high(
    change: str, objects: DirectoryObjects, tmp_path: Path
) -> None:
    root = source(tmp_path)
    (root / "only").write_text("x\n")
    commit(root)
    before = ingest(without_git(root, tmp_path / "before"), objects, ())
    subprocess.run(["sh", "-ec", change], cwd=root, check=True)
    git(root, "add", "-A")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(CalyxError) as refused:
        plan_patch(before, objects, git(root, "diff", "--binary", "-M", "--no-prefix", "HEAD"), scratch, ())
    assert refused.value.code in {"bad_patch", "path_escapes"}


def test_name_with_a_newline_is_no_path_of_a_tree(tmp_path: Path) -> None:
    root = source(tmp_path)
    (root / "two\nlines").write_text("x\n")
    git(root, "add", "-A")
    with pytest.raises(CalyxError) as refused:
        parse_patch(git(root, "diff", "HEAD"))
    assert refused.value.code == "path_escapes"
    assert "\n" not in refused.value.message
