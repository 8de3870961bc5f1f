"""Proofs as files, which anyone can check without the ledger.

Inclusion, C2SP tlog-proof@v1:              Consistency, the body that C2SP tlog-witness defines:

    c2sp.org/tlog-proof@v1                      old <size of the tree that was seen before>
    extra <base64 of the record>                <base64 hash>          none or more
    index <seq>                                 (empty line)
    <base64 hash>          none or more         <checkpoint>
    (empty line)
    <checkpoint>

The `extra` line may be missing. Its record is not trusted, and need not be: its hash is what the proof is checked for.
The checkpoint stands there verbatim, with whatever signatures it has.

Source: C2SP tlog-proof, tlog-witness (add-checkpoint), tlog-checkpoint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from keys.errors import CalyxError, FormatError
from keys.values import format_base64, parse_base64
from keys.words import counted
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.merkle import (
    HASH_SIZE,
    MAX_SIZE,
    Frontier,
    Nodes,
    check_consistency,
    check_inclusion,
    hash_leaf,
    prove_consistency,
    prove_inclusion,
)
from ledger.note import VerifierKey, parse_note
from ledger.record import MAX_RECORD

MAGIC: Final = "c2sp.org/tlog-proof@v1"
MAX_HASHES: Final = 63
MAX_PROOF: Final = 512 * 1024

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """Says that entry `index` is in the tree of `checkpoint` (a signed note). Not checked. `record`: the entry's bytes,
    where they came along.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes = field(repr=False)
    record: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """Says that the tree of `old_size` leaves is a prefix of that of `checkpoint` (a signed note). Not checked."""

    old_size: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Included:
    """What a checked inclusion proof proves: the log of this checkpoint holds `leaf` (64 hex digits) at `index`."""

    index: int
    leaf: str
    checkpoint: Checkpoint


def make_inclusion(index: int, record: bytes, note: bytes, checkpoint: Checkpoint, nodes: Nodes) -> InclusionProof:
    """The proof that `record` is entry `index` of the tree of `checkpoint`, whose signed note is `note`.

    `nodes`: may come from a cache; what they prove is checked before it is given out.

    Raises: ProofRefused when record, nodes and checkpoint do not belong together; ValueError unless the entry is in
    the tree.
    """
    hashes = tuple(prove_inclusion(index, checkpoint.size, nodes))
    check_inclusion(index, checkpoint.size, hash_leaf(record), checkpoint.root, hashes)
    return InclusionProof(index, hashes, note, record)


def check_inclusion_proof(proof: InclusionProof, key: VerifierKey, record: bytes | None = None) -> Included:
    """Prove that the log of `key` holds a record at the proof's index. `record`: its bytes, in place of those in the
    proof.

    Raises: ProofRefused; SignatureRefused; FormatError; CalyxError (`record_missing`) when there are no bytes to prove.
    """
    data = proof.record if record is None else record
    if data is None:
        raise CalyxError("record_missing", "the proof holds no record", hint="give the record's bytes with --record")
    checkpoint = parse_checkpoint(proof.checkpoint, key)
    leaf = hash_leaf(data)
    check_inclusion(proof.index, checkpoint.size, leaf, checkpoint.root, proof.hashes)
    return Included(proof.index, leaf.hex(), checkpoint)


def make_consistency(old_size: int, note: bytes, checkpoint: Checkpoint, nodes: Nodes) -> ConsistencyProof:
    """The proof that the tree of `checkpoint`, whose signed note is `note`, extends the tree over its first `old_size`
    leaves; checked as in `make_inclusion`.

    Raises: ProofRefused; ValueError unless 1 <= old_size <= size.
    """
    hashes = tuple(prove_consistency(old_size, checkpoint.size, nodes))
    old_root = Frontier.load(old_size, nodes).root()
    check_consistency(old_size, checkpoint.size, old_root, checkpoint.root, hashes)
    return ConsistencyProof(old_size, hashes, note)


def check_consistency_proof(proof: ConsistencyProof, key: VerifierKey, old: bytes) -> tuple[Checkpoint, Checkpoint]:
    """Prove that the log of `key` signed both `old`, a checkpoint that was kept, and one that extends it: both.

    Raises: ProofRefused; SignatureRefused; FormatError.
    """
    before, after = parse_checkpoint(old, key), parse_checkpoint(proof.checkpoint, key)
    if before.size != proof.old_size:
        raise FormatError(
            f"the proof is for a tree of {counted(proof.old_size, 'entry')}, the old checkpoint has {before.size}"
        )
    check_consistency(before.size, after.size, before.root, after.root, proof.hashes)
    return before, after


def format_proof(proof: InclusionProof | ConsistencyProof) -> bytes:
    """The proof's bytes. Inverse of `parse_proof`. Raises: FormatError for values that have no place in one."""
    if isinstance(proof, ConsistencyProof):
        head = [f"old {_number(proof.old_size)}"]
    else:
        if proof.record is not None and not 0 < len(proof.record) <= MAX_RECORD:
            raise FormatError(f"a record is 1 to {MAX_RECORD} bytes")
        extra = [] if proof.record is None else [f"extra {format_base64(proof.record)}"]
        head = [MAGIC, *extra, f"index {_number(proof.index)}"]
    if len(proof.hashes) > MAX_HASHES or any(len(each) != HASH_SIZE for each in proof.hashes):
        raise FormatError(f"a proof has at most {MAX_HASHES} hashes of {HASH_SIZE} bytes")
    parse_note(proof.checkpoint)
    return "\n".join([*head, *map(format_base64, proof.hashes), "", ""]).encode("ascii") + proof.checkpoint


def parse_proof(data: bytes) -> InclusionProof | ConsistencyProof:
    """Read a proof of either kind, at most 512 KiB; its first line says which.

    Raises: FormatError.
    """
    if len(data) > MAX_PROOF:
        raise FormatError(f"a proof of {counted(len(data), 'byte')} is over the limit of {MAX_PROOF}", code="too_large")
    top, separator, note = data.partition(b"\n\n")
    if not separator:
        raise FormatError("a proof has an empty line before its checkpoint")
    parse_note(note)
    try:
        lines = top.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise FormatError("a proof is not ASCII before its checkpoint") from None
    if lines[0] != MAGIC:
        old_size = _value(lines[0], "old")
        return ConsistencyProof(_parse_number(old_size), _parse_hashes(lines[1:]), note)
    rest = lines[1:]
    record = None
    if rest and rest[0].startswith("extra "):
        record = parse_base64(rest.pop(0).removeprefix("extra "))
        if not 0 < len(record) <= MAX_RECORD:
            raise FormatError(f"the extra data of a proof is no record of 1 to {MAX_RECORD} bytes")
    index = _value(rest[0] if rest else "", "index")
    return InclusionProof(_parse_number(index), _parse_hashes(rest[1:]), note, record)


def _parse_hashes(lines: list[str]) -> tuple[bytes, ...]:
    if len(lines) > MAX_HASHES:
        raise FormatError(f"a proof has more than {MAX_HASHES} hashes")
    hashes = tuple(map(parse_base64, lines))
    if any(len(each) != HASH_SIZE for each in hashes):
        raise FormatError("a hash of a proof is not 32 bytes")
    return hashes


def _value(line: str, name: str) -> str:
    found, space, value = line.partition(" ")
    if found != name or not space:
        raise FormatError(f"a proof has no line `{name}` in its place")
    return value


def _number(value: int) -> str:
    text = str(value)
    _parse_number(text)
    return text


def _parse_number(text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > MAX_SIZE:
        raise FormatError("a number of a proof is not decimal without leading zeros, or over 2^53-1")
    return int(text)
