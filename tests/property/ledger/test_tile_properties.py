from __future__ import annotations

from contextlib import suppress
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import LOG_KEY, checkpoint_of, make_records
from tilework import MemoryTiles, leaves

from keys.errors import FormatError
from ledger.merkle import (
    LeafNodes,
    check_consistency,
    check_inclusion,
    hash_root,
    prove_consistency,
    prove_inclusion,
)
from ledger.proof import ConsistencyProof, InclusionProof, format_proof, make_inclusion, parse_proof
from ledger.tiles import (
    Bundle,
    Tile,
    TileNodes,
    bundles_of,
    format_bundle,
    format_path,
    format_tile,
    parse_bundle,
    parse_path,
    parse_tile,
    tiles_of,
)

INDEXES = st.integers(0, 2**53 - 1)
WIDTHS = st.integers(1, 256)
PLACES = st.one_of(st.builds(Tile, st.integers(0, 63), INDEXES, WIDTHS), st.builds(Bundle, INDEXES, WIDTHS))
HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=63).map(tuple)
NOTE = LOG_KEY.sign(5, b"\1" * 32)


@given(PLACES)
def test_path_parse_and_format(place: Tile | Bundle) -> None:
    assert parse_path(format_path(place)) == place


@given(st.one_of(st.text(max_size=40), st.from_regex(r"tile/(entries|[0-9]{1,3})/[x0-9/]{1,12}(\.p/[0-9]{0,4})?")))
def test_any_path_is_refused_or_spelt_again(text: str) -> None:
    with suppress(FormatError):
        assert format_path(parse_path(text)) == text


@given(st.lists(st.binary(max_size=70), min_size=1, max_size=40))
def test_bundle_parse_and_format(records: list[bytes]) -> None:
    assert parse_bundle(format_bundle(records), len(records)) == records


@given(st.binary(max_size=300), st.integers(1, 20))
def test_any_bundle_is_refused_or_made_again(data: bytes, width: int) -> None:
    with suppress(FormatError):
        assert format_bundle(parse_bundle(data, width)) == data


@given(st.binary(max_size=300), st.integers(1, 9))
def test_any_tile_is_refused_or_made_again(data: bytes, width: int) -> None:
    with suppress(FormatError):
        assert format_tile(parse_tile(data, width)) == data


@given(st.integers(0, 200_000), st.integers(0, 200_000))
def test_new_tiles_are_those_that_the_old_tree_has_not(one: int, other: int) -> None:
    old, size = sorted((one, other))
    assert set(tiles_of(size, old)) == set(tiles_of(size)) - set(tiles_of(old))
    assert set(bundles_of(size, old)) == set(bundles_of(size)) - set(bundles_of(old))


@cache
def tiles_to(size: int) -> MemoryTiles:
    return MemoryTiles(leaves(size))


ROOTS = [hash_root(leaves(600)[:size]) for size in range(601)]


def prove_both(index: int, old: int, tiles: MemoryTiles, root: bytes, old_root: bytes) -> None:
    size = len(tiles.rows[0])
    proof = prove_inclusion(index, size, TileNodes(size, tiles.load))
    check_inclusion(index, size, tiles.rows[0][index], root, proof)
    proof = prove_consistency(old, size, TileNodes(size, tiles.load))
    check_consistency(old, size, old_root, root, proof)


def test_every_size_to_600_is_proved_from_tiles() -> None:
    everything = leaves(600)
    for size in range(1, 601):
        tiles = MemoryTiles(everything[:size])
        for index in {0, size // 2, size - 1, min(255, size - 1), min(256, size - 1)}:
            prove_both(index, index + 1, tiles, ROOTS[size], ROOTS[index + 1])


@given(st.integers(1, 600), st.data())
def test_proofs_from_tiles_are_those_from_leaves(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    tiles = tiles_to(size)
    nodes, plain = TileNodes(size, tiles.load), LeafNodes(tiles.rows[0])
    assert prove_inclusion(index, size, nodes) == prove_inclusion(index, size, plain)
    assert prove_consistency(old, size, nodes) == prove_consistency(old, size, plain)


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 65_793])
def test_proofs_across_the_second_level_of_tiles(size: int) -> None:
    tiles = tiles_to(size)
    root = hash_root(tiles.rows[0])
    for index in {0, 255, 256, 65_279, 65_280, 65_534, min(65_535, size - 1), size - 1}:
        prove_both(index, index + 1, tiles, root, hash_root(tiles.rows[0][: index + 1]))


@given(st.integers(0, 2**53 - 1), HASHES, st.one_of(st.none(), st.binary(min_size=1, max_size=90)))
def test_inclusion_proof_parse_and_format(index: int, hashes: tuple[bytes, ...], record: bytes | None) -> None:
    proof = InclusionProof(index, hashes, NOTE, record)
    assert parse_proof(format_proof(proof)) == proof


@given(st.integers(0, 2**53 - 1), HASHES)
def test_consistency_proof_parse_and_format(old: int, hashes: tuple[bytes, ...]) -> None:
    proof = ConsistencyProof(old, hashes, NOTE)
    assert parse_proof(format_proof(proof)) == proof


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=90).map(lambda noise: noise + b"\n\n" + NOTE)))
def test_any_bytes_are_refused_or_a_proof_that_formats_to_them(data: bytes) -> None:
    with suppress(FormatError):
        assert format_proof(parse_proof(data)) == data


WHOLE = format_proof(
    make_inclusion(
        2,
        make_records(5)[2].data,
        LOG_KEY.sign(5, hash_root([bytes.fromhex(r.leaf) for r in make_records(5)])),
        checkpoint_of(make_records(5)),
        LeafNodes([bytes.fromhex(r.leaf) for r in make_records(5)]),
    )
)


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_stays_as_it_is(at: int, value: int) -> None:
    data = WHOLE[:at] + bytes([value]) + WHOLE[at + 1 :]
    with suppress(FormatError):
        assert format_proof(parse_proof(data)) == data


def test_roots_of_neighbouring_sizes_differ() -> None:
    assert all(one != other for one, other in pairwise(ROOTS))
