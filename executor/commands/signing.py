"""How a person signs at the command line: shown, named, asked, signed, appended; or prepared for signing elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from executor.commands.person import load_person
from executor.commands.terminal import ask, note, person_present, say, say_theirs
from executor.user_paths import expand
from keys.errors import CalyxError, Exit, Refused, UsageError

if TYPE_CHECKING:
    from executor.homes.home import Home
    from keys.principals import TrustRoot
    from keys.signer import Signer
    from ledger.statement import Statement
    from policies.fold.state import State
    from policies.submitter import Draft, Receipt, Submitter

PrepareOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--prepare", metavar="DIR", help="Write what is to be signed to DIR, for ssh-keygen elsewhere; no key is used."
    ),
]
FullOption: TypeAlias = Annotated[bool, typer.Option("--full", help="Leave nothing out for its length.")]


def sign_and_submit(
    home: Home,
    registrar: Submitter,
    draft: Draft,
    lines: Sequence[str],
    *,
    yes: bool,
    key: Path | None,
    as_principal: str | None,
    prepare: Path | None = None,
    signer: Signer | None = None,
    proposed: TrustRoot | None = None,
) -> Receipt | None:
    """Show `lines` and what a person signs, ask unless `yes`, sign and append; None when it was only prepared.

    `lines`: what the draft means, escaped. `signer`: the person's key, where it is open already. `proposed`: the trust
    root that is being approved, whose keys may cosign it. The registrar was synced, and the caller looked at its state.

    Raises: Refused (`look_needed`); typer.Exit when the answer is no; as `load_person`, `Submitter.foresee`,
    `Submitter.append`.
    """
    from executor.render.statement import render_own
    from executor.render.text import format_section
    from ledger.verified import sign_statement

    state = registrar.state
    if prepare is not None:
        if key is not None:
            raise UsageError("prepare_alone", "--prepare uses no key", hint="leave --key out")
        _prepare(home, registrar, draft, lines, prepare, as_principal, proposed)
        return None
    if draft.kind == "cosignature":
        check_look(state, yes=yes)
    # Before the key is opened: nobody is asked for a passphrase for what they have not seen.
    say_rendering(lines)
    signer = signer or load_person(home, state, key, as_principal, proposed)
    statement = registrar.draft_statement(signer.principal, draft, machine=False)
    # Before the question, and before a token is touched: what the law refuses now is not signed.
    registrar.foresee(statement, signer.keyid)
    say_rendering(["", *format_section(render_own(statement, signer.keyid)), ""])
    if not yes and not ask(f"Sign as {signer.principal} with {signer.keyid}?"):
        note("nothing was signed")
        raise typer.Exit(Exit.REFUSED)
    return registrar.append([sign_statement(statement, signer)])[0]


def say_rendering(lines: Sequence[str]) -> None:
    """Print lines of a rendering."""
    say_theirs(*lines)


def check_look(state: State, *, yes: bool) -> None:
    """An approval is looked at by a person at a terminal, where the policy in force asks for that.

    Raises: Refused (`look_needed`).
    """
    if state.policy is None or not state.policy.deploy_production.look:
        return
    if yes:
        raise Refused(
            "look_needed",
            "the policy asks that a person looks before approving, so --yes is not taken",
            hint="leave --yes out, and answer on a terminal",
        )
    if not person_present():
        raise Refused(
            "look_needed",
            "the policy asks that a person looks before approving, and nobody is at a terminal",
            hint="run it on a terminal, or sign elsewhere with --prepare DIR",
        )


def find_person(home: Home, state: State, as_principal: str | None, proposed: TrustRoot | None = None) -> str:
    """The human who is named, or who sits here, without opening a key.

    Raises: UsageError (`who_are_you`); Refused (`unknown_principal`, `not_a_human`).
    """
    principal = as_principal or home.find_me(state).id
    roots = [root for root in (state.trust, proposed) if root is not None]
    found = next((p for root in roots if (p := root.find_principal(principal)) is not None), None)
    if found is None:
        raise Refused("unknown_principal", f"the trust root has no principal {principal}", hint="calyx keys show --all")
    if found.kind != "human":
        raise Refused("not_a_human", f"{principal} is a machine; people sign here", hint="name yourself with --as")
    return found.id


def _foresee_any(registrar: Submitter, statement: Statement, proposed: TrustRoot | None) -> None:
    """Refuse what the law would refuse now with each key of the person; which one signs elsewhere is not known."""
    from keys.openssh_public import fingerprint

    refusal: CalyxError | None = None
    for root in filter(None, (registrar.state.trust, proposed)):
        person = root.find_principal(statement.by)
        for entry in () if person is None else person.keys:
            try:
                registrar.foresee(statement, fingerprint(entry.public))
            except CalyxError as error:
                refusal = refusal or error
            else:
                return
    if refusal is not None:
        raise refusal


def _prepare(
    home: Home,
    registrar: Submitter,
    draft: Draft,
    lines: Sequence[str],
    directory: Path,
    as_principal: str | None,
    proposed: TrustRoot | None,
) -> None:
    from executor.render.statement import render_own
    from executor.render.text import format_section
    from executor.signing.offline import RENDERING, SIGNATURE, command, return_by, write_prepared

    directory = expand(directory)
    principal = find_person(home, registrar.state, as_principal, proposed)
    statement = registrar.draft_statement(principal, draft, machine=False)
    _foresee_any(registrar, statement, proposed)
    own = format_section(render_own(statement, None))
    until = return_by(registrar.state, statement)
    write_prepared(directory, statement, [*lines, "", *own], until)
    say(
        f"Prepared in {directory}, for {principal} to sign; nothing is in the ledger yet",
        f"  digest   {statement.digest}",
        *([f"  back by  {until}"] if until else []),
        f"  read     {directory / RENDERING}",
        f"  sign     {command(statement, directory)}",
        f"  then     calyx attach {directory}, once {SIGNATURE} lies there",
    )
