"""`calyx propose`: an intent and a lease in one, with everything that the lease names put into the object store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from executor.commands.common import (
    ClockOption,
    HomeOption,
    JsonOption,
    check_begun,
    find_lease,
    opened,
    parse_duration,
)
from executor.commands.proposing import ledger_now, load_proposer, note_busy, submit_change, tell_change
from executor.user_paths import expand
from keys.errors import UsageError


def propose(
    target: Annotated[
        str | None, typer.Argument(metavar="[TARGET]", help="A target of the fleet; with --onto that lease's.")
    ] = None,
    *,
    directory: Annotated[Path | None, typer.Option("--dir", help="The whole new content, as a directory.")] = None,
    patch: Annotated[Path | None, typer.Option("--patch", help="The change, as a git patch.")] = None,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", help="The whole new content, as a tar archive."),
    ] = None,
    what: Annotated[str, typer.Option("--what", help="What changes, in a line; it is signed and public.")] = "",
    why: Annotated[str, typer.Option("--why", help="Why; whoever approves reads it.")] = "",
    lease_id: Annotated[str | None, typer.Option("--id", metavar="LEASE", help="Its id; else from the time.")] = None,
    tiers: Annotated[
        str | None, typer.Option("--tiers", metavar="5,25,100", help="Percents; at least the policy's.")
    ] = None,
    bake: Annotated[
        str | None, typer.Option("--bake", metavar="DURATION", help="How long each tier is watched; else the policy's.")
    ] = None,
    manual_start: Annotated[bool, typer.Option("--manual-start", help="Wait for calyx start after the claim.")] = False,
    manual_promotion: Annotated[
        bool, typer.Option("--manual-promotion", help="Wait for calyx promote after each tier.")
    ] = False,
    break_glass: Annotated[
        bool, typer.Option("--break-glass", help="An emergency: two humans approve it, and an agent's review is owed.")
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", help="Why it cannot wait for an agent; mandatory for --break-glass, and public.")
    ] = "",
    valid_for: Annotated[
        str | None,
        typer.Option(
            "--valid-for",
            metavar="DURATION",
            help="Time to approve it, else 1h; for --break-glass also to begin it, else all that the policy allows.",
        ),
    ] = None,
    onto: Annotated[
        str | None,
        typer.Option("--onto", metavar="LEASE", help="Start from the trees that this lease leads to."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    accept_clock: ClockOption = False,
) -> None:
    """Ask for a change of production: an intent and a lease in one.

    Example: calyx propose web --dir build/ --why "the new checkout"

    CBO's key signs it. Each instance is looked at, the trees before and after are worked out, and the lease is held
    against the policy before anyone is asked to approve it.

    With --onto it starts from the trees that another lease of the target leads to, and can be approved while that one
    runs. It waits until the target is free, and starts if that lease was completed.

    With --break-glass two human approvers take the place of a human and an agent: calyx propose web --patch fix.patch
    --break-glass --reason "the shop is down" --valid-for 15m
    """
    from executor.proposals.bases import promised_trees
    from executor.proposals.propose import Wish, find_target, plan_change
    from executor.rollout.service import host_finder
    from keys.values import parse_time

    kind, source, words = _source(directory, patch, archive)
    with opened(home, here=True) as place:
        registrar = place.open_registrar(accept_clock=accept_clock)
        state = check_begun(registrar.sync())
        signer = load_proposer(place, state)
        first = None if onto is None else find_lease(state, onto)
        if target is None:
            if first is None:
                raise UsageError("target_missing", "say which target is to change", hint="calyx fleet show lists them")
            target = first.lease.target
        wish = Wish(
            target=target,
            kind=kind,
            source=expand(source),
            what=what or f"{words} {source.name or source.resolve().name}",
            why=why or reason or "not said",
            lease_id=lease_id,
            tiers=None if tiers is None else _parse_tiers(tiers),
            bake_s=None if bake is None else parse_duration(bake),
            start="command" if manual_start else None,
            promotion="manual" if manual_promotion else None,
            valid_s=None if valid_for is None else parse_duration(valid_for),
            break_glass=_emergency(break_glass, reason),
            until=None if first is None else parse_time(first.lease.complete_by),
        )
        found = find_target(state, target)
        promised = {} if first is None else promised_trees(state, first, target, ledger_now(registrar))
        objects = place.open_objects()
        planned = plan_change(wish, found, host_finder(objects), objects, promised)
        submitted = submit_change(place, registrar, signer, wish, planned)
        if first is None:
            note_busy(registrar.state, target)
    more = {} if first is None else {"onto": first.lease.id}
    tell_change(wish, planned, submitted, as_json=as_json, more=more)


def _source(
    directory: Path | None, patch: Path | None, archive: Path | None
) -> tuple[Literal["directory", "patch", "archive"], Path, str]:
    """What the new content comes from, and words for it. Raises: UsageError (`source_undecided`)."""
    if directory is not None and patch is None and archive is None:
        return "directory", directory, "the content of"
    if patch is not None and directory is None and archive is None:
        return "patch", patch, "the patch"
    if archive is not None and directory is None and patch is None:
        return "archive", archive, "the archive"
    raise UsageError("source_undecided", "say one of --dir, --patch and --archive")


def _emergency(break_glass: bool, reason: str) -> str | None:
    """The reason of a break-glass lease, None for a lease that is none. Raises: UsageError."""
    if not break_glass:
        if reason:
            raise UsageError("reason_misplaced", "--reason goes with --break-glass", hint="say --why for another lease")
        return None
    if not reason.strip():
        raise UsageError(
            "reason_missing", "break-glass needs a reason", hint='say --reason "..."; it is signed and public'
        )
    return reason


def _parse_tiers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) <= 3 and 1 <= int(part) <= 100 for part in parts):
        raise UsageError("bad_tiers", f"{text} is not a list of percents", hint="write 5,25,100")
    return tuple(int(part) for part in parts)
