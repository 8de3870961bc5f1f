from __future__ import annotations

import json
from hashlib import sha256

import pytest

from executor.trees.tree import (
    MAX_DEPTH,
    Directory,
    Entry,
    File,
    Link,
    Tree,
    changed_paths,
    check_path,
    make_tree,
    parse_manifest,
    shared_target,
)
from keys.errors import CalyxError

EMPTY = sha256(b"").hexdigest()


def file(path: str, content: bytes = b"", *, executable: bool = False) -> File:
    return File(path, sha256(content).hexdigest(), len(content), executable)


def test_manifest_has_the_bytes_of_the_format() -> None:
    tree = make_tree(
        [
            file("b", b"hi", executable=True),
            Link("c", "a/x"),
            Directory("a"),
            file("a/x"),
            file("a.txt"),
            Directory("é"),
        ],
        (),
    )
    hi = sha256(b"hi").hexdigest()
    assert tree.manifest.decode() == (
        f'["calyx-tree-v1",["a","dir"],["a.txt","file","{EMPTY}",0],["a/x","file","{EMPTY}",0],'
        f'["b","exec","{hi}",2],["c","link","a/x"],["é","dir"]]'
    )
    assert tree.digest == sha256(tree.manifest).hexdigest() == tree.ref.sha256
    assert parse_manifest(tree.manifest) == tree


def test_empty_tree_has_a_digest() -> None:
    assert make_tree([]).digest == sha256(b'["calyx-tree-v1"]').hexdigest()


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([["b", "dir"], ["a", "dir"]], "bad_tree"),
        ([["a", "dir"], ["a", "dir"]], "bad_tree"),
        ([["a", "dir"], ["a", "link", "b"]], "bad_tree"),
        ([["a/x", "file", EMPTY, 0]], "bad_tree"),
        ([["a", "file", EMPTY, 0], ["a/x", "file", EMPTY, 0]], "bad_tree"),
        ([["a", "link", "."], ["a/x", "file", EMPTY, 0]], "bad_tree"),
        ([["..", "dir"]], "bad_path"),
        ([["a", "dir"], ["a/..", "dir"]], "bad_path"),
        ([["a", "dir"], ["a//b", "dir"]], "bad_path"),
        ([["a/", "dir"]], "bad_path"),
        ([["/a", "dir"]], "bad_path"),
        ([["", "dir"]], "bad_path"),
        ([[".", "dir"]], "bad_path"),
        ([["a\nb", "file", EMPTY, 0]], "bad_path"),
        ([["a\x7f", "file", EMPTY, 0]], "bad_path"),
        ([["a\x85", "file", EMPTY, 0]], "bad_path"),
        ([["x" * 256, "file", EMPTY, 0]], "bad_path"),
        ([["é" * 128, "file", EMPTY, 0]], "bad_path"),
        ([["a", "link", "x\ny"]], "bad_path"),
        ([["a", "link", ""]], "bad_path"),
        ([["a", "link", "/etc/passwd"]], "link_escapes"),
        ([["a", "link", "../x"]], "link_escapes"),
        ([["a", "dir"], ["a/b", "link", "../../x"]], "link_escapes"),
        ([["a", "link", "a"]], "link_escapes"),
        ([["a", "file", EMPTY.upper(), 0]], "bad_format"),
        ([["a", "file", EMPTY[:-1], 0]], "bad_format"),
        ([["a", "file", EMPTY, True]], "bad_format"),
        ([["a", "file", EMPTY, 0, 0]], "bad_format"),
        ([["a", "fifo"]], "bad_format"),
        ([["a"]], "bad_format"),
        ([{"a": "dir"}], "bad_format"),
    ],
)
def test_manifest_that_is_no_tree_is_refused(items: list[object], code: str) -> None:
    with pytest.raises(CalyxError) as refused:
        parse_manifest(json.dumps(["calyx-tree-v1", *items], ensure_ascii=False, separators=(",", ":")).encode())
    assert refused.value.code == code


@pytest.mark.parametrize("data", [b"", b"[]", b'["calyx-tree-v2"]', b"{}", b'"calyx-tree-v1"', b'[ "calyx-tree-v1"]'])
def test_manifest_of_something_else_is_refused(data: bytes) -> None:
    with pytest.raises(CalyxError):
        parse_manifest(data)


