"""CP18, the validator, proves that what a lease changes can at least be read: each changed Python, JSON, YAML and TOML
file of the tree after is parsed, and none of it is run.

Like the sentinel it makes the tree after from the artifact itself. A file that is too large to be checked fails.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

from executor.agents.changes import open_changes
from executor.agents.review import Finding, Report
from executor.agents.sandbox import Sandbox
from executor.agents.syntax import MAX_BYTES, Kind, kind_of
from executor.trees.tree import File, shown
from keys.words import counted
from ledger.objects import ObjectRef, ObjectStore
from policies.fold.state import LeaseState, State


class Checker(Protocol):
    """Whoever reads hostile content."""

    def check(self, kind: Kind, data: bytes) -> str | None:
        """What is wrong with content, in one line, or None when it is well-formed."""
        ...


class Validator:
    """The validator's inspection. `checker`: opens a checker for the files of one lease."""

    def __init__(self, objects: ObjectStore, checker: Callable[[], AbstractContextManager[Checker]] = Sandbox) -> None:
        self._objects: Final = objects
        self._checker: Final = checker

    def inspect(self, state: State, lease: LeaseState, scratch: Path) -> Report:
        changes = open_changes(state, lease, self._objects, scratch)
        files = {file for change in changes for file in change.changed_files()}
        checked = sorted(
            ((file, kind) for file in files if (kind := kind_of(file.path)) is not None),
            key=lambda pair: (pair[0].path.encode(), pair[0].sha256),
        )
        with self._checker() as checker:
            found = [self._check(checker, file, kind) for file, kind in checked]
        return Report(
            f"changed files: {len(files)}; of these Python, JSON, YAML or TOML, and well-formed: {len(checked)}",
            tuple(finding for finding in found if finding is not None),
        )

    def _check(self, checker: Checker, file: File, kind: Kind) -> Finding | None:
        path = shown(file.path)
        if file.size > MAX_BYTES[kind]:
            return Finding("too_large", f"{path} is over the {counted(MAX_BYTES[kind], 'byte')} that are checked", path)
        wrong = checker.check(kind, self._objects.get(ObjectRef(sha256=file.sha256, size=file.size)))
        return None if wrong is None else Finding("not_well_formed", f"{path}: {wrong}", path)
