"""Releases on this machine: made in staging, verified, and then put in place by one rename."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from executor.hosts.host import Plan
from executor.hosts.layout import Layout, exchange, read_current
from executor.hosts.process import find_account
from executor.trees.materialise import ReleaseContent, discard, materialise, seal, write_tree
from executor.trees.patch import write_patched
from executor.trees.scan import scan_release
from executor.trees.tree import MAX_MANIFEST, File, Link, Tree, parse_manifest, shared_target, shown
from keys.errors import CalyxError, Unavailable
from keys.regular import read_regular
from ledger.durable import make_directory, replace_file, sync_directory
from ledger.objects import ObjectRef, ObjectStore
from policies.fleet import Instance
from policies.kinds import Artifact

_DIRTY: Final = frozenset({"bad_mode", "bad_path", "bad_tree", "link_escapes", "bad_shared", "bad_file_type", "set_id"})


def check_release(layout: Layout, tree: str) -> Tree:
    """Prove that the release `tree` is whole and holds nothing else: the tree itself.

    Raises: CalyxError (`release_missing`, `tree_dirty` with the path, `tree_changed`); Unavailable.
    """
    release = layout.release(tree)
    if release.is_symlink() or not release.is_dir():
        raise CalyxError("release_missing", f"release {tree[:16]} is not on the host", tree=tree)
    try:
        found = scan_release(release)
    except CalyxError as error:
        if error.code not in _DIRTY:
            raise
        raise _dirty(tree, str(error.fields.get("path", "")), error.message) from None
    if found.digest != tree:
        path, what = _first_difference(load_manifest(layout, tree), found)
        raise _dirty(tree, path, what)
    return found


def build_release(layout: Layout, instance: Instance, plan: Plan, objects: ObjectStore) -> Tree:
    """Make the release `plan.after` and put it in place, durable on return. The caller holds `stage.lock`.

    Raises: CalyxError as `Host.stage`; OSError.
    """
    work = layout.staging / secrets.token_hex(16)
    work.mkdir(0o700)
    try:
        if plan.artifact is not None and plan.artifact.type == "patch":
            patch = objects.get(_ref(plan.artifact))
            base = check_release(layout, plan.before)
            tree = write_patched(base, ReleaseContent(layout.release(plan.before)), patch, work, instance.shared)
            _check_digest(tree, plan.after)
            seal(tree, work / "tree")
        else:
            tree = _planned_tree(layout, instance, plan, objects)
            _check_digest(tree, plan.after)
            materialise(tree, objects, work / "tree")
        install(layout, tree, work)
        return tree
    finally:
        discard(work)


def _planned_tree(layout: Layout, instance: Instance, plan: Plan, objects: ObjectStore) -> Tree:
    if plan.artifact is not None:
        return parse_manifest(objects.get(_ref(plan.artifact)), instance.shared)
    kept = load_manifest(layout, plan.after)
    if kept is None:
        raise Unavailable(
            "object_missing", f"nothing on the host says what release {plan.after[:16]} holds", object=plan.after
        )
    return kept


def _ref(artifact: Artifact) -> ObjectRef:
    return ObjectRef(sha256=artifact.sha256, size=artifact.size)


def copy_release(layout: Layout, tree: Tree, source: Path) -> None:
    """Make a release of `tree` by a copy of `source`, which was scanned as it. The caller holds `stage.lock`.

    Raises: CalyxError `tree_changed`; OSError.
    """
    work = layout.staging / secrets.token_hex(16)
    work.mkdir(0o700)
    try:
        write_tree(tree, ReleaseContent(source), work / "tree", sealed=True)
        install(layout, tree, work)
    finally:
        discard(work)


def install(layout: Layout, tree: Tree, work: Path) -> None:
    """Put the sealed tree at `work/tree` in place as a release, after reading it once more.

    A crash before the rename leaves something in staging, which the next stage removes; one after it leaves a whole
    release.

    Raises: CalyxError `object_mismatch`; OSError.
    """
    _check_digest(scan_release(work / "tree"), tree.digest)
    make_directory(layout.manifest(tree.digest).parent)
    replace_file(layout.manifest(tree.digest), tree.manifest, 0o444)
    release = layout.release(tree.digest)
    if release.is_symlink() or release.exists():
        # Whatever serves from the dirty release keeps its files open; names lead to the whole one from here on.
        release_is_current = read_current(layout) == tree.digest
        open_top(release)
        try:
            exchange(work / "tree", release)
        except OSError as error:
            if error.errno != errno.EINVAL or release_is_current:
                raise
            release.rename(work / "dirty")
            (work / "tree").rename(release)
    else:
        (work / "tree").rename(release)
    release.chmod(0o555)
    sync_directory(release)
    sync_directory(layout.releases)


def load_manifest(layout: Layout, tree: str) -> Tree | None:
    """What a release holds, from the manifest that the host kept of it; None when there is none, or another's."""
    try:
        kept = parse_manifest(read_regular(layout.manifest(tree), MAX_MANIFEST))
    except (OSError, CalyxError):
        return None
    return kept if kept.digest == tree else None


