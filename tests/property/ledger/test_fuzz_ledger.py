"""The ledger's bytes and files: hostile ones are refused in our own words, or are the one spelling of what was read."""

from __future__ import annotations

import shutil
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from fuzzing import Parser, bounded, check, hostile, of_text, to_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledgers import LOG_KEY, checkpoint_of, make_ledger, make_records, next_record
from tilework import leaves

from keys.canonical import format_json, parse_json
from keys.errors import CalyxError, FormatError
from ledger.checkpoint import format_text, parse_checkpoint, parse_text, peek_checkpoint
from ledger.envelope import format_envelope_bytes, pae, parse_envelope_bytes, parse_pae
from ledger.exports.export import export_log
from ledger.exports.mirror import Mirror
from ledger.exports.mirror_source import Allowance, DirectorySource
from ledger.exports.reader import ExportReader
from ledger.exports.tile_check import check_tiles
from ledger.head import Head
from ledger.log_key import load_log_key, store_log_key
from ledger.memory import HeadMemory
from ledger.merkle import Frontier, LeafNodes, hash_root
from ledger.note import Note, NoteSignature, format_note, format_skey, format_vkey, parse_note, parse_skey, parse_vkey
from ledger.objects import ObjectRef
from ledger.proof import (
    InclusionProof,
    check_consistency_proof,
    check_inclusion_proof,
    format_proof,
    make_consistency,
    make_inclusion,
    parse_proof,
)
from ledger.recent import parse_slots
from ledger.record import format_record, parse_record
from ledger.repair.fsck import check_ledger
from ledger.repair.source import FileSource, open_damaged
from ledger.sqlite.check import check_log
from ledger.sqlite.store import SqliteStore
from ledger.statement import format_statement, make_statement, parse_statement
from ledger.tiles import Bundle, Tile, format_bundle, format_path, format_tile, parse_bundle, parse_path, parse_tile

RECORDS = make_records(5)
NODES = LeafNodes([bytes.fromhex(record.leaf) for record in RECORDS])
CHECKPOINT = checkpoint_of(RECORDS)
NOTE = LOG_KEY.sign(5, CHECKPOINT.root)
COMMON = {
    "by": "cbo",
    "head": {"hash": "ab" * 32, "size": 7},
    "ledger": "cd" * 32,
    "made_at": "2026-01-02T03:04:05Z",
    "nonce": "0" * 32,
}
STATEMENTS = [
    make_statement("intent", {**COMMON, "what": 'a "quoted" wörd\n'}).body,
    make_statement("cosignature", {**COMMON, "role": "approver"}, ("LEASE-20260105-090000", "ef" * 32)).body,
]
SECOND = Note("text\n\nmore\n", (NoteSignature("a.example", b"1234", b"5"), NoteSignature("b/c", b"6789", b"0" * 64)))
VKEY = format_vkey(LOG_KEY.vkey)
SKEY = format_skey(LOG_KEY.origin, LOG_KEY._key)
PATHS: list[Tile | Bundle] = [
    Tile(0, 0),
    Tile(1, 1_234_067, 3),
    Tile(63, 2**53 - 1),
    Bundle(0),
    Bundle(999, 255),
    Bundle(1000),
]
BUNDLE = [record.data for record in RECORDS[:3]]


def frontier(size: int) -> bytes:
    tree = Frontier()
    for leaf in leaves(size):
        tree.append(leaf)
    return tree.format()


