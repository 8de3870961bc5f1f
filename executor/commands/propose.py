"""`calyx propose`: an intent and a lease in one, with everything that the lease names put into the object store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from executor.commands.common import ClockOption, HomeOption, JsonOption, check_begun, opened, parse_duration
from executor.commands.terminal import ask_passphrase, note, say, say_json
from keys.errors import UsageError

if TYPE_CHECKING:
    from executor.home import Home
    from executor.propose import Planned, Wish
    from keys.signer import Signer
    from policies.registrar import Receipt, Submitter
    from policies.state import State


def propose(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A target of the fleet.")],
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
    home: HomeOption = None,
    as_json: JsonOption = False,
    accept_clock: ClockOption = False,
) -> None:
    """Ask for a change of production: an intent and a lease in one.

    Example: calyx propose web --dir build/ --why "the new checkout"

    CBO's key signs it. Each instance is looked at, the trees before and after are worked out, and the lease is held
    against the policy before anyone is asked to approve it.

    With --break-glass two human approvers take the place of a human and an agent: calyx propose web --patch fix.patch
    --break-glass --reason "the shop is down" --valid-for 15m
    """
    from executor.propose import Wish, find_target, plan_change
    from executor.service import host_finder

    kind, source, words = _source(directory, patch, archive)
    wish = Wish(
        target=target,
        kind=kind,
        source=source.expanduser(),
        what=what or f"{words} {source.name or source.resolve().name}",
        why=why or reason or "not said",
        lease_id=lease_id,
        tiers=None if tiers is None else _parse_tiers(tiers),
        bake_s=None if bake is None else parse_duration(bake),
        start="command" if manual_start else None,
        promotion="manual" if manual_promotion else None,
        valid_s=None if valid_for is None else parse_duration(valid_for),
        break_glass=_emergency(break_glass, reason),
    )
    with opened(home, here=True) as place:
        registrar = place.open_registrar(accept_clock=accept_clock)
        state = check_begun(registrar.sync())
        signer = _proposer(place, state)
        objects = place.open_objects()
        planned = plan_change(wish, find_target(state, target), host_finder(objects), objects)
        lease, receipt = _submit(place, registrar, signer, wish, planned)
    if planned.settled:
        note(f"note: {len(planned.settled)} instances have this tree already and are left out")
    if as_json:
        say_json({"lease": lease, "digest": receipt.digest, "entry": receipt.seq, "paths": list(planned.paths)})
        return
    count = sum(len(names) for names in planned.groups.values())
    glass = wish.break_glass is not None
    say(
        f"{lease}  BREAK-GLASS" if glass else lease,
        f"  entry {receipt.seq}, {len(planned.paths)} changed paths on {count} instances of {target}",
        f"  next: calyx approve {lease}" + (", by two humans; an agent then owes a review" if glass else ""),
    )


def _submit(home: Home, registrar: Submitter, signer: Signer, wish: Wish, planned: Planned) -> tuple[str, Receipt]:
    from executor.propose import check_terms, lease_fields
    from policies.registrar import Draft
    from policies.state import SignerRef

    state = check_begun(registrar.sync())
    now = max(registrar.now(), state.history.time(state.size - 1))
    fields = lease_fields(wish, planned, state, home.open_objects(), now)
    lease = Draft("lease", fields)
    holder = None if state.trust is None else state.trust.find_key(signer.keyid)
    if holder is None:
        raise UsageError("key_not_enrolled", f"the key of {signer.principal} is not enrolled", hint="calyx keys show")
    proposer = SignerRef(
        signer.principal,
        holder.principal.kind,
        signer.keyid,
        holder.entry.public.raw.hex(),
        holder.principal.custodian,
    )
    check_terms(state, registrar.draft_statement(signer.principal, lease), planned, proposer, now)
    what = wish.what if planned.archive is None else f"{wish.what} (archive sha256:{planned.archive})"
    intent = {"id": fields["intent"], "target": wish.target, "what": what, "why": wish.why}
    return str(fields["id"]), registrar.submit_all(signer, [Draft("intent", intent), lease])[1]


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


def _proposer(home: Home, state: State) -> Signer:
    """The signer of a principal with the role proposer whose key this home holds.

    Raises: UsageError (`no_proposer`).
    """
    known = [] if state.trust is None else [p.id for p in state.trust.principals if "proposer" in p.roles]
    for principal in known:
        if home.find_key(principal) is not None:
            return home.load_signer(principal, state, ask_passphrase)
    raise UsageError("no_proposer", "this home holds no key of a proposer", hint="calyx keys show --all")


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
