"""The fence: a host takes orders only from the newest term it has seen, so a replaced executor cannot act.

`root/.calyx/fence` is canonical JSON of `Fence`. It is read, judged and written under the host's lock, and is on the
disk before the effect that it allows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from executor.host import Fence
from keys.canonical import parse_json
from keys.errors import CalyxError, FormatError
from ledger.durable import replace_file

MAX_FENCE: Final = 1024
"""Bytes of the file."""


def pass_fence(stored: Fence | None, shown: Fence) -> Fence:
    """The fence that stands once `shown` was let through: `shown` itself.

    Raises: CalyxError `other_ledger`; `fenced` for an epoch that is over; `fork_detected` when one epoch has two terms.
    """
    if stored is None or stored == shown:
        return shown
    if stored.ledger != shown.ledger:
        raise CalyxError(
            "other_ledger",
            f"the host belongs to ledger {stored.ledger[:16]}, not to {shown.ledger[:16]}",
            hint="if a new ledger continues the old one, remove .calyx/fence on the host",
        )
    if shown.epoch < stored.epoch:
        raise CalyxError(
            "fenced",
            f"epoch {shown.epoch} is over: the host has seen epoch {stored.epoch}",
            hint="another executor took over; end this one",
            epoch=shown.epoch,
            newest=stored.epoch,
        )
    if shown.epoch == stored.epoch:
        raise CalyxError(
            "fork_detected",
            f"epoch {shown.epoch} has two terms, {stored.leaf[:16]} and {shown.leaf[:16]}: the ledger was forked",
            hint="stop every executor and compare their ledgers",
            epoch=shown.epoch,
        )
    return shown


def load_fence(path: Path) -> Fence | None:
    """The stored fence, None on a host that never had one. Inverse of `store_fence`.

    Raises: CalyxError `fence_unreadable`: what cannot be read lets nobody through.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FENCE + 1)
    except FileNotFoundError:
        return None
    try:
        return Fence.from_json(parse_json(data, limit=MAX_FENCE), what="fence")
    except FormatError as error:
        raise CalyxError(
            "fence_unreadable",
            f"the host's fence cannot be read: {error.message}",
            hint="find out who changed it; remove it to let the present executor through",
        ) from None


def store_fence(path: Path, fence: Fence) -> None:
    """Write the fence, durable on return. Raises: OSError."""
    replace_file(path, fence.canonical(), 0o644)


def take_fence(path: Path, shown: Fence) -> None:
    """Let `shown` through and remember it. The caller holds the host's lock.

    Raises: as `pass_fence` and `load_fence`; OSError.
    """
    stored = load_fence(path)
    if pass_fence(stored, shown) != stored:
        store_fence(path, shown)