def test_link_escapes_behind_another_link() -> None:
    """Spelled out, `d/x` stays inside; but `d/in/b` is the root, and its parent is not in the tree."""
    entries: list[Entry] = [Directory("d"), Directory("d/in"), Link("d/in/b", "../.."), Link("d/x", "in/b/../etc")]
    with pytest.raises(CalyxError) as refused:
        make_tree(entries)
    assert (refused.value.code, refused.value.fields["path"]) == ("link_escapes", "d/x")


def test_long_chain_of_links_is_refused_and_a_short_one_is_not() -> None:
    chain: list[Entry] = [Link(f"l{n:02}", f"l{n + 1:02}") for n in range(50)]
    with pytest.raises(CalyxError) as refused:
        make_tree(chain)
    assert refused.value.code == "link_escapes"
    make_tree(chain[:30])


def test_links_within_the_tree_are_accepted() -> None:
    make_tree(
        [Directory("a"), Link("a/up", ".."), Link("a/same", "./up/a"), Link("gone", "no/such"), Link("l", "a/up/a")]
    )


def test_path_deeper_than_the_limit_is_refused() -> None:
    check_path("/".join("a" * MAX_DEPTH))
    with pytest.raises(CalyxError):
        check_path("/".join("a" * (MAX_DEPTH + 1)))


def test_shared_link_is_accepted_at_its_own_path_only() -> None:
    assert shared_target("logs") == "../../shared/logs"
    assert shared_target("var/logs") == "../../../shared/var/logs"
    make_tree([Link("logs", "../../shared/logs")], {"logs"})
    for entries, shared in (
        ([Link("logs", "../../shared/other")], {"logs"}),
        ([Link("logs", "../../shared/logs/../../x")], {"logs"}),
        ([Link("other", "../../shared/logs")], {"logs"}),
        ([Link("logs", "../../shared/logs")], set[str]()),
        ([Directory("logs")], {"logs"}),
        ([Link("logs", "inside")], {"logs"}),
    ):
        with pytest.raises(CalyxError):
            make_tree(entries, shared)


def test_link_through_a_shared_path_may_go_down_and_not_up() -> None:
    base: list[Entry] = [Link("logs", shared_target("logs"))]
    make_tree([*base, Link("today", "logs/today")], {"logs"})
    for target in ("logs/..", "logs/../../..", "logs/a/../.."):
        with pytest.raises(CalyxError) as refused:
            make_tree([*base, Link("x", target)], {"logs"})
        assert refused.value.code == "link_escapes"


@pytest.mark.parametrize("shared", [["../x"], ["/x"], ["a", "a/b"], ["a//b"], ["a\nb"], ["x/"]])
def test_shared_paths_that_leave_or_overlap_are_refused(shared: list[str]) -> None:
    with pytest.raises(CalyxError) as refused:
        make_tree([], shared)
    assert refused.value.code == "bad_shared"


def test_changed_paths_are_named_and_sorted_by_bytes() -> None:
    before = make_tree([Directory("d"), file("d/x", b"1"), file("m"), Link("l", "m"), Directory("gone"), file("same")])
    after = make_tree(
        [Directory("d"), file("d/x", b"2"), file("m", executable=True), Link("l", "d"), Directory("new"), file("same"),
         file("\U0001f600"), file("\uffee")]
    )  # fmt: skip
    expected = ("d/x", "gone/", "l", "m", "new/", "\uffee", "\U0001f600")
    assert changed_paths(before, after) == expected
    assert changed_paths(after, after) == ()
    assert changed_paths(None, before) == ("d/", "d/x", "gone/", "l", "m", "same")


def test_directory_that_becomes_a_file_is_named_as_both() -> None:
    assert changed_paths(make_tree([Directory("a")]), make_tree([file("a")])) == ("a", "a/")


def test_files_are_objects() -> None:
    tree: Tree = make_tree([file("a", b"x"), Directory("b")])
    assert [(ref.sha256, ref.size) for ref in tree.files()] == [(sha256(b"x").hexdigest(), 1)]
