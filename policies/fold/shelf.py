"""Mappings for a ledger of millions of entries: the values used last are objects, all others lie packed in a file.

A ledger's state keeps every lease and every deployment, because a later entry may be about any of them. Nearly none
ever is. So what was not asked for in a while is written out, compressed against the first one that was, and made
again from that when someone asks. Nothing is lost by that, and nothing leaves this process.

    row = length of the key (2 bytes, big-endian) || key || packed value
    place = where the row lies << 28 | its length; 0 while the value has never been packed
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, MutableMapping
from hashlib import blake2b
from typing import Any, Final, Generic, NoReturn, TypeVar, cast

from policies.fold.cells import Cells
from policies.fold.deployment import Deployment
from policies.fold.history import History
from policies.fold.packer import Packer, TextPacker
from policies.fold.scratch import IN_MEMORY, Column, Scratch
from policies.fold.slots import FEW, Slots
from policies.fold.state import LeaseState, MessageNote, State
from policies.kinds import Intent

KEEP: Final = 256
"""Values that at least stay objects. One entry looks at far fewer, so none is written out while its change is made."""
WIDE: Final = 65_536
"""Instances of leases and deployments that were asked for lately. When they are more, `KEEP` values stay objects and no
more, whatever a shelf was told: memory does not grow with the fleet.
"""
PARTS: Final = ("rows", "places", "slots", "sample")
"""What a shelf is kept as."""
_LENGTH_BITS: Final = 28
_LENGTH: Final = (1 << _LENGTH_BITS) - 1

V = TypeVar("V")


class Shelf(MutableMapping[str, V], Generic[V]):
    """Holds values in the order in which they were put. A value that was asked for may be changed until `keep` others
    were asked for, or `KEEP` where those are wide; one that came by iterating may not. What was put stays: nothing is
    ever taken out.
    """

    def __init__(self, packer: Packer[V], scratch: Scratch = IN_MEMORY, keep: int = KEEP) -> None:
        self.packer: Final = packer
        self._keep: Final = keep
        # What was asked for lately is in `_young`. When that is full it becomes `_old`, and what is still in `_old`
        # by then has rested while `keep` others were asked for.
        self._young: dict[str, V] = {}
        self._old: dict[str, V] = {}
        self._instances = 0
        self._numbers: Final[dict[str, int]] = {}
        self._names: Final[dict[int, str]] = {}
        self._rows = Column(scratch)
        self._places = Cells(scratch)
        self._slots = Slots(scratch, FEW)
        self._missed = ""

    @classmethod
    def resume(
        cls,
        packer: Packer[V],
        rows: Column,
        places: Column,
        slots: Column,
        scratch: Scratch = IN_MEMORY,
        keep: int = KEEP,
    ) -> Shelf[V]:
        """The shelf whose `parts` these are; the sample is in the packer. Raises: ValueError when they do not belong
        together; ScratchFailed.
        """
        shelf = cls(packer, scratch, keep)
        shelf._rows, shelf._places = rows, Cells(scratch, places.chunks())
        shelf._slots = Slots(scratch, FEW, slots)
        if shelf._slots.count != len(shelf._places):
            raise ValueError("not the slots of these rows")
        return shelf

    def parts(self) -> dict[str, Iterator[bytes]]:
        """All of it as bytes, by the names of `PARTS`; it is read as they are, in that order, and the values stay as
        they are meanwhile.
        """
        sizes: dict[int, int] = {}
        """Of the rows of values that are objects."""

        def rows() -> Iterator[bytes]:
            for number in range(len(self)):
                name = self._names.get(number)
                row = self._read(number) if name is None else self._row(name, self._value(name))
                if name is not None:
                    sizes[number] = len(row)
                yield row

        def places() -> Iterator[bytes]:
            at = number = 0
            for chunk in self._places.chunks():
                block = array("Q", chunk)
                for index, place in enumerate(block):
                    size = sizes.get(number, place & _LENGTH)
                    block[index] = at << _LENGTH_BITS | size
                    at += size
                    number += 1
                yield block.tobytes()

        return {
            "rows": rows(),
            "places": places(),
            "slots": self._slots.chunks(),
            "sample": (self.packer.sample for _ in range(1)),
        }

    def __getitem__(self, key: str) -> V:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def get(self, key: str, default: V | None = None) -> V | None:  # type: ignore[override]  # one shape is enough here
        value = self._young.get(key)
        if value is not None:
            return value
        value = self._old.pop(key, None)
        if value is None:
            found = self._find(key)
            if found is None:
                return default
            number, packed = found
            value = self.packer.unpack(packed)
            self._numbers[key], self._names[number] = number, key
        self._open(key, value)
        return value

    def __setitem__(self, key: str, value: V) -> None:
        if key not in self._numbers:
            found = None if key == self._missed else self._find(key)
            self._missed = ""
            if found is None:
                number = len(self)
                self._slots.add(_mark(key))
                self._places.append(0)
            else:
                number = found[0]
            self._numbers[key], self._names[number] = number, key
        self._old.pop(key, None)
        self._open(key, value)

    def __delitem__(self, key: str) -> NoReturn:
        raise TypeError("what was said stays said")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and (key in self._numbers or self._find(key) is not None)

    def __iter__(self) -> Iterator[str]:
        return map(self._name, range(len(self)))

    def __reversed__(self) -> Iterator[str]:
        return map(self._name, reversed(range(len(self))))

    def __len__(self) -> int:
        return len(self._places)

    def values(self) -> Iterator[V]:  # type: ignore[override]  # no view: each value is made when it is its turn
        """Each value, in order; one that was written out is made for this alone."""
        return (value for _, value in self.items())

    def items(self) -> Iterator[tuple[str, V]]:  # type: ignore[override]  # as values
        """Each key and value, as `values`."""
        for number in range(len(self)):
            name = self._names.get(number)
            if name is None:
                name, packed = self._split(self._read(number))
                yield name, self.packer.unpack(packed)
            else:
                yield name, self._value(name)

    def _name(self, number: int) -> str:
        name = self._names.get(number)
        return self._split(self._read(number))[0] if name is None else name

    def _value(self, name: str) -> V:
        return self._young[name] if name in self._young else self._old[name]

    def _open(self, key: str, value: V) -> None:
        self._young[key] = value
        self._instances += len(getattr(value, "before", ()))
        count = len(self._young)
        if count > self._keep or (count > KEEP and self._instances > WIDE):
            self._rest()

    def _rest(self) -> None:
        """Pack what nobody asked for since the last time. What did not change is where it was already: whoever looks
        at many values again and again must not fill the disk.
        """
        if self._old:
            rows = [(self._numbers[name], self._row(name, value)) for name, value in self._old.items()]
            rows = [(number, row) for number, row in rows if not self._holds(number, row)]
            at = self._rows.append(b"".join(row for _, row in rows)) if rows else 0
            for number, row in rows:
                self._places[number] = at << _LENGTH_BITS | len(row)
                at += len(row)
            # Last: an interrupt before or within this finds each value, packed as it is.
            for name in self._old:
                del self._names[self._numbers.pop(name)]
        self._old, self._young = self._young, {}
        self._instances = 0

    def _holds(self, number: int, row: bytes) -> bool:
        return self._places[number] & _LENGTH == len(row) and self._read(number) == row

    def _row(self, name: str, value: V) -> bytes:
        key = name.encode()
        row = len(key).to_bytes(2, "big") + key + self.packer.pack(value)
        if len(row) >> _LENGTH_BITS:
            raise ValueError("a value of over 256 MiB")
        return row

    def _read(self, number: int) -> bytes:
        place = self._places[number]
        return self._rows.read(place >> _LENGTH_BITS, place & _LENGTH)

    @staticmethod
    def _split(row: bytes) -> tuple[str, bytes]:
        end = 2 + int.from_bytes(row[:2], "big")
        return row[2:end].decode(), row[end:]

    def _find(self, key: str) -> tuple[int, bytes] | None:
        """Number and packed value of a key whose value is not an object now."""
        for number in self._slots.numbers(_mark(key)):
            if number not in self._names:
                name, packed = self._split(self._read(number))
                if name == key:
                    return number, packed
        # The law looks first, and puts something there then.
        self._missed = key
        return None


def _mark(key: str) -> int:
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")


SHELVED: Final[dict[str, type]] = {
    "leases": LeaseState,
    "deployments": Deployment,
    "intents": Intent,
    "messages": MessageNote,
    "ids": str,
}
"""The mappings of a state that grow with the ledger, and what is in them."""


def shelved_state(scratch: Scratch = IN_MEMORY, keep: int = KEEP) -> State:
    """An empty state whose memory does not grow with the entries; what does lies in `scratch`. `keep`: as `Shelf`
    has it.
    """
    state = State(history=History(scratch))
    for name in SHELVED:
        setattr(state, name, Shelf(packer_of(name), scratch, keep))
    return state


def packer_of(name: str, sample: bytes = b"") -> Packer[Any]:
    """What packs the values of a mapping of `SHELVED`."""
    model = SHELVED[name]
    return TextPacker(sample) if model is str else Packer(model, sample)


def shelf_of(state: State, name: str) -> Shelf[Any]:
    """A mapping of a state as a shelf: the one that it is, or a copy of a dict."""
    held = cast("object", getattr(state, name))
    if isinstance(held, Shelf):
        return held
    shelf: Shelf[Any] = Shelf(packer_of(name))
    for key, value in cast("dict[str, object]", held).items():
        shelf[key] = value
    return shelf
