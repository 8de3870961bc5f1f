"""CP14, the sentinel, proves that a change is what its lease says, and nothing that must not reach production.

It recomputes the trees and the changed paths, holds each path against the policy in force, and looks for private keys
and other secrets in what changed. Set-id bits, other file types and links that leave the tree have no spelling in a
manifest or are refused when one is read, so they surface as findings of that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from executor.agents.changes import OpenedChange, all_changed_paths, open_changes
from executor.agents.review import Finding, Report
from executor.trees.tree import File, shown
from ledger.objects import MAX_IN_MEMORY, ObjectRef, ObjectStore
from policies.fold.state import LeaseState, State
from policies.matrix import path_allowed

CHUNK: Final = 1024 * 1024

KEY_NAMES: Final = frozenset(
    {
        ".env",
        ".git-credentials",
        ".netrc",
        ".pgpass",
        "id_dsa",
        "id_ecdsa",
        "id_ecdsa_sk",
        "id_ed25519",
        "id_ed25519_sk",
        "id_rsa",
    }
)
KEY_SUFFIXES: Final = frozenset({".jks", ".key", ".keystore", ".p12", ".pfx", ".ppk", ".skey"})
_SECRETS: Final = re.compile(
    rb"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----"
    rb"|PRIVATE\+KEY\+[!-~]{1,255}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{16}"
    rb"|PuTTY-User-Key-File-[0-9]"
    rb"|AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{16}"
)
_OVERLAP: Final = 512


class Sentinel:
    """The sentinel's inspection. Changes nothing but the object store, where a patched tree is kept."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects: Final = objects

    def inspect(self, state: State, lease: LeaseState, scratch: Path) -> Report:
        changes = open_changes(state, lease, self._objects, scratch)
        paths = all_changed_paths(changes)
        findings = [*_check_paths(state, lease, paths), *self._check_secrets(changes, scratch)]
        return Report(
            f"changed paths: {len(paths)}, all named by the lease and allowed by the policy; no key found; "
            f"instances: {len(lease.before)}",
            tuple(findings),
        )

    def _check_secrets(self, changes: tuple[OpenedChange, ...], scratch: Path) -> Iterator[Finding]:
        files = {file for change in changes for file in change.changed_files()}
        for file in sorted(files, key=lambda one: one.path.encode()):
            name = PurePosixPath(file.path.lower())
            path = shown(file.path)
            if name.name in KEY_NAMES or name.suffix in KEY_SUFFIXES:
                yield Finding("key_file", f"{path} has the name of a file with a secret", path)
            elif self._holds_secret(file, scratch):
                yield Finding("key_file", f"{path} holds a private key", path)

    def _holds_secret(self, file: File, scratch: Path) -> bool:
        ref = ObjectRef(sha256=file.sha256, size=file.size)
        if file.size <= MAX_IN_MEMORY:
            return _SECRETS.search(self._objects.get(ref)) is not None
        copy = scratch / "content"
        self._objects.copy_to(ref, copy)
        try:
            return _found(copy)
        finally:
            copy.unlink()


def _check_paths(state: State, lease: LeaseState, paths: tuple[str, ...]) -> Iterator[Finding]:
    if lease.claim_seq is None and lease.lease.policy != state.policy_digest:
        yield Finding("policy_moved", "the lease was made under a policy that is not the one in force")
        return
    for path in sorted(set(paths) - set(lease.paths), key=str.encode):
        yield Finding("path_hidden", f"the artifact changes {shown(path)}, which the lease does not name", shown(path))
    for path in sorted(set(lease.paths) - set(paths), key=str.encode):
        yield Finding("path_unchanged", f"the lease names {shown(path)}, which does not change", shown(path))
    # A review that is owed after the claim judges the lease by its own policy, which was in force then.
    rule = state.policies[lease.lease.policy].deploy_production.targets.get(lease.lease.target)
    allowed = () if rule is None else rule.paths
    for path in paths:
        if not path_allowed(path, allowed):
            yield Finding(
                "path_out_of_scope", f"the policy lets nobody change {shown(path)} on {lease.lease.target}", shown(path)
            )


def _found(path: Path) -> bool:
    with path.open("rb") as file:
        tail = b""
        while chunk := file.read(CHUNK):
            # What begins in one chunk and ends in the next is seen whole with the end of the one before.
            if _SECRETS.search(tail + chunk):
                return True
            tail = chunk[-_OVERLAP:]
    return False
