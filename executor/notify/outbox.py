"""The outbox: which notices are still to be delivered, and up to which entry they were made. It may be deleted.

A small SQLite file of its own. Notices and the cursor that says where they end are written in one transaction, so a
crash makes none twice and loses none; a crash between sending and writing that down sends it again, with the same id.
A fresh outbox begins with what is newer than a day.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

from executor.notify.notices import Notice, kind_of
from ledger.sqlite.file import check_beside

FORMAT: Final = "calyx-outbox-v1"
MAX_PENDING: Final = 5_000
"""Deliveries that may wait; of more the least grave are given up, the oldest of those first."""
_RANKS: Final = {"failure": 0, "warning": 1, "success": 2, "info": 2}
KEEP_S: Final = 60 * 86_400
"""How long what was sent or given up is remembered, so that no id is made twice."""
BUSY_S: Final = 5.0

_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE delivery (
    id TEXT PRIMARY KEY, channel TEXT NOT NULL, event TEXT NOT NULL, rank INTEGER NOT NULL, lease TEXT,
    title TEXT NOT NULL, body TEXT NOT NULL, queued_at INTEGER NOT NULL, attempts INTEGER NOT NULL,
    next_at INTEGER NOT NULL, reached TEXT NOT NULL, state TEXT NOT NULL, error TEXT NOT NULL, ended_at INTEGER
) STRICT;
CREATE INDEX delivery_turn ON delivery (state, channel, rank, attempts);
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notice on its way to a channel. `reached`: tags of addresses that have it. Times: seconds since 1970."""

    id: str
    channel: str
    event: str
    lease: str | None
    title: str
    body: str
    queued_at: int
    attempts: int
    next_at: int
    reached: frozenset[str]
    state: str
    error: str


class Outbox:
    """One outbox for one ledger. For the process that holds the notifier's lock; `status` may be read by others."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db: Final = connection

    @classmethod
    def open(cls, path: Path, ledger: str) -> Self:
        """Open the outbox; one that is damaged, or another ledger's, is begun anew.

        Raises: sqlite3.Error, OSError when there is no place for one; as `ledger.sqlite.file.check_beside`.
        """
        try:
            outbox = cls(_connect(path))
            if outbox._meta("format") == FORMAT and outbox._meta("ledger") == ledger:
                return outbox
            outbox.close()
        except sqlite3.OperationalError:
            # A disk that is full or a file that is locked is no reason to forget what waits.
            raise
        except sqlite3.DatabaseError:
            pass
        for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            name.unlink(missing_ok=True)
        outbox = cls(_connect(path))
        with outbox._db as db:
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.executemany("INSERT INTO meta VALUES (?, ?)", [("format", FORMAT), ("ledger", ledger)])
        return outbox

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def cursor(self) -> int | None:
        """The first entry whose notices are not in here yet; None in a fresh outbox."""
        value = self._meta("cursor")
        return None if value is None else int(value)

    def add(self, made: Iterable[tuple[Notice, str]], cursor: int | None, now: int) -> None:
        """Take in notices, each with its channel, and where they end, in one step. What is in here already stays."""
        rows = [
            (
                notice.id_for(channel),
                channel,
                notice.event,
                _RANKS[kind_of(notice.event)],
                notice.lease,
                notice.title,
                notice.body,
                now,
                now,
            )
            for notice, channel in made
        ]
        with self._db as db:
            db.executemany(
                "INSERT INTO delivery (id, channel, event, rank, lease, title, body, queued_at, attempts, next_at,"
                " reached, state, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, '', 'pending', '')"
                " ON CONFLICT DO NOTHING",
                rows,
            )
            if cursor is not None:
                db.execute("INSERT OR REPLACE INTO meta VALUES ('cursor', ?)", (str(cursor),))
            db.execute(
                "UPDATE delivery SET state = 'given_up', error = 'too_many', ended_at = ? WHERE id IN (SELECT id FROM"
                " delivery WHERE state = 'pending' ORDER BY rank, rowid DESC LIMIT -1 OFFSET ?)",
                (now, MAX_PENDING),
            )
            db.execute("DELETE FROM delivery WHERE ended_at < ?", (now - KEEP_S,))

    def waiting(self) -> list[str]:
        """The channels for which something waits."""
        rows = self._db.execute("SELECT DISTINCT channel FROM delivery WHERE state = 'pending' ORDER BY channel")
        return [str(row[0]) for row in rows]

    def next_for(self, channel: str, now: int, never: int) -> Delivery | None:
        """The delivery whose turn it is on a channel: of those due at `now` the gravest, then the least tried, then the
        oldest. What would be due only after `never` is due: a clock that went back put it off.
        """
        found = self._select(
            "state = 'pending' AND channel = ? AND (next_at <= ? OR next_at > ?)"
            " ORDER BY rank, attempts, rowid LIMIT 1",
            (channel, now, never),
        )
        return found[0] if found else None

    def queued_before(self, time: int) -> list[Delivery]:
        """What waits since before a time."""
        return self._select("state = 'pending' AND queued_at < ? ORDER BY rowid", (time,))

    def failures(self) -> list[Delivery]:
        """What was given up, and what waits after a failure; the newest first, at most 100."""
        return self._select("state = 'given_up' OR (state = 'pending' AND attempts > 0) ORDER BY rowid DESC LIMIT 100")

    def counts(self) -> dict[str, int]:
        """How many deliveries are `pending`, `sent` and `given_up`."""
        found = dict(self._db.execute("SELECT state, count(*) FROM delivery GROUP BY state").fetchall())
        return {state: int(found.get(state, 0)) for state in ("pending", "sent", "given_up")}

    def store(self, delivery: Delivery, now: int) -> None:
        """Write down how an attempt ended."""
        ended = None if delivery.state == "pending" else now
        with self._db as db:
            db.execute(
                "UPDATE delivery SET attempts = ?, next_at = ?, reached = ?, state = ?, error = ?, ended_at = ?"
                " WHERE id = ?",
                (
                    delivery.attempts,
                    delivery.next_at,
                    " ".join(sorted(delivery.reached)),
                    delivery.state,
                    delivery.error,
                    ended,
                    delivery.id,
                ),
            )

    def _select(self, where: str, values: tuple[str | int, ...] = ()) -> list[Delivery]:
        names = [one.name for one in fields(Delivery)]
        # Both parts are words of this file; nothing of a notice is in them.
        found = self._db.execute(f"SELECT {', '.join(names)} FROM delivery WHERE {where}", values)  # noqa: S608
        rows = [dict(zip(names, row, strict=True)) for row in found]
        return [Delivery(**{**row, "reached": frozenset(row["reached"].split())}) for row in rows]

    def _meta(self, name: str) -> str | None:
        try:
            row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None
            raise
        return None if row is None else str(row[0])


def read_outbox(path: Path) -> Outbox | None:
    """The outbox for looking at it; None where there is none that can be read. Raises: as `check_beside`."""
    if not path.is_file():
        return None
    check_beside(path)
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
    except sqlite3.Error:
        return None
    try:
        with closing(connection.execute("SELECT count(*) FROM delivery")):
            return Outbox(connection)
    except sqlite3.Error:
        connection.close()
        return None


def _connect(path: Path) -> sqlite3.Connection:
    check_beside(path)
    # Made before SQLite opens it: titles and bodies are for this user alone.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_S)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection
