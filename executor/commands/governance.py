"""What `calyx trust`, `policy` and `fleet` share in proposing: options, what is shown first, and the signing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from executor.commands.approve import approve_subject
from executor.commands.common import check_begun, opened, parse_duration
from executor.commands.person import load_person
from executor.commands.signing import check_look, find_person, say_rendering, sign_and_submit
from executor.commands.terminal import note, say
from keys.errors import UsageError

if TYPE_CHECKING:
    from executor.homes.home import Home
    from executor.proposals.governance import GovernedKind, Value
    from ledger.store import Reader
    from policies.fold.state import State
    from policies.submitter import Draft, Submitter

    Build: TypeAlias = Callable[[State, Reader, int], Value]
    """Gives what is proposed, from the state, the ledger and the time."""

VersionArgument: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="[ID]", help="A proposal or earlier version: its entry, or the first 12 digits of its digest."
    ),
]
SecondArgument: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="The other version; else what is in force.")
]
YamlOption: TypeAlias = Annotated[bool, typer.Option("--yaml", help="Print YAML that propose FILE reads back.")]
FileArgument: TypeAlias = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The whole new value, as YAML, or JSON in a .json file.")
]
ApproveOption: TypeAlias = Annotated[
    bool, typer.Option("--approve", help="Look at it and approve it at once, as yourself.")
]
WhyOption: TypeAlias = Annotated[str, typer.Option("--reason", help="Why; it is signed and public.")]
ValidOption: TypeAlias = Annotated[str, typer.Option("--valid-for", help="How long it may be approved.")]


@dataclass(frozen=True, slots=True)
class Asking:
    """How a proposal is made. `valid_for`: a duration."""

    approve: bool
    reason: str
    valid_for: str
    yes: bool
    key: Path | None
    as_principal: str | None
    prepare: Path | None
    accept_clock: bool


def propose_change(kind: GovernedKind, home: str | None, build: Build, asking: Asking) -> None:
    """Show what a change would bring and whose approval it needs; then sign the proposal, or prepare it.

    Raises: Refused and LawRefused for what could never come into force, before anything is signed; as
    `sign_and_submit`.
    """
    if asking.approve and asking.prepare is not None:
        raise UsageError(
            "two_steps",
            "what is prepared cannot be approved before it is in the ledger",
            hint="attach the proposal first; then calyx approve ID --prepare DIR",
        )
    wait_s = parse_duration(asking.valid_for)
    with opened(home) as place:
        registrar = place.open_registrar(accept_clock=asking.accept_clock)
        state = check_begun(registrar.sync())
        now = registrar.now()
        if asking.approve:
            # Before anything is signed: a proposal that is then not approved is half a step.
            check_look(state, yes=asking.yes)
        value = build(state, place.open_store(), now)
        lines = _prospect(state, kind, value, now)
        draft = _draft(place, state, kind, value, now + wait_s, asking.reason)
        _submit(place, registrar, kind, draft, lines, asking)


def _submit(
    home: Home, registrar: Submitter, kind: GovernedKind, draft: Draft, lines: list[str], asking: Asking
) -> None:
    from executor.proposals.governance_check import check_person
    from keys.principals import TrustRoot
    from policies.kinds import TrustProposal

    state = registrar.state
    options: dict[str, Any] = {"yes": asking.yes, "key": asking.key, "as_principal": asking.as_principal}
    if asking.prepare is not None:
        check_person(state, kind, find_person(home, state, asking.as_principal))
        sign_and_submit(home, registrar, draft, lines, prepare=asking.prepare, **options)
        return
    say_rendering(lines)
    # One key signs both; its passphrase is asked for once, and after the change was shown.
    signer = load_person(home, state, asking.key, asking.as_principal)
    check_person(state, kind, signer.principal)
    receipt = sign_and_submit(home, registrar, draft, (), signer=signer, **options)
    if receipt is None:
        return
    say(f"Proposed the {kind} {receipt.digest[:12]} in entry {receipt.seq}")
    if not asking.approve:
        say(f"To approve it: calyx approve {receipt.digest[:12]}")
        return
    subject = registrar.sync().proposals[receipt.digest]
    try:
        approve_subject(home, registrar, subject, signer=signer, shown=lines, **options)
    except typer.Exit:
        note(f"note: the proposal stands and waits: calyx approve {receipt.digest[:12]}")
        raise
    said = registrar.state.proposals[receipt.digest]
    proposed: TrustRoot | None = said.proposal.trust if isinstance(said.proposal, TrustProposal) else None
    if said.decided_seq is None and proposed is not None and proposed.find_key(signer.keyid) is None:
        note(
            "note: the proposed root does not hold the key that signed, so it counts for the root in force alone",
            f"hint: calyx approve {receipt.digest[:12]} --key NEW_KEY",
        )


def _prospect(state: State, kind: GovernedKind, value: Value, now: int) -> list[str]:
    """What a person reads before they sign a proposal; every line escaped."""
    from executor.escape import escape
    from executor.proposals.governance import describe_need, diff_versions, list_needs, value_in_force
    from executor.proposals.governance_check import check_change
    from executor.render.trust import describe_trust
    from keys.principals import TrustRoot

    outlook = check_change(state, kind, value, now)
    old = value_in_force(state, kind)
    lines = [f"Change of the {kind} in force", *(f"  {line}" for line in diff_versions(old, value))]
    if isinstance(old, TrustRoot) and isinstance(value, TrustRoot):
        lines += ["", "What it means", *_indented(describe_trust(old, value))]
    if outlook.consequences:
        lines += ["", "Once it is in force", *_indented(outlook.consequences)]
    if outlook.warnings:
        lines += ["", *(f"WARNING: {escape(warning)}" for warning in outlook.warnings)]
    lines += ["", "Needs the approval of", *_indented(map(describe_need, list_needs(state, kind, value)))]
    return lines


def _indented(texts: Iterable[str]) -> list[str]:
    from executor.escape import escape

    return [f"  {escape(text)}" for text in texts]


def _draft(home: Home, state: State, kind: GovernedKind, value: Value, until: int, reason: str) -> Draft:
    from executor.proposals.governance import digest_in_force
    from keys.values import format_time
    from policies.fleet import Fleet
    from policies.submitter import Draft

    # A fleet may be larger than an entry, so its body is an object.
    body = home.open_objects().put(value.canonical()).to_json() if isinstance(value, Fleet) else value.to_json()
    base = digest_in_force(state, kind)
    return Draft(kind, {"base": base, "approve_by": format_time(until), "reason": reason, kind: body})
