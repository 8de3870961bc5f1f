"""`calyx audit --from`: an export, fetched from where it is published, and audited as its reader remembers it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from executor.user_paths import user_path
from keys.errors import CalyxError, Unavailable, UsageError

if TYPE_CHECKING:
    from ledger.exports.mirror import Mirror
    from ledger.exports.mirror_source import Source
    from ledger.exports.reader import ExportReader
    from policies.auditing.objects import AuditObjects
    from policies.auditing.report import Progress, Report
    from policies.fold.scratch import Scratch
    from policies.pin import Pin

GIB: Final = 1024**3
MAX_GIB: Final = 16
"""How much of an export is fetched unless its reader allows more."""


def audit_from(
    address: str, mirror: Path | None, max_gib: int, progress: Progress | None, jobs: int, scratch: Scratch
) -> tuple[Report, Unavailable | None]:
    """Audit the export at `address`, a directory or a URL, and remember its head for this address if it is good: what
    was found, and why it could not be remembered or kept, if so.

    `mirror`: the directory to keep a copy in; None for none. A directory is then read where it is.

    Raises: as `ledger.exports.mirror.Mirror.fetch` and `policies.auditing.exported.audit_export`.
    """
    from policies.auditing.exported import audit_export

    if not address:
        raise UsageError("bad_address", "--from names a directory or an address, and is empty")
    pin = _pin(address)
    remembered = pin.load()
    with _opened(address, mirror, max_gib, progress) as (reader, objects, kept):
        report = audit_export(reader, objects, remembered=remembered, progress=progress, jobs=jobs, scratch=scratch)
        failed = remember(pin, report)
        if report.ok and kept is not None:
            try:
                kept.keep(reader.note)
            except Unavailable as error:
                failed = error
    return report, failed


def remember(pin: Pin, report: Report) -> Unavailable | None:
    """Remember the head of a good ledger. Why not, if that failed: what was found is no less so, but a cut that comes
    later would not be noticed. Raises: HeadContradicted.
    """
    if not report.ok:
        return None
    try:
        pin.store(report.ledger, report.head)
    except Unavailable as error:
        return error
    return None


@contextmanager
def _opened(
    address: str, mirror: Path | None, max_gib: int, progress: Progress | None
) -> Iterator[tuple[ExportReader, AuditObjects, Mirror | None]]:
    from executor.remote.http_source import HttpSource, is_url
    from ledger.exports.export import OBJECTS
    from ledger.exports.mirror import Mirror
    from ledger.exports.mirror_objects import MirrorObjects
    from ledger.exports.mirror_source import Allowance, DirectorySource
    from ledger.exports.reader import ExportReader
    from ledger.objects import DirectoryObjects

    with ExitStack() as opened:
        if not is_url(address) and mirror is None:
            root = Path(address).absolute()
            yield ExportReader(root), DirectoryObjects(root / OBJECTS), None
            return
        source: Source = (
            opened.enter_context(HttpSource(address)) if is_url(address) else DirectorySource(Path(address).absolute())
        )
        root = _temporary(opened) if mirror is None else mirror.absolute()
        allowance = Allowance(max_gib * GIB)
        kept = opened.enter_context(Mirror(source, root, allowance))
        objects = MirrorObjects(source, root, allowance)
        yield kept.fetch(lambda reader: _verify(reader, objects), progress), objects, kept


def _verify(reader: ExportReader, objects: AuditObjects) -> None:
    from ledger.checkpoint import parse_checkpoint
    from policies.signed_tip import find_log_key

    try:
        key = find_log_key(reader, objects)
    except Unavailable:
        raise
    except CalyxError as error:
        # Nothing says whose checkpoint it is, so what it asks for would be fetched at anybody's word.
        raise CalyxError(
            error.code,
            f"the first entry there is none of a ledger, and no more was fetched: {error.message}",
            hint="compare with another copy of the ledger; remove the mirror's own file where that is the damaged one",
            **{**error.fields, "entry": 0},
        ) from None
    parse_checkpoint(reader.note, key)


def _temporary(opened: ExitStack) -> Path:
    try:
        return Path(opened.enter_context(TemporaryDirectory(prefix="calyx-")))
    except OSError as error:
        raise Unavailable(
            "mirror_write_failed", f"there is no place for a mirror: {error.strerror}", hint="name one with --mirror"
        ) from None


def _pin(address: str) -> Pin:
    """Where this user remembers the head of what is published at an address."""
    from executor.remote.http_source import is_url, parse_address
    from ledger.memory import HeadMemory
    from policies.pin import Pin

    memory = HeadMemory(user_path("state") / "heads")
    if is_url(address):
        return Pin(memory, f"export {parse_address(address)}")
    path = Path(address)
    return Pin(memory, f"export {path.resolve()}", f"export {os.path.abspath(path)}")  # noqa: PTH100  # links unresolved
