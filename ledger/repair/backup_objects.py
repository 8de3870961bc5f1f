"""Carrying objects from one directory to another: only those that are asked for, only under their own hash."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from keys.errors import CalyxError
from ledger.objects import MAX_IN_MEMORY, DirectoryObjects, ObjectRef

_ABSENT: Final = frozenset({"object_missing", "object_mismatch"})


class Carrier:
    """What a walk over entries needs of objects (`get`, `check`, `find`): the object is in `target` and whole, or it is
    brought there from `source`. `trusting`: a file of the right name and size in `target` is taken for whole.

    `carried`: digests of what was brought.
    """

    def __init__(self, target: DirectoryObjects, source: DirectoryObjects | None, *, trusting: bool = False) -> None:
        self._target: Final = target
        self._source: Final = source
        self._trusting: Final = trusting
        self.carried: Final[list[str]] = []

    def get(self, ref: ObjectRef) -> bytes:
        """The object's content. Raises: as `ledger.objects.ObjectStore.get`, of the target."""
        self.check(ref)
        return self._target.get(ref)

    def check(self, ref: ObjectRef) -> None:
        """Prove that the object is in the target. Raises: as `ledger.objects.ObjectStore.check` and `put`."""
        if self._trusting and self._target.has(ref):
            return
        try:
            self._target.check(ref)
        except CalyxError as error:
            if self._source is None or error.code not in _ABSENT:
                raise
            self._carry(self._source, ref)

    def find(self, digest: str) -> ObjectRef | None:
        """The reference of what either has under a digest."""
        found = self._target.find(digest)
        return found if found is not None or self._source is None else self._source.find(digest)

    def _carry(self, source: DirectoryObjects, ref: ObjectRef) -> None:
        if ref.size <= MAX_IN_MEMORY:
            self._target.put(source.get(ref))
        else:
            with TemporaryDirectory(prefix="calyx-") as directory:
                copy = Path(directory) / "object"
                source.copy_to(ref, copy)
                self._target.put_file(copy)
        self.carried.append(ref.sha256)
