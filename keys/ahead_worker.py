"""The process that checks signatures for `keys.ahead`: requests on standard input, answers on standard output.

    request   uint64 number, uint32 count, uint32 size, then `size` bytes:
              `count` public keys of 32 bytes, `count` lengths as uint32, `count` times signature and message in one
    answer    the request's number, then one byte for each signature: 1 when it was proved, else 0
    hello     a number that is 0, before everything else, once it can answer

Integers are big-endian. It holds no key but public ones, opens no file, and ends when its input does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from struct import Struct, pack, unpack_from
from typing import Final

from keys.ed25519 import PUBLIC_SIZE, Joined, PublicKey, verify_joined
from keys.errors import CalyxError

NUMBER: Final = Struct(">Q")
HEADER: Final = Struct(">QII")
HELLO: Final = NUMBER.pack(0)
_LENGTH_SIZE: Final = 4

_INPUT: Final = 0
_OUTPUT: Final = 1


def format_body(publics: Sequence[PublicKey], joined: Sequence[Joined]) -> bytes:
    """The bytes of a request behind its header, for as many of each."""
    return b"".join((*publics, pack(f">{len(joined)}I", *map(len, joined)), *joined))


def answer(number: int, count: int, body: bytes, known: dict[bytes, PublicKey]) -> bytes:
    """Check the signatures of one request. `known`: public keys that were judged before; grows.

    Raises: ValueError when the body does not hold exactly `count` of them.
    """
    proved = bytearray(count)
    at = (PUBLIC_SIZE + _LENGTH_SIZE) * count
    lengths = unpack_from(f">{count}I", body, PUBLIC_SIZE * count) if at <= len(body) else ()
    if at + sum(lengths) != len(body):
        raise ValueError("a request is not as long as it says")
    for place, length in enumerate(lengths):
        raw = body[PUBLIC_SIZE * place : PUBLIC_SIZE * (place + 1)]
        try:
            public = known.get(raw)
            if public is None:
                public = known[raw] = PublicKey(raw)
            verify_joined(public, Joined(body[at : at + length]))
            proved[place] = True
        except CalyxError:
            pass
        at += length
    return NUMBER.pack(number) + proved


def main() -> int:
    """Answer until the input ends."""
    known: dict[bytes, PublicKey] = {}
    os.write(_OUTPUT, HELLO)
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
