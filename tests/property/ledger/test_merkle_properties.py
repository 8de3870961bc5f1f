from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import FormatError
from ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    LeafNodes,
    ProofRefused,
    check_consistency,
    check_inclusion,
    hash_leaf,
    hash_node,
    hash_root,
    prove_consistency,
    prove_inclusion,
)

LEAVES = [sha256(b"%d" % number).digest() for number in range(600)]


KNOWN = [
    ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
    ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
    ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
    ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
    ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
    ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    ("606162636465666768696a6b6c6d6e6f", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
]
"""The records of the tree that implementations of RFC 6962 share for their tests, and the root after each."""


def test_hashes_are_those_of_everyone_else() -> None:
    tree = Frontier()
    for record, root in KNOWN:
        tree.append(hash_leaf(bytes.fromhex(record)))
        assert tree.root().hex() == root


def plain_root(leaves: list[bytes]) -> bytes:
    """RFC 6962's definition, word for word: the reference that the frontier is compared with."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hash_node(plain_root(leaves[:split]), plain_root(leaves[split:]))


@given(st.lists(st.integers(0, 70), max_size=8))
def test_frontier_grown_in_any_pieces_is_the_one_grown_by_ones(pieces: list[int]) -> None:
    one, many = Frontier(), Frontier()
    for count in pieces:
        leaves = [hash_leaf(b"%d" % (one.size + number)) for number in range(count)]
        many.extend(leaves)
        for leaf in leaves:
            one.append(leaf)
        assert many.format() == one.format()


def test_frontier_has_the_root_of_the_definition_at_every_size_to_300() -> None:
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT == hash_root([]) == plain_root([])
    for size in range(1, 301):
        frontier.append(LEAVES[size - 1])
        assert frontier.root() == hash_root(LEAVES[:size]) == plain_root(LEAVES[:size])
        assert frontier.format() == Frontier.load(size, LeafNodes(LEAVES[:size])).format()


def test_nodes_that_append_finishes_are_those_of_the_tree() -> None:
    frontier = Frontier()
    nodes = LeafNodes(LEAVES)
    for seq in range(512):
        for level, node in enumerate(frontier.append(LEAVES[seq]), start=1):
            assert node == nodes.node(level, seq >> level)


@pytest.mark.parametrize("size", [*range(1, 34), 63, 64, 65])
def test_every_index_of_a_small_tree_is_proved(size: int) -> None:
    nodes, root = LeafNodes(LEAVES[:size]), hash_root(LEAVES[:size])
    for index in range(size):
        check_inclusion(index, size, LEAVES[index], root, prove_inclusion(index, size, nodes))


@pytest.mark.parametrize("size", [127, 128, 129, 255, 256, 257, 300])
def test_inclusion_across_powers_of_two(size: int) -> None:
    nodes, root = LeafNodes(LEAVES[:size]), hash_root(LEAVES[:size])
    for index in {0, 1, size // 2, size - 2, size - 1, min(size - 1, 255), min(size - 1, 256)}:
        check_inclusion(index, size, LEAVES[index], root, prove_inclusion(index, size, nodes))


def test_every_pair_of_small_sizes_is_consistent() -> None:
    roots = [hash_root(LEAVES[:size]) for size in range(34)]
    for size in range(1, 34):
        nodes = LeafNodes(LEAVES[:size])
        for old in range(1, size + 1):
            check_consistency(old, size, roots[old], roots[size], prove_consistency(old, size, nodes))


def test_every_size_to_300_extends_the_one_before() -> None:
    for old, size in pairwise(range(1, 301)):
        proof = prove_consistency(old, size, LeafNodes(LEAVES[:size]))
        check_consistency(old, size, hash_root(LEAVES[:old]), hash_root(LEAVES[:size]), proof)


@st.composite
def inclusions(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(st.integers(2, 600))
    return draw(st.integers(0, size - 1)), size


def mutate(proof: list[bytes], draw: st.DataObject) -> list[bytes]:
    how = draw.draw(st.sampled_from(["flip", "drop", "add", "swap"]))
    at = draw.draw(st.integers(0, len(proof) - 1)) if proof else 0
    changed = list(proof)
    if how == "flip" and proof:
        bit = draw.draw(st.integers(0, 255))
        changed[at] = (int.from_bytes(proof[at], "big") ^ (1 << bit)).to_bytes(32, "big")
    elif how == "drop" and proof:
        del changed[at]
    elif how == "swap" and len(proof) > 1:
        other = (at + 1) % len(proof)
        changed[at], changed[other] = changed[other], changed[at]
    else:
        changed.insert(at, LEAVES[0])
    return changed


@given(inclusions(), st.data())
def test_mutated_inclusion_proofs_are_refused(case: tuple[int, int], data: st.DataObject) -> None:
    index, size = case
    root = hash_root(LEAVES[:size])
    proof = prove_inclusion(index, size, LeafNodes(LEAVES[:size]))
    with pytest.raises(ProofRefused):
        check_inclusion(index, size, LEAVES[index], root, mutate(proof, data))
    with pytest.raises(ProofRefused):
        check_inclusion((index + 1) % size, size, LEAVES[index], root, proof)
    with pytest.raises(ProofRefused):
        check_inclusion(index, size, LEAVES[(index + 1) % size], root, proof)


@given(inclusions(), st.data())
def test_mutated_consistency_proofs_are_refused(case: tuple[int, int], data: st.DataObject) -> None:
    old, size = case[0] + 1, case[1]
    old_root, root = hash_root(LEAVES[:old]), hash_root(LEAVES[:size])
    proof = prove_consistency(old, size, LeafNodes(LEAVES[:size]))
    with pytest.raises(ProofRefused):
        check_consistency(old, size, old_root, root, mutate(proof, data))
    with pytest.raises(ProofRefused):
        check_consistency(old, size, LEAVES[0] if old > 1 else LEAVES[1], root, proof)


def test_proof_that_asks_for_a_huge_tree_ends_quickly() -> None:
    with pytest.raises(ProofRefused):
        check_inclusion(0, 2**53 - 1, LEAVES[0], LEAVES[1], [])
    with pytest.raises(ProofRefused):
        check_inclusion(0, 2**53, LEAVES[0], LEAVES[1], [LEAVES[0]] * 60)
    with pytest.raises(ProofRefused):
        check_consistency(0, 5, EMPTY_ROOT, LEAVES[1], [])


@given(st.integers(0, 600), st.binary(max_size=200))
def test_frontier_parse_and_format(size: int, noise: bytes) -> None:
    frontier = Frontier()
    for leaf in LEAVES[:size]:
        frontier.append(leaf)
    again = Frontier.parse(frontier.format())
    assert (again.size, again.root()) == (size, frontier.root())
    with suppress(FormatError):
        assert Frontier.parse(noise).format() == noise
