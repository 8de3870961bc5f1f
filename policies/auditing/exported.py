"""Auditing an export: everything that an audit of a ledger proves, and that its tiles are those of its entries."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Final

from ledger.exports.reader import ExportReader
from ledger.exports.tile_check import check_tiles
from ledger.remembered import Remembered
from policies.auditing.audit import audit
from policies.auditing.objects import AuditObjects
from policies.auditing.report import MAX_FINDINGS, Finding, Progress, Report
from policies.fold.scratch import IN_MEMORY, Scratch

_CHANGED: Final = frozenset({"broken_chain", "export_damaged"})
"""Findings that say of an entry's bytes that they are not what was appended."""


def audit_export(
    reader: ExportReader,
    objects: AuditObjects,
    *,
    remembered: Remembered | None,
    progress: Progress | None = None,
    jobs: int = 1,
    scratch: Scratch = IN_MEMORY,
) -> Report:
    """Check an export from its first entry to its last, and every tile; every finding, at most 1,000 of each part.

    `jobs`, `scratch`: as in `policies.auditing.audit.audit`.

    Raises: Unavailable when the export cannot be read at all.
    """
    report = audit(reader, objects, remembered=remembered, progress=progress, jobs=jobs, scratch=scratch)
    changed = {finding.entry for finding in report.findings if finding.entry is not None and finding.code in _CHANGED}
    tiles = islice(check_tiles(reader, changed), MAX_FINDINGS)
    findings = [*report.findings, *(Finding(each.code, each.entry, each.message) for each in tiles)]
    findings.sort(key=lambda finding: -1 if finding.entry is None else finding.entry)
    return replace(report, ok=not findings, findings=findings)
