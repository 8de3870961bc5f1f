"""Objects in memory, for tests that need no disk."""

from __future__ import annotations

from hashlib import sha256

from keys.errors import CalyxError
from ledger.objects import ObjectRef


class MemoryObjects:
    """Objects in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def put(self, data: bytes) -> ObjectRef:
        """Keep content."""
        ref = ObjectRef(sha256=sha256(data).hexdigest(), size=len(data))
        self._kept[ref.sha256] = data
        return ref

    def contents(self) -> list[bytes]:
        """Everything kept."""
        return list(self._kept.values())

    def get(self, ref: ObjectRef) -> bytes:
        """Give content."""
        if ref.sha256 not in self._kept:
            raise CalyxError("object_missing", "it is not here")
        return self._kept[ref.sha256]
