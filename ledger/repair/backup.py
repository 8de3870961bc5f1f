"""Backing a ledger up while others append to it: one consistent prefix with its checkpoint, proved after the copy.

    DIR/ledger.db          as in a home
    DIR/objects/           what its entries name

A backup holds no key and no setting: whoever has it reads the ledger and cannot append to it. An earlier backup is
replaced only by one that extends it, in one step. SQLite's own backup reads under one read transaction, so what is
copied is a prefix that was committed, whoever appends meanwhile.

Source: SQLite, online backup API.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from keys.errors import CalyxError, Unavailable, UsageError
from ledger.chain import Chain
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.durable import make_directory, sync_directory
from ledger.note import VerifierKey
from ledger.place import check_directory, is_hidden, locked, remove_hidden
from ledger.sqlite.check import check_store
from ledger.sqlite.file import remove_database
from ledger.sqlite.store import SqliteStore

LEDGER: Final = "ledger.db"
OBJECTS: Final = "objects"

_OWN: Final = frozenset({LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm", OBJECTS})


class Backup:
    """A backup that is being made: `copied` is a closed file that nobody sees yet, `replace` puts it in place.

    `old`, `size`: entries of the backup that was there, and of this one. `checkpoint`: of this one, verified.
    """

    def __init__(self, copied: Path, path: Path, old: int, checkpoint: Checkpoint) -> None:
        self.copied: Final = copied
        self.path: Final = path
        self.old: Final = old
        self.checkpoint: Final = checkpoint
        self.size: Final = checkpoint.size

    def replace(self) -> None:
        """Give the copy its name, durable on return. Raises: OSError."""
        self.copied.rename(self.path)
        sync_directory(self.path.parent)


@contextmanager
def copy_ledger(ledger: Path, path: Path, key: VerifierKey) -> Iterator[Backup]:
    """Copy the ledger file, as of now, beside `path`, and prove the copy: bytes, chain, caches, and the checkpoint of
    the log of `key` over all of it, and that it extends what is at `path`. The caller brings the objects, and then
    calls `replace`; else nothing is left.

    Nobody else backs up to that directory meanwhile, and what a killed backup left there is removed.

    Raises: UsageError (`not_a_backup`, `not_a_directory`, `backup_of_another`); CalyxError (`head_contradicted`,
    `backup_damaged`, `ledger_corrupt`, ChainBroken); Unavailable (`backup_busy`, `backup_in_use`,
    `backup_write_failed`; as `SqliteStore.open`).
    """
    place = path.parent
    hidden = path.with_name(f".{secrets.token_hex(12)}.tmp")
    try:
        make_directory(place, 0o700)
        with locked(place, "backup_busy", f"another backup to {place} is running"):
            check_place(place)
            check_directory(place, place / OBJECTS)
            remove_hidden(place, place / OBJECTS)
            with closing(SqliteStore.open(ledger, read_only=True)) as store:
                store.backup(hidden)
            hidden.chmod(0o600)
            checkpoint = _prove(hidden, key)
            yield Backup(hidden, path, _extends(path, hidden), checkpoint)
    except OSError as error:
        raise Unavailable("backup_write_failed", f"cannot write the backup {path}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            remove_database(hidden)


def check_place(directory: Path) -> None:
    """Prove that a directory is new, empty, or a backup. Raises: UsageError (`not_a_backup`)."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UsageError("not_a_backup", f"{directory} is no directory", hint="name a new directory")
    names = {each.name for each in directory.iterdir() if not is_hidden(each.name)}
    if names - _OWN:
        raise UsageError(
            "not_a_backup",
            f"{directory} holds other files than a backup",
            hint="name a new directory; a home is no backup, since it holds keys",
        )


def _prove(path: Path, key: VerifierKey) -> Checkpoint:
    with SqliteStore.open(path, read_only=True) as copy:
        tip = copy.tip()
        checkpoint = parse_checkpoint(tip.checkpoint, key)
        chain = Chain()
        for _ in chain.replay(copy.read(0), checkpoint):
            pass
    found = check_store(path)
    if found or chain.head != tip.head:
        why = found[0].message if found else "its head is not that of its entries"
        raise CalyxError("ledger_corrupt", f"the copy is not whole: {why}", hint="calyx ledger fsck says what is wrong")
    return checkpoint


def _extends(path: Path, copy: Path) -> int:
    """Entries of the backup at `path`, all of which the copy has."""
    if not path.exists():
        return 0
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise Unavailable("backup_in_use", f"somebody appends to {path}: it is no backup", hint="name a new directory")
    with _opened(path) as before, SqliteStore.open(copy, read_only=True) as after:
        old, new = before.head(), after.head()
        if not old.size:
            return 0
        if before.leaf(0) != after.leaf(0):
            raise UsageError(
                "backup_of_another", f"{path} is the backup of another ledger", hint="name a new directory"
            )
        if old.size > new.size or after.leaf(old.size - 1) != before.leaf(old.size - 1):
            raise CalyxError(
                "head_contradicted",
                f"the backup {path} has {old}, and this ledger has {new}: it does not extend it",
                hint="do not sign or deploy; the ledger was cut or rewritten: keep the backup, and compare",
                backed_up=old.size,
                found=new.size,
            )
    return old.size


@contextmanager
def _opened(path: Path) -> Iterator[SqliteStore]:
    try:
        with SqliteStore.open(path, read_only=True) as store:
            yield store
    except CalyxError as error:
        if error.code != "ledger_corrupt":
            raise
        raise CalyxError(
            "backup_damaged",
            f"the backup that is there is damaged, so nothing says whether this one extends it: {error.message}",
            hint="move it away, then back up again; calyx ledger fsck --home DIR says what it still holds",
        ) from None
