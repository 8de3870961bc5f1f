"""What audit does not need to trust, checked anyway: that a ledger file's caches, pages and log agree with its records.

Audit reads record bytes and nothing else, so a damaged cache cannot mislead it. But the next append builds on the
caches, and SQLite silently stops at the first damaged frame of its log, which cuts the end of the ledger. Both are
found here.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keys.errors import CalyxError
from keys.words import counted
from ledger.merkle import Frontier, hash_leaf
from ledger.sqlite.file import check_beside, mapped, open_file
from ledger.sqlite.store import SqliteStore
from ledger.sqlite.writer import TILE_HEIGHT

MAX_FINDINGS: Final = 100
WAL_HEADER: Final = 32
FRAME_HEADER: Final = 24
HEADER: Final = 100
FIXED_HEADER: Final = (
    (18, (b"\x02\x02", b"\x01\x01"), "the journal mode is unknown, and another one may keep everybody from appending"),
    (44, (b"\x00\x00\x00\x04",), "the schema format is not 4"),
    (48, (bytes(4),), "a cache size is asked for"),
    (56, (b"\x00\x00\x00\x01",), "the text encoding is not UTF-8"),
    (72, (bytes(20),), "what is kept for later releases of SQLite is not empty"),
)
"""Place, the values that SQLite writes there for a ledger, and what another one means, which SQLite does not mind. A
ledger is in WAL mode; a copy that `VACUUM INTO` made is not, and is as good.
"""

_DESCRIPTORS: Final = Path("/dev/fd")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the file that is not as it was written. `entry`: the entry that it concerns, where there is one."""

    where: str
    message: str
    entry: int | None = None


def check_store(path: Path, progress: Progress | None = None) -> list[Finding]:
    """Compare every cached value of a ledger file with the records, and its pages and log with their own checks; what
    is wrong, at most 100 findings, none if all agree. It does not verify the records: audit does. `progress`: called
    with entries compared, and of all.

    Raises: Unavailable when the file cannot be read.
    """
    findings: list[Finding] = []
    for finding in _findings(path, progress):
        findings.append(finding)
        if len(findings) == MAX_FINDINGS:
            break
    return findings


def _findings(path: Path, progress: Progress | None) -> Iterator[Finding]:
    check_beside(path)
    yield from check_log(path.with_name(path.name + "-wal"))
    try:
        with closing(open_file(path, "ro")) as opened, mapped(path):
            for (line,) in opened.connection.execute(f"PRAGMA integrity_check({MAX_FINDINGS})"):
                if line != "ok":
                    yield Finding("page", str(line))
        yield from _check_header(path)
        with SqliteStore.open(path, read_only=True) as store, store.snapshot():
            yield from _check_caches(store, progress)
    except CalyxError as error:
        if error.code != "ledger_corrupt":
            raise
        entry = error.fields.get("entry")
        yield Finding("record", error.message, entry if isinstance(entry, int) else None)


def _check_header(path: Path) -> Iterator[Finding]:
    """Find what is wrong in the first bytes of the file and that SQLite does not mind. They are always read from the
    file, whatever its log holds.

    Source: SQLite file format, section 1.3 (the database header).
    """
    header = _read_header(path)
    for at, values, why in FIXED_HEADER:
        if header[at : at + len(values[0])] not in values:
            yield Finding("page", f"byte {at} of the file: {why}")


def _read_header(path: Path) -> bytes:
    """The first bytes of a ledger file that this process has open: by SQLite's own descriptor, as a process that closes
    any other one of the file gives all locks of it back, those of its connections too.

    Source: fcntl_locking(2); "How To Corrupt An SQLite Database File", section 2.2.
    """
    here = path.stat()
    if _DESCRIPTORS.is_dir():
        for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - names, not paths
            # One of them was that of the list itself.
            with suppress(OSError):
                status = os.fstat(int(name))
                if (status.st_dev, status.st_ino) == (here.st_dev, here.st_ino):
                    return os.pread(int(name), HEADER, 0)
    with path.open("rb") as file:
        return file.read(HEADER)


def _check_caches(store: SqliteStore, progress: Progress | None) -> Iterator[Finding]:
    frontier = Frontier()
    last = bytes(32)
    nodes = 0
    size = store.head().size
    for seq, data in enumerate(store.read()):
        last = hash_leaf(data)
        if progress is not None:
            progress(seq + 1, size)
        if store.node(0, seq) != last:
            yield Finding("leaf", "the cached leaf is not the record's", seq)
        for level, node in enumerate(frontier.append(last), start=1):
            if level % TILE_HEIGHT == 0:
                nodes += 1
                if store.node(level, seq >> level) != node:
                    yield Finding("node", f"a cached node at level {level} is not that of the records", seq)
    head = store.head()
    if head.size != frontier.size or head.hash != last.hex():
        yield Finding(
            "tip", f"the head is not that of the {counted(frontier.size, 'record')}", min(head.size, frontier.size)
        )
    if store.frontier().format() != frontier.format():
        yield Finding("tip", "the cached frontier is not that of the records")
    if store.count_rows() != (frontier.size, nodes):
        yield Finding("rows", "there are rows that belong to no entry")


def check_log(path: Path) -> Iterator[Finding]:
    """Find commits in a write-ahead log that SQLite will not read because a frame before them is damaged.

    A crash can leave one torn transaction at the end, which was never acknowledged. A second commit after the damage
    cannot come from a crash, since each commit is synced before the next begins.

    Source: SQLite file format, section 4 (the write-ahead log).
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        header = file.read(WAL_HEADER)
        if len(header) < WAL_HEADER:
            return
        magic, _, page_size, _, salts, *stored = struct.unpack(">IIII8sII", header)
        order = {0x377F0682: "<", 0x377F0683: ">"}.get(magic)
        if order is None or page_size < 512 or page_size > 65_536 or page_size & (page_size - 1):
            yield Finding("log", "the header of the write-ahead log is damaged: SQLite ignores all of it")
            return
        sums = _checksum(order, header[:24], (0, 0))
        whole = sums == tuple(stored)
        after_damage = 0
        while len(frame := file.read(FRAME_HEADER + page_size)) == FRAME_HEADER + page_size:
            if frame[8:16] != salts:
                # SQLite stops here. Behind the end lie frames of an earlier round of the log, and none of this round.
                whole = False
                continue
            if whole:
                sums = _checksum(order, frame[:8], sums)
                sums = _checksum(order, frame[FRAME_HEADER:], sums)
                whole = sums == struct.unpack(">II", frame[16:24])
            if not whole and frame[4:8] != bytes(4):
                after_damage += 1
        if after_damage > 1:
            yield Finding("log", f"{after_damage} commits in the write-ahead log are not read: a frame is damaged")


def _checksum(order: str, data: bytes, start: tuple[int, int]) -> tuple[int, int]:
    first, second = start
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & 0xFFFFFFFF
        second = (second + words[at + 1] + first) & 0xFFFFFFFF
    return first, second
