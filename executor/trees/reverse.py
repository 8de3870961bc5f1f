"""The way back as a patch, proved by applying it: the evidence that a claim binds.

Nothing is rolled back with it: that is a flip to the release before. It lets anyone see, with git alone, what a
rollback undoes.

    Calyx-Reverse: {"after":...,"before":...,"size":N}      one for each pair of trees, then N bytes:
    Calyx-Directories: {"make":[...],"remove":[...]}        a patch cannot say that a directory is empty; git skips it
    diff --git a/... b/...                                  what leads from after to before, if any file differs

Only what differs is written out, and of each directory above it one file that does not, so that the work grows with the
change and git keeps the directories that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from executor.trees.git import run_git
from executor.trees.materialise import ObjectContent, discard, write_tree
from executor.trees.patch import apply_patch, refuse_links
from executor.trees.patch_format import MAX_PATCH
from executor.trees.scan import ingest, scan
from executor.trees.tree import Directory, File, Tree, changed_paths, check_path, load_tree, make_tree, parents
from executor.trees.workplace import NewFolder, nowhere, temporary_folder
from keys.canonical import Json, format_json, parse_json
from keys.errors import CalyxError, FormatError
from keys.words import counted
from ledger.objects import ObjectRef, ObjectStore
from policies.kinds import ABSENT

MAX_CONTENT: Final = 128 * 1024 * 1024
"""Bytes of the files that differ, on both sides together, above which no reverse patch is made."""
_PAIR: Final = b"Calyx-Reverse: "
_DIRECTORIES: Final = b"Calyx-Directories: "
_LIST_LIMIT: Final = 16 * 1024 * 1024
_UNSAYABLE: Final = frozenset({"too_large", "path_escapes", "git_failed", "program_missing"})
"""Why there may be no patch although there is a way back. A patch that leads elsewhere is not among them."""


@dataclass(frozen=True, slots=True)
class WayBack:
    """The evidence as an object; None where there is none, then `why` says so in one line."""

    ref: ObjectRef | None
    why: str = ""


def prove_way_back(
    pairs: Collection[tuple[str, str]], objects: ObjectStore, new_folder: NewFolder = temporary_folder
) -> WayBack:
    """Prove for each pair of trees, before and after, that a patch leads from after to before, and keep the patches.
    `new_folder`: where it is worked out.

    Raises: CalyxError (`patch_not_reversible`, `bad_patch`, `patch_failed` when one does not lead there); Unavailable
    (`object_missing`, `scratch_failed`).
    """
    known = sorted({pair for pair in pairs if pair[0] != ABSENT})
    if not known:
        return WayBack(None)
    parts: list[bytes] = []
    try:
        with new_folder() as scratch:
            for before, after in known:
                trees = load_tree(before, objects), load_tree(after, objects)
                parts += _framed(before, after, reverse_patch(*trees, objects, scratch))
    except CalyxError as error:
        if error.code not in _UNSAYABLE:
            raise
        return WayBack(None, error.message)
    except OSError as error:
        raise nowhere("no reverse patch can be written", error) from error
    data = b"".join(parts)
    return (
        WayBack(objects.put(data)) if len(data) <= MAX_PATCH else WayBack(None, "the reverse patches are over 64 MiB")
    )


def parse_way_back(data: bytes) -> dict[tuple[str, str], bytes]:
    """The reverse patch of each pair of trees, before and after, which are in order. Raises: FormatError."""
    found: dict[tuple[str, str], bytes] = {}
    at, last = 0, ("", "")
    while at < len(data):
        end = data.find(b"\n", at)
        value = parse_json(data[at:end].removeprefix(_PAIR), limit=1024) if end > 0 else None
        match value:
            case {"before": str(before), "after": str(after), "size": int(size), **rest} if (
                data.startswith(_PAIR, at) and type(size) is int and not rest
            ):
                at = end + 1 + size
            case _:
                raise FormatError("the way back is not a list of reverse patches")
        if at > len(data):
            raise FormatError("a reverse patch ends too early")
        if (before, after) <= last:
            raise FormatError("the reverse patches are out of order")
        last = before, after
        found[last] = data[end + 1 : at]
    return found


def reverse_patch(before: Tree, after: Tree, objects: ObjectStore, scratch: Path) -> bytes:
    """A patch that leads from `after` back to `before`, proved by applying it. `scratch`: an empty private directory;
    it is empty again on return.

    Raises: CalyxError `patch_not_reversible` when no patch leads back, `too_large`; as `write_tree`; as `apply_patch`.
    """
    changed = {path.removesuffix("/") for path in changed_paths(before, after)}
    near = changed.union(*map(parents, changed))
    before, after = _reduced(before, after, near)
    try:
        content = ObjectContent(objects, scratch)
        write_tree(after, content, scratch / "a", sealed=False)
        write_tree(before, content, scratch / "b", sealed=False)
        patch = run_git(
            ["diff", "--no-index", "--no-prefix", "--binary", "--full-index", "--no-renames", "--no-color",
             "--no-ext-diff", "--no-textconv", "--", "a", "b"],
            scratch,
            done=(0, 1),
        )  # fmt: skip
    finally:
        _clear(scratch)
    old, new = ({e.path for e in tree.entries if isinstance(e, Directory)} for tree in (before, after))
    make, remove = sorted((old & near) - _kept(before)), sorted((new - old) - _kept(after))
    lists: Json = {"make": list(make), "remove": list(remove)}
    reverse = _DIRECTORIES + format_json(lists) + b"\n" + patch
    check_reverse(reverse, before, after, objects, scratch)
    return reverse


def check_reverse(reverse: bytes, before: Tree, after: Tree, objects: ObjectStore, scratch: Path) -> None:
    """Prove that `reverse` leads from `after` back to `before`.

    Raises: CalyxError `patch_not_reversible`; as `apply_patch`.
    """
    digest = _lead_back(reverse, after, objects, scratch, scan).digest
    if digest != before.digest:
        raise _not_reversible(f"it leads to {digest[:16]}")


def undo_change(reverse: bytes, present: Tree, objects: ObjectStore, scratch: Path, shared: Collection[str]) -> Tree:
    """The tree that a reverse patch leads to from another tree than the one it was made for, with its files and
    manifest kept as objects.

    Raises: CalyxError `patch_not_reversible`; as `apply_patch`; as `ingest`.
    """
    return _lead_back(reverse, present, objects, scratch, lambda directory: ingest(directory, objects, shared))


def patch_of(reverse: bytes) -> bytes:
    """The patch of a reverse patch, without the directories that none can name; empty where only those differ."""
    return reverse.partition(b"\n")[2]


def _lead_back(reverse: bytes, start: Tree, objects: ObjectStore, scratch: Path, read: Callable[[Path], Tree]) -> Tree:
    make, remove = _parse_directories(reverse)
    try:
        directory, patch_file = scratch / "tree", scratch / "patch"
        write_tree(start, ObjectContent(objects, scratch), directory, sealed=False)
        if b"\ndiff --git " in reverse:
            patch_file.write_bytes(reverse)
            apply_patch(patch_file, directory)
        for path in sorted(remove, reverse=True):
            refuse_links(directory, path)
            if (directory / path).is_dir():
                (directory / path).rmdir()
        for path in sorted(make):
            refuse_links(directory, path)
            (directory / path).mkdir(parents=True, exist_ok=True)
        return read(directory)
    except OSError as error:
        raise _not_reversible(error.strerror or "a directory is not as the patch says") from None
    finally:
        _clear(scratch)


def _reduced(before: Tree, after: Tree, near: Set[str]) -> tuple[Tree, Tree]:
    """Both trees without most of the files that are the same in both. What a patch does follows from the files that it
    names and the directories that they leave empty, so what leads from one to the other leads between the whole trees.

    `near`: the paths that change, and the directories above them.

    Raises: CalyxError `too_large`.
    """
    same = set(before.entries) & set(after.entries)
    smallest: dict[str, File] = {}
    for entry in before.entries:
        above = entry.path.rpartition("/")[0]
        if isinstance(entry, File) and entry in same and above in near:
            smallest[above] = min(smallest.get(above, entry), entry, key=lambda file: file.size)
    kept = frozenset(smallest.values())
    one, two = (
        [e for e in tree.entries if not isinstance(e, File) or e not in same or e in kept] for tree in (before, after)
    )
    size = sum(entry.size for entry in (*one, *two) if isinstance(entry, File))
    if size > MAX_CONTENT:
        raise CalyxError(
            "too_large", f"a reverse patch would rest on {counted(size, 'byte')} of files, too many", size=size
        )
    return make_tree(one), make_tree(two)


def _framed(before: str, after: str, patch: bytes) -> tuple[bytes, bytes, bytes]:
    pair: Json = {"before": before, "after": after, "size": len(patch)}
    return _PAIR + format_json(pair), b"\n", patch


def _kept(tree: Tree) -> set[str]:
    """The directories that are there because something other than a directory is in them."""
    return {parent for entry in tree.entries if not isinstance(entry, Directory) for parent in parents(entry.path)}


def _parse_directories(reverse: bytes) -> tuple[list[str], list[str]]:
    line = reverse.split(b"\n", 1)[0]
    value = parse_json(line.removeprefix(_DIRECTORIES), limit=_LIST_LIMIT)
    match value:
        case {"make": list(make), "remove": list(remove), **rest} if not rest:
            paths = [path for path in [*make, *remove] if isinstance(path, str)]
            if len(paths) == len(make) + len(remove):
                for path in paths:
                    check_path(path)
                return paths[: len(make)], paths[len(make) :]
    raise FormatError("a reverse patch begins with the directories to make and to remove")


def _not_reversible(why: str) -> CalyxError:
    return CalyxError("patch_not_reversible", f"the reverse patch does not lead back: {why}")


def _clear(scratch: Path) -> None:
    for path in scratch.iterdir():
        discard(path)
