"""A snapshot: the state after the first entries of a ledger, as bytes, so that a reader need not fold them again.

    snapshot = sections || index || length of the index (8 bytes, big-endian)
    index = canonical JSON {"code":HEX,"format":2,"frontier":HEX,"head":{"hash":HEX,"size":N},"ledger":HEX,
                            "seconds":N,"sections":{NAME:[AT,SIZE],…}}

It is a cache and no evidence. Whoever reads one has its SHA-256 from elsewhere (`policies.fold.snapshots`), and holds
its head against the ledger. Sections are those of the history and of each shelf, and `rest`, which is JSON.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, Any, Final, Protocol

from pydantic import ValidationError

from keys.canonical import format_json, parse_json
from keys.errors import CalyxError
from keys.principals import TrustRoot
from ledger.chain import Chain
from ledger.head import Head
from ledger.merkle import Frontier
from policies.fleet import Fleet
from policies.fold.history import History
from policies.fold.packer import adapter_of
from policies.fold.scratch import CHUNK, Column, Scratch
from policies.fold.shelf import SHELVED, Shelf, packer_of, shelf_of
from policies.fold.state import ProposalState, State, TermState, TouchNote
from policies.kinds import Continues
from policies.matrix import CapabilityMatrix

FORMAT: Final = 2
MAX_INDEX: Final = 65_535
_LENGTH: Final = 8


class Sink(Protocol):
    """Whatever bytes are written to."""

    def write(self, data: bytes, /) -> int:
        """Take all of the bytes. Raises: OSError."""
        ...


class SnapshotUnusable(CalyxError):
    """A snapshot that is not there, not the one that was kept, or not of this ledger. Fold the entries instead."""

    def __init__(self, why: str) -> None:
        super().__init__("snapshot_unusable", why)


@dataclass(frozen=True, slots=True)
class Folded:
    """A state, and the chain that it stands at the head of. Whoever goes on takes both over."""

    state: State
    chain: Chain


@dataclass
class _Rest:
    """What is not in a history or on a shelf. `places`: address, root, seq and deployment of every touched place.
    `completed`: address, root and deployments of every place where one was completed.
    """

    ledger: str
    origin: str
    log_key: str
    continues: Continues | None
    trust: TrustRoot | None
    trust_digest: str
    policy_digest: str
    fleet_digest: str
    policies: dict[str, CapabilityMatrix]
    fleets: dict[str, Fleet]
    key_owners: dict[str, str]
    kinds: dict[str, str]
    proposals: dict[str, ProposalState]
    live: dict[str, str]
    places: list[tuple[str, str, int, str]]
    term: TermState | None
    rollback_orders: dict[str, set[str]]
    owed_reviews: dict[str, int]
    open_leases: dict[str, int]
    returnable: dict[str, int | None]
    completed: list[tuple[str, str, tuple[str, ...]]]


_OTHERWISE: Final = frozenset({"places", "proposals", "completed"})
_SAME: Final = tuple(field.name for field in dataclasses.fields(_Rest) if field.name not in _OTHERWISE)
"""What a state and its rest have under one name and in one form."""


def write_snapshot(file: Sink, folded: Folded, code: str) -> str:
    """Write the snapshot of a state, which stays as it is; the SHA-256 of what was written, 64 hex digits.

    Raises: OSError of `file`; ScratchFailed.
    """
    state, chain = folded.state, folded.chain
    if state.size != chain.head.size:
        raise ValueError("the state and the chain are of different sizes")
    digest = sha256()
    sections: dict[str, Any] = {}
    at = 0

    def put(data: bytes) -> None:
        nonlocal at
        file.write(data)
        digest.update(data)
        at += len(data)

    def section(name: str, chunks: Iterable[bytes]) -> None:
        begin = at
        for chunk in chunks:
            put(chunk)
        sections[name] = [begin, at - begin]

    for part, chunks in state.history.parts().items():
        section(f"history.{part}", chunks)
    for name in SHELVED:
        for part, chunks in shelf_of(state, name).parts().items():
            section(f"{name}.{part}", chunks)
    section("rest", [adapter_of(_Rest).dump_json(_rest_of(state), by_alias=True)])
    index = format_json(
        {
            "format": FORMAT,
            "code": code,
            "ledger": state.ledger,
            "head": {"size": chain.head.size, "hash": chain.head.hash},
            "seconds": chain.seconds,
            "frontier": chain.frontier.format().hex(),
            "sections": sections,
        }
    )
    put(index)
    put(len(index).to_bytes(_LENGTH, "big"))
    return digest.hexdigest()


def copy_snapshot(file: IO[bytes], scratch: Scratch) -> tuple[IO[bytes], str]:
    """A copy that nobody else can change, and the SHA-256 of it, 64 hex digits. `file`: at its start.

    Raises: OSError.
    """
    copy = scratch.open()
    try:
        return _copy(file, copy)
    except OSError:
        # The part that was written is room for whoever made the disk full.
        copy.close()
        if not scratch.spill:
            raise
    file.seek(0)
    return _copy(file, io.BytesIO())


def _copy(file: IO[bytes], copy: IO[bytes]) -> tuple[IO[bytes], str]:
    digest = sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        rest = memoryview(chunk)
        while rest:
            rest = rest[copy.write(rest) :]
    return copy, digest.hexdigest()


def read_snapshot(file: IO[bytes], code: str, scratch: Scratch) -> Folded:
    """The state that `write_snapshot` wrote. `file`: its content was proved to be that, and stays.

    Raises: SnapshotUnusable when other code wrote it, or it is none.
    """
    try:
        end = file.seek(0, 2) - _LENGTH
        file.seek(end)
        length = int.from_bytes(file.read(_LENGTH), "big")
        if not 0 < length <= min(MAX_INDEX, end):
            raise ValueError("no index")
        file.seek(end - length)
        index: Any = parse_json(file.read(length))
        if index["format"] != FORMAT or index["code"] != code:
            raise SnapshotUnusable("another version of calyx made the snapshot")
        return _read(file, index, scratch)
    except (OSError, ValueError, KeyError, TypeError, ValidationError, CalyxError) as error:
        if isinstance(error, SnapshotUnusable):
            raise
        raise SnapshotUnusable("the snapshot cannot be read") from error


def _read(file: IO[bytes], index: dict[str, Any], scratch: Scratch) -> Folded:
    sections = index["sections"]

    def column(name: str) -> Column:
        at, size = sections[name]
        return Column(scratch, (file, at, size))

    def whole(name: str) -> bytes:
        return b"".join(column(name).chunks())

    head = Head(index["head"]["size"], index["head"]["hash"])
    chain = Chain(head, index["seconds"], Frontier.parse(bytes.fromhex(index["frontier"])))
    leaves, times, digests, slots = (column(f"history.{part}") for part in ("leaves", "times", "digests", "slots"))
    state = State(history=History.resume(leaves, times, digests, slots, scratch))
    for name in SHELVED:
        packer = packer_of(name, whole(f"{name}.sample"))
        rows, places, slots = (column(f"{name}.{part}") for part in ("rows", "places", "slots"))
        setattr(state, name, Shelf.resume(packer, rows, places, slots, scratch))
    _restore(state, adapter_of(_Rest).validate_json(whole("rest")))
    if state.size != head.size or state.ledger != index["ledger"] or state.history.leaf(head.size - 1) != head.hash:
        raise SnapshotUnusable("the snapshot's parts do not belong together")
    return Folded(state, chain)


def _rest_of(state: State) -> _Rest:
    same = {name: getattr(state, name) for name in _SAME}
    # A fleet that came into force is in `fleets` already.
    proposals = {
        digest: dataclasses.replace(held, fleet=None) if digest in state.fleets else held
        for digest, held in state.proposals.items()
    }
    places = [(*place, note.seq, note.deployment) for place, note in state.touched.items()]
    completed = [(*place, digests) for place, digests in state.completed.items()]
    return _Rest(**same, proposals=proposals, places=places, completed=completed)


def _restore(state: State, rest: _Rest) -> None:
    for name in _SAME:
        setattr(state, name, getattr(rest, name))
    for digest, held in rest.proposals.items():
        held.fleet = rest.fleets.get(digest, held.fleet)
        state.proposals[digest] = held
    state.touched = {(address, root): TouchNote(seq, by) for address, root, seq, by in rest.places}
    state.completed = {(address, root): digests for address, root, digests in rest.completed}
    state.policy = rest.policies.get(rest.policy_digest)
    state.fleet = rest.fleets.get(rest.fleet_digest)
