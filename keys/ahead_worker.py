"""The process that checks signatures for `keys.ahead`: requests on standard input, answers on standard output.

    request   uint64 number, uint32 count, uint32 size, then `size` bytes: count times
              32 bytes public key, 64 bytes signature, uint32 length, message
    answer    the request's number, then one byte for each signature: 1 when it was proved, else 0

Integers are big-endian. It holds no key but public ones, opens no file, and ends when its input does.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import Final

from keys.ed25519 import PUBLIC_SIZE, SIGNATURE_SIZE, PublicKey, verify
from keys.errors import CalyxError

NUMBER: Final = Struct(">Q")
HEADER: Final = Struct(">QII")
PROVED: Final = b"\x01"
ITEM: Final = Struct(f">{PUBLIC_SIZE}s{SIGNATURE_SIZE}sI")

_INPUT: Final = 0
_OUTPUT: Final = 1


def answer(number: int, count: int, body: bytes, known: dict[bytes, PublicKey]) -> bytes:
    """Check the signatures of one request. `known`: public keys that were judged before; grows.

    Raises: ValueError when the body does not hold exactly `count` of them.
    """
    proved = bytearray(count)
    at = 0
    for place in range(count):
        raw, signature, size = ITEM.unpack_from(body, at)
        at += ITEM.size
        message = body[at : at + size]
        at += size
        try:
            public = known.get(raw)
            if public is None:
                public = known[raw] = PublicKey(raw)
            verify(public, message, signature)
        except CalyxError:
            continue
        proved[place : place + 1] = PROVED
    if at != len(body):
        raise ValueError("a request is not as long as it says")
    return NUMBER.pack(number) + proved


def main() -> int:
    """Answer until the input ends."""
    known: dict[bytes, PublicKey] = {}
    while header := _read(HEADER.size):
        number, count, size = HEADER.unpack(header)
        body = _read(size)
        if len(body) != size:
            raise EOFError("the input ended before a request's body")
        reply = memoryview(answer(number, count, body, known))
        while reply:
            reply = reply[os.write(_OUTPUT, reply) :]
    return 0


def _read(size: int) -> bytes:
    """Exactly `size` bytes, or none at the end of the input. Raises: EOFError when it ends in between."""
    parts: list[bytes] = []
    left = size
    while left:
        part = os.read(_INPUT, left)
        if not part:
            if left == size:
                return b""
            raise EOFError("the input ended inside a request")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except (BrokenPipeError, EOFError):
        # Whoever asked is gone, in the middle of it.
        raise SystemExit(1) from None
