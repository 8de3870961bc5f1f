"""What most commands share: their options, the home they open, and whom a name or id stands for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, TypeVar

import typer

from keys.errors import LawRefused, Refused, Unavailable, UsageError

if TYPE_CHECKING:
    from executor.homes.home import Home
    from executor.views.messages import Message
    from policies.fold.deployment import Deployment
    from policies.fold.state import LeaseState, ProposalState, State

T = TypeVar("T")

MIN_PREFIX: Final = 12
"""Hex digits of a digest that name a proposal."""


def _home_of_group(ctx: typer.Context, value: str | None) -> str | None:
    if value is not None:
        return value
    named: Any = ctx.find_root().params.get("home")
    return None if named is None else str(named)


def named_path(text: str) -> Path:
    """A path that an option or argument names. Raises: UsageError (`no_path`) for an empty one: as a path that is the
    current directory, and it comes from a variable that was not set.
    """
    if not text:
        raise UsageError("no_path", "a path that was given is empty", hint='name it, "." for the current directory')
    return Path(text)


HomeOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="HOME",
        callback=_home_of_group,
        help="The directory of the ledger, or ssh://HOST/DIR; else CALYX_HOME.",
    ),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
KeyOption: TypeAlias = Annotated[
    Path | None, typer.Option("--key", help="Your key file, private or .pub; else your ssh-agent and ~/.ssh are asked.")
]
AsOption: TypeAlias = Annotated[
    str | None, typer.Option("--as", metavar="PRINCIPAL", help="Who you are, when this home does not know.")
]
YesOption: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Sign without asking again.")]
ClockOption: TypeAlias = Annotated[
    bool, typer.Option("--accept-clock", help="Append although the clock contradicts the last entry.")
]
LeaseArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="LEASE", help="Its id, such as LEASE-20260105-090000.")
]
IdArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="A lease's id, or the first 12 digits of a digest.")
]


def noun(summary: str) -> typer.Typer:
    """The app of a noun, such as `ledger`; `summary` is the first sentence of its help."""
    return typer.Typer(
        help=summary,
        rich_markup_mode=None,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


@contextmanager
def opened(home: str | None, *, here: bool = False) -> Iterator[Home]:
    """The home that the option or the environment names, here or on another machine; closed at the end. `here`: what
    follows works on this machine alone.

    Raises: UsageError (`no_path`, `bad_address`, `home_not_here`).
    """
    from executor.homes.home import HOME_VARIABLE, Home, find_home
    from executor.remote.address import is_address

    named = os.environ.get(HOME_VARIABLE, "") if home is None else home
    directory = None if home is None else named_path(home)
    with _remote(named) if is_address(named) else Home(find_home(directory, os.environ)) as place:
        if here:
            _ = place.root
        yield place


def _remote(named: str) -> Home:
    from executor.commands.terminal import note_theirs, person_present
    from executor.remote.address import parse_address
    from executor.remote.home import RemoteHome
    from executor.remote.ssh import SshTransport

    address = parse_address(named)
    return RemoteHome(
        address, named, lambda: SshTransport(address, os.environ, note_theirs, person=person_present()), note_theirs
    )


def check_begun(state: State) -> State:
    """The state of a ledger that has its genesis. Raises: Unavailable (`ledger_missing`) when an init was cut short."""
    if not state.size:
        raise Unavailable("ledger_missing", "the ledger has no entry yet", hint="calyx init makes the first one")
    return state


def find_lease(state: State, name: str) -> LeaseState:
    """The lease with this id, digest, or beginning of a digest.

    Raises: UsageError (`ambiguous_id`); Refused (`unknown_lease`).
    """
    found = state.find_lease(name) or _by_prefix(state.leases, name)
    if found is None:
        raise Refused("unknown_lease", f"there is no lease {name} in this ledger", hint="calyx status lists them")
    return found


def find_deployment(state: State, lease: LeaseState) -> Deployment:
    """The deployment of a lease. Raises: LawRefused (`not_claimed`)."""
    deployment = state.deployments.get(lease.digest)
    if deployment is None:
        raise LawRefused(
            "not_claimed",
            f"{lease.lease.id} was not claimed, so there is no deployment",
            rule="subject",
            entry=lease.seq,
            hint=f"calyx deny {lease.lease.id} ends a lease before its claim",
        )
    return deployment


def find_subject(state: State, name: str) -> LeaseState | ProposalState:
    """The lease or proposal that a person means by an id or the beginning of a digest.

    Raises: UsageError (`ambiguous_id`); Refused (`unknown_id`).
    """
    found: LeaseState | ProposalState | None = state.find_lease(name)
    if found is None:
        leases, proposals = _by_prefix(state.leases, name), _by_prefix(state.proposals, name)
        if leases is not None and proposals is not None:
            raise _ambiguous(name)
        found = leases or proposals
    if found is None:
        raise Refused(
            "unknown_id",
            f"{name} names no lease and no proposal of this ledger",
            hint="calyx inbox lists what waits, calyx lease list every lease",
        )
    return found


def find_message(state: State, name: str) -> Message:
    """The message that a person means by the beginning of its digest.

    Raises: UsageError (`ambiguous_id`); Refused (`unknown_message`).
    """
    from executor.views.messages import list_messages

    found = _by_prefix({message.digest: message for message in list_messages(state)}, name)
    if found is None:
        raise Refused("unknown_message", f"{name} begins no message's digest", hint="calyx message list")
    return found


def _by_prefix(known: dict[str, T], name: str) -> T | None:
    if len(name) < MIN_PREFIX:
        return None
    matches = [digest for digest in known if digest.startswith(name.lower())]
    if len(matches) > 1:
        raise _ambiguous(name)
    return known[matches[0]] if matches else None


def _ambiguous(name: str) -> UsageError:
    return UsageError("ambiguous_id", f"{name} begins more than one digest", hint="give more of its digits")


def parse_duration(text: str) -> int:
    """Seconds of a duration such as `90s`, `30m`, `2h` or `1d`. Raises: UsageError (`bad_duration`)."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    number, unit = text[:-1], text[-1:]
    # Without a unit one person means minutes and another seconds, and a lease would be over before it was read.
    if unit not in units or not (number.isascii() and number.isdigit() and len(number) <= 9) or not int(number):
        raise UsageError("bad_duration", f"{text} is not a duration", hint="write 90s, 30m, 2h or 1d")
    return int(number) * units[unit]
