"""The RFC 6962 Merkle tree: inclusion and consistency proofs, and the frontier that makes appending O(log n).

    leaf = SHA-256(0x00 || record)        node = SHA-256(0x01 || left || right)

A tree over [lo, hi) splits at the largest power of two below its size. Each kind of proof has one walk over that shape:
proving reads the subtrees beside the path, checking takes them from the proof. The walks do no I/O; they read complete
subtrees through `Nodes`. All hashes here are 32 raw bytes.

Source: RFC 6962 section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final, Protocol, Self

from keys.errors import CalyxError, FormatError

HASH_SIZE: Final = 32
MAX_SIZE: Final = 2**53 - 1
EMPTY_ROOT: Final = sha256(b"").digest()

_Sibling = Callable[[int, int], bytes]


class ProofRefused(CalyxError):
    """A proof that does not prove what it is said to prove."""

    def __init__(self, message: str, *, index: int | None = None, size: int | None = None) -> None:
        super().__init__("bad_proof", message, index=index, size=size)


class Nodes(Protocol):
    """Where proofs read the hashes of complete subtrees."""

    def node(self, level: int, index: int) -> bytes:
        """Hash of the complete subtree over leaves [index << level, (index + 1) << level). Level 0 is a leaf."""
        ...


def hash_leaf(record: bytes) -> bytes:
    """Leaf hash of a record's bytes. Source: RFC 6962 section 2.1."""
    return sha256(b"\x00" + record).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """Hash of an interior node over two child hashes of 32 bytes each. Source: RFC 6962 section 2.1."""
    return sha256(b"\x01" + left + right).digest()


