"""`calyx init`: a new ledger, with a key for each machine and the human's own."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from executor.commands.common import HomeOption, opened
from executor.commands.files import MAX_YAML, read_public, read_text
from executor.commands.terminal import ask_passphrase, note, say
from keys.errors import UsageError

if TYPE_CHECKING:
    from executor.home import Home
    from keys.openssh import OpenSshKey, PrivateKey
    from policies.matrix import CapabilityMatrix


def init(
    home: HomeOption = None,
    human: Annotated[
        str | None, typer.Option("--human", metavar="NAME", help="Your id in the ledger; default: your user name.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Your OpenSSH private key; default: ~/.ssh/id_ed25519, else a new one is made."),
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
        str, typer.Option("--origin", help="Name of the log in its checkpoints; 8 random digits are added.")
    ] = "station.calyx",
) -> None:
    """Make a ledger here, with keys for you and for each machine.

    Example: calyx init --recovery-key ~/safe/recovery.pub

    You become governor, operator and approver with the key you already have. CBO, CP14, CP18, CP19 and CP20 get keys of
    their own in the home. A second governor's key, kept off line, lets the ledger survive the loss of yours.
    """
    from executor.founding import check_human_name

    if (recovery_key is None) == (not no_recovery):
        raise UsageError(
            "recovery_undecided",
            "say either --recovery-key or --no-recovery",
            hint="make a key off line with ssh-keygen -t ed25519 and give its .pub file to --recovery-key",
        )
    name = check_human_name(human or _user_name())
    with opened(home) as place:
        _check_new(place)
        found = place.key_path(name) if place.key_path(name).exists() else Path.home() / ".ssh" / "id_ed25519"
        chosen = key or (found if found.exists() else None)
        private = None if chosen is None else _load(chosen.expanduser())
        recovery = None if recovery_key is None else read_public(recovery_key.expanduser())
        if recovery is not None and private is not None and recovery.raw == private.public.raw:
            raise UsageError(
                "same_key", "the recovery key is your own key", hint="make another one, and keep it off line"
            )
        _found(place, name, (chosen, private), recovery, _read_policy(policy), origin)


def _found(
    home: Home,
    name: str,
    own: tuple[Path | None, PrivateKey | None],
    recovery: OpenSshKey | None,
    policy: CapabilityMatrix,
    origin: str,
) -> None:
    """Make everything; genesis last. A crash before it leaves key files, which the next init takes up."""
    from executor.founding import MACHINES, plan_genesis
    from executor.home import Settings, system_clock
    from keys.openssh import fingerprint
    from keys.signer import FileSigner
    from ledger.log_key import LogKey, store_log_key

    path, private = own
    log_key = LogKey.generate(origin, os.urandom)
    home.make()
    machines = {machine: _make_key(home.key_path(machine), machine) for machine in MACHINES}
    if private is None or path is None:
        path = home.key_path(name)
        private = _make_key(path, name)
    before = home.pin().load()
    if os.path.lexists(home.log_key):
        # It may have signed checkpoints of a ledger that was here before. A log must never sign two histories, so a new
        # ledger gets a new key.
        aside = home.log_key.with_name(f"log.key.{secrets.token_hex(4)}.old")
        home.log_key.rename(aside)
        note(f"note: a log key without a ledger was there; it is {aside} now")
    store_log_key(home.log_key, log_key)
    home.store_settings(
        Settings(version=1, me=name, keys={} if path == home.key_path(name) else {name: str(path.absolute())})
    )
    registrar = home.open_registrar(create=True)
    publics = {machine: key.public for machine, key in machines.items()}
    draft = plan_genesis((name, private.public), publics, recovery, policy, log_key, system_clock())
    receipt = registrar.create(FileSigner(name, "human", private), draft)
    if before is not None:
        note(f"note: another ledger of {before.size} entries was remembered here; it is forgotten")
    say(
        f"Ledger {receipt.leaf}",
        f"  home      {home.root}",
        f"  origin    {log_key.origin}",
        f"  you       {name}, {fingerprint(private.public)}, {path}",
        *(f"  {machine:<9} {fingerprint(key.public)}" for machine, key in machines.items()),
        f"  recovery  {'none' if recovery is None else fingerprint(recovery)}",
        f"Write the ledger's first 16 digits down: {receipt.leaf[:16]}",
        "Next: calyx fleet propose FILE --approve",
    )
    if not policy.deployment_enabled():
        note("note: the policy does not enable deploy_production, so no lease can be claimed")


def _check_new(home: Home) -> None:
    """Raises: UsageError (`ledger_exists`) when there is an entry already."""
    if not home.ledger.exists():
        return
    if home.open_store().head().size:
        raise UsageError(
            "ledger_exists", f"there is a ledger at {home.root} already", hint="use another --home, or calyx status"
        )
    home.close()


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


def _load(path: Path) -> PrivateKey:
    from keys.openssh import load_private_key

    return load_private_key(path, lambda: ask_passphrase(path))


def _read_policy(path: Path | None) -> CapabilityMatrix:
    from policies.matrix_file import default_matrix_text, load_matrix

    return load_matrix(default_matrix_text() if path is None else read_text(path.expanduser(), MAX_YAML))


def _user_name() -> str:
    from getpass import getuser

    try:
        return getuser()
    except (OSError, KeyError):
        raise UsageError("bad_name", "this user has no name here", hint="name yourself with --human") from None
