"""`calyx policy`: the capability matrix in force, what it was before, and proposals to change it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from executor.commands.common import AsOption, ClockOption, HomeOption, JsonOption, KeyOption, YesOption, noun
from executor.commands.files import MAX_YAML, load_file, read_text
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
from executor.user_paths import expand
from keys.errors import UsageError

if TYPE_CHECKING:
    from policies.fold.state import State
    from policies.matrix import CapabilityMatrix

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
    from executor.proposals.governance_edit import activate as switch_on
    from executor.proposals.governance_edit import allow_paths
    from executor.proposals.governance_edit import deactivate as switch_off
    from policies.law.case import policy_of

    if activate and deactivate:
        raise UsageError("two_forms", "--activate and --deactivate exclude each other", hint="give one of them")
    allowed = [_split(text, "TARGET=PATH", "--allow web=app.py") for text in allow or ()]
    if path is None and not (activate or deactivate or allowed):
        raise UsageError("nothing_proposed", "no change is given", hint="give a FILE, --allow or --activate")
    given = None if path is None else _load(expand(path))

    def build(state: State, *_: object) -> CapabilityMatrix:
        policy = allow_paths(given or policy_of(state), allowed)
        return switch_on(policy) if activate else switch_off(policy) if deactivate else policy

    propose_change(
        "policy", home, build, Asking(approve, reason, valid_for, yes, key, as_principal, prepare, accept_clock)
    )


@app.command()
def simulate(
    path: Annotated[Path, typer.Argument(metavar="POLICY", help="The policy, as YAML, or JSON in a .json file.")],
    metrics: Annotated[
        Path | None, typer.Argument(metavar="[METRICS]", help="What was measured: CSV, or JSON lines in a .jsonl file.")
    ] = None,
    lease: Annotated[
        str | None, typer.Option("--lease", metavar="LEASE", help="The samples of this deployment instead of a file.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="FIELD=COLUMN", help="What METRICS calls a field, such as timestamp=iso_ts."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay recorded metrics against a policy: what each gate would have said, and when it would have halted.

    Example: calyx policy simulate policy.yaml metrics.csv

    METRICS has a timestamp, requests and errors of each interval, cpu, memory and tes, as far as they were measured.
    With a column tier it is one rollout; without, one tier after another. Ends with 1 when a tier would have been
    halted. docs/GATES.md shows an example.
    """
    from executor.commands.simulate import simulate_policy

    if (metrics is None) == (lease is None):
        raise UsageError(
            "nothing_recorded", "one recording is replayed", hint="give METRICS or --lease, and one of them"
        )
    columns = dict(_split(text, "FIELD=COLUMN", "--column timestamp=iso_ts") for text in column or ())
    simulate_policy(_load(expand(path)), metrics, lease, columns, home, as_json=as_json)


def _load(path: Path) -> CapabilityMatrix:
    from policies.matrix import CapabilityMatrix
    from policies.matrix_file import FORM, load_matrix

    if path.suffix == ".json":
        return load_file(path, CapabilityMatrix, FORM)
    return load_matrix(read_text(path, MAX_YAML), what=str(path))


def _split(text: str, form: str, example: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found and value):
        raise UsageError("bad_option", f"{text} is not {form}", hint=f"write {example}")
    return name, value
