"""What a ledger's store promises: append-if-head, durable, and reading by range.

A store keeps bytes and computes hashes over them. It judges no statement: `policies.registrar` is the only caller of
`append` and `writer`, and audit trusts nothing that a store says but the record bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from keys.errors import CalyxError, Exit
from ledger.checkpoint import CheckpointSigner
from ledger.head import Head
from ledger.record import Record

DISK_FULL: Final = "disk_full"
"""Code of a refusal to append where the disk is full: nothing was written, and with more room it can be tried again."""


class HeadMoved(CalyxError):
    """Someone else appended first. Read the new entries, judge again, and try again."""

    exit_code = Exit.UNAVAILABLE

    def __init__(self, expected: Head, found: Head) -> None:
        super().__init__(
            "head_moved",
            f"the ledger moved from {expected} to {found}",
            hint="try again",
            expected=expected.size,
            found=found.size,
        )


@dataclass(frozen=True, slots=True)
class Tip:
    """Head and signed checkpoint as of one moment. `checkpoint` is b"" while the ledger is empty."""

    head: Head
    checkpoint: bytes


class Reader(Protocol):
    """Reading needs no lock and blocks no writer."""

    def tip(self) -> Tip:
        """The newest head with its checkpoint. Raises: Unavailable; CalyxError (`ledger_corrupt`)."""
        ...

    def head(self) -> Head:
        """The newest head. Raises: as `tip`."""
        ...

    def checkpoint(self) -> bytes:
        """The newest signed checkpoint, b"" while the ledger is empty. Raises: as `tip`."""
        ...

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Raw bytes of records `start` to `stop` (not included; None: to the end), in order, in flat memory.

        Raises: CalyxError (`ledger_corrupt`, with `entry`) when one is missing or cannot be read; Unavailable.
        """
        ...

    def leaf(self, seq: int) -> str:
        """Leaf hash of record `seq`, 64 hex digits, from its bytes. Raises: as `read`, and when there is none."""
        ...

    def node(self, level: int, index: int) -> bytes:
        """Hash of a complete subtree, from a cache: `ledger.merkle.Nodes`. Check the proof that was made with it."""
        ...


class Writer(Protocol):
    """The only writer for as long as its context lasts. Nothing is there for others until the context ends well."""

    @property
    def head(self) -> Head:
        """Head, including what this writer appended."""
        ...

    def append(self, record: Record) -> None:
        """Put a record after the head. Raises: HeadMoved when it does not follow it; Unavailable."""
        ...


class Store(Reader, Protocol):
    """A reader that can append."""

    def writer(self, sign: CheckpointSigner) -> AbstractContextManager[Writer]:
        """Take the writer's place. What was appended inside is committed at the end with one checkpoint, which `sign`
        makes; an exception inside undoes all of it.

        Raises: Unavailable: `ledger_busy`, `ledger_write_failed` (then nothing is acknowledged), `ledger_read_only`.
        """
        ...

    def append(self, expected: Head, records: Sequence[Record], sign: CheckpointSigner) -> Head:
        """Append records after `expected`, durable on return; the new head. Raises: HeadMoved; as `writer`."""
        ...
