"""`calyx init`: a new ledger, with a key for each machine and the human's own."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from executor.commands.common import HomeOption, YesOption, opened
from executor.commands.continuing import confirm
from executor.commands.files import MAX_YAML, read_public, read_text
from executor.commands.person import load_founder
from executor.commands.terminal import note, say
from executor.user_paths import expand, home_directory
from keys.errors import Refused, UsageError
from keys.words import counted

if TYPE_CHECKING:
    from executor.homes.find_signer import OwnKey
    from executor.homes.founding import Before
    from executor.homes.home import Home
    from executor.homes.succession import Old
    from keys.openssh import OpenSshKey, PrivateKey
    from policies.matrix import CapabilityMatrix


def init(
    home: HomeOption = None,
    *,
    human: Annotated[
        str | None, typer.Option("--human", metavar="NAME", help="Your id in the ledger; default: your user name.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            help="Your OpenSSH key, the private or .pub file; default: ~/.ssh/id_ed25519, else a new one is made.",
        ),
    ] = None,
    recovery_key: Annotated[
        Path | None,
        typer.Option("--recovery-key", metavar="PUBFILE", help="Public key of a second governor, kept off line."),
    ] = None,
    no_recovery: Annotated[
        bool, typer.Option("--no-recovery", help="Do without: if you lose your key, the ledger cannot be governed.")
    ] = False,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="The capability matrix as YAML; default: the packaged one.")
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--origin", help="Name of the log in its checkpoints, 'station.calyx'; 8 random digits are added."
        ),
    ] = None,
    continues: Annotated[
        Path | None,
        typer.Option(
            "--continues", metavar="OLD", help="The home of a ledger that this one succeeds, or its ledger.db."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="ID", help="With --continues: a person who stays what they were."),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Make a ledger here, with keys for you and for each machine.

    Example: calyx init --recovery-key ~/safe/recovery.pub

    You become governor, operator and approver with the key you already have. CBO, CP14, CP18, CP19 and CP20 get keys of
    their own in the home. A second governor's key, kept off line, lets the ledger survive the loss of yours.

    With --continues the new ledger says which one it succeeds, and how far that was lawful: the way on when a quorum is
    lost for good, or something unlawful was written into the ledger. Its policy is kept, and machines get new keys.
    """
    from executor.homes.founding import check_human_name

    if (recovery_key is None) == (not no_recovery):
        raise UsageError(
            "recovery_undecided",
            "say either --recovery-key or --no-recovery",
            hint="make a key off line with ssh-keygen -t ed25519 and give its .pub file to --recovery-key",
        )
    if keep and continues is None:
        raise UsageError("bad_option", "--keep is of a ledger that is continued", hint="give --continues OLD as well")
    name = check_human_name(human or _user_name())
    with opened(home) as place:
        _check_new(place, continuing=continues is not None)
        found = place.key_path(name) if place.key_path(name).exists() else home_directory() / ".ssh" / "id_ed25519"
        chosen = key or (found if found.exists() else None)
        # Files first: nobody types a passphrase to hear of a slip in one.
        recovery = None if recovery_key is None else read_public(expand(recovery_key))
        old = None if continues is None else _read_old(expand(continues))
        terms = _choose_policy(policy, old)
        own = None if chosen is None else load_founder(name, chosen)
        if recovery is not None and own is not None and recovery.raw == own.public.raw:
            raise UsageError(
                "same_key", "the recovery key is your own key", hint="make another one, and keep it off line"
            )
        wish = _Wish(name, own, recovery, terms, _origin(origin, old), old)
        if old is None:
            _found(place, wish, None)
            return
        _found(
            place,
            wish,
            confirm(place, old, keep or (), name, None if own is None else own.public, wish.policy, yes=yes),
        )


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the person wants. `own`: their key, None where one is to be made."""

    name: str
    own: OwnKey | None
    recovery: OpenSshKey | None
    policy: CapabilityMatrix
    origin: str
    old: Old | None


def _found(home: Home, wish: _Wish, before: Before | None) -> None:
    """Make everything; genesis last. A crash before it leaves key files, which the next init takes up."""
    from executor.homes.founding import FIRST, MACHINES, plan_genesis
    from executor.homes.home import system_clock
    from executor.homes.settings import Settings
    from executor.homes.succession import store_lineage
    from keys.openssh import fingerprint
    from ledger.log_key import LogKey, store_log_key

    name = wish.name
    log_key = LogKey.generate(wish.origin, os.urandom)
    home.make()
    if wish.old is not None:
        _set_machines_aside(home, wish.old)
        store_lineage(home.root, wish.old.lineage)
    machines = {machine: _make_key(home.key_path(machine), machine) for machine in MACHINES}
    own = wish.own or _make_own(home.key_path(name), name)
    remembered = home.pin().load()
    if os.path.lexists(home.log_key):
        # It may have signed checkpoints of a ledger that was here before. A log must never sign two histories, so a new
        # ledger gets a new key.
        note(f"note: a log key without a ledger was there; it is {_set_aside(home.log_key)} now")
    store_log_key(home.log_key, log_key)
    home.store_settings(
        Settings(
            version=1,
            me=name,
            keys={} if own.path in (None, home.key_path(name)) else {name: str(own.path.absolute())},
        )
    )
    registrar = home.open_registrar(create=True)
    publics = {machine: key.public for machine, key in machines.items()}
    draft = plan_genesis(
        (name, own.public), publics, wish.recovery, wish.policy, log_key, system_clock(), before or FIRST
    )
    receipt = registrar.create(own.signer, draft)
    if remembered is not None:
        note(f"note: another ledger of {counted(remembered.size, 'entry')} was remembered here; it is forgotten")
    say(
        f"Ledger {receipt.leaf}",
        *(
            []
            if wish.old is None
            else [f"  continues {wish.old.state.ledger}, {counted(wish.old.beginning.head.size, 'entry')}"]
        ),
        f"  home      {home.root}",
        f"  origin    {log_key.origin}",
        f"  you       {name}, {fingerprint(own.public)}, {own.path or 'in the ssh-agent'}",
        *(f"  {machine:<9} {fingerprint(key.public)}" for machine, key in machines.items()),
        f"  recovery  {'none' if wish.recovery is None else fingerprint(wish.recovery)}",
        f"Write the ledger's first 16 digits down: {receipt.leaf[:16]}",
        "Next: calyx fleet propose FILE --approve",
    )
    if wish.own is None:
        note(
            f"note: there is no ~/.ssh/id_ed25519, so {name} got a new key, without a passphrase: {own.path}",
            "hint: calyx trust propose --add-key adds another one",
        )
    if wish.recovery is not None:
        note(
            f"note: {name} or recovery, either one alone, can change trust and policy: were both needed, losing one "
            "key would end that"
        )
    if not wish.policy.deployment_enabled():
        note(
            "note: the policy does not enable deploy_production, so no lease can be claimed",
            "hint: calyx policy propose --activate --allow TARGET=PATH --approve",
        )


def _check_new(home: Home, *, continuing: bool) -> None:
    """Raises: Refused (`ledger_exists`) when there is an entry already."""
    if not home.ledger.exists():
        return
    if home.open_store().head().size:
        way = (
            "use another --home for the ledger that continues it"
            if continuing
            else "use another --home, or calyx status"
        )
        raise Refused("ledger_exists", f"there is a ledger at {home.root} already", hint=way)
    home.close()


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.old")
    path.rename(aside)
    return aside


def _set_machines_aside(home: Home, old: Old) -> None:
    """Keys that machines had in the old ledger sign nothing in the new one: whoever stole one then has nothing now."""
    from executor.homes.founding import MACHINES
    from keys.openssh import load_private_key

    for machine in MACHINES:
        path = home.key_path(machine)
        if os.path.lexists(path) and load_private_key(path).public.raw.hex() in old.state.key_owners:
            note(f"note: {machine} gets a new key; the one of the old ledger is {_set_aside(path)} now")
            path.with_name(path.name + ".pub").unlink(missing_ok=True)


def _make_key(path: Path, name: str) -> PrivateKey:
    """A new key file, or the one that an earlier try left: nothing was ever signed with it in this ledger."""
    from keys.openssh import format_public, load_private_key, new_private_key, store_private_key

    public_path = path.with_name(path.name + ".pub")
    if os.path.lexists(path):
        private = load_private_key(path)
        if not os.path.lexists(public_path):
            public_path.write_text(f"{format_public(private.public)} {name}\n", encoding="ascii")
        return private
    private = new_private_key(os.urandom)
    store_private_key(path, private, comment=name)
    return private


def _make_own(path: Path, name: str) -> OwnKey:
    from executor.homes.find_signer import OwnKey
    from keys.signer import FileSigner

    private = _make_key(path, name)
    return OwnKey(private.public, FileSigner(name, "human", private), path)


def _choose_policy(path: Path | None, old: Old | None) -> CapabilityMatrix:
    """The policy of the file; without one that of the ledger that is continued, else the packaged one."""
    from policies.matrix_file import default_matrix_text, load_matrix

    if path is None and old is not None and old.state.policy is not None:
        return old.state.policy
    if path is None:
        return load_matrix(default_matrix_text())
    return load_matrix(read_text(expand(path), MAX_YAML), what=str(path))


def _origin(asked: str | None, old: Old | None) -> str:
    """The log's name without its last digits, which are new for each ledger."""
    if asked is not None:
        return asked
    return "station.calyx" if old is None else old.state.origin.rpartition("-")[0]


def _read_old(place: Path) -> Old:
    from executor.homes.succession import read_old

    return read_old(place)


def _user_name() -> str:
    from getpass import getuser

    try:
        return getuser()
    except (OSError, KeyError):
        raise UsageError("bad_name", "this user has no name here", hint="name yourself with --human") from None
