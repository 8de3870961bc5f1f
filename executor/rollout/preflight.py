"""What must be true before a lease is claimed, so that a refusal consumes nothing.

Hosts answer and take orders of this term, every instance has a place of its own that may be written to, is on the tree
that the lease starts from and that release is whole, the artifact's objects are here and whole, nothing changes but the
paths that the lease names, there is room for the new release, and a patch leads back.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Final

from executor.homes.reserve import Reserve
from executor.hosts.fence import pass_fence
from executor.hosts.host import Fence, Host, Hosts
from executor.trees.reverse import WayBack, prove_way_back
from executor.trees.tree import File, changed_paths, load_tree, parse_manifest, shown
from executor.trees.workplace import NewFolder, temporary_folder
from keys.errors import CalyxError, Unavailable
from keys.words import counted
from ledger.objects import ObjectRef, ObjectStore
from policies.fleet import Fleet, Instance
from policies.fold.state import LeaseState
from policies.kinds import ABSENT, Lease

SPARE_BYTES: Final = 64 * 1024 * 1024
"""Room that must stay free on a host after staging."""


class NotReady(CalyxError):
    """A lease cannot be executed now. `instance`: the one concerned, which the message begins with, or None."""

    def __init__(self, code: str, message: str, instance: str | None) -> None:
        self._about: Final = "" if instance is None else f"instance {instance}: "
        hint = "nothing was consumed; mend it, and the lease is tried again"
        super().__init__(code, f"{self._about}{message}", hint=hint)
        self.instance: Final = instance

    def repeats(self, code: str, text: str) -> bool:
        """Whether what was told before is the same: what is wrong, and where. How it looked there may differ each time,
        as free bytes do.
        """
        return code == self.code and text.startswith(self._about)


def instances_of(fleet: Fleet, lease: Lease) -> dict[str, Instance]:
    """The lease's target by instance name."""
    return {instance.name: instance for instance in fleet.targets[lease.target].instances}


def check_ready(
    lease: LeaseState,
    fleet: Fleet,
    hosts: Hosts,
    objects: ObjectStore,
    fence: Fence | None = None,
    reserve: Reserve | None = None,
    new_folder: NewFolder = temporary_folder,
) -> WayBack:
    """Prove that a lease can be executed now, and that a patch leads back: that evidence. `fence`: of the term that
    would claim it; None to leave that out, as for `reserve`, which is made where there is none. `new_folder`: where the
    patch is worked out.

    Raises: NotReady with the code of what is wrong (`object_missing`, `object_mismatch`, `path_hidden`, `other_ledger`,
    `base_moved`, `tree_dirty`, `no_space`, `host_io`, `root_shared`, ...).
    """
    known = instances_of(fleet, lease.lease)
    try:
        if reserve is not None:
            reserve.ensure()
        check_artifact(lease.lease, objects, shared_of(known, lease))
        needed = check_paths(lease, objects)
    except CalyxError as error:
        raise NotReady(error.code, error.message, None) from error
    shared = _shared_roots(fleet)
    for name, before in lease.before.items():
        try:
            _check_alone(known[name], shared)
            _check_instance(hosts(known[name]), known[name], (before, lease.after[name]), needed, fence)
        except CalyxError as error:
            raise NotReady(error.code, error.message, name) from error
    try:
        pairs = {(lease.before[name], lease.after[name]) for name in lease.after}
        return prove_way_back(pairs, objects, new_folder)
    except CalyxError as error:
        raise NotReady(error.code, error.message, None) from error


def shared_of(known: dict[str, Instance], lease: LeaseState) -> frozenset[str]:
    """The shared paths of the lease's instances."""
    return frozenset(path for name in lease.after for path in known[name].shared)


def check_artifact(lease: Lease, objects: ObjectStore, shared: frozenset[str]) -> None:
    """Prove that the artifact is here and whole: a patch, or a manifest with every file it names.

    Raises: CalyxError (`object_mismatch`, `object_missing`); FormatError.
    """
    artifact = lease.artifact
    data = objects.get(ObjectRef(sha256=artifact.sha256, size=artifact.size))
    if artifact.type == "patch":
        return
    files = [entry for entry in parse_manifest(data, shared).entries if isinstance(entry, File)]
    for ref in {ObjectRef(sha256=file.sha256, size=file.size) for file in files}:
        objects.check(ref)


def check_paths(lease: LeaseState, objects: ObjectStore) -> int:
    """Prove that no path changes but those that the lease names: the policy was held against these, and they are only
    what the proposer says until somebody compares the trees. A host takes no other tree than the one after. Gives the
    bytes of the largest tree after.

    Raises: CalyxError (`path_hidden`); Unavailable (`object_missing`).
    """
    named = frozenset(lease.paths)
    largest = 0
    for before, after in dict.fromkeys((lease.before[name], lease.after[name]) for name in lease.after):
        old = None if before == ABSENT else load_tree(before, objects)
        new = load_tree(after, objects)
        hidden = [path for path in changed_paths(old, new) if path not in named]
        if hidden:
            raise CalyxError(
                "path_hidden", f"{shown(hidden[0])} changes, and the lease does not name it", path=shown(hidden[0])
            )
        largest = max(largest, sum(entry.size for entry in new.entries if isinstance(entry, File)))
    return largest


def _shared_roots(fleet: Fleet) -> frozenset[str]:
    """Places on this machine to which the roots of several instances lead, by links: the fleet names each root once."""
    roots = [one.root for target in fleet.targets.values() for one in target.instances if one.address == "local"]
    counts = Counter(map(os.path.realpath, roots))
    return frozenset(place for place, count in counts.items() if count > 1)


def _check_alone(instance: Instance, shared: frozenset[str]) -> None:
    place = os.path.realpath(instance.root)
    if instance.address == "local" and place in shared:
        raise Unavailable("root_shared", f"{instance.root} leads to {place}, and so does another instance's root")


def _check_instance(host: Host, instance: Instance, trees: tuple[str, str], needed: int, fence: Fence | None) -> None:
    before, after = trees
    observed = host.inspect(instance)
    if fence is not None:
        pass_fence(observed.fence, fence)
    if observed.tree != before:
        moved = "the tree after, already" if observed.tree == after else observed.tree[:16]
        raise CalyxError("base_moved", f"it is on {moved}, and the lease starts from {before[:16]}")
    if before != ABSENT:
        host.scrub(instance, before)
    if not observed.writable:
        raise Unavailable("host_io", f"{instance.root} is read-only, or belongs to another account")
    if observed.free_bytes < needed + SPARE_BYTES:
        raise Unavailable("no_space", f"{counted(observed.free_bytes, 'byte')} are free and the release needs {needed}")
