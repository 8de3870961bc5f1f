"""`calyx fleet`: which machines a target stands for, and proposals to change that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from executor.commands.approve import ReasonOption, approve_subject
from executor.commands.common import (
    AsOption,
    HomeOption,
    JsonOption,
    KeyOption,
    YesOption,
    check_begun,
    noun,
    opened,
    parse_duration,
)
from executor.commands.files import load_document
from executor.commands.person import load_person
from executor.commands.terminal import say, say_json, say_table
from keys.errors import FormatError, UsageError

app = noun("See and change which machines a target stands for.")


@app.command()
def show(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the fleet in force: targets, instances and where they are.

    Example: calyx fleet show
    """
    with opened(home) as place:
        fleet = check_begun(place.open_replay().sync()).fleet
    if fleet is None:
        raise UsageError("no_fleet", "no fleet is in force yet", hint="calyx fleet propose FILE --approve")
    if as_json:
        say_json(fleet.to_json())
        return
    say_table(
        ("target", "instance", "address", "root"),
        [(name, i.name, i.address, i.root) for name, target in fleet.targets.items() for i in target.instances],
    )


@app.command()
def propose(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="The whole new fleet, as YAML, or JSON in a .json file.")
    ],
    approve: Annotated[bool, typer.Option("--approve", help="Look at it and approve it at once, as yourself.")] = False,
    *,
    reason: ReasonOption = "no reason given",
    valid_for: Annotated[str, typer.Option("--valid-for", help="How long it may be approved.")] = "1d",
    yes: YesOption = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Propose another fleet; it is in force once the operators' quorum has approved it.

    Example: calyx fleet propose fleet.yaml --reason "two more machines" --approve

    Leases name the fleet in force, so those that are waiting become void when another one comes into force.
    """
    from keys.values import format_time
    from policies.fleet import Fleet
    from policies.registrar import Draft

    document = load_document(path.expanduser())
    try:
        fleet = Fleet.from_json(document, what=str(path))
    except FormatError as error:
        raise FormatError(error.message, hint="docs/FLEET.md shows a fleet file and explains each field") from None
    wait_s = parse_duration(valid_for)
    with opened(home) as place:
        registrar = place.open_registrar()
        state = check_begun(registrar.sync())
        # One key signs both; its passphrase is asked for once.
        signer = load_person(place, state, key, as_principal)
        if state.fleet == fleet:
            raise UsageError("no_change", "this fleet is in force already")
        fields = {
            "base": state.fleet_digest,
            "approve_by": format_time(registrar.now() + wait_s),
            "reason": reason,
            "fleet": place.open_objects().put(fleet.canonical()).to_json(),
        }
        receipt = registrar.submit(signer, Draft("fleet", fields))
        say(f"Proposed the fleet {receipt.digest[:12]} in entry {receipt.seq}")
        if approve:
            subject = registrar.sync().proposals[receipt.digest]
            approve_subject(place, registrar, subject, yes=yes, key=key, as_principal=as_principal, signer=signer)
        else:
            say(f"To approve it: calyx approve {receipt.digest[:12]}")
