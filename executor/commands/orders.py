"""`calyx start`, `pause`, `resume`, `promote`, `abort`, `rollback`: a person's orders to a deployment.

Orders toward safety are signed at once. Those that lead on are asked about first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from executor.commands.common import (
    AsOption,
    ClockOption,
    HomeOption,
    KeyOption,
    LeaseArgument,
    YesOption,
    check_begun,
    find_deployment,
    find_lease,
    opened,
    parse_duration,
)
from executor.commands.signing import PrepareOption, sign_and_submit
from executor.commands.terminal import say
from keys.errors import LawRefused, Unavailable, UsageError

if TYPE_CHECKING:
    from executor.homes.home import Home
    from policies.fold.deployment import Deployment

Verb = Literal["start", "pause", "resume", "promote", "abort", "rollback"]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is signed and public.")]

ValidOption = Annotated[
    str, typer.Option("--valid-for", metavar="DURATION", help="How long it may be appended; else 10m, prepared 1h.")
]

EXPIRES_S: Final = 600
PREPARED_EXPIRES_S: Final = 3600


def start(
    lease: LeaseArgument,
    reason: ReasonOption = "",
    *,
    yes: YesOption = False,
    valid_for: ValidOption = "",
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Start a claimed deployment that waits for its command.

    Example: calyx start LEASE-20260105-090000
    """
    with opened(home) as place:
        order = Order("start", reason, valid_for, yes=yes, accept_clock=accept_clock)
        _order(place, lease, order, key, as_principal, prepare)


def pause(
    lease: LeaseArgument,
    reason: ReasonOption = "",
    *,
    valid_for: ValidOption = "",
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Stop a rollout where it is; nothing goes forward until resumed.

    Example: calyx pause LEASE-20260105-090000 --reason "another team looks at the database"

    The health gates stay live while it is paused. It is signed at once, without a question.
    """
    with opened(home) as place:
        order = Order("pause", reason, valid_for, yes=True, accept_clock=accept_clock)
        _order(place, lease, order, key, as_principal, prepare)


def resume(
    lease: LeaseArgument,
    reason: ReasonOption = "",
    *,
    yes: YesOption = False,
    valid_for: ValidOption = "",
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Let a paused rollout go on.

    Example: calyx resume LEASE-20260105-090000
    """
    with opened(home) as place:
        order = Order("resume", reason, valid_for, yes=yes, accept_clock=accept_clock)
        _order(place, lease, order, key, as_principal, prepare)


def promote(
    lease: LeaseArgument,
    reason: ReasonOption = "",
    *,
    skip_bake: Annotated[
        bool, typer.Option("--skip-bake", help="Do not wait for the end of the bake, if the policy allows that.")
    ] = False,
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="PERCENT", min=1, max=100, help="Only if this is the tier that follows."),
    ] = None,
    yes: YesOption = False,
    valid_for: ValidOption = "",
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Send a rollout that is baking on to its next tier.

    Example: calyx promote LEASE-20260105-090000

    A breach or missing data is never overridden.
    """
    with opened(home) as place:
        order = Order("promote", reason, valid_for, yes=yes, skip_bake=skip_bake, to=to, accept_clock=accept_clock)
        _order(place, lease, order, key, as_principal, prepare)


def abort(
    lease: LeaseArgument,
    reason: ReasonOption = "",
    *,
    valid_for: ValidOption = "",
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """End a rollout; what it touched goes back.

    Example: calyx abort LEASE-20260105-090000

    It is signed at once, without a question.
    """
    with opened(home) as place:
        order = Order("abort", reason, valid_for, yes=True, accept_clock=accept_clock)
        _order(place, lease, order, key, as_principal, prepare)


def rollback(
    lease: LeaseArgument,
    reason: ReasonOption = "",
    *,
    revert: Annotated[
        bool,
        typer.Option("--revert", help="Draft a new lease that undoes it, where a rollback cannot any more."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --revert: print JSON.")] = False,
    valid_for: ValidOption = "",
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Take a deployment back to the trees from before it.

    Example: calyx rollback LEASE-20260105-090000 --reason "customers cannot log in"

    A running one halts first. A completed one can be taken back within the policy's retention. It is signed at once,
    without a question.

    Once a later deployment has changed its instances, or the retention is over, --revert drafts a new lease: what this
    one changed is undone on top of what runs now, by the reverse patch that its claim keeps. It needs both keys anew.
    """
    if revert:
        from executor.commands.revert import propose_revert

        if any(given is not None for given in (key, as_principal, prepare)):
            raise UsageError(
                "revert_misplaced",
                "--revert asks for a lease with the proposer's key and signs no order",
                hint="leave out --key, --as and --prepare; calyx approve signs the new lease",
            )
        propose_revert(home, lease, reason, valid_for, as_json=as_json, accept_clock=accept_clock)
        return
    if as_json:
        raise UsageError(
            "json_misplaced",
            "--json goes with --revert; an order is shown to whoever signs it",
            hint=f"calyx watch {lease} --json tells how it goes",
        )
    with opened(home) as place:
        order = Order("rollback", reason, valid_for, yes=True, accept_clock=accept_clock)
        _order(place, lease, order, key, as_principal, prepare)


