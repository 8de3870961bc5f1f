"""A mapping for an audit of millions of entries: the values used last are objects, all others a few hundred bytes.

A ledger's state keeps every lease and every deployment, because a later entry may be about any of them. Nearly none
ever is. So what was not asked for in a while is written out, compressed against the first one that was, and made
again from that when someone asks. Nothing is lost by that, and nothing leaves this process.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, MutableMapping
from typing import Final, Generic, TypeVar, cast

from pydantic import TypeAdapter

from policies.deployment import Deployment
from policies.kinds import Intent
from policies.state import LeaseState, State

KEEP: Final = 256
"""Values that stay objects. One entry looks at far fewer, so none is written out while its change is being made."""

V = TypeVar("V")


class Shelf(MutableMapping[str, V], Generic[V]):
    """Holds values of `model`, in the order in which they were put. A value that was asked for may be changed until
    `KEEP` others were asked for; one that came by iterating may not.
    """

    def __init__(self, model: type[V], keep: int = KEEP) -> None:
        self._adapter: Final = TypeAdapter(model)
        self._keep: Final = keep
        self._packed: Final[dict[str, bytes | None]] = {}
        self._open: Final[dict[str, V]] = {}
        self._sample = b""

    def __getitem__(self, key: str) -> V:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def get(self, key: str, default: V | None = None) -> V | None:  # type: ignore[override]  # one shape is enough here
        value = self._open.pop(key, None)
        if value is None:
            packed = self._packed.get(key)
            if packed is None:
                return default
            value = self._unpack(packed)
            self._packed[key] = None
        # Last in the order of use.
        self._open[key] = value
        self._shrink()
        return value

    def __setitem__(self, key: str, value: V) -> None:
        self._packed[key] = None
        self._open.pop(key, None)
        self._open[key] = value
        self._shrink()

    def __delitem__(self, key: str) -> None:
        del self._packed[key]
        self._open.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._packed

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def values(self) -> Iterator[V]:  # type: ignore[override]  # no view: each value is made when it is its turn
        """Each value, in order; one that was written out is made for this alone."""
        for key, packed in self._packed.items():
            yield self._look(key, packed)

    def items(self) -> Iterator[tuple[str, V]]:  # type: ignore[override]  # as values
        """Each key and value, as `values`."""
        for key, packed in self._packed.items():
            yield key, self._look(key, packed)

    def _look(self, key: str, packed: bytes | None) -> V:
        return self._open[key] if packed is None else self._unpack(packed)

    def _shrink(self) -> None:
        while len(self._open) > self._keep:
            key = next(iter(self._open))
            self._packed[key] = self._pack(self._open.pop(key))

    def _pack(self, value: V) -> bytes:
        data = self._adapter.dump_json(value)
        # Two leases differ in little but their digests; zlib finds the rest in the first one.
        self._sample = self._sample or data
        squeeze = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS, zdict=self._sample)
        return squeeze.compress(data) + squeeze.flush()

    def _unpack(self, packed: bytes) -> V:
        spread = zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=self._sample)
        return self._adapter.validate_json(spread.decompress(packed) + spread.flush())


def shelved_state() -> State:
    """An empty state whose leases, deployments and intents take little memory once they rest."""
    return State(
        leases=cast("dict[str, LeaseState]", Shelf(LeaseState)),
        deployments=cast("dict[str, Deployment]", Shelf(Deployment)),
        intents=cast("dict[str, Intent]", Shelf(Intent)),
    )
