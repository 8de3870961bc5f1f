"""The curve of Ed25519 as a group, for forging what no sound program makes: points and signatures off the prime order.

Source: RFC 8032 section 5.1.
"""

from __future__ import annotations

from hashlib import sha512
from typing import Final

P: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
D: Final = -121665 * pow(121666, -1, P) % P
ROOT: Final = pow(2, (P - 1) // 4, P)

Point = tuple[int, int]

IDENTITY: Final[Point] = (0, 1)


def decode(raw: bytes) -> Point:
    """The point of 32 bytes, which lie on the curve; not canonical ones too."""
    number = int.from_bytes(raw, "little")
    y = number % 2**255 % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    assert (x * x - square) % P == 0, "the bytes are no point"
    return (P - x if x & 1 != number >> 255 else x) % P, y


def encode(point: Point) -> bytes:
    """A point as 32 bytes."""
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def add(a: Point, b: Point) -> Point:
    """The sum of two points."""
    k = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + k, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, -1, P)
    return x % P, y % P


def multiply(n: int, point: Point) -> Point:
    """A point n times."""
    total = IDENTITY
    while n:
        if n & 1:
            total = add(total, point)
        point, n = add(point, point), n >> 1
    return total


BASE: Final = decode(b"\x58" + b"\x66" * 31)
EIGHTH: Final = decode(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"))
"""A point of order 8."""


def sign_with(seed: bytes, message: bytes, *, r: int, torsion: Point) -> bytes:
    """A signature whose R is r times the base point, plus `torsion`: verifiers with a cofactor accept it."""
    digest = sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & (2**254 - 8) | 2**254
    public = encode(multiply(scalar, BASE))
    point = encode(add(multiply(r, BASE), torsion))
    h = int.from_bytes(sha512(point + public + message).digest(), "little") % ORDER
    return point + ((r + h * scalar) % ORDER).to_bytes(32, "little")
