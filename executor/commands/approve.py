"""`calyx approve`, `deny`, `withdraw`: show what is signed, name the key, ask, sign, append."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from executor.commands.attach import attach_prepared
from executor.commands.common import (
    AsOption,
    ClockOption,
    HomeOption,
    IdArgument,
    KeyOption,
    LeaseArgument,
    YesOption,
    check_begun,
    find_lease,
    find_subject,
    opened,
)
from executor.commands.signing import FullOption, PrepareOption, check_look, sign_and_submit
from executor.commands.terminal import say
from executor.escape import escape
from keys.errors import UsageError

if TYPE_CHECKING:
    from executor.homes.home import Home
    from keys.signer import Signer
    from policies.fold.state import LeaseState, ProposalState
    from policies.submitter import Submitter

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is signed and public.")]


def approve(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="A lease's id, or the first 12 digits of a digest.")
    ] = "",
    *,
    yes: YesOption = False,
    full: FullOption = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    attach: Annotated[
        Path | None, typer.Option("--attach", metavar="DIR", help="Append what was prepared in DIR and signed since.")
    ] = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Look at a lease or proposal, then sign your approval of it.

    Example: calyx approve LEASE-20260105-090000

    Everything that the signature binds is shown first: who asks, why, the difference of the files, the instances, the
    terms and the times. Then the key is named, and you are asked. The answer says what is still missing. To sign on
    another machine, with ssh-keygen alone: --prepare DIR here, sign there, then --attach DIR.
    """
    if attach is not None and (yes or full or key or as_principal or prepare):
        raise UsageError("attach_alone", "--attach takes no other option: what it appends is signed already")
    if attach is None and not identifier:
        raise UsageError("no_id", "say what to approve", hint="calyx inbox lists what waits for you")
    with opened(home) as place:
        registrar = place.open_registrar(accept_clock=accept_clock)
        state = check_begun(registrar.sync())
        subject = find_subject(state, identifier) if identifier else None
        if attach is not None:
            attach_prepared(place, registrar, attach, subject)
        elif subject is not None:
            approve_subject(
                place,
                registrar,
                subject,
                yes=yes,
                key=key,
                as_principal=as_principal,
                prepare=prepare,
                full=full,
            )


def deny(
    lease: LeaseArgument,
    reason: ReasonOption,
    *,
    yes: YesOption = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Refuse a lease for good.

    Example: calyx deny LEASE-20260105-090000 --reason "not before the holidays"

    Nothing brings it back; another lease can be proposed.
    """
    with opened(home) as place:
        registrar = place.open_registrar(accept_clock=accept_clock)
        _object(place, registrar, "deny", lease, reason, yes=yes, key=key, as_principal=as_principal, prepare=prepare)


def withdraw(
    identifier: IdArgument,
    reason: ReasonOption = "taken back",
    *,
    yes: YesOption = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Take back the approvals that you gave so far.

    Example: calyx withdraw LEASE-20260105-090000

    It works until the executor has claimed the lease; after that, `calyx rollback` is the way.
    """
    with opened(home) as place:
        registrar = place.open_registrar(accept_clock=accept_clock)
        _object(
            place,
            registrar,
            "withdraw",
            identifier,
            reason,
            yes=yes,
            key=key,
            as_principal=as_principal,
            prepare=prepare,
        )


def approve_subject(
    home: Home,
    registrar: Submitter,
    subject: LeaseState | ProposalState,
    *,
    yes: bool,
    key: Path | None,
    as_principal: str | None,
    signer: Signer | None = None,
    prepare: Path | None = None,
    full: bool = False,
    shown: Sequence[str] = (),
) -> None:
    """Show, ask, sign and append the approval of one subject; say what is still missing. `signer`: the person's key,
    where it is open already. `prepare`: write it there for signing elsewhere instead. `full`: leave nothing out.
    `shown`: lines that the person has read just now, which are not repeated.
    """
    from executor.render.bounds import FULL, SHORT
    from executor.render.text import format_rendering, without_shown
    from executor.signing.approval import check_open, check_shown, draft_approval, render_subject
    from policies.fold.state import ProposalState
    from policies.kinds import TrustProposal

    state = registrar.state
    if prepare is None:
        check_look(state, yes=yes)
    check_open(state, subject, registrar.now())
    rendering = render_subject(
        state,
        subject,
        home.open_store(),
        home.open_objects(),
        registrar.now(),
        FULL if full or shown or prepare is not None else SHORT,
    )
    check_shown(state, rendering)
    proposal = subject.proposal if isinstance(subject, ProposalState) else None
    receipt = sign_and_submit(
        home,
        registrar,
        draft_approval(subject, rendering),
        format_rendering(without_shown(rendering, shown)),
        yes=yes,
        key=key,
        as_principal=as_principal,
        prepare=prepare,
        signer=signer,
        proposed=proposal.trust if isinstance(proposal, TrustProposal) else None,
    )
    if receipt is not None:
        say_approved(home, registrar, subject, receipt.seq)


def say_approved(home: Home, registrar: Submitter, subject: LeaseState | ProposalState, seq: int) -> None:
    """Say which entry approved a subject, and what it still lacks: keys, and somebody who runs."""
    from executor.commands.who_runs import describe_need
    from executor.signing.approval import still_missing
    from policies.fold.state import LeaseState, ProposalState

    say(f"Approved: entry {seq}")
    missing = still_missing(registrar.state, subject, registrar.now())
    for line in missing:
        say(f"  still missing: {line}")
    if not missing:
        say("  it is in force" if isinstance(subject, ProposalState) else "  nothing is missing")
    if isinstance(subject, LeaseState):
        now_said = registrar.state.leases[subject.digest]
        say(*(f"  {line}" for line in describe_need(home, registrar.state, now_said, registrar.now())))


def _object(
    home: Home,
    registrar: Submitter,
    verb: Literal["deny", "withdraw"],
    identifier: str,
    reason: str,
    *,
    yes: bool,
    key: Path | None,
    as_principal: str | None,
    prepare: Path | None,
) -> None:
    from executor.render.bounds import FULL
    from executor.render.text import format_rendering
    from executor.signing.approval import check_objection, draft_objection, render_subject, summarise
    from keys.values import fold_id

    state = check_begun(registrar.sync())
    subject = find_lease(state, identifier) if verb == "deny" else find_subject(state, identifier)
    check_objection(state, subject, verb)
    lines = [escape(line) for line in summarise(subject)]
    if prepare is not None:
        store, objects = home.open_store(), home.open_objects()
        lines = format_rendering(render_subject(state, subject, store, objects, registrar.now(), FULL))
    earlier: dict[str, list[int]] = {}
    for vote in subject.ballot.standing():
        earlier.setdefault(fold_id(vote.signer.principal), []).append(vote.seq)
    receipt = sign_and_submit(
        home,
        registrar,
        draft_objection(verb, reason, subject),
        lines,
        yes=yes,
        key=key,
        as_principal=as_principal,
        prepare=prepare,
    )
    if receipt is None:
        return
    say(f"{'Denied' if verb == 'deny' else 'Withdrawn'}: entry {receipt.seq}")
    if verb == "withdraw":
        by = next(item.principal for item in subject.ballot.withdrawals if item.seq == receipt.seq)
        _say_withdrawn(earlier.get(fold_id(by), []))


def _say_withdrawn(earlier: list[int]) -> None:
    if earlier:
        say(f"  it takes back what you signed in entry {', '.join(map(str, earlier))}")
    else:
        say("  you had approved nothing here; what you signed before now counts for nothing if it turns up")