PARSERS = [
    Parser("envelope", parse_envelope_bytes, format_envelope_bytes, [format_envelope_bytes(RECORDS[0].envelope)]),
    Parser("PAE", parse_pae, pae, [pae(body) for body in (b"x", STATEMENTS[0])]),
    Parser("statement", parse_statement, format_statement, STATEMENTS),
    Parser("record", parse_record, format_record, [record.data for record in RECORDS[:2]]),
    Parser("note", parse_note, format_note, [NOTE, format_note(SECOND)]),
    Parser("checkpoint", peek_checkpoint, None, [NOTE]),
    Parser("checkpoint's text", of_text(parse_text), to_text(format_text), [format_text(CHECKPOINT).encode()]),
    Parser("verifier key", of_text(parse_vkey), to_text(format_vkey), [VKEY.encode()]),
    Parser("signer key", of_text(parse_skey), to_text(lambda pair: format_skey(*pair)), [SKEY.encode()]),
    Parser("proof", parse_proof, format_proof,
           [format_proof(make_inclusion(2, RECORDS[2].data, NOTE, CHECKPOINT, NODES)),
            format_proof(make_consistency(3, NOTE, CHECKPOINT, NODES))]),
    Parser("path", of_text(parse_path), to_text(format_path), [format_path(place).encode() for place in PATHS]),
    Parser("tile", lambda data: parse_tile(data, 3), format_tile, [format_tile(leaves(3))]),
    Parser("bundle", lambda data: parse_bundle(data, 3), format_bundle, [format_bundle(BUNDLE)]),
    Parser("frontier", Frontier.parse, Frontier.format, [frontier(size) for size in (0, 1, 5, 300)]),
    Parser("reference", lambda data: ObjectRef.from_json(parse_json(data)), lambda ref: format_json(ref.to_json()),
           [b'{"sha256":"%s","size":3}' % (b"ab" * 32)]),
]  # fmt: skip


@pytest.mark.parametrize("parser", PARSERS, ids=repr)
def test_samples_are_valid(parser: Parser) -> None:
    for sample in parser.samples:
        value = parser.parse(sample)
        assert parser.form is None or parser.form(value) == sample


@pytest.mark.parametrize("parser", PARSERS, ids=repr)
@given(st.data())
def test_hostile_bytes_are_refused_or_the_only_spelling(parser: Parser, data: st.DataObject) -> None:
    check(parser, data.draw(hostile(parser.samples)))


@given(hostile([NOTE]))
def test_only_what_the_log_signed_is_a_checkpoint(data: bytes) -> None:
    with bounded(), suppress(CalyxError):
        assert parse_checkpoint(data, LOG_KEY.vkey) == CHECKPOINT


@given(hostile(next(parser.samples for parser in PARSERS if parser.name == "proof")))
def test_hostile_proof_proves_only_what_is_so(data: bytes) -> None:
    roots = {size: hash_root([bytes.fromhex(record.leaf) for record in RECORDS[:size]]) for size in range(6)}
    with bounded(), suppress(CalyxError):
        proof = parse_proof(data)
        if isinstance(proof, InclusionProof):
            included = check_inclusion_proof(proof, LOG_KEY.vkey)
            assert included.leaf == RECORDS[included.index].leaf
        else:
            older, newer = check_consistency_proof(proof, LOG_KEY.vkey, LOG_KEY.sign(3, roots[3]))
            assert (older.root, newer.root) == (roots[3], roots[5])


