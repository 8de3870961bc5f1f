"""The heads of a ledger that were remembered since the disk was waited for last: two slots in one file.

    slot = {"hash":HEX,"ledger":HEX,"size":N} SP CHECK LF, then zeros to 512 bytes
    CHECK = SHA-256 in hex of the file's name, LF, and the slot up to its space

A head goes into the slot that does not hold the newest one, so there is a whole slot at each moment, also when the
write of the other one was torn. 512 bytes are the least that any disk writes at once. A slot of zeros is empty, and so
are both in a file of no bytes: that is how the system leaves a file whose content it had not written yet.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final, NamedTuple

from keys.errors import FormatError
from keys.words import counted
from ledger.head import Head

SLOT_SIZE: Final = 512
SLOTS_SIZE: Final = 2 * SLOT_SIZE

_SLOT: Final = re.compile(
    rb'(\{"hash":"([0-9a-f]{64})","ledger":"([0-9a-f]{64})","size":(0|[1-9][0-9]{0,15})\}) ([0-9a-f]{64})\n\0*'
)


class Slots(NamedTuple):
    """What a file holds. `ledger`, `head`: of the newest slot, None where both are empty. `free`: the slot to be
    written next.
    """

    ledger: str | None
    head: Head | None
    free: int


def format_slot(name: str, ledger: str, head: Head) -> bytes:
    """One slot of the file `name`, 512 bytes."""
    said = b'{"hash":"%b","ledger":"%b","size":%d}' % (head.hash.encode("ascii"), ledger.encode("ascii"), head.size)
    return (said + b" " + _check(name, said) + b"\n").ljust(SLOT_SIZE, b"\0")


def parse_slots(name: str, data: bytes) -> Slots:
    """Read the slots of the file `name`.

    Raises: FormatError when it is cut, when no slot is whole and one is damaged, or when they contradict each other.
    """
    if not data:
        return Slots(None, None, 0)
    if len(data) != SLOTS_SIZE:
        raise FormatError(f"it has {counted(len(data), 'byte')}, and not {SLOTS_SIZE}")
    slots = [_parse_slot(name, data[at : at + SLOT_SIZE]) for at in (0, SLOT_SIZE)]
    whole = [(slot, number) for number, slot in enumerate(slots) if slot is not None]
    if not whole:
        if any(data):
            raise FormatError("none of its two slots is whole")
        return Slots(None, None, 0)
    (ledger, head), number = max(whole, key=lambda one: one[0][1].size)
    for (other, at), _ in whole:
        if other != ledger or (at.size == head.size and at != head):
            raise FormatError("its two slots contradict each other")
    return Slots(ledger, head, 1 - number)


def _parse_slot(name: str, data: bytes) -> tuple[str, Head] | None:
    match = _SLOT.fullmatch(data)
    if match is None or _check(name, match[1]) != match[5]:
        return None
    return match[3].decode("ascii"), Head(int(match[4]), match[2].decode("ascii"))


def _check(name: str, said: bytes) -> bytes:
    return sha256(name.encode("ascii") + b"\n" + said).hexdigest().encode("ascii")
