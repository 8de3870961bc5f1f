"""`calyx fleet`: which machines a target stands for, what it was before, and proposals to change that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from executor.commands.common import AsOption, ClockOption, HomeOption, JsonOption, KeyOption, YesOption, noun
from executor.commands.files import load_file
from executor.commands.governance import (
    ApproveOption,
    Asking,
    SecondArgument,
    ValidOption,
    VersionArgument,
    WhyOption,
    YamlOption,
    propose_change,
)
from executor.commands.governance_read import diff_versions, show_history, show_version
from executor.commands.signing import PrepareOption
from executor.user_paths import expand

if TYPE_CHECKING:
    from policies.fleet import Fleet

app = noun("See and change which machines a target stands for.")


@app.command()
def show(
    version: VersionArgument = None, home: HomeOption = None, as_json: JsonOption = False, as_yaml: YamlOption = False
) -> None:
    """Show the fleet in force: targets, instances and where they are.

    Example: calyx fleet show --yaml > fleet.yaml
    """
    show_version("fleet", home, version, as_json=as_json, as_yaml=as_yaml)


@app.command()
def diff(
    first: VersionArgument = None, second: SecondArgument = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show how a proposed fleet differs from the one in force, or one version from another.

    Example: calyx fleet diff 12 40
    """
    diff_versions("fleet", home, first, second, as_json=as_json)


@app.command()
def history(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List every fleet that was in force: since when, and who brought it there.

    Example: calyx fleet history
    """
    show_history("fleet", home, as_json=as_json)


@app.command()
def propose(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="The whole new fleet, as YAML, or JSON in a .json file.")
    ],
    approve: ApproveOption = False,
    *,
    reason: WhyOption = "no reason given",
    valid_for: ValidOption = "1d",
    yes: YesOption = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Propose another fleet; it is in force once the operators' quorum has approved it.

    Example: calyx fleet propose fleet.yaml --reason "two more machines" --approve

    Leases name the fleet in force, so those that are waiting become void when another one comes into force.
    """
    fleet = _load(path)
    asking = Asking(approve, reason, valid_for, yes, key, as_principal, prepare, accept_clock)
    propose_change("fleet", home, lambda *_: fleet, asking)


def _load(path: Path) -> Fleet:
    from policies.fleet import Fleet
    from policies.yaml_file import Form

    form = Form("bad_format", "bad_yaml", "docs/FLEET.md shows a fleet file and explains each field")
    return load_file(expand(path), Fleet, form)
