"""`calyx ledger fsck`: the home's store below the entries, and its repair from what can be proved."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from executor.commands.common import HomeOption, JsonOption, opened
from executor.commands.forms import fault_form
from executor.commands.terminal import progress_bar, say, say_json
from executor.user_paths import expand
from keys.errors import Exit, Unavailable, UsageError
from keys.words import counted

if TYPE_CHECKING:
    from executor.homes.home import Home
    from ledger.repair.files import Guarded
    from ledger.repair.fsck import Checked, Damage
    from ledger.sqlite.check import Progress

_OTHERS: Final = 0o077
_WRITERS: Final = 0o022
_LOST: Final = frozenset({"checkpoint_lost", "entry_lost", "head_contradicted", "ledger_missing", "unproved"})
"""What no rebuilding brings back, beside objects that an entry names."""


def fsck(
    home: HomeOption = None,
    repair: Annotated[bool, typer.Option("--repair", help="Rebuild what follows from the entries.")] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="With --repair: an export, a backup or another home of it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the ledger's file, objects and modes, and repair them.

    Example: calyx ledger fsck --repair --from /mnt/backup

    Reads no key. A repair signs nothing and forges nothing: it rebuilds caches, and takes back entries and objects from
    --from when the log's own signature proves them. The damaged ledger is kept aside. Ends with 1 when damage is left.
    """
    if source is not None and not repair:
        raise UsageError("bad_option", "--from gives something back only with --repair", hint="add --repair")
    with opened(home, here=True) as place:
        with progress_bar("entries", quiet=as_json) as progress:
            checked = _check_ledger(place, source, progress, repair=repair)
        damage = list(checked.damage)
        objects = 0
        try:
            if checked.whole:
                with progress_bar("objects of entries", quiet=as_json) as progress:
                    objects, found = _check_objects(place, source, progress, repair=repair)
                damage += found
            damage += _check_files(place, repair=repair)
        except OSError as error:
            raise Unavailable("home_unreadable", f"cannot read {place.name}: {error.strerror}") from None
    left = [each for each in damage if each.left]
    _say(checked, damage, objects, _advise(left, source, repair=repair) if left else "", as_json=as_json)


def _advise(left: list[Damage], source: Path | None, *, repair: bool) -> str:
    """What to do about damage that is left."""
    from ledger.objects import OBJECT_CODES

    if any(each.code in _LOST or (each.code in OBJECT_CODES and each.entry is not None) for each in left):
        if source is None:
            return "what is lost comes back from a copy only: --repair --from DIR"
        return "the copy did not help with what is left; another one may"
    return "no repair touches what is left: look at it" if repair else "try --repair"


def _check_ledger(place: Home, source: Path | None, progress: Progress | None, *, repair: bool) -> Checked:
    from ledger.repair.fsck import check_ledger, repair_ledger
    from ledger.sqlite.file import is_there, ledger_missing

    remembered = place.pin().load()
    if not is_there(place.ledger) and (remembered is None or not place.root.is_dir()):
        raise ledger_missing(place.ledger)
    if repair:
        copy = None if source is None else expand(source).absolute()
        return repair_ledger(place.ledger, remembered=remembered, copy=copy, progress=progress)
    return check_ledger(place.ledger, remembered=remembered, progress=progress)


def _check_objects(
    place: Home, source: Path | None, progress: Progress | None, *, repair: bool
) -> tuple[int, list[Damage]]:
    """Every object that an entry names, and every file that lies among them."""
    from ledger.objects import DirectoryObjects
    from ledger.repair.backup_objects import Carrier
    from ledger.repair.files import check_objects
    from ledger.repair.fsck import Damage
    from ledger.repair.source import find_objects
    from policies.auditing.object_walk import walk_objects

    before = list(check_objects(place.objects))
    copy = None if source is None else DirectoryObjects(find_objects(expand(source).absolute()))
    carrier = Carrier(DirectoryObjects(place.objects), copy if repair else None)
    count, missing = walk_objects(place.open_store(), carrier, progress)
    found = [Damage(error.code, seq, error.message) for seq, error in missing]
    back = [each[:16] for each in carrier.carried]
    found += [Damage("object_missing", None, f"object {each} was given back", left=False) for each in back]
    named = {str(error.fields.get("object"))[:16] for _, error in missing} | set(back)
    return count, found + [each for each in before if not any(name in each.message for name in named)]


def _check_files(place: Home, *, repair: bool) -> list[Damage]:
    from ledger.repair.files import check_modes, check_strays

    hidden = (place.root, place.objects, place.keys)
    return [
        *check_strays(hidden, time.time(), remove=repair),
        *check_modes(_guarded(place), mend=repair),
    ]


def _guarded(place: Home) -> Iterator[Guarded]:
    """What others must not read, and what they must not write."""
    from ledger.repair.files import Guarded, list_objects

    for path in (place.root, place.keys, place.settings, place.addresses, *place.keys.glob("*.key")):
        yield Guarded(path, _OTHERS)
    for path in (place.ledger, place.objects, *list_objects(place.objects)):
        yield Guarded(path, _WRITERS)


def _say(checked: Checked, damage: list[Damage], objects: int, again: str, *, as_json: bool) -> None:
    """Print what was found. `again`: what to do about what is left."""
    left = [each for each in damage if each.left]
    if as_json:
        say_json(
            {
                "ok": not left,
                "size": checked.size,
                "objects": objects,
                "repaired": checked.repaired,
                "kept": None if checked.kept is None else str(checked.kept),
                "damage": [{**fault_form(each.code, each.entry, each.message), "left": each.left} for each in damage],
            }
        )
    else:
        for each in damage:
            where = "ledger" if each.entry is None else f"entry {each.entry}"
            say(f"{'' if each.left else 'mended: '}{where}: {each.code}: {each.message}")
        if checked.kept is not None:
            say(f"the damaged ledger is kept in {checked.kept}")
        if left:
            say(f"NOT OK: {counted(len(left), 'finding')}; {again}")
        else:
            say(f"ok: {counted(checked.size, 'entry')} and {counted(objects, 'object')}; calyx audit judges them")
    if left:
        raise typer.Exit(Exit.REFUSED)
