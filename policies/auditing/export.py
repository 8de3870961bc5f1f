"""Exporting a ledger: its log as tiles, and beside it the objects that its entries refer to.

An export carries records, tiles, the checkpoint and objects, and nothing else of a home: no key, no setting. It proves
nothing about the law; whoever reads it audits it, so that a ledger that is not lawful can be shown as well.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from keys.errors import CalyxError, FormatError
from ledger.exports.export import OBJECTS, Exported, Progress, export_log
from ledger.objects import MAX_IN_MEMORY, OBJECT_CODES, DirectoryObjects, ObjectRef, ObjectStore
from ledger.record import parse_record
from ledger.remembered import Remembered
from ledger.statement import parse_statement
from ledger.store import Reader
from policies.auditing.objects import ObjectAudit
from policies.signed_tip import open_tip


@dataclass(frozen=True, slots=True)
class MissingObject:
    """An object that an entry refers to and that could not be exported. `code`: why."""

    entry: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class LedgerExport:
    """What an export did, and which objects are not in it."""

    log: Exported
    objects: int
    missing: tuple[MissingObject, ...]


def export_ledger(
    reader: Reader,
    objects: ObjectStore,
    root: Path,
    *,
    remembered: Remembered | None,
    full: bool = False,
    progress: Progress | None = None,
) -> LedgerExport:
    """Bring the export in the directory `root` up to date, durable on return; it costs the new entries.

    An object that is missing does not stop it, and the next export looks for it again. `full`: look at every entry and
    object again.

    Raises: as `policies.signed_tip.open_tip` and `ledger.exports.export.export_log`.
    """
    _, _, key = open_tip(reader, objects, remembered)
    kept = _Keeper(objects, DirectoryObjects(root / OBJECTS), full=full)
    walk = ObjectAudit(kept, kept.miss)

    def visit(seq: int, data: bytes) -> bool:
        before = len(kept.missing)
        # An entry that is no statement of ours refers to nothing; it is exported as it is, for an audit to name.
        with suppress(FormatError):
            walk.visit(seq, parse_statement(parse_record(data).envelope.body))
        return len(kept.missing) > before

    log = export_log(reader, key, root, visit, full=full, progress=progress)
    return LedgerExport(log, kept.copied, tuple(kept.missing))


@dataclass(slots=True)
class _Keeper:
    """The objects that a walk over the entries asks for, copied when it does; see `policies.auditing.objects`."""

    source: ObjectStore
    target: DirectoryObjects
    full: bool
    copied: int = 0
    missing: list[MissingObject] = field(default_factory=list)

    def get(self, ref: ObjectRef) -> bytes:
        data = self.source.get(ref)
        if not self._is_there(ref):
            self.target.put(data)
            self.copied += 1
        return data

    def check(self, ref: ObjectRef) -> None:
        if self._is_there(ref):
            return
        if ref.size <= MAX_IN_MEMORY:
            self.get(ref)
            return
        with TemporaryDirectory(prefix="calyx-") as directory:
            copy = Path(directory) / "object"
            self.source.copy_to(ref, copy)
            self.target.put_file(copy)
        self.copied += 1

    def find(self, digest: str) -> ObjectRef | None:
        return self.source.find(digest)

    def miss(self, seq: int, error: CalyxError) -> None:
        if error.code not in OBJECT_CODES and not isinstance(error, FormatError):
            # The disk that is exported to, for one: the object is not what is wrong.
            raise error
        self.missing.append(MissingObject(seq, error.code, error.message))

    def _is_there(self, ref: ObjectRef) -> bool:
        if not self.target.has(ref):
            return False
        if self.full:
            try:
                self.target.check(ref)
            except CalyxError:
                return False
        return True