def clear_staging(layout: Layout) -> None:
    """Remove what earlier attempts left behind. The caller holds `stage.lock`. Raises: OSError."""
    for path in layout.staging.iterdir():
        discard(path)


def prepare_shared(layout: Layout, instance: Instance) -> None:
    """Make a directory below `shared/` for each shared path that has nothing there, for the service's account.

    Where the service wants a file, whoever runs it puts it there first. Below `shared/` the service can write, so no
    link there is followed.

    Raises: CalyxError (`path_escapes`, `service_start_failed` for an account that is not there); OSError.
    """
    for path in instance.shared:
        directory = os.open(layout.shared, os.O_RDONLY | os.O_DIRECTORY)
        try:
            *above, last = path.split("/")
            for name in above:
                directory = _into(directory, name, instance, path)
            with suppress(FileExistsError):
                os.mkdir(last, 0o755, dir_fd=directory)
                _give(directory, last, instance)
                os.fsync(directory)
        finally:
            os.close(directory)


def check_shared_links(tree: Tree, instance: Instance) -> None:
    """Prove that a tree has the link for every shared path of its instance. Raises: CalyxError `shared_missing`."""
    links = {entry.path: entry.target for entry in tree.entries if isinstance(entry, Link)}
    for path in instance.shared:
        if links.get(path) != shared_target(path):
            raise CalyxError(
                "shared_missing",
                f"the tree has no link at the shared path {shown(path)}",
                hint="the fleet's shared paths changed: propose the change again",
                path=shown(path),
            )


def _into(directory: int, name: str, instance: Instance, path: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=directory)
        _give(directory, name, instance)
        os.fsync(directory)
    try:
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    except NotADirectoryError:
        raise CalyxError(
            "path_escapes", f"the way to the shared path {shown(path)} is not a directory", path=shown(path)
        ) from None
    os.close(directory)
    return below


def open_top(release: Path) -> None:
    """Let a release be moved: a directory that its owner cannot write cannot be, except by root. Raises: OSError."""
    if release.is_dir() and not release.is_symlink():
        release.chmod(0o755)


def _give(directory: int, name: str, instance: Instance) -> None:
    user = instance.process.user if instance.process else None
    if user is not None and os.geteuid() == 0:
        account = find_account(user)
        os.chown(name, account.pw_uid, account.pw_gid, dir_fd=directory, follow_symlinks=False)


def _check_digest(tree: Tree, digest: str) -> None:
    if tree.digest != digest:
        raise CalyxError(
            "object_mismatch",
            f"the result is tree {tree.digest[:16]}, not {digest[:16]} as was signed",
            hint="propose the change again from what the host runs",
            tree=tree.digest,
        )


def _first_difference(kept: Tree | None, found: Tree) -> tuple[str, str]:
    if kept is None:
        return "", f"its digest is {found.digest[:16]}"
    old, new = ({entry.path: entry for entry in tree.entries} for tree in (kept, found))
    paths = sorted({path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}, key=str.encode)
    path = paths[0]
    if path not in old:
        return path, f"{shown(path)} was added"
    if path not in new:
        return path, f"{shown(path)} is gone"
    one, two = old[path], new[path]
    mode = isinstance(one, File) and isinstance(two, File) and one.sha256 == two.sha256
    return path, f"{shown(path)} has another {'mode' if mode else 'content'}"


def _dirty(tree: str, path: str, what: str) -> CalyxError:
    return CalyxError(
        "tree_dirty",
        f"release {tree[:16]} is not what was deployed: {what}",
        hint="find out what wrote there; files that a service writes belong in the fleet's shared paths",
        path=shown(path),
        tree=tree,
    )