@dataclass(frozen=True, slots=True)
class Order:
    """What a person wants. `valid_for`: a duration as typed, "" for the usual one. `yes`: sign without a question.
    `to`: the tier that a promotion must lead to, None for whatever follows.
    """

    verb: Verb
    reason: str
    valid_for: str
    yes: bool
    skip_bake: bool = False
    to: int | None = None
    accept_clock: bool = False


def _order(
    home: Home, name: str, order: Order, key: Path | None, as_principal: str | None, prepare: Path | None
) -> None:
    from executor.views.order_words import already_so, what_follows
    from keys.values import format_time
    from policies.law.commands import BOUND, check_order
    from policies.submitter import Draft

    usual_s = EXPIRES_S if prepare is None else PREPARED_EXPIRES_S
    valid_s = parse_duration(order.valid_for) if order.valid_for else usual_s
    verb = order.verb
    # Toward safety no clock that is behind stands in the way: the law takes the later of the two times anyway.
    if verb in BOUND:
        registrar = home.open_registrar(accept_clock=order.accept_clock)
    else:
        registrar = home.open_for_safety(accept_clock=True)
    state = check_begun(registrar.sync())
    if not order.accept_clock:
        _check_not_far_ahead(registrar.now(), state.history.time(state.size - 1))
    lease = find_lease(state, name)
    deployment = find_deployment(state, lease)
    done = already_so(deployment, verb)
    if done is not None:
        say(done)
        return
    now = max(registrar.now(), state.history.time(state.size - 1))
    tier = deployment.tier if verb == "promote" else None
    check_order(state, deployment, verb, tier, now, skip_bake=order.skip_bake)
    if order.to is not None:
        _check_follows(deployment, order.to)
    fields: dict[str, Any] = {
        "verb": verb,
        "expires_at": format_time(now + valid_s),
        "state": deployment.state_leaf if verb in BOUND else None,
        "tier": tier,
        "skip_bake": order.skip_bake,
        "reason": order.reason or "no reason given",
    }
    lines = [f"{verb} of {lease.lease.id} on {lease.lease.target}, which is {deployment.phase}"]
    then = what_follows(deployment, verb, skip_bake=order.skip_bake)
    try:
        receipt = sign_and_submit(
            home,
            registrar,
            Draft("command", fields, (lease.lease.id, lease.digest)),
            lines,
            yes=order.yes,
            key=key,
            as_principal=as_principal,
            prepare=prepare,
        )
    except LawRefused:
        # The executor may have been faster than the signature.
        done = already_so(registrar.sync().deployments[lease.digest], verb)
        if done is None:
            raise
        say(done)
        return
    if receipt is not None:
        say(f"{verb} of {lease.lease.id}: entry {receipt.seq}; {then}")


def _check_follows(deployment: Deployment, to: int) -> None:
    """What a person thinks comes next does. Tiers that reach the same instances are one, by its widest percent.

    Raises: LawRefused (`wrong_tier`).
    """
    wanted = next((tier for tier in deployment.tiers if tier >= to), None)
    if wanted != deployment.next_tier:
        follows = "no tier" if deployment.next_tier is None else f"the tier {deployment.next_tier} %"
        text = f"after {deployment.tier} % comes {follows}, not {to} %"
        raise LawRefused("wrong_tier", text, rule="command", hint=f"calyx watch {deployment.lease.id} --once")


def _check_not_far_ahead(now: int, last: int) -> None:
    """One entry under a clock that is far ahead gives the ledger that time for good, and ends every window in it.

    Raises: Unavailable (`clock_suspect`).
    """
    from keys.values import format_time
    from policies.registrar import MAX_AHEAD_S

    if now > last + MAX_AHEAD_S:
        raise Unavailable(
            "clock_suspect",
            f"the clock says {format_time(now)}, and the last entry was made at {format_time(last)}",
            hint="set the clock; if it is right, say so with --accept-clock",
        )
