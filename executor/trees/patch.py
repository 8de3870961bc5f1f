"""Lead a tree to another one by a git patch.

A patch is only ever applied to a private copy of a tree. What counts is the digest of the result: whoever stages
compares it with what was signed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from executor.trees.git import run_git
from executor.trees.materialise import Content, ObjectContent, discard, write_tree
from executor.trees.patch_format import MAX_CONTENT, FileChange, split_patch
from executor.trees.scan import ingest, scan
from executor.trees.tree import Tree, check_shared, parents, shared_target, shown
from keys.errors import CalyxError
from ledger.objects import ObjectStore


def apply_patch(patch_file: Path, tree_dir: Path) -> tuple[FileChange, ...]:
    """Apply a git patch to the files below `tree_dir`, a private directory that no repository surrounds for git.

    `patch_file` must not lie in it, and may be overwritten. Commits that it carries as mails are applied in turn.
    On an error the directory may be half changed; discard it.

    Raises: CalyxError (`too_large`; `bad_patch`; `path_escapes` for a path that leaves the tree, goes through a link or
    into `.git`; `patch_failed` with git's first line); Unavailable.
    """
    patch_file = patch_file.resolve()
    parts = split_patch(patch_file.read_bytes())
    growth = _Growth(tree_dir)
    for part in parts:
        if len(parts) > 1:
            patch_file.write_bytes(part.data)
        _apply_part(patch_file, tree_dir, part.changes, growth)
    return tuple(change for part in parts for change in part.changes)


def _apply_part(patch_file: Path, tree_dir: Path, changes: Sequence[FileChange], growth: _Growth) -> None:
    # A link that the patch takes away may make room for a directory; git itself follows none that stays or comes.
    gone = {change.old for change in changes if change.new is None}
    for change in changes:
        for path in {change.old, change.new} - {None}:
            refuse_links(tree_dir, path or "", gone)
        if change.old is not None and not os.path.lexists(tree_dir / change.old):
            raise CalyxError(
                "patch_failed", f"the patch does not apply: {shown(change.old)} is not there", path=shown(change.old)
            )
    growth.add(changes)
    reported = _apply(patch_file, tree_dir, "--numstat", "-z")
    if [item.split(b"\t", 2)[-1] for item in reported.split(b"\0")[:-1]] != [c.reported.encode() for c in changes]:
        raise CalyxError("bad_patch", "git reads other paths from the patch than its headers name")
    _apply(patch_file, tree_dir)


def write_patched(before: Tree, content: Content, patch: bytes, workdir: Path, shared: Collection[str]) -> Tree:
    """Write `before` below the directory `workdir` as `tree`, apply the patch and set the shared links: the tree that
    results, not sealed.

    Raises: as `apply_patch` and `scan`; CalyxError `patch_failed` when the patch changed nothing.
    """
    directory, patch_file = workdir / "tree", workdir / "patch"
    write_tree(before, content, directory, sealed=False)
    patch_file.write_bytes(patch)
    apply_patch(patch_file, directory)
    patch_file.unlink()
    _set_shared(directory, shared)
    after = scan(directory, shared)
    if after.digest == before.digest:
        raise CalyxError("patch_failed", "the patch changes nothing")
    return after


def plan_patch(before: Tree, objects: ObjectStore, patch: bytes, scratch: Path, shared: Collection[str]) -> Tree:
    """The tree that a patch leads to from `before`, with its files and manifest kept as objects.

    `scratch`: an empty private directory; it is empty again on return.

    Raises: as `write_patched`; as `ObjectStore.put`.
    """
    try:
        after = write_patched(before, ObjectContent(objects, scratch), patch, scratch, shared)
        if ingest(scratch / "tree", objects, shared) != after:
            raise CalyxError("tree_changed", "the patched tree changed while it was kept")
        return after
    finally:
        _clear(scratch)


def _apply(patch_file: Path, tree_dir: Path, *options: str) -> bytes:
    try:
        return run_git(["apply", "-p1", "--whitespace=nowarn", *options, "--", str(patch_file)], tree_dir)
    except CalyxError as error:
        if error.code != "git_failed":
            raise
        code = "path_escapes" if "symbolic link" in error.message or "invalid path" in error.message else "patch_failed"
        raise CalyxError(code, f"the patch does not apply: {error.message.removeprefix('error: ')}") from None


def refuse_links(tree_dir: Path, path: str, gone: Collection[str | None] = ()) -> None:
    """Prove that no directory above a path is a link, those in `gone` left out. Raises: CalyxError `path_escapes`."""
    for parent in parents(path):
        if parent not in gone and (tree_dir / parent).is_symlink():
            raise CalyxError(
                "path_escapes", f"the patch goes through the link {shown(parent)} to {shown(path)}", path=shown(path)
            )


class _Growth:
    """Refuses patches that copy a tree's files until the disk is full."""

    def __init__(self, tree_dir: Path) -> None:
        self._tree_dir = tree_dir
        self._sizes: dict[str, int] = {}
        self._room, self._written = MAX_CONTENT, 0

    def add(self, changes: Sequence[FileChange]) -> None:
        """Count what changes will write. Raises: CalyxError `too_large`."""
        for change in changes:
            if change.old is not None and change.old not in self._sizes:
                with suppress(OSError):
                    self._sizes[change.old] = (self._tree_dir / change.old).lstat().st_size
                    # Each file that is there may be rewritten once.
                    self._room += self._sizes[change.old]
            if change.new is not None:
                size = self._sizes.get(change.old or "", 0) + change.added if change.size is None else change.size
                self._sizes[change.new] = size
                self._written += size
        if self._written > self._room:
            raise CalyxError("too_large", "the patch adds more than 1 GiB to the tree", limit=MAX_CONTENT)


def _set_shared(directory: Path, shared: Collection[str]) -> None:
    for path in check_shared(shared):
        refuse_links(directory, path)
        place = directory / path
        if place.is_symlink() and str(place.readlink()) == shared_target(path):
            continue
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise CalyxError(
                "bad_shared", f"the patch makes a file on the way to the shared path {shown(path)}", path=shown(path)
            ) from None
        discard(place)
        place.symlink_to(shared_target(path))


def _clear(scratch: Path) -> None:
    for path in scratch.iterdir():
        discard(path)
