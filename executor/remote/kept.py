"""Records of a home elsewhere that were verified here, kept so that they need not come over the network again.

    <directory>/<SHA-256 of the address>.records   for each record: length (4 bytes, big-endian) || record
    <directory>/<SHA-256 of the address>.json      {"bytes":N,"count":N,"sha256":HEX}: how much of that counts

This is a cache and no evidence: whoever reads it verifies all of it again, and may delete it. What is not as its second
file says is dropped. One process at a time writes it; where that fails, records come from the host.
"""

from __future__ import annotations

import fcntl
import os
from array import array
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from keys.canonical import MAX_BYTES, parse_json
from keys.errors import FormatError
from keys.regular import open_regular, read_regular
from keys.values import ZERO_HASH, Count, Hash, Model
from ledger.chain import leaf_of
from ledger.durable import make_directory, replace_file
from ledger.record import MAX_RECORD

_LENGTH: Final = 4
_CHUNK: Final = 1024 * 1024
_TAIL: Final = 256
"""Bytes at the end of a record that hold its prev, seq and time."""


class _Counted(Model):
    bytes: Count
    count: Count
    sha256: Hash


class KeptRecords:
    """The kept records of one home. `count`: how many were verified; more may have been added since."""

    def __init__(self, directory: Path, home: str) -> None:
        name = sha256(home.encode()).hexdigest()
        self._path = directory / f"{name}.records"
        self._counted = directory / f"{name}.json"
        self._offsets = array("Q", [0])
        self._digest, self._leaf = sha256(), ZERO_HASH
        self._descriptor: int | None = None
        self._writes = False
        self._count(0)
        with suppress(OSError, FormatError):
            make_directory(directory, 0o700)
            self._open()

    @property
    def added(self) -> int:
        """How many there are, with those that were not verified yet."""
        return len(self._offsets) - 1

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Verified records `start` to `stop` (not included; at most `count`); fewer where the file cannot be read."""
        for seq in range(start, min(stop, self.count)):
            data = self._record(seq)
            if data is None:
                return
            yield data

    def add(self, seq: int, data: bytes) -> None:
        """Put a record behind the others, if it is the next one; it counts once `commit` says so."""
        if not self._writes or self._descriptor is None or seq != self.added or not self._follows(seq, data):
            return
        framed = len(data).to_bytes(_LENGTH, "big") + data
        try:
            if os.pwrite(self._descriptor, framed, self._offsets[-1]) != len(framed):
                self.close()
                return
        except OSError:
            self.close()
            return
        self._digest.update(framed)
        self._offsets.append(self._offsets[-1] + len(framed))
        self._leaf = leaf_of(data)

    def rewind(self) -> None:
        """Forget what was added and is not verified."""
        if self.added > self.count:
            del self._offsets[self.count + 1 :]
            self._digest, self._leaf = self._verified[0].copy(), self._verified[1]

    def commit(self, count: int) -> None:
        """Let all that was added count, if it is `count` records. Whoever reads them verifies them again."""
        if not self._writes or count != self.added or count == self.count:
            return
        counted = _Counted(bytes=self._offsets[-1], count=count, sha256=self._digest.hexdigest())
        # The sizes and the digest say whether the other file is whole, so it needs no sync before this one.
        with suppress(OSError):
            replace_file(self._counted, counted.canonical(), 0o600)
            self._count(count)

    def drop(self) -> None:
        """Forget all of them: they are of another ledger than the host's."""
        self._offsets = array("Q", [0])
        self._digest, self._leaf = sha256(), ZERO_HASH
        self._count(0)
        if self._writes and self._descriptor is not None:
            with suppress(OSError):
                self._counted.unlink(missing_ok=True)
                os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        """Let the files go; nothing is kept from now on."""
        self._writes = False
        self._count(0)
        self._offsets = array("Q", [0])
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        self._descriptor = open_regular(self._path, os.O_RDWR | os.O_CREAT, links=False)
        with suppress(OSError):
            # Whoever does not get it reads what counts, which nobody changes.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._writes = True
        try:
            counted = _Counted.from_json(parse_json(read_regular(self._counted, MAX_BYTES)))
            whole = self._scan(counted)
        except (OSError, FormatError):
            whole = False
        if not whole:
            self.drop()

    def _scan(self, counted: _Counted) -> bool:
        """Find where each record begins; whether the file is as it was counted."""
        left = counted.bytes
        buffer = bytearray()
        at = read = 0
        while left and self._descriptor is not None:
            chunk = os.pread(self._descriptor, min(_CHUNK, left), read)
            if not chunk:
                return False
            self._digest.update(chunk)
            buffer += chunk
            read, left = read + len(chunk), left - len(chunk)
            begin = 0
            while len(buffer) - begin >= _LENGTH:
                size = int.from_bytes(buffer[begin : begin + _LENGTH], "big")
                if not 0 < size <= MAX_RECORD:
                    return False
                if len(buffer) - begin < _LENGTH + size:
                    break
                begin += _LENGTH + size
                self._offsets.append(at + begin)
            del buffer[:begin]
            at += begin
        if buffer or self.added != counted.count or self._digest.hexdigest() != counted.sha256:
            return False
        if counted.count:
            last = self._record(counted.count - 1)
            if last is None:
                return False
            self._leaf = leaf_of(last)
        self._count(counted.count)
        return True

    def _count(self, count: int) -> None:
        self.count: int = count
        self._verified = (self._digest.copy(), self._leaf)

    def _follows(self, seq: int, data: bytes) -> bool:
        # What is kept is a chain, so that its last record pins all of it.
        return b',"prev":"%b","seq":%d,"time":"' % (self._leaf.encode("ascii"), seq) in data[-_TAIL:]

    def _record(self, seq: int) -> bytes | None:
        begin, end = self._offsets[seq] + _LENGTH, self._offsets[seq + 1]
        if self._descriptor is None:
            return None
        with suppress(OSError):
            data = os.pread(self._descriptor, end - begin, begin)
            return data if len(data) == end - begin else None
        return None
