"""`calyx approve`, `deny`, `withdraw`: show what is signed, name the key, ask, sign, append."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

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
from executor.commands.person import load_person
from executor.commands.terminal import ask, note, person_present, say
from keys.errors import Exit, UsageError

if TYPE_CHECKING:
    from executor.approval import Draftable
    from executor.home import Home
    from keys.signer import Signer
    from policies.registrar import Registrar
    from policies.state import LeaseState, ProposalState, State

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is signed and public.")]


def approve(
    identifier: IdArgument,
    yes: YesOption = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Look at a lease or proposal, then sign your approval of it.

    Example: calyx approve LEASE-20260105-090000

    Everything that the signature binds is shown first: who asks, why, the difference of the files, the instances, the
    terms and the times. Then the key is named, and you are asked. The answer says what is still missing.
    """
    with opened(home) as place:
        registrar = place.open_registrar(accept_clock=accept_clock)
        state = check_begun(registrar.sync())
        approve_subject(place, registrar, find_subject(state, identifier), yes=yes, key=key, as_principal=as_principal)


def deny(
    lease: LeaseArgument,
    reason: ReasonOption,
    yes: YesOption = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Refuse a lease for good.

    Example: calyx deny LEASE-20260105-090000 --reason "not before the holidays"

    Nothing brings it back; another lease can be proposed.
    """
    _object("deny", lease, reason, yes=yes, key=key, as_principal=as_principal, home=home)


def withdraw(
    identifier: IdArgument,
    reason: ReasonOption = "taken back",
    yes: YesOption = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Take back the approvals that you gave so far.

    Example: calyx withdraw LEASE-20260105-090000

    It works until the executor has claimed the lease; after that, `calyx rollback` is the way.
    """
    _object("withdraw", identifier, reason, yes=yes, key=key, as_principal=as_principal, home=home)


def approve_subject(
    home: Home,
    registrar: Registrar,
    subject: LeaseState | ProposalState,
    *,
    yes: bool,
    key: Path | None,
    as_principal: str | None,
    signer: Signer | None = None,
) -> None:
    """Show, ask, sign and append the approval of one subject; say what is still missing. `signer`: the person's key,
    where it is open already.
    """
    from executor.approval import check_open, draft_approval, render_subject, still_missing
    from executor.render import format_rendering
    from policies.kinds import TrustProposal
    from policies.state import ProposalState

    state = registrar.state
    if yes and _must_look(state) and not person_present():
        raise UsageError(
            "look_needed",
            "the policy asks that a person looks before approving, and nobody is at a terminal",
            hint="run it on a terminal",
        )
    check_open(state, subject, registrar.now())
    rendering = render_subject(state, subject, home.open_store(), home.open_objects(), registrar.now())
    # Before the key is opened: nobody is asked for a passphrase for what they have not seen.
    say(*format_rendering(rendering))
    proposal = subject.proposal if isinstance(subject, ProposalState) else None
    proposed = proposal.trust if isinstance(proposal, TrustProposal) else None
    signer = signer or load_person(home, state, key, as_principal, proposed)
    receipt = _confirm(registrar, draft_approval(registrar, subject, rendering, signer), signer, yes=yes)
    say(f"Approved: entry {receipt}")
    missing = still_missing(registrar.state, subject, registrar.now())
    for line in missing:
        say(f"  still missing: {line}")
    if not missing:
        say("  it is in force" if isinstance(subject, ProposalState) else "  nothing is missing")


def _object(
    verb: Literal["deny", "withdraw"],
    identifier: str,
    reason: str,
    *,
    yes: bool,
    key: Path | None,
    as_principal: str | None,
    home: Path | None,
) -> None:
    from executor.approval import draft_objection, render_subject

    with opened(home) as place:
        registrar = place.open_registrar()
        state = check_begun(registrar.sync())
        subject = find_lease(state, identifier) if verb == "deny" else find_subject(state, identifier)
        rendering = render_subject(state, subject, place.open_store(), place.open_objects(), registrar.now())
        signer = load_person(place, state, key, as_principal)
        draft = draft_objection(registrar, verb, reason, subject, rendering, signer)
        receipt = _confirm(registrar, draft, signer, yes=yes)
        say(f"{'Denied' if verb == 'deny' else 'Withdrawn'}: entry {receipt}")


def _confirm(registrar: Registrar, draft: Draftable, signer: Signer, *, yes: bool) -> int:
    from executor.approval import sign_and_append
    from executor.render import format_section

    say("", *format_section(draft.own), "")
    if not yes and not ask(f"Sign as {signer.principal} with {signer.keyid}?"):
        note("nothing was signed")
        raise typer.Exit(Exit.REFUSED)
    return sign_and_append(registrar, draft, signer).seq


def _must_look(state: State) -> bool:
    return state.policy is not None and state.policy.deploy_production.look
