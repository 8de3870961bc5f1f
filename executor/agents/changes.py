"""The trees that a lease leads from and to, made again from its artifact and nothing else.

A reviewer believes no digest of the proposer: it opens the artifact, or applies the patch to the tree before, and takes
what comes out. Every file of the result is then an object that is here and whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from executor.trees.patch import plan_patch
from executor.trees.tree import File, Tree, changed_paths, load_tree, make_tree, parse_manifest
from keys.errors import CalyxError
from ledger.objects import ObjectRef, ObjectStore
from policies.fold.state import LeaseState, State
from policies.kinds import ABSENT


@dataclass(frozen=True, slots=True)
class OpenedChange:
    """One group's trees. `before`: None for nothing deployed yet."""

    before: Tree | None
    after: Tree

    def changed_files(self) -> tuple[File, ...]:
        """The files of `after` that `before` does not have with the same content and kind."""
        old = set(self.before.entries) if self.before else set()
        return tuple(entry for entry in self.after.entries if isinstance(entry, File) and entry not in old)


def open_changes(state: State, lease: LeaseState, objects: ObjectStore, scratch: Path) -> tuple[OpenedChange, ...]:
    """Prove that the artifact leads every instance from its tree before to its tree after, and give these trees.

    Raises: CalyxError (`after_mismatch`, `unknown_fleet`, `object_mismatch`; of the manifest, the patch or a link);
    Unavailable (`object_missing`).
    """
    terms = lease.lease
    artifact = terms.artifact
    data = objects.get(ObjectRef(sha256=artifact.sha256, size=artifact.size))
    befores = {
        digest: None if digest == ABSENT else load_tree(digest, objects) for digest in set(lease.before.values())
    }
    opened = []
    for before, after, shared in sorted(_groups(state, lease), key=lambda group: (*group[:2], sorted(group[2]))):
        old = befores[before]
        if artifact.type == "directory":
            new = parse_manifest(data, shared)
            for ref in set(new.files()):
                objects.check(ref)
        else:
            new = plan_patch(make_tree(()) if old is None else old, objects, data, scratch, shared)
        if new.digest != after:
            raise CalyxError(
                "after_mismatch", f"the artifact leads to the tree {new.digest[:16]}, and the lease says {after[:16]}"
            )
        opened.append(OpenedChange(old, new))
    return tuple(opened)


def all_changed_paths(changes: tuple[OpenedChange, ...]) -> tuple[str, ...]:
    """Every path that some group changes, sorted by its bytes; a directory ends in `/`."""
    return tuple(sorted({path for one in changes for path in changed_paths(one.before, one.after)}, key=str.encode))


def _groups(state: State, lease: LeaseState) -> set[tuple[str, str, frozenset[str]]]:
    """Trees before and after, and shared paths, of all instances, each combination once."""
    fleet = state.fleets.get(lease.lease.fleet)
    target = None if fleet is None else fleet.targets.get(lease.lease.target)
    if target is None:
        raise CalyxError("unknown_fleet", "the lease names a fleet that was never in force, or no target of it")
    shared = {instance.name: frozenset(instance.shared) for instance in target.instances}
    missing = sorted(lease.before.keys() - shared.keys())
    if missing:
        raise CalyxError("unknown_instance", f"the fleet has no instance {missing[0]}")
    return {(lease.before[name], lease.after[name], shared[name]) for name in lease.before}
