from __future__ import annotations

import tempfile
from hashlib import sha256
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from executor.trees.materialise import discard, materialise
from executor.trees.scan import ingest, scan_release
from executor.trees.tree import (
    Directory,
    Entry,
    File,
    Link,
    Tree,
    changed_paths,
    format_manifest,
    make_tree,
    parse_manifest,
)
from keys.errors import CalyxError
from ledger.objects import DirectoryObjects

names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/"), min_size=1, max_size=8
).filter(lambda name: name not in {".", ".."})


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Random trees: directories first, then files and links at new names in them."""
    directories = [""]
    entries: dict[str, Entry] = {}
    for _ in range(draw(st.integers(0, 4))):
        path = draw(st.sampled_from(directories)) + draw(names)
        if path not in entries:
            entries[path] = Directory(path)
            directories.append(path + "/")
    for _ in range(draw(st.integers(0, 6))):
        path = draw(st.sampled_from(directories)) + draw(names)
        if path not in entries:
            content = draw(st.binary(max_size=20))
            entries[path] = File(path, sha256(content).hexdigest(), len(content), draw(st.booleans()))
    for _ in range(draw(st.integers(0, 2))):
        path = draw(names)
        if path not in entries:
            # At the top, a target of plain names cannot leave; it may form a loop with itself, so lead elsewhere.
            entries[path] = Link(path, draw(st.sampled_from(["x", "./y", *entries])) if entries else "x")
    try:
        return make_tree(entries.values())
    except CalyxError as error:
        assert error.code == "link_escapes"
        return make_tree(entry for entry in entries.values() if not isinstance(entry, Link))


@given(trees())
def test_manifest_round_trips(tree: Tree) -> None:
    assert parse_manifest(tree.manifest) == tree
    assert format_manifest(parse_manifest(tree.manifest).entries) == tree.manifest


@given(trees(), st.data())
def test_changed_byte_of_a_manifest_is_refused_or_another_tree(tree: Tree, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(tree.manifest) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != tree.manifest[at]))
    changed = tree.manifest[:at] + bytes([byte]) + tree.manifest[at + 1 :]
    try:
        other = parse_manifest(changed)
    except CalyxError:
        return
    assert other.digest != tree.digest
    assert other.entries != tree.entries
    assert changed_paths(tree, other)


@given(trees(), trees())
def test_changed_paths_are_empty_only_for_equal_trees(one: Tree, two: Tree) -> None:
    assert (changed_paths(one, two) == ()) == (one.digest == two.digest)
    assert changed_paths(one, two) == changed_paths(two, one)


contents = st.dictionaries(names, st.tuples(st.binary(max_size=30), st.booleans()), max_size=4)


@given(contents, st.dictionaries(names, contents, max_size=3))
@settings(max_examples=25)
def test_directory_survives_objects_and_back(
    top: dict[str, tuple[bytes, bool]], below: dict[str, dict[str, tuple[bytes, bool]]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        source = scratch / "source"
        for directory, files in {".": top, **below}.items():
            place = source / directory
            if place.is_file():
                continue
            place.mkdir(exist_ok=True, parents=True)
            for path, (content, executable) in files.items():
                if not (place / path).is_dir():
                    (place / path).write_bytes(content)
                    (place / path).chmod(0o755 if executable else 0o644)
        objects = DirectoryObjects(scratch / "objects")
        tree = ingest(source, objects, ())
        materialise(tree, objects, scratch / "release")
        assert scan_release(scratch / "release") == tree
        discard(scratch / "release")
