"""`calyx init --continues`: what the old ledger was, how far it was lawful, and what the new one takes over from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from executor.commands.terminal import ask, note, say
from keys.errors import Exit, Unavailable
from keys.words import counted

if TYPE_CHECKING:
    from executor.homes.founding import Before
    from executor.homes.home import Home
    from executor.homes.succession import Old
    from keys.openssh import OpenSshKey
    from policies.matrix import CapabilityMatrix

RUNNERS = ("cp14", "cp18", "cp19", "cp20")


def confirm(
    home: Home,
    old: Old,
    keep: Sequence[str],
    name: str,
    public: OpenSshKey | None,
    policy: CapabilityMatrix,
    *,
    yes: bool,
) -> Before:
    """Show both ledgers, warn, and ask; what the new one takes over. Nothing is made before the answer.

    Raises: Refused (`unknown_principal`, `not_a_human`); Unavailable (`still_running`); typer.Exit when it is no.
    """
    from executor.homes.home import Home
    from executor.homes.succession import contradictions, take_over

    before = take_over(old, keep, name)
    old_home = Home(old.home)
    running = old_home.running(RUNNERS)
    if running:
        raise Unavailable(
            "still_running",
            f"{', '.join(running)} of the old ledger {'is' if len(running) == 1 else 'are'} running on {old.home}",
            hint="end them first; the new ledger gets its own",
        )
    head, ended = old.beginning.head, old.beginning.ended
    say(
        f"The old ledger {old.state.ledger}",
        f"  origin    {old.state.origin}",
        f"  file      {old.ledger}",
        f"  lawful    {counted(head.size, 'entry')}, head {head.hash}",
        f"  then      {'nothing: every entry is lawful' if ended is None else ended.message}",
        f"  you       {_who(old, name, public)}",
        "The new ledger",
        f"  home      {home.root}",
        f"  policy    {'that of the old one' if policy == old.state.policy else 'another one'}",
        f"  people    {', '.join([name, *(person.id for person in before.people)])}",
        "  machines  the same names, with new keys",
    )
    say(*(f"  left out  {person}: --keep {person}" for person in _left_out(old, before, name)))
    warnings = [
        *contradictions(old, [old_home.pin().load(), home.pin().load()]),
        *_warn(old),
    ]
    say(*(f"WARNING: {warning}" for warning in warnings))
    if not yes and not ask("Make the new ledger, which says that it continues the old one from there?"):
        note("nothing was made")
        raise typer.Exit(Exit.REFUSED)
    return before


def _who(old: Old, name: str, public: OpenSshKey | None) -> str:
    holder = None if public is None else old.find_principal(public)
    if holder is None:
        return f"{name}, with a key that the old ledger does not know"
    return f"{name}, with the key of {holder.id} ({', '.join(holder.roles) or 'no role'})"


def _left_out(old: Old, before: Before, name: str) -> Iterator[str]:
    kept = {name.lower(), *(person.id.lower() for person in before.people)}
    for principal in () if old.state.trust is None else old.state.trust.principals:
        if principal.kind == "human" and principal.id.lower() not in kept:
            yield principal.id


def _warn(old: Old) -> Iterator[str]:
    if old.beginning.ended is None:
        yield "nothing is wrong with the old ledger; continue it only when its quorum is lost for good"
    if not old.beginning.confirmed:
        yield "no checkpoint of the log's confirms its end: entries may be missing there"
    for target, digest in old.state.live.items():
        yield (
            f"{old.state.leases[digest].lease.id} was under way on {target}: the new ledger knows nothing of it, and "
            "takes the machines as they are"
        )
