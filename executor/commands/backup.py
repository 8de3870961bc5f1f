"""`calyx ledger backup`: a copy of the ledger and its objects, made while others go on appending."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from executor.commands.common import HomeOption, JsonOption, named_path, opened
from executor.commands.forms import fault_form
from executor.commands.terminal import progress_bar, say, say_json
from executor.user_paths import expand
from keys.errors import Exit
from keys.words import counted

if TYPE_CHECKING:
    from executor.homes.home import Home


def backup(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", parser=named_path, help="Where to write it, or an earlier backup.")
    ],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the ledger and its objects, also while others append.

    Example: calyx ledger backup /mnt/backup

    The copy is proved before it takes the place of an earlier backup, which it must extend. It holds no key: keep those
    apart. calyx audit --home DIR audits it. Ends with 1 when an object is missing.
    """
    with opened(home, here=True) as place:
        _write(place, expand(directory).absolute(), as_json=as_json)


def _write(place: Home, directory: Path, *, as_json: bool) -> None:
    from ledger.objects import DirectoryObjects
    from ledger.reader import open_reader
    from ledger.repair.backup import LEDGER, OBJECTS, check_place, copy_ledger
    from ledger.repair.backup_objects import Carrier
    from policies.auditing.object_walk import walk_objects
    from policies.signed_tip import open_tip

    check_place(directory)
    reader = place.open_store()
    _, _, key = open_tip(reader, place.open_objects(), place.pin().load())
    with copy_ledger(place.ledger, directory / LEDGER, key) as made:
        carrier = Carrier(DirectoryObjects(directory / OBJECTS), DirectoryObjects(place.objects))
        with open_reader(made.copied) as copied, progress_bar("objects of entries", quiet=as_json) as progress:
            count, missing = walk_objects(copied, carrier, progress)
        made.replace()
    if as_json:
        rows = [fault_form(error.code, seq, error.message) for seq, error in missing]
        say_json(
            {
                "ok": not missing,
                "origin": made.checkpoint.origin,
                "size": made.size,
                "root": made.checkpoint.root.hex(),
                "new": made.size - made.old,
                "objects": count - len(missing),
                "missing": rows,
            }
        )
    else:
        for seq, error in missing:
            say(f"entry {seq}: {error.code}: {error.message}")
        say(
            f"{counted(made.size, 'entry')} and {counted(count - len(missing), 'object')} of {made.checkpoint.origin} "
            f"are in {directory}, "
            f"{made.size - made.old} of the entries new; no key is among them",
            f"  root {made.checkpoint.root.hex()}",
        )
    if missing:
        raise typer.Exit(Exit.REFUSED)
