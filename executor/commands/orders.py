"""`calyx start`, `pause`, `resume`, `promote`, `abort`, `rollback`: a person's orders to a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from executor.commands.common import (
    AsOption,
    HomeOption,
    KeyOption,
    LeaseArgument,
    check_begun,
    find_lease,
    opened,
    parse_duration,
)
from executor.commands.person import load_person
from executor.commands.terminal import say
from keys.errors import LawRefused

Verb = Literal["start", "pause", "resume", "promote", "abort", "rollback"]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is signed and public.")]

EXPIRES_S: Final = 600
_THEN: Final = {
    "start": "the executor starts it",
    "pause": "the executor pauses it; calyx resume lets it go on",
    "resume": "the executor goes on",
    "promote": "the executor goes on to the next tier",
    "abort": "the executor ends it, and takes back what it touched",
    "rollback": "the executor takes it back",
}


def start(
    lease: LeaseArgument,
    reason: ReasonOption = "",
    key: KeyOption = None,
    as_principal: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Start a claimed deployment that waits for its command.

    Example: calyx start LEASE-20260105-090000
    """
    _order("start", lease, reason, key, as_principal, home)


def pause(
    lease: LeaseArgument,
    reason: ReasonOption = "",
    key: KeyOption = None,
    as_principal: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Stop a rollout where it is; nothing goes forward until resumed.

    Example: calyx pause LEASE-20260105-090000 --reason "another team looks at the database"

    The health gates stay live while it is paused.
    """
    _order("pause", lease, reason, key, as_principal, home)


def resume(
    lease: LeaseArgument,
    reason: ReasonOption = "",
    key: KeyOption = None,
    as_principal: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Let a paused rollout go on.

    Example: calyx resume LEASE-20260105-090000
    """
    _order("resume", lease, reason, key, as_principal, home)


def promote(
    lease: LeaseArgument,
    reason: ReasonOption = "",
    skip_bake: Annotated[
        bool, typer.Option("--skip-bake", help="Do not wait for the end of the bake, if the policy allows that.")
    ] = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Send a rollout that is baking on to its next tier.

    Example: calyx promote LEASE-20260105-090000

    A breach or missing data is never overridden.
    """
    _order("promote", lease, reason, key, as_principal, home, skip_bake=skip_bake)


def abort(
    lease: LeaseArgument,
    reason: ReasonOption = "",
    key: KeyOption = None,
    as_principal: AsOption = None,
    home: HomeOption = None,
) -> None:
    """End a rollout; what it touched goes back.

    Example: calyx abort LEASE-20260105-090000
    """
    _order("abort", lease, reason, key, as_principal, home)


def rollback(
    lease: LeaseArgument,
    reason: ReasonOption = "",
    key: KeyOption = None,
    as_principal: AsOption = None,
    home: HomeOption = None,
    valid_for: Annotated[str, typer.Option("--valid-for", help="How long the order may be taken up.")] = "",
) -> None:
    """Take a deployment back to the trees from before it.

    Example: calyx rollback LEASE-20260105-090000 --reason "customers cannot log in"

    A running one halts first. A completed one can be taken back within the policy's retention.
    """
    _order("rollback", lease, reason, key, as_principal, home, valid_for=valid_for)


def _order(
    verb: Verb,
    name: str,
    reason: str,
    key: Path | None,
    as_principal: str | None,
    home: str | None,
    *,
    skip_bake: bool = False,
    valid_for: str = "",
) -> None:
    from keys.values import format_time
    from policies.law.commands import BOUND
    from policies.registrar import Draft

    with opened(home) as place:
        # Toward safety no clock stands in the way: the law takes the later of the two times anyway.
        registrar = place.open_registrar(accept_clock=verb not in BOUND)
        state = check_begun(registrar.sync())
        lease = find_lease(state, name)
        deployment = state.deployments.get(lease.digest)
        if deployment is None:
            raise LawRefused(
                "not_claimed",
                f"{lease.lease.id} was not claimed, so there is no deployment",
                rule="subject",
                hint=f"calyx deny {lease.lease.id} ends a lease before its claim",
            )
        signer = load_person(place, state, key, as_principal)
        now = max(registrar.now(), state.history.time(state.size - 1))
        fields: dict[str, Any] = {
            "verb": verb,
            "expires_at": format_time(now + (parse_duration(valid_for) if valid_for else EXPIRES_S)),
            "state": deployment.state_leaf if verb in BOUND else None,
            "tier": deployment.tier if verb == "promote" else None,
            "skip_bake": skip_bake,
            "reason": reason or "no reason given",
        }
        receipt = registrar.submit(signer, Draft("command", fields, (lease.lease.id, lease.digest)))
        say(f"{verb} of {lease.lease.id}: entry {receipt.seq}; {_THEN[verb]}")
