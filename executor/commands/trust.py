"""`calyx trust`: who may sign, who could before, and proposals to change that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from executor.commands.common import (
    AsOption,
    ClockOption,
    HomeOption,
    JsonOption,
    KeyOption,
    YesOption,
    noun,
    parse_duration,
)
from executor.commands.files import load_file, read_public
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
    from executor.proposals.governance_edit import Enrolment, TrustEdit
    from keys.principals import TrustRoot
    from ledger.store import Reader
    from policies.fold.state import State

app = noun("See and change who may sign, in which role, and with which key.")


@app.command()
def show(
    version: VersionArgument = None, home: HomeOption = None, as_json: JsonOption = False, as_yaml: YamlOption = False
) -> None:
    """Show the trust root in force: principals, roles, keys, thresholds.

    Example: calyx trust show --yaml > trust.yaml
    """
    show_version("trust", home, version, as_json=as_json, as_yaml=as_yaml)


@app.command()
def diff(
    first: VersionArgument = None, second: SecondArgument = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show how a proposed trust root differs from the one in force, or one version from another.

    Example: calyx trust diff
    """
    diff_versions("trust", home, first, second, as_json=as_json)


@app.command()
def history(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List every trust root that was in force, which keys were compromised, and what that taints.

    Example: calyx trust history
    """
    show_history("trust", home, as_json=as_json)


@app.command()
def propose(
    path: FileArgument = None,
    *,
    add_key: Annotated[
        list[str] | None, typer.Option("--add-key", metavar="ID=FILE.pub", help="Another key of a principal.")
    ] = None,
    user_verification: Annotated[
        bool, typer.Option("--user-verification", help="The new key's token asks for a PIN or fingerprint each time.")
    ] = False,
    remove_key: Annotated[
        list[str] | None, typer.Option("--remove-key", metavar="SHA256:...", help="A key that is not used any more.")
    ] = None,
    compromised: Annotated[
        list[str] | None,
        typer.Option(
            "--compromised",
            metavar="SHA256:...@ENTRY",
            help="A stolen key, and the entry from which it counts no more.",
        ),
    ] = None,
    enrol: Annotated[
        str | None, typer.Option("--enrol", metavar="ID=FILE.pub", help="A new principal; with --kind and --role.")
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", help="Of the new principal: human, agent, overseer, executor or monitor.")
    ] = "human",
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="Of the new one: governor, operator, approver, proposer, sentinel or validator."),
    ] = None,
    custodian: Annotated[
        str | None, typer.Option("--custodian", metavar="ID", help="Who answers for its key; default: its own id.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="ID", help="A principal who may sign nothing any more.")
    ] = None,
    renew: Annotated[
        str | None, typer.Option("--renew", metavar="DURATION", help="Let the root last this long from now: 365d.")
    ] = None,
    governors: Annotated[int | None, typer.Option("--governors", help="How many of them a change needs.")] = None,
    operators: Annotated[int | None, typer.Option("--operators", help="How many of them a fleet needs.")] = None,
    approve: ApproveOption = False,
    reason: WhyOption = "no reason given",
    valid_for: ValidOption = "1d",
    yes: YesOption = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Propose another trust root; the quorums of the present one and of the new one must both approve it.

    Example: calyx trust propose --add-key ada=new.pub --remove-key SHA256:... --approve

    Without FILE the root in force is changed. A key that is new counts for the new root alone, and approves with --key.
    """
    edit = _read_edit(
        add_key or [],
        remove_key or [],
        compromised or [],
        _read_enrolment(enrol, kind, role or [], custodian),
        remove or [],
        user_verification=user_verification,
        thresholds=(governors, operators),
    )
    lasts = None if renew is None else parse_duration(renew)
    if path is None and lasts is None and edit == type(edit)(user_verification=user_verification):
        raise UsageError("nothing_proposed", "no change is given", hint="give a FILE, or say what changes: --help")
    given = None if path is None else _load(expand(path))

    def build(state: State, reader: Reader, now: int) -> TrustRoot:
        from dataclasses import replace

        from executor.proposals.governance import known_keys
        from executor.proposals.governance_edit import edit_trust
        from policies.law.case import trust_of

        expires = None if lasts is None else now + lasts
        return edit_trust(given or trust_of(state), replace(edit, expires=expires), known_keys(state, reader))

    propose_change(
        "trust", home, build, Asking(approve, reason, valid_for, yes, key, as_principal, prepare, accept_clock)
    )


def _load(path: Path) -> TrustRoot:
    from keys.principals import TrustRoot
    from policies.yaml_file import Form

    return load_file(
        path, TrustRoot, Form("bad_format", "bad_yaml", "calyx trust show --yaml prints one to begin with")
    )


def _read_edit(
    add_key: list[str],
    remove_key: list[str],
    compromised: list[str],
    enrol: Enrolment | None,
    remove: list[str],
    *,
    user_verification: bool,
    thresholds: tuple[int | None, int | None],
) -> TrustEdit:
    from executor.proposals.governance_edit import TrustEdit

    pairs = [_pair("--add-key", text, "ID=FILE.pub") for text in add_key]
    return TrustEdit(
        add_keys=tuple((name, read_public(expand(Path(file)))) for name, file in pairs),
        user_verification=user_verification,
        remove_keys=tuple(remove_key),
        compromised=tuple(_position(text) for text in compromised),
        enrol=() if enrol is None else (enrol,),
        remove=tuple(remove),
        governors=thresholds[0],
        operators=thresholds[1],
    )


def _read_enrolment(text: str | None, kind: str, roles: list[str], custodian: str | None) -> Enrolment | None:
    from executor.proposals.governance_edit import Enrolment

    if text is None:
        if roles or custodian is not None:
            raise UsageError("bad_option", "--role and --custodian are of a new principal", hint="give --enrol as well")
        return None
    name, file = _pair("--enrol", text, "ID=FILE.pub")
    return Enrolment(name, read_public(expand(Path(file))), kind, tuple(roles), custodian)


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found and value):
        raise UsageError("bad_option", f"{option} {text} is not {form}", hint="calyx trust propose --help")
    return name, value


def _position(text: str) -> tuple[str, int]:
    keyid, found, entry = text.rpartition("@")
    if not (found and keyid and entry.isascii() and entry.isdigit() and len(entry) <= 15):
        raise UsageError(
            "bad_option", f"--compromised {text} is not SHA256:...@ENTRY", hint="calyx ledger log lists entries"
        )
    return keyid, int(entry)
