"""`calyx audit`: a check of a ledger, whole or of what is new, with a progress bar on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from executor.commands.audit_from import MAX_GIB
from executor.commands.common import HomeOption, JsonOption, named_path, opened
from executor.commands.forms import fault_form
from executor.commands.terminal import progress_bar, say_json, say_theirs
from executor.homes.home import system_clock
from keys.errors import Exit, Unavailable, UsageError
from keys.words import counted

if TYPE_CHECKING:
    from policies.auditing.again import Before
    from policies.auditing.report import Report


def audit(
    home: HomeOption = None,
    *,
    new: Annotated[
        bool, typer.Option("--new", help="Only what is new since your last audit of this home that found nothing.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Compare the database's caches with the entries as well.")
    ] = False,
    source: Annotated[
        str | None, typer.Option("--from", metavar="ADDRESS", help="Audit this export: a directory or an address.")
    ] = None,
    mirror: Annotated[
        Path | None,
        typer.Option(
            "--mirror",
            metavar="DIR",
            parser=named_path,
            help="Keep a copy of the export here, and fetch only what is new.",
        ),
    ] = None,
    max_gib: Annotated[
        int | None,
        typer.Option(
            "--max-gib", min=1, max=1_000_000, help=f"How much of an export to fetch at most; else {MAX_GIB}."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, max=64, help="How many processes work; else one for each core."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every byte, signature and rule of a ledger.

    Example: calyx audit --home /mnt/copy-of-a-home

    Needs no key. Each finding is one line that names the entry. Ends with 1 when there is one. The head of a good
    ledger is remembered. With --new, entries that you audited before are not read again, and a change to one of them
    is not seen.
    """
    from executor.commands.audit_from import audit_from, remember
    from executor.homes.snapshots import scratch_place, snapshots_of
    from keys.ahead import usable_cores
    from policies.auditing.again import audit_home

    if new and (full or source is not None):
        raise UsageError(
            "not_new", "--new looks at new entries of a home, and --full and --from at all", hint="leave one out"
        )
    if full and source is not None:
        raise UsageError("bad_option", "--full compares a database, and an export has none", hint="leave it out")
    if source is None and (mirror is not None or max_gib is not None):
        raise UsageError("no_source", "--mirror and --max-gib want --from", hint="--from ADDRESS names the export")
    if source is not None and home is not None:
        raise UsageError("bad_option", "--home names a ledger and --from an export", hint="leave one out")
    before = None
    with scratch_place() as scratch, progress_bar("entries", quiet=as_json) as progress:
        if source is not None:
            report, failed = audit_from(source, mirror, max_gib or MAX_GIB, progress, jobs or usable_cores(), scratch)
        else:
            with opened(home) as place:
                pin = place.pin()
                report, before = audit_home(
                    place.open_store(),
                    place.open_objects(),
                    snapshots_of(pin, scratch),
                    remembered=pin.load(),
                    now=system_clock(),
                    new=new,
                    progress=progress,
                    jobs=jobs or usable_cores(),
                    store_path=place.ledger if full else None,
                    scratch=scratch,
                )
                failed = remember(pin, report)
    _say(report, before, failed, as_json=as_json)


def _say(report: Report, before: Before | None, failed: Unavailable | None, *, as_json: bool) -> None:
    if as_json:
        names = ("ok", "size", "ledger", "root", "origin", "decided")
        say_json(
            {
                **{name: getattr(report, name) for name in names},
                "first_seq": report.first,
                "before": None if before is None else _before(before),
                "head": {"size": report.head.size, "hash": report.head.hash},
                "findings": [fault_form(each.code, each.entry, each.message) for each in report.findings],
                "notes": list(report.notes),
            }
        )
    else:
        for finding in report.findings:
            where = "ledger" if finding.entry is None else f"entry {finding.entry}"
            say_theirs(f"{where}: {finding.code}: {finding.message}")
        for text in report.notes:
            say_theirs(f"note: {text}")
        which = f"entries {report.first} to {report.size - 1}" if report.first else f"{counted(report.size, 'entry')}"
        if report.first == report.size and report.first:
            wrong = any(each.entry is not None and each.entry >= report.first for each in report.findings)
            nothing = f"nothing new behind {counted(report.size, 'entry')}"
            which = f"entries from {report.first} on" if wrong else nothing
        say_theirs(f"{'ok' if report.ok else 'NOT OK'}: {which} of {report.origin or 'an unnamed log'}")
        say_theirs(f"  ledger {report.ledger}", f"  head   {report.head.hash}", f"  root   {report.root}")
    if not report.ok:
        raise typer.Exit(Exit.REFUSED)
    if failed is not None:
        raise failed


def _before(before: Before) -> dict[str, Any]:
    return {"size": before.entries, "whole_size": before.whole, "whole_at": before.whole_at}
