"""What an audit says: its findings, what it could not exclude, and how far it came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ledger.head import Head

MAX_FINDINGS: Final = 1_000

Progress = Callable[[int, int], None]
"""Called with the number of entries seen, and of all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong. `code`: stable. `entry`: the entry that it is about, where there is one."""

    code: str
    entry: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found. `ok`: nothing is wrong. `ledger`: leaf of record 0. `root`: of the tree over `head`, 64 hex
    digits. `size`: entries whose bytes and chain hold. `decided`: entries that the law decided, from the first on.
    `first`: the first entry that was looked at; this reader looked at those before it in earlier audits. `notes`: what
    is no finding and should be known, such as what the audit could not exclude.
    """

    ok: bool
    size: int
    ledger: str
    head: Head
    root: str
    origin: str
    decided: int
    findings: list[Finding]
    notes: list[str]
    first: int = 0
