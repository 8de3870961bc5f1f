"""`calyx policy`: the capability matrix in force, what it was before, and proposals to change it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from executor.commands.common import AsOption, ClockOption, HomeOption, JsonOption, KeyOption, YesOption, noun
from executor.commands.files import MAX_YAML, load_document, read_text
from executor.commands.governance import (
    ApproveOption,
    Asking,
    FileArgument,
    SecondArgument,
    ValidOption,
    VersionArgument,
    WhyOption,
    YamlOption,
    propose_change,
)
from executor.commands.governance_read import diff_versions, show_history, show_version
from executor.commands.signing import PrepareOption
from keys.errors import FormatError, UsageError

if TYPE_CHECKING:
    from policies.matrix import CapabilityMatrix
    from policies.state import State

app = noun("See and change what the machines may do, and on which terms.")


@app.command()
def show(
    version: VersionArgument = None, home: HomeOption = None, as_json: JsonOption = False, as_yaml: YamlOption = False
) -> None:
    """Show the policy in force: phases, targets and the terms of a deployment.

    Example: calyx policy show --yaml > policy.yaml
    """
    show_version("policy", home, version, as_json=as_json, as_yaml=as_yaml)


@app.command()
def diff(
    first: VersionArgument = None, second: SecondArgument = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show how a proposed policy differs from the one in force, or one version from another.

    Example: calyx policy diff
    """
    diff_versions("policy", home, first, second, as_json=as_json)


@app.command()
def history(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List every policy that was in force: since when, and who brought it there.

    Example: calyx policy history
    """
    show_history("policy", home, as_json=as_json)


@app.command()
def propose(
    path: FileArgument = None,
    activate: Annotated[
        bool, typer.Option("--activate", help="Let leases deploy: phase 3 implemented, deploy_production on.")
    ] = False,
    deactivate: Annotated[
        bool, typer.Option("--deactivate", help="Let none: phase 3 pending, deploy_production off.")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="TARGET=PATH", help="A path that may change: exact, or a prefix ending in /."),
    ] = None,
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
    """Propose another policy; it is in force once the governors' quorum has approved it.

    Example: calyx policy propose --activate --allow web=app.py --allow web=static/ --approve

    Without FILE the policy in force is changed. Leases name the policy in force, so those that are waiting become void
    when another one comes into force. While deployment is off nothing can be claimed, and what runs halts.
    """
    from executor.governance_edit import activate as switch_on
    from executor.governance_edit import allow_paths
    from executor.governance_edit import deactivate as switch_off
    from policies.law.case import policy_of

    if activate and deactivate:
        raise UsageError("two_forms", "--activate and --deactivate exclude each other", hint="give one of them")
    allowed = [_pair(text) for text in allow or ()]
    if path is None and not (activate or deactivate or allowed):
        raise UsageError("nothing_proposed", "no change is given", hint="give a FILE, --allow or --activate")
    given = None if path is None else _load(path.expanduser())

    def build(state: State, *_: object) -> CapabilityMatrix:
        policy = allow_paths(given or policy_of(state), allowed)
        return switch_on(policy) if activate else switch_off(policy) if deactivate else policy

    propose_change(
        "policy", home, build, Asking(approve, reason, valid_for, yes, key, as_principal, prepare, accept_clock)
    )


def _load(path: Path) -> CapabilityMatrix:
    from policies.matrix import CapabilityMatrix
    from policies.matrix_file import load_matrix

    if path.suffix == ".json":
        return CapabilityMatrix.from_json(load_document(path), what=str(path))
    try:
        return load_matrix(read_text(path, MAX_YAML))
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", code=error.code, hint=error.hint) from None


def _pair(text: str) -> tuple[str, str]:
    target, found, path = text.partition("=")
    if not (target and found and path):
        raise UsageError("bad_option", f"{text} is not TARGET=PATH", hint="write --allow web=app.py")
    return target, path
