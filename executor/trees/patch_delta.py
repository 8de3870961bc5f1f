"""How large a file is that a binary patch's delta makes, read from the delta's first bytes."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Final

from keys.errors import CalyxError

DELTA_LINES: Final = 64
"""More than enough for the first bytes of a delta: a deflate header is under 512 bytes, and a line holds up to 52."""
_LENGTHS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DELTA_HEAD: Final = 20


def delta_result(lines: Sequence[bytes]) -> int:
    """The size of the file that a delta makes: the second of the two numbers that its content begins with.

    Source: gitformat-pack(5), "Deltified representation"; the lines are base85 as git-diff(1) --binary writes them.
    """
    inflate, head = zlib.decompressobj(), b""
    try:
        for line in lines:
            if not line or len(head) >= _DELTA_HEAD:
                break
            count = _LENGTHS.index(line[:1]) + 1
            head += inflate.decompress(base64.b85decode(line[1:])[:count], _DELTA_HEAD)
    except (ValueError, zlib.error):
        raise CalyxError("bad_patch", "the patch has a delta that cannot be read") from None
    at, numbers = 0, []
    for _ in range(2):
        number = shift = 0
        while True:
            if at >= len(head) or shift > 63:
                raise CalyxError("bad_patch", "the patch has a delta that cannot be read")
            number |= (head[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if head[at - 1] < 0x80:
                break
        numbers.append(number)
    return numbers[1]
