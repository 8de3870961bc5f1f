"""Values of the state as few bytes, and back: JSON, compressed against the first value that was packed."""

from __future__ import annotations

import zlib
from typing import Any, Final, Generic, TypeVar

from pydantic import TypeAdapter

V = TypeVar("V")

_ADAPTERS: Final[dict[type, TypeAdapter[Any]]] = {}


def adapter_of(model: type[V]) -> TypeAdapter[V]:
    """What writes and reads values of a model as JSON. Making one takes longer than reading a small ledger."""
    if model not in _ADAPTERS:
        _ADAPTERS[model] = TypeAdapter(model)
    return _ADAPTERS[model]


class Packer(Generic[V]):
    """Values of `model` as bytes. `sample`: the first one; two values differ in little, and zlib finds the rest in it.

    What is packed with one sample is unpacked with the same.
    """

    def __init__(self, model: type[V], sample: bytes = b"") -> None:
        self._model: Final = model
        self.sample = sample

    def pack(self, value: V) -> bytes:
        """A value's bytes. Inverse of `unpack`."""
        data = adapter_of(self._model).dump_json(value, by_alias=True)
        self.sample = self.sample or data
        squeeze = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS, zdict=self.sample)
        return squeeze.compress(data) + squeeze.flush()

    def unpack(self, packed: bytes) -> V:
        """The value of these bytes."""
        spread = zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=self.sample)
        return adapter_of(self._model).validate_json(spread.decompress(packed) + spread.flush())


class TextPacker(Packer[str]):
    """Short texts that are not worth compressing."""

    def __init__(self, sample: bytes = b"") -> None:
        super().__init__(str, sample)

    def pack(self, value: str) -> bytes:
        return value.encode()

    def unpack(self, packed: bytes) -> str:
        return packed.decode()
