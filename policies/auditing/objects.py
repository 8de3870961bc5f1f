"""Objects as an audit sees them: everything that the entries refer to is there and is what they say.

What an entry refers to with hash and size (artifacts, fleets, findings, reports, long lists, raw samples) must be
there. A `directory` artifact is a tree manifest, and so must each file that it lists. The other trees of a lease are
named by digest alone: where their manifest is kept, it must be whole with its files; else that is only counted.

Source: docs/FORMAT.md, objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

from keys.canonical import Json
from keys.errors import CalyxError
from ledger.objects import ObjectRef
from ledger.statement import Statement
from policies.fold.digests import Digests
from policies.fold.scratch import IN_MEMORY, Scratch, ScratchFailed
from policies.manifest import manifest_files

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DIGEST_FIELD: Final = b'"sha256":'


class AuditObjects(Protocol):
    """What an audit needs of an object store; `ledger.objects.ObjectStore` has it."""

    def get(self, ref: ObjectRef) -> bytes:
        """The object's content, verified, at most 64 MiB."""
        ...

    def check(self, ref: ObjectRef) -> None:
        """Prove that the object is there and whole."""
        ...

    def find(self, digest: str) -> ObjectRef | None:
        """The reference of what is stored under a digest."""
        ...


class ObjectAudit:
    """Checks each object once, at the first entry that refers to it. `missing`: called with the entry and the error.

    `kept_nowhere`: how many trees a lease names of which no manifest is kept. `scratch`: where what was seen is kept.
    """

    def __init__(
        self,
        objects: AuditObjects,
        missing: Callable[[int, CalyxError], None],
        scratch: Scratch = IN_MEMORY,
    ) -> None:
        self._objects = objects
        self._missing = missing
        # A reference is its digest and its size.
        self._seen = Digests(40, scratch)
        self._trees = Digests(32, scratch)
        self._nowhere = Digests(32, scratch)
        self._found_later = 0

    @property
    def checked(self) -> int:
        """How many objects were asked for."""
        return len(self._seen)

    @property
    def kept_nowhere(self) -> int:
        return len(self._nowhere) - self._found_later

    def visit(self, seq: int, statement: Statement) -> None:
        """Check what a statement refers to."""
        # Its subject has one; in canonical bytes a field with that name is written in no other way.
        if statement.kind != "lease" and statement.body.count(_DIGEST_FIELD) == 1:
            return
        said = statement.predicate
        manifest = self._directory(said) if statement.kind == "lease" else None
        for ref in references(said):
            if manifest is None or ref != manifest:
                self._check(seq, ref)
        if manifest is not None:
            self._check_tree(seq, manifest)
        if statement.kind == "lease":
            for digest in _named_trees(said):
                if self._trees.find(digest) is None:
                    self._try(seq, partial(self._check_named, seq, digest))

    def _check(self, seq: int, ref: ObjectRef) -> None:
        if self._is_new(ref):
            self._try(seq, lambda: self._objects.check(ref))

    def _check_tree(self, seq: int, ref: ObjectRef) -> None:
        if not self._trees.add(ref.sha256):
            return
        if self._nowhere.find(ref.sha256) is not None:
            self._found_later += 1

        def check() -> None:
            for file in manifest_files(self._objects.get(ref)):
                self._check(seq, file)

        self._is_new(ref)
        self._try(seq, check)

    def _check_named(self, seq: int, digest: str) -> None:
        kept = self._objects.find(digest)
        if kept is not None:
            self._check_tree(seq, kept)
        else:
            self._nowhere.add(digest)

    def _is_new(self, ref: ObjectRef) -> bool:
        return self._seen.add(f"{ref.sha256}{ref.size:016x}")

    def _try(self, seq: int, check: Callable[[], None]) -> None:
        try:
            check()
        except ScratchFailed:
            raise
        except CalyxError as error:
            self._missing(seq, error)

    @staticmethod
    def _directory(predicate: dict[str, Json]) -> ObjectRef | None:
        artifact = predicate.get("artifact")
        if isinstance(artifact, dict) and artifact.get("type") == "directory":
            return next(iter(references(artifact)), None)
        return None


def references(value: Json) -> Iterator[ObjectRef]:
    """Every reference to an object inside a predicate: `sha256` and `size`, and in an artifact also `type`."""
    if isinstance(value, dict):
        # Members whose names are data, as those of a policy's hooks, may be called so too; they are objects.
        digest, size = value.get("sha256"), value.get("size")
        if isinstance(digest, str) and isinstance(size, int) and value.keys() - {"type"} == {"sha256", "size"}:
            yield ObjectRef.from_json({"sha256": digest, "size": size})
            return
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        # Nearly everything in a predicate is text, and a lease has a name for each instance.
        if type(item) is dict or type(item) is list:
            yield from references(item)


def _named_trees(predicate: dict[str, Json]) -> Iterator[str]:
    changes = predicate.get("changes")
    for change in changes if isinstance(changes, list) else []:
        if isinstance(change, dict):
            for digest in (change.get("before"), change.get("after")):
                # Also of an entry that is not lawful, which may name anything.
                if isinstance(digest, str) and _DIGEST.fullmatch(digest):
                    yield digest
