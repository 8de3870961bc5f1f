"""What the law must look up about entries long past: leaves, times, and which statement came where."""

from __future__ import annotations

from array import array
from typing import Final

_FIRST_SLOTS: Final = 1 << 10


class History:
    """Leaf and time of every entry, and the seq of every statement digest. Grows by one entry at a time.

    About 90 bytes an entry, because an audit of a million entries holds this in memory; a dict of digests would take
    three times that. The digests are found through a table of open addresses: a slot holds a seq plus 1, 0 is free, and
    at most half of the slots are taken.
    """

    def __init__(self) -> None:
        self._leaves = bytearray()
        self._times = array("q")
        self._digests = bytearray()
        self._slots = array("I", bytes(4 * _FIRST_SLOTS))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return (self._leaves, self._times, self._digests) == (other._leaves, other._times, other._digests)

    __hash__ = None  # type: ignore[assignment]  # it grows

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self._times)

    def leaf(self, seq: int) -> str:
        """Leaf of entry `seq` (64 hex digits). Raises: IndexError."""
        if not 0 <= seq < self.size:
            raise IndexError(seq)
        return self._leaves[32 * seq : 32 * seq + 32].hex()

    def time(self, seq: int) -> int:
        """Time of entry `seq`, seconds since 1970. Raises: IndexError."""
        if not 0 <= seq < self.size:
            raise IndexError(seq)
        return self._times[seq]

    def find(self, digest: str) -> int | None:
        """Seq of the statement with this digest (64 hex digits), if it was said."""
        wanted = bytes.fromhex(digest)
        taken = self._slots[self._slot(wanted)]
        return taken - 1 if taken else None

    def append(self, leaf: str, time: int, digest: str) -> None:
        """Add the next entry. `digest`: of a statement that `find` does not know."""
        raw = bytes.fromhex(digest)
        if 2 * (self.size + 1) > len(self._slots):
            self._widen()
        self._slots[self._slot(raw)] = self.size + 1
        self._digests += raw
        self._leaves += bytes.fromhex(leaf)
        self._times.append(time)

    def _slot(self, digest: bytes) -> int:
        """The slot that holds a digest, or the free one where it would be put."""
        slots, digests = self._slots, self._digests
        mask = len(slots) - 1
        at = int.from_bytes(digest[:8], "big") & mask
        while taken := slots[at]:
            if digests.startswith(digest, 32 * taken - 32):
                break
            at = (at + 1) & mask
        return at

    def _widen(self) -> None:
        self._slots = array("I", bytes(4 * 2 * len(self._slots)))
        for seq in range(self.size):
            self._slots[self._slot(bytes(self._digests[32 * seq : 32 * seq + 32]))] = seq + 1
