"""The fence: a host takes orders only from the newest term it has seen, so a replaced executor cannot act.

`root/.calyx/fence` is canonical JSON of `Fence`. It is read, judged and written under the host's lock, and is on the
disk before the effect that it allows.

A host belongs to one ledger. A term of another one passes only when that ledger continues the host's: its genesis, or
that of a ledger it continues, names it. From then on the host belongs to the new one, and the old one is refused for
good. There is no way back and no circle, because a genesis names its predecessor by a hash, so no ledger can continue
one that was made after it; and of two ledgers that both continue the host's, the first one shown wins.

This tells a successor from a mix-up. It does not tell the rightful successor from one that only claims to be it:
anybody can write a genesis that names the host's ledger. Who may show a term at all is who may run an executor as this
host's user, and such a person could remove the file. So that is where a host is guarded, not here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from executor.hosts.host import Fence
from keys.canonical import parse_json
from keys.errors import CalyxError, FormatError
from keys.regular import read_regular
from ledger.durable import replace_file

MAX_FENCE: Final = 4096
"""Bytes of the file."""


def pass_fence(stored: Fence | None, shown: Fence) -> Fence:
    """The fence that stands once `shown` was let through: `shown` itself.

    Raises: CalyxError `other_ledger`; `fenced` for an epoch that is over; `fork_detected` when one epoch has two terms.
    """
    if stored is None or stored == shown:
        return shown
    if stored.ledger != shown.ledger:
        if stored.ledger in shown.continues:
            return shown
        over = shown.ledger in stored.continues
        raise CalyxError(
            "other_ledger",
            f"the host belongs to ledger {stored.ledger[:16]}, "
            + (f"which continued {shown.ledger[:16]}" if over else f"and {shown.ledger[:16]} does not continue it"),
            hint="end this executor: that ledger was succeeded" if over else "calyx init --continues makes a successor",
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
        data = read_regular(path, MAX_FENCE)
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
