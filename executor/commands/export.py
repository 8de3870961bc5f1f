"""`calyx ledger export`: the ledger as static files that any web server can publish, or one approval as a kit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from executor.commands.common import HomeOption, JsonOption, check_begun, find_lease, named_path, opened
from executor.commands.forms import fault_form
from executor.commands.terminal import progress_bar, say, say_json
from keys.errors import Exit, UsageError
from keys.words import are, counted


def export(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", parser=named_path, help="Where to write it, or an earlier export.")
    ],
    home: HomeOption = None,
    full: Annotated[
        bool, typer.Option("--full", help="Look at every entry and object again, not at the new ones alone.")
    ] = False,
    kit: Annotated[
        str | None, typer.Option("--kit", metavar="LEASE", help="Write what it takes to check this lease's approval.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the ledger as files that any web server can publish.

    Example: calyx ledger export /srv/www/ledger

    Entries, tiles and checkpoint (C2SP tlog-tiles) and the objects; no key and no setting. Run it again to add what is
    new. Anyone audits it with calyx audit --from. Ends with 1 when an object is missing.
    --kit writes one approval instead: sh DIR/check.sh checks it with ssh-keygen, openssl and sha256sum.
    """
    if kit is not None:
        if full:
            raise UsageError("bad_option", "--full is for the whole ledger, not for a kit", hint="leave it out")
        _write_kit(home, kit, directory.absolute(), as_json=as_json)
        return
    from policies.auditing.export import export_ledger

    with opened(home) as place:
        remembered = place.pin().load()
        with progress_bar("entries", quiet=as_json) as progress:
            done = export_ledger(
                place.open_store(),
                place.open_objects(),
                directory.absolute(),
                remembered=remembered,
                full=full,
                progress=progress,
            )
    log = done.log
    if as_json:
        say_json(
            {
                "ok": not done.missing,
                "origin": log.checkpoint.origin,
                "size": log.size,
                "root": log.checkpoint.root.hex(),
                "new": log.size - log.old,
                "files": log.files,
                "objects": done.objects,
                "missing": [fault_form(each.code, each.entry, each.message) for each in done.missing],
            }
        )
    else:
        for each in done.missing:
            say(f"entry {each.entry}: {each.code}: {each.message}")
        say(
            f"{counted(log.size, 'entry')} of {log.checkpoint.origin} {are(log.size)} in {directory}: "
            f"{log.size - log.old} new, "
            f"{counted(log.files, 'file')} and {counted(done.objects, 'object')} written",
            f"  root {log.checkpoint.root.hex()}",
        )
        if done.missing:
            say(f"put the missing objects back, then export again{' with --full' if log.forgotten else ''}")
    if done.missing:
        raise typer.Exit(Exit.REFUSED)


def _write_kit(home: str | None, name: str, directory: Path, *, as_json: bool) -> None:
    from executor.signing.kit import make_kit, write_kit

    with opened(home) as place:
        replay = place.open_replay()
        lease = find_lease(check_begun(replay.sync()), name)
        made = make_kit(replay.state, lease, place.open_store(), replay.checkpoint)
    write_kit(directory, made)
    if as_json:
        names = sorted(made)
        size = replay.head.size
        say_json({"ok": True, "lease_id": lease.lease.id, "digest": lease.digest, "size": size, "names": names})
    else:
        script = shlex.quote(str(directory / "check.sh"))
        say(f"{counted(len(made), 'file')} for {lease.lease.id} are in {directory}; check them with: sh {script}")
