"""Remove releases that nothing needs any more, so that a host's disk does not fill with old ones.

keep     `executor.rollout.retention` says what the ledger still needs
host     never what `current` leads to, nor what a process uses
kill     a release is renamed into staging and removed there; what is left in staging goes with the next stage or prune
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from executor.hosts.fence import load_fence, pass_fence, take_fence
from executor.hosts.host import Fence, Pruned
from executor.hosts.in_use import find_used
from executor.hosts.layout import Layout, locked, prepare, read_current
from executor.hosts.releases import clear_staging, open_top
from executor.trees.materialise import discard
from ledger.durable import sync_directory

_TREE: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_STAGE_WAIT_S: Final = 600.0


def prune_releases(
    layout: Layout, keep: Collection[str], fence: Fence, lock_wait_s: float, *, dry_run: bool = False
) -> Pruned:
    """Remove every release but the current one, those in `keep`, and those in use. `dry_run`: only say which.

    Raises: as `Host.prune`; OSError.
    """
    if not layout.releases.is_dir():
        return Pruned(removed=(), in_use=())
    if dry_run:
        pass_fence(load_fence(layout.private / "fence"), fence)
        names, used = _candidates(layout, keep)
        return Pruned(removed=tuple(sorted(names - used)), in_use=tuple(sorted(used)))
    prepare(layout)
    with ExitStack() as stack:
        stack.enter_context(locked(layout, "stage.lock", _STAGE_WAIT_S))
        clear_staging(layout)
        # Under this lock nothing can flip to what is being taken away; what takes long comes after it.
        with locked(layout, "lock", lock_wait_s):
            take_fence(layout.private / "fence", fence)
            names, used = _candidates(layout, keep)
            gone = [_take_away(layout, name) for name in sorted(names - used)]
            sync_directory(layout.releases)
        for path in gone:
            discard(path)
        for manifest in (layout.private / "manifests").iterdir():
            # Of a release to keep that is not there, this is what it can be made again from.
            if (
                _TREE.fullmatch(manifest.name)
                and manifest.name not in keep
                and not layout.release(manifest.name).exists()
            ):
                manifest.unlink()
    return Pruned(removed=tuple(sorted(names - used)), in_use=tuple(sorted(used)))


def _candidates(layout: Layout, keep: Collection[str]) -> tuple[set[str], set[str]]:
    """Releases that nothing needs, and those of them that a process uses."""
    current = read_current(layout)
    # What has another name was put there by somebody else, and is theirs.
    names = {path.name for path in layout.releases.iterdir() if _TREE.fullmatch(path.name) and not path.is_symlink()}
    names -= {current, *keep}
    return names, {path.name for path in find_used([layout.release(name) for name in names])} if names else set()


def _take_away(layout: Layout, name: str) -> Path:
    gone = layout.staging / secrets.token_hex(16)
    open_top(layout.release(name))
    layout.release(name).rename(gone)
    return gone