@given(hostile([SKEY.encode() + b"\n"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_log_key_file_is_refused_or_the_same_file(tmp_path: Path, data: bytes) -> None:
    path, again = tmp_path / "log.key", tmp_path / "again.key"
    path.write_bytes(data)
    path.chmod(0o600)
    with bounded(), suppress(CalyxError):
        key = load_log_key(path)
        store_log_key(again, key)
        assert again.read_bytes() == data
    again.unlink(missing_ok=True)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_memory_is_refused_or_the_same_memory(tmp_path: Path, data: st.DataObject) -> None:
    memory = HeadMemory(tmp_path)
    memory.replace("/home", "ab" * 32, Head(7, "cd" * 32))
    path = tmp_path / f"{sha256(b'/home').hexdigest()}.json"
    path.write_bytes(data.draw(hostile([path.read_bytes()])))
    with bounded(), suppress(CalyxError):
        remembered = memory.load("/home")
        assert remembered is not None
        assert remembered.canonical() == path.read_bytes()


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_recent_heads_are_refused_or_heads_that_were_noted(tmp_path: Path, data: st.DataObject) -> None:
    name = sha256(b"/home").hexdigest()
    path = tmp_path / f"{name}.recent"
    heads = [Head(size, f"{size:x}".rjust(64, "0")) for size in (7, 8, 9)]
    memory = HeadMemory(tmp_path)
    memory.replace("/home", "ab" * 32, heads[0])
    for head in heads[1:]:
        memory.note("/home", "ab" * 32, head)
    path.write_bytes(data.draw(hostile([path.read_bytes()])))
    with bounded(), suppress(CalyxError):
        remembered = memory.load("/home")
        assert remembered is not None
        # A damaged slot is never another head: its check is.
        assert (remembered.ledger, remembered.head in heads) == ("ab" * 32, True)
    with bounded(), suppress(FormatError):
        parse_slots(name, path.read_bytes())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with two bundles, and partial files of an earlier one."""
    root = tmp_path_factory.mktemp("exported")
    with make_ledger(root / "ledger.db", 258) as store:
        export_log(store, LOG_KEY.vkey, root / "log", lambda seq, data: None)
    return root / "log"


def _verify(reader: ExportReader) -> None:
    parse_checkpoint(reader.note, LOG_KEY.vkey)


FILES = ["checkpoint", "tile/0/000", "tile/0/001.p/2", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/2"]


@pytest.mark.parametrize("name", FILES)
@given(st.data())
@settings(max_examples=settings().max_examples // 5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_file_of_an_export_is_named_and_never_mirrored_for_good(
    exported: Path, tmp_path: Path, name: str, data: st.DataObject
) -> None:
    good = (exported / name).read_bytes()
    bad = data.draw(hostile([good]))
    root, mirror = tmp_path / "log", tmp_path / "mirror"
    for each in (root, mirror):
        shutil.rmtree(each, ignore_errors=True)
    shutil.copytree(exported, root)
    (root / name).write_bytes(bad)
    with bounded(), suppress(CalyxError):
        reader = ExportReader(root)
        findings = list(check_tiles(reader, ()))
        records = list(reader.read())
        if name != "checkpoint" and bad != good and not findings:
            assert "tile/entries" in name
            assert records
    with bounded(), suppress(CalyxError), Mirror(DirectorySource(root), mirror, Allowance(2**24)) as mine:
        mine.fetch(_verify)


def test_hostile_list_of_what_an_export_lacks_costs_a_look_and_no_more(exported: Path) -> None:
    with SqliteStore.open(exported.with_name("ledger.db")) as store:

        @given(hostile([b"1\n5\n250\n"]))
        @settings(max_examples=settings().max_examples // 5, suppress_health_check=[HealthCheck.nested_given])
        def hold(data: bytes) -> None:
            (exported / "missing").write_bytes(data)
            seen: list[int] = []
            with bounded(), suppress(CalyxError):
                export_log(store, LOG_KEY.vkey, exported, lambda seq, _: seen.append(seq))
                assert not (exported / "missing").exists()
            spelt = {b"%d" % seq: seq for seq in range(258)}
            assert set(seen) <= {spelt[line] for line in data.splitlines() if line in spelt}

        hold()
    (exported / "missing").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A ledger's file and its write-ahead log of three commits."""
    path = tmp_path_factory.mktemp("log") / "ledger.db"
    with make_ledger(path, 2) as store:
        for _ in range(2):
            with store.writer(LOG_KEY.sign) as writer:
                writer.append(next_record(writer.head))
        return [path.read_bytes(), path.with_name("ledger.db-wal").read_bytes()]


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_write_ahead_log_is_read_to_its_end(log: list[bytes], tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "ledger.db-wal"
    path.write_bytes(data.draw(hostile([log[1]])))
    with bounded():
        assert all(finding.where == "log" for finding in check_log(path))


@given(st.data())
@settings(max_examples=settings().max_examples // 5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_ledger_file_is_checked_in_our_words(log: list[bytes], tmp_path: Path, data: st.DataObject) -> None:
    """And what a repair would take of it is no more than it may hold."""
    path = tmp_path / "home" / "ledger.db"
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    path.write_bytes(data.draw(hostile([log[0]])))
    path.with_name("ledger.db-wal").write_bytes(data.draw(st.one_of(st.just(log[1]), hostile([log[1]]))))
    with bounded():
        with suppress(CalyxError):
            check_ledger(path, remembered=None)
        source = open_damaged(path)
        assert sum(1 for _ in source.rows()) == source.end
        if isinstance(source, FileSource):
            source.close()