def hash_root(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes; of none, SHA-256 of the empty string."""
    if not leaves:
        return EMPTY_ROOT
    row = leaves
    while len(row) > 1:
        # A last node without a neighbour goes up as it is, which is the RFC's shape: it splits at a power of two.
        above = [sha256(b"\x01" + row[at] + row[at + 1]).digest() for at in range(0, len(row) - 1, 2)]
        row = [*above, row[-1]] if len(row) & 1 else above
    return row[0]


def prove_inclusion(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """Prove that leaf `index` is in the tree of `size` leaves: the hashes beside its path, deepest first.

    Raises: ValueError unless 0 <= index < size. Source: RFC 6962 section 2.1.1.
    """
    if not 0 <= index < size:
        raise ValueError("an inclusion proof needs 0 <= index < size")
    proof: list[bytes] = []
    _walk_inclusion(index, 0, size, b"", _recording(nodes, proof))
    return proof


def check_inclusion(index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Prove from `proof` that the tree of `size` leaves with `root` holds `leaf` at `index`.

    Raises: ProofRefused. Source: RFC 6962 section 2.1.1.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofRefused(f"there is no entry {index} in a tree of size {size}", index=index, size=size)
    _check_lengths(leaf, root, *proof)
    rest = list(reversed(proof))
    if _walk_inclusion(index, 0, size, leaf, _consuming(rest)) != root:
        raise ProofRefused(f"the inclusion proof of entry {index} leads to another root", index=index, size=size)
    _check_used_up(rest)


def prove_consistency(old_size: int, size: int, nodes: Nodes) -> list[bytes]:
    """Prove that the tree of `old_size` leaves is a prefix of the tree of `size` leaves.

    Raises: ValueError unless 1 <= old_size <= size: every tree extends the empty one, so there is nothing to prove.
    Source: RFC 6962 section 2.1.2.
    """
    if not 1 <= old_size <= size:
        raise ValueError("a consistency proof needs 1 <= old_size <= size")
    proof: list[bytes] = []
    _walk_consistency(old_size, 0, size, b"", _recording(nodes, proof))
    return proof


def check_consistency(old_size: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Prove from `proof` that the tree with `root` begins with all leaves of the tree with `old_root`.

    Raises: ProofRefused; always for old_size 0, which a proof cannot say anything about. Source: RFC 6962 section
    2.1.2.
    """
    if not 1 <= old_size <= size <= MAX_SIZE:
        raise ProofRefused(f"size {old_size} cannot be proved a prefix of size {size}", size=size)
    # Roots of equal sizes are only compared; between sizes they go into hashes, where a length would matter.
    _check_lengths(*proof, *([old_root, root] if old_size < size else []))
    rest = list(reversed(proof))
    seen_old, seen_new = _walk_consistency(old_size, 0, size, old_root, _consuming(rest))
    if seen_old != old_root or seen_new != root:
        raise ProofRefused(f"the consistency proof from size {old_size} to {size} leads to other roots", size=size)
    _check_used_up(rest)


def hash_range(lo: int, hi: int, nodes: Nodes) -> bytes:
    """Hash of the subtree over leaves [lo, hi), one that the RFC 6962 shape contains."""
    size = hi - lo
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return nodes.node(level, lo >> level)
    middle = lo + _split(size)
    return hash_node(hash_range(lo, middle, nodes), hash_range(middle, hi, nodes))


class Frontier:
    """The roots of the complete subtrees that a tree of `size` leaves is made of, largest first: all that append needs.

    There is one hash for each bit that is set in `size`.
    """

    __slots__ = ("_peaks", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._peaks: list[bytes] = []

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def append(self, leaf: bytes) -> list[bytes]:
        """Add a leaf hash; the complete subtrees that it finished, at level 1 and up: item i is the node of level i+1
        and index `(size - 1) >> (i + 1)`.
        """
        finished: list[bytes] = []
        peaks = self._peaks
        ones = self._size
        while ones & 1:
            leaf = sha256(b"\x01" + peaks.pop() + leaf).digest()
            finished.append(leaf)
            ones >>= 1
        peaks.append(leaf)
        self._size += 1
        return finished

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add leaf hashes, as `append` does one by one, a level at a time."""
        row, rest = list(leaves), self._size
        lasting: list[bytes] = []
        while row:
            if rest & 1:
                row.insert(0, self._peaks.pop())
            if len(row) & 1:
                lasting.append(row.pop())
            row = [sha256(b"\x01" + row[at] + row[at + 1]).digest() for at in range(0, len(row), 2)]
            rest >>= 1
        self._peaks.extend(reversed(lasting))
        self._size += len(leaves)

    def root(self) -> bytes:
        """Root of the tree, 32 bytes."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = hash_node(peak, root)
        return root

    def copy(self) -> Self:
        """A frontier that grows on its own."""
        return self.parse(self.format())

    def format(self) -> bytes:
        """Size as 8 bytes, big-endian, then the hashes. Inverse of `parse`."""
        return self._size.to_bytes(8, "big") + b"".join(self._peaks)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what `format` wrote.

        Raises: FormatError when the number of hashes is not the one that the size needs.
        """
        size = int.from_bytes(data[:8], "big")
        if len(data) < 8 or size > MAX_SIZE or len(data) != 8 + HASH_SIZE * size.bit_count():
            raise FormatError("a frontier does not have one hash for each bit of its size")
        frontier = cls()
        frontier._size = size
        frontier._peaks = [data[at : at + HASH_SIZE] for at in range(8, len(data), HASH_SIZE)]
        return frontier

    @classmethod
    def load(cls, size: int, nodes: Nodes) -> Self:
        """The frontier of the first `size` leaves, read from stored nodes."""
        frontier = cls()
        frontier._size = size
        lo = 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                frontier._peaks.append(nodes.node(level, lo >> level))
                lo += 1 << level
        return frontier


class LeafNodes:
    """`Nodes` over leaf hashes held in memory; interior hashes are computed anew at each call."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._leaves = leaves

    def node(self, level: int, index: int) -> bytes:
        """See `Nodes.node`. Raises: IndexError past the last complete subtree."""
        if (index + 1) << level > len(self._leaves):
            raise IndexError("no such complete subtree")
        return hash_root(self._leaves[index << level : (index + 1) << level])


def _split(size: int) -> int:
    """The largest power of two below `size`, for size >= 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _walk_inclusion(index: int, lo: int, hi: int, leaf: bytes, sibling: _Sibling) -> bytes:
    # Depth is log2 of the size, at most 53. The path below comes first, so siblings are asked for deepest first.
    if hi - lo == 1:
        return leaf
    middle = lo + _split(hi - lo)
    if index < middle:
        below = _walk_inclusion(index, lo, middle, leaf, sibling)
        return hash_node(below, sibling(middle, hi))
    below = _walk_inclusion(index, middle, hi, leaf, sibling)
    return hash_node(sibling(lo, middle), below)


def _walk_consistency(old: int, lo: int, hi: int, old_root: bytes, sibling: _Sibling) -> tuple[bytes, bytes]:
    # Returns the hashes of [lo, old) and of [lo, hi). The old tree as a whole is not in the proof: the checker has it.
    if hi == old:
        common = old_root if lo == 0 else sibling(lo, hi)
        return common, common
    middle = lo + _split(hi - lo)
    if old <= middle:
        before, after = _walk_consistency(old, lo, middle, old_root, sibling)
        return before, hash_node(after, sibling(middle, hi))
    before, after = _walk_consistency(old, middle, hi, old_root, sibling)
    left = sibling(lo, middle)
    return hash_node(left, before), hash_node(left, after)


def _recording(nodes: Nodes, proof: list[bytes]) -> _Sibling:
    def sibling(lo: int, hi: int) -> bytes:
        proof.append(hash_range(lo, hi, nodes))
        return proof[-1]

    return sibling


def _consuming(rest: list[bytes]) -> _Sibling:
    def sibling(_lo: int, _hi: int) -> bytes:
        if not rest:
            raise ProofRefused("the proof is too short")
        return rest.pop()

    return sibling


def _check_used_up(rest: list[bytes]) -> None:
    if rest:
        raise ProofRefused("the proof is too long")


def _check_lengths(*hashes: bytes) -> None:
    if any(len(item) != HASH_SIZE for item in hashes):
        raise ProofRefused("a hash of the proof is not 32 bytes")
