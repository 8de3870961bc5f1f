"""Take over a directory: a first deployment finds `current` as a directory that somebody put there.

Its tree digest is what the lease names as `before`. A copy of it becomes the release `before`, so that there is a way
back; then `current` and the link to the new release change places in one step, and the directory is kept in
`root/.calyx/adopted/`, where nothing reads it.
"""

from __future__ import annotations

import secrets
from typing import Final

from executor.hosts.layout import Layout, exchange
from executor.hosts.releases import check_release, copy_release
from executor.trees.scan import scan_source
from executor.trees.tree import Tree, shown
from keys.errors import CalyxError
from ledger.durable import make_directory, sync_directory
from policies.fleet import Instance
from policies.kinds import ABSENT

_PENDING: Final = "current.new"


def scan_current(layout: Layout, instance: Instance) -> Tree:
    """The tree that the directory `current` will be as a release.

    Raises: as `scan_source`; CalyxError `shared_not_moved` when it holds data at a shared path.
    """
    for path in instance.shared:
        place = layout.current / path
        if place.exists() and place.resolve() != (layout.shared / path).resolve():
            raise CalyxError(
                "shared_not_moved",
                f"{shown(str(place))} holds data at a shared path",
                hint=f"move it to {shown(str(layout.shared / path))} and put a link in its place",
                path=shown(path),
            )
    return scan_source(layout.current, instance.shared)


def check_current(layout: Layout, instance: Instance, tree: str) -> None:
    """Prove that the directory `current` is `tree`. Raises: as `scan_current`; CalyxError `tree_unexpected`."""
    found = scan_current(layout, instance).digest
    if found != tree:
        raise CalyxError(
            "tree_unexpected",
            f"instance {instance.name} is on {found[:16]}, not on {tree[:16]}",
            hint="find out who changed it",
            tree=found,
            instance=instance.name,
        )


def keep_before(layout: Layout, instance: Instance, before: str) -> None:
    """Make the release `before` from the directory `current`, whole and durable. The caller holds `stage.lock`.

    Raises: as `check_current`; CalyxError `tree_changed`.
    """
    check_current(layout, instance, before)
    try:
        check_release(layout, before)
    except CalyxError as error:
        if error.code not in {"release_missing", "tree_dirty"}:
            raise
        copy_release(layout, scan_current(layout, instance), layout.current)


def replace_current(layout: Layout, new: str) -> None:
    """Put the link to the release `new` in the place of the directory, in one step. The caller holds `lock`.

    Raises: CalyxError `tree_unexpected` for `absent`: a directory is not removed. OSError.
    """
    if new == ABSENT:
        raise CalyxError("tree_unexpected", "current is a directory that was never deployed; it is not removed")
    pending = layout.private / _PENDING
    pending.symlink_to(f"releases/{new}")
    exchange(pending, layout.current)
    put_aside(layout)


def put_aside(layout: Layout) -> None:
    """Keep a directory whose place was taken, and remove a link that never took one. The caller holds `lock`.

    Done before each flip too, for one that was killed right after the exchange. Raises: OSError.
    """
    pending = layout.private / _PENDING
    if pending.is_symlink():
        pending.unlink()
    elif pending.exists():
        kept = layout.private / "adopted"
        make_directory(kept)
        pending.rename(kept / secrets.token_hex(8))
        sync_directory(kept)
        sync_directory(layout.private)
