"""What the law must look up about entries long past: leaves, times, and which statement came where."""

from __future__ import annotations

from array import array


class History:
    """Leaf and time of every entry, and the seq of every statement digest. Grows by one entry at a time.

    Kept compact: an audit of a million entries holds this in memory.
    """

    def __init__(self) -> None:
        self._leaves = bytearray()
        self._times = array("q")
        self._seqs: dict[bytes, int] = {}

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
        """Seq of the statement with this digest, if it was said."""
        return self._seqs.get(bytes.fromhex(digest))

    def append(self, leaf: str, time: int, digest: str) -> None:
        """Add the next entry."""
        self._seqs[bytes.fromhex(digest)] = self.size
        self._leaves += bytes.fromhex(leaf)
        self._times.append(time)
