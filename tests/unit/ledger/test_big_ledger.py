"""A ledger of 65,800 entries. Proofs from the store and from an export are right at every size to 600 and across 256
and 65,536, and read from a few tiles; an export again costs what is new.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ledgers import LOG_KEY, make_ledger, next_record

from ledger.exports.export import export_log
from ledger.exports.reader import ExportReader, read_bounded
from ledger.merkle import (
    Frontier,
    Nodes,
    check_consistency,
    check_inclusion,
    hash_leaf,
    hash_root,
    prove_consistency,
    prove_inclusion,
)
from ledger.sqlite.store import SqliteStore
from ledger.tiles import WIDTH, Tile

SIZE = 65_800
LEVELS = 3
"""Of tiles, in a tree of that size."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    """A ledger that is a little over two levels of tiles. Read it only."""
    with make_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db", SIZE, size=1) as made:
        yield made


@pytest.fixture(scope="module")
def exported(store: SqliteStore) -> Path:
    root = store.path.with_name("export")
    export_log(store, LOG_KEY.vkey, root, lambda seq, data: None)
    return root


@pytest.fixture(scope="module")
def leaves(store: SqliteStore) -> list[bytes]:
    return [store.node(0, seq) for seq in range(SIZE)]


def roots_of(leaves: list[bytes], sizes: set[int]) -> dict[int, bytes]:
    """The root at each of these sizes, each leaf hashed once."""
    tree, found = Frontier(), {}
    for leaf in leaves:
        tree.append(leaf)
        if tree.size in sizes:
            found[tree.size] = tree.root()
    return found


def prove(nodes: Nodes, leaves: list[bytes], roots: dict[int, bytes], size: int, index: int) -> None:
    proof = prove_inclusion(index, size, nodes)
    check_inclusion(index, size, leaves[index], roots[size], proof)
    check_consistency(index + 1, size, roots[index + 1], roots[size], prove_consistency(index + 1, size, nodes))


def test_every_size_to_600_is_proved_from_the_store(store: SqliteStore, leaves: list[bytes]) -> None:
    roots = roots_of(leaves[:600], set(range(1, 601)))
    assert roots[600] == hash_root(leaves[:600])
    for size in range(1, 601):
        for index in {0, size // 3, size - 1, min(255, size - 1), min(256, size - 1)}:
            prove(store, leaves, roots, size, index)


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 65_792, 65_793, SIZE])
def test_sizes_across_65_536_are_proved_from_the_store(store: SqliteStore, leaves: list[bytes], size: int) -> None:
    indexes = {0, 255, 256, 65_279, 65_280, 65_534, min(65_535, size - 1), min(65_536, size - 1), size - 1}
    roots = roots_of(leaves, {size, *(index + 1 for index in indexes)})
    for index in indexes:
        prove(store, leaves, roots, size, index)


def test_proof_from_the_store_reads_no_whole_level(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(hashes: Sequence[bytes]) -> bytes:
        read.append(len(hashes))
        return hash_root(hashes)

    monkeypatch.setattr("ledger.sqlite.store.hash_root", counted)
    for index in (0, 255, 256, 40_000, 65_535, 65_536, SIZE - 1):
        read.clear()
        prove_inclusion(index, SIZE, store)
        prove_consistency(index + 1, SIZE, store)
        Frontier.load(index + 1, store)
        assert sum(read) <= 3 * LEVELS * WIDTH, index


def test_proof_from_an_export_reads_a_few_tiles(
    exported: Path, leaves: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = roots_of(leaves, {SIZE})
    asked: list[Tile] = []
    load = ExportReader.load_tile

    def counted(reader: ExportReader, tile: Tile) -> bytes:
        asked.append(tile)
        return load(reader, tile)

    monkeypatch.setattr(ExportReader, "load_tile", counted)
    for index in (0, 255, 256, 40_000, 65_535, 65_536, SIZE - 1):
        asked.clear()
        check_inclusion(index, SIZE, leaves[index], roots[SIZE], prove_inclusion(index, SIZE, ExportReader(exported)))
        # The tiles above the entry, and those at the right edge.
        assert len(asked) == len(set(asked)) <= 2 * LEVELS, index


def test_next_export_reads_and_hashes_what_is_new(
    store: SqliteStore, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the new entries those of the one bundle that was not full, and few nodes."""
    path, out, new = tmp_path / "ledger.db", tmp_path / "export", 256
    store.backup(path)
    shutil.copytree(exported, out)
    before = {each.relative_to(out).as_posix() for each in out.rglob("*") if each.is_file()} - {"checkpoint"}
    counts = dict.fromkeys(("read", "node", "hashed"), 0)
    opened: set[str] = set()

    class Counted:
        def __init__(self, inner: SqliteStore) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
            for data in self.inner.read(start, stop):
                counts["read"] += 1
                yield data

        def node(self, level: int, index: int) -> bytes:
            counts["node"] += 1
            return self.inner.node(level, index)

    def counted_hash(data: bytes) -> bytes:
        counts["hashed"] += 1
        return hash_leaf(data)

    def counted_open(file: Path, limit: int) -> bytes | None:
        opened.add(file.relative_to(out).as_posix())
        return read_bounded(file, limit)

    with SqliteStore.open(path) as grown:
        with grown.writer(LOG_KEY.sign) as writer:
            for _ in range(new):
                writer.append(next_record(writer.head, size=1))
        monkeypatch.setattr("ledger.exports.export.hash_leaf", counted_hash)
        monkeypatch.setattr("ledger.exports.export.read_bounded", counted_open)
        done = export_log(Counted(grown), LOG_KEY.vkey, out, lambda seq, data: None)  # type: ignore[arg-type]  # counts
        assert (done.old, done.size) == (SIZE, SIZE + new)
        # Once to prove them before a file is written, once to write them.
        assert counts["read"] == counts["hashed"] == new + new + SIZE % WIDTH
        assert counts["node"] <= 2 * LEVELS * WIDTH
        # Of what was there it opens the checkpoint, and the partial tile of the top that is still the newest one.
        assert opened & before == {"tile/2/000.p/1"}
        reader = ExportReader(out)
        assert [hash_leaf(data) for data in reader.read(SIZE - 300)] == [
            bytes.fromhex(grown.leaf(seq)) for seq in range(SIZE - 300, SIZE + new)
        ]
