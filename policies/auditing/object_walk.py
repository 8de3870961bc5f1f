"""Walking over a ledger's entries for the objects that they name, without judging the entries."""

from __future__ import annotations

from contextlib import suppress

from keys.errors import CalyxError, FormatError
from ledger.objects import OBJECT_CODES
from ledger.record import parse_record
from ledger.statement import parse_statement
from ledger.store import Reader
from policies.auditing.objects import AuditObjects, ObjectAudit
from policies.auditing.report import Progress


def walk_objects(
    reader: Reader, objects: AuditObjects, progress: Progress | None = None
) -> tuple[int, list[tuple[int, CalyxError]]]:
    """Ask `objects` for each object that an entry names, once: how many there are, and those that are not there and
    whole, with the first entry that names each.

    Raises: CalyxError of the reader, and of what `objects` writes.
    """
    missing: list[tuple[int, CalyxError]] = []

    def miss(seq: int, error: CalyxError) -> None:
        # An error of the disk that is written to says nothing about the object.
        if error.code not in OBJECT_CODES and not isinstance(error, FormatError):
            raise error
        missing.append((seq, error))

    walk = ObjectAudit(objects, miss)
    size = reader.head().size
    for seq, data in enumerate(reader.read()):
        # An entry that is no statement of ours refers to nothing; an audit names it.
        with suppress(FormatError):
            walk.visit(seq, parse_statement(parse_record(data).envelope.body))
        if progress is not None:
            progress(seq + 1, size)
    return walk.checked, missing
