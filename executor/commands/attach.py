"""`calyx attach`: append what a person signed elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from executor.commands.common import ClockOption, HomeOption, check_begun, opened
from executor.commands.signing import say_rendering
from executor.commands.terminal import say
from executor.escape import escape
from executor.user_paths import expand

if TYPE_CHECKING:
    from executor.homes.home import Home
    from executor.signing.offline import Prepared
    from policies.fold.state import LeaseState, ProposalState, State
    from policies.submitter import Submitter


def attach(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory that --prepare made.")],
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Append what was prepared with --prepare and signed elsewhere.

    Example: calyx attach for-ada/

    The signature is checked against the keys that its signer holds now. Whoever attaches needs none of those keys.
    Attaching again changes nothing, and names the entry that it made.
    """
    with opened(home) as place:
        registrar = place.open_registrar(accept_clock=accept_clock)
        check_begun(registrar.sync())
        attach_prepared(place, registrar, directory)


def attach_prepared(
    home: Home, registrar: Submitter, directory: Path, expected: LeaseState | ProposalState | None = None
) -> None:
    """Check what lies in a directory, say what it is, append it. `expected`: what it must be an approval of.

    Raises: UsageError, Refused, FormatError, SignatureRefused, LawRefused; as `Registrar.append`.
    """
    from executor.commands.approve import say_approved
    from executor.render.statement import render_own
    from executor.render.text import format_section
    from executor.signing.approval import find_said, summarise
    from executor.signing.offline import check_attachable, find_signer, join_signature, read_prepared, read_signature

    directory = expand(directory)
    state = registrar.state
    prepared = read_prepared(directory)
    statement = prepared.statement
    _check_expected(prepared, expected)
    find_signer(state, statement)
    known = state.history.find(statement.digest)
    if known is not None:
        say(f"This is in the ledger already: entry {known}")
        return
    envelope = join_signature(state, prepared, *read_signature(directory, statement))
    subject = find_said(state, statement.subject_digest)
    about = _about(state, prepared) if subject is None else summarise(subject)
    signed = replace(render_own(statement, envelope.keyid), title="Signed elsewhere")
    say_rendering([*map(escape, about), "", *format_section(signed), ""])
    check_attachable(state, prepared, registrar.now())
    receipt = registrar.append([envelope])[0]
    subject = find_said(registrar.state, statement.subject_digest)
    if statement.kind == "cosignature" and subject is not None:
        say_approved(home, registrar, subject, receipt.seq)
    else:
        say(f"Attached: entry {receipt.seq}")


def _about(state: State, prepared: Prepared) -> list[str]:
    """What a statement is that is about no other; a proposal by its difference, which its own fields only name."""
    from executor.proposals.governance import diff_versions, value_in_force
    from policies.kinds import PolicyProposal, TrustProposal

    statement, said = prepared.statement, prepared.predicate
    lines = [f"A {statement.kind} of {statement.by}"]
    if isinstance(said, TrustProposal):
        return [*lines, "", *(f"  {line}" for line in diff_versions(value_in_force(state, "trust"), said.trust))]
    if isinstance(said, PolicyProposal):
        return [*lines, "", *(f"  {line}" for line in diff_versions(value_in_force(state, "policy"), said.policy))]
    return lines


def _check_expected(prepared: Prepared, expected: LeaseState | ProposalState | None) -> None:
    from keys.errors import Refused

    statement = prepared.statement
    if expected is not None and (statement.kind, statement.subject_digest) != ("cosignature", expected.digest):
        raise Refused(
            "other_subject",
            f"this is a {statement.kind} about {statement.subject_name} {statement.subject_digest[:12]}",
            hint="leave the id out, or name the directory that was prepared for it",
        )
