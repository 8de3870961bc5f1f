"""SSH wire encoding: `uint32` and `string`, read strictly and within limits.

    uint32   4 bytes, big-endian
    string   uint32 length, then that many bytes

Source: RFC 4251 section 5.
"""

from __future__ import annotations

from keys.errors import FormatError
from keys.words import counted


def u32(number: int) -> bytes:
    """Encode 0 .. 2^32-1 as 4 bytes, big-endian."""
    return number.to_bytes(4, "big")


def string(data: bytes) -> bytes:
    """Encode bytes with their length before them."""
    return len(data).to_bytes(4, "big") + data


class Reader:
    """Reads wire fields from the front of `data`; `what` names the data in errors.

    No field is ever longer than what is left, so the length of `data` bounds all work.
    """

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    def take(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises: FormatError when fewer are left.
        """
        if count > len(self._data) - self._at:
            raise FormatError(f"{self._what} ends early")
        self._at += count
        return self._data[self._at - count : self._at]

    def u8(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def u32(self) -> int:
        """The next uint32."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """The next string's bytes."""
        return self.take(self.u32())

    def end(self) -> None:
        """Promise that everything was read.

        Raises: FormatError when bytes are left.
        """
        if self._at != len(self._data):
            raise FormatError(f"{self._what} has {counted(len(self._data) - self._at, 'byte')} after its end")
