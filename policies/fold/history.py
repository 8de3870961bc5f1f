"""What the law must look up about entries long past: leaves, times, and which statement came where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from policies.fold.digests import Digests, hex_rows, integer_rows
from policies.fold.scratch import IN_MEMORY, Column, Scratch

HASH_SIZE: Final = 32
PARTS: Final = ("leaves", "times", "digests", "slots")
"""What a history is kept as."""


class History:
    """Leaf and time of every entry, and the seq of every statement digest. Grows by one entry at a time.

    In memory stay the newest few thousand entries, and what finds the newest 32,768 to 65,536; of all others 80 bytes
    each lie in `scratch`, which is memory too unless the caller has a directory for it. `size`: number of entries.
    """

    def __init__(self, scratch: Scratch = IN_MEMORY) -> None:
        self._leaves = hex_rows(HASH_SIZE, Column(scratch))
        self._times = integer_rows(Column(scratch))
        self._digests = Digests(HASH_SIZE, scratch)
        self.size = 0

    @classmethod
    def resume(
        cls, leaves: Column, times: Column, digests: Column, slots: Column, scratch: Scratch = IN_MEMORY
    ) -> History:
        """The history whose `parts` these are. Raises: ValueError when they do not belong together."""
        history = cls(scratch)
        history._leaves = hex_rows(HASH_SIZE, leaves)
        history._times = integer_rows(times)
        history._digests = Digests(HASH_SIZE, scratch, digests, slots)
        if not len(history._leaves) == len(history._times) == len(history._digests):
            raise ValueError("the parts of a history are of different sizes")
        history.size = len(history._leaves)
        return history

    def parts(self) -> dict[str, Iterator[bytes]]:
        """All of it as bytes, by the names of `PARTS`; slots are as this machine has them."""
        return {
            "leaves": self._leaves.chunks(),
            "times": self._times.chunks(),
            "digests": self._digests.rows.chunks(),
            "slots": self._digests.slots.chunks(),
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return (self._leaves, self._times, self._digests.rows) == (other._leaves, other._times, other._digests.rows)

    __hash__ = None  # type: ignore[assignment]  # it grows

    def leaf(self, seq: int) -> str:
        """Leaf of entry `seq` (64 hex digits). Raises: IndexError."""
        return self._leaves[seq]

    def time(self, seq: int) -> int:
        """Time of entry `seq`, seconds since 1970. Raises: IndexError."""
        return self._times[seq]

    def find(self, digest: str, since: int = 0) -> int | None:
        """Seq of the statement with this digest (64 hex digits), if it was said at entry `since` or later. A look among
        the newest entries alone is the quickest.
        """
        return self._digests.find(digest, since)

    def append(self, leaf: str, time: int, digest: str) -> None:
        """Add the next entry. `digest`: of a statement that `find` does not know."""
        # Every entry comes here, so one of the three tables says when old rows leave memory.
        self._digests.append(digest)
        self._leaves.recent.append(leaf)
        self._times.recent.append(time)
        self.size += 1
        if self._leaves.begin != self._digests.rows.begin:
            self._leaves.spill()
            self._times.spill()
