"""Frames: how `calyx` and `calyx serve --stdio` cut a byte stream into messages and raw bytes.

    frame = type (1 byte) || length (4 bytes, big-endian) || payload

    type  payload                                          at most
    M     a message: canonical JSON                        65,535 bytes
    D     raw bytes: a record, an envelope, a chunk        262,144 bytes

A D frame is not empty. Type and length are judged before the payload is read. Every wait has an end: whoever reads
or writes gives the frames of one exchange a time, and each 16 KiB that arrive or are taken another second.

Source: docs/FORMAT.md, homes elsewhere.
"""

from __future__ import annotations

import os
import select
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from keys.errors import Unavailable
from keys.words import counted

MESSAGE: Final = b"M"
DATA: Final = b"D"
MAX_MESSAGE: Final = 65_535
MAX_DATA: Final = 262_144
BYTES_A_SECOND: Final = 16_384
"""What must arrive, or be taken, in a second, beyond the time that an exchange has anyway."""

_HEADER: Final = struct.Struct(">cI")
_LIMITS: Final = {MESSAGE: MAX_MESSAGE, DATA: MAX_DATA}
_CHUNK: Final = 65_536


class ConnectionLost(Unavailable):
    """The other side is gone. `clean`: it ended between two frames."""

    def __init__(self, why: str, *, clean: bool = False, hint: str = "try again") -> None:
        super().__init__("connection_lost", why, hint=hint)
        self.clean: Final = clean


class PeerSilent(Unavailable):
    """The other side sent nothing, or far too little, for too long."""

    def __init__(self, seconds: float) -> None:
        super().__init__("peer_silent", f"the other side did not answer within {seconds:g} s", hint="try again")


class BadFrame(Unavailable):
    """What the other side sent is not of this protocol."""

    def __init__(self, why: str) -> None:
        super().__init__("bad_answer", why, hint="the other side is no calyx, or of another version")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `kind`: MESSAGE or DATA."""

    kind: bytes
    payload: bytes = field(repr=False)


@dataclass(slots=True)
class Patience:
    """How long an exchange may take: until `end` (None: for ever), and a second more for each 16 KiB that cross."""

    seconds: float | None
    end: float | None = None

    def start(self, now: float) -> None:
        """Begin to wait at a time, in seconds of a monotonic clock."""
        self.end = None if self.seconds is None else now + self.seconds


class Channel:
    """Frames over two descriptors, pipes or sockets. Not shared between threads.

    `source`, `sink`: descriptors to read from and to write to; they become non-blocking, and stay their owner's.
    """

    def __init__(self, source: int, sink: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._source: Final = source
        self._sink: Final = sink
        self._monotonic = monotonic
        self._in = bytearray()
        self._out = bytearray()
        for descriptor in {source, sink}:
            os.set_blocking(descriptor, False)

    def begin(self, seconds: float | None) -> Patience:
        """The time for what follows, from now on. None: for ever."""
        patience = Patience(seconds)
        patience.start(self._monotonic())
        return patience

    def receive(self, patience: Patience) -> Frame:
        """The next frame. Raises: ConnectionLost, PeerSilent, BadFrame."""
        self._fill(_HEADER.size, patience, whole=False)
        kind, size = _HEADER.unpack_from(self._in)
        limit = _LIMITS.get(kind)
        if limit is None:
            raise BadFrame(f"a frame of the unknown type {kind[0]:#04x} came")
        if size > limit or (kind == DATA and not size):
            raise BadFrame(f"a frame of {counted(size, 'byte')} came; the limit is {limit}, and none is empty")
        self._fill(_HEADER.size + size, patience)
        payload = bytes(memoryview(self._in)[_HEADER.size : _HEADER.size + size])
        del self._in[: _HEADER.size + size]
        return Frame(kind, payload)

    def send(self, kind: bytes, payload: bytes, patience: Patience) -> None:
        """Put a frame behind what is to be sent; `flush` sends the rest. Raises: as `flush`; ValueError."""
        if len(payload) > _LIMITS[kind] or (kind == DATA and not payload):
            raise ValueError("a frame is empty or over its limit")
        self._out += _HEADER.pack(kind, len(payload)) + payload
        if len(self._out) >= _CHUNK:
            self.flush(patience)

    def flush(self, patience: Patience) -> None:
        """Send what waits to be sent. Raises: ConnectionLost, PeerSilent."""
        while self._out:
            self._wait(self._sink, select.POLLOUT, patience)
            try:
                sent = os.write(self._sink, memoryview(self._out)[:_CHUNK])
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLost(f"the connection is gone: {error.strerror}") from None
            del self._out[:sent]
            if patience.end is not None:
                patience.end += sent / BYTES_A_SECOND

    def _fill(self, count: int, patience: Patience, *, whole: bool = True) -> None:
        while len(self._in) < count:
            self._wait(self._source, select.POLLIN, patience)
            try:
                chunk = os.read(self._source, _CHUNK)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLost(f"the connection is gone: {error.strerror}") from None
            if not chunk:
                clean = not whole and not self._in
                raise ConnectionLost(
                    "the connection ended" + ("" if clean else " in the middle of a frame"), clean=clean
                )
            self._in += chunk
            if patience.end is not None:
                patience.end += len(chunk) / BYTES_A_SECOND

    def _wait(self, descriptor: int, event: int, patience: Patience) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left = None if patience.end is None else patience.end - self._monotonic()
        # Whoever sends a byte now and then is there each time that one looks, and late all the same.
        if left is not None and (left <= 0 or not poll.poll(left * 1000)):
            raise PeerSilent(patience.seconds or 0)
        if left is None:
            poll.poll()
