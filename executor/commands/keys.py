"""`calyx keys`: new key files, and who may sign with which key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from executor.commands.common import HomeOption, JsonOption, check_begun, noun, opened
from executor.commands.files import read_text
from executor.commands.terminal import note, person_present, say, say_json, say_table
from executor.user_paths import expand
from keys.errors import Refused, UsageError

if TYPE_CHECKING:
    from executor.homes.home import Home

app = noun("Make keys and see who may sign.")


@app.command()
def new(
    path: Annotated[Path, typer.Argument(help="Where the private key goes; its .pub file goes beside it.")],
    comment: Annotated[str, typer.Option("--comment", help="Goes into the .pub file.")] = "",
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Do not protect the file with a passphrase.")
    ] = False,
) -> None:
    """Make an Ed25519 key as an OpenSSH key file.

    Example: calyx keys new ~/.ssh/calyx_ed25519
    """
    import os

    from keys.openssh import fingerprint, format_public, new_private_key, store_private_key

    path = expand(path)
    private = new_private_key(os.urandom)
    store_private_key(path, private, None if no_passphrase else _new_passphrase(), comment)
    say(format_public(private.public), fingerprint(private.public), f"written to {path} and {path}.pub")


@app.command()
def show(
    path: Annotated[Path | None, typer.Argument(help="A key file: its public half is shown.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="List every principal of the trust root in force.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the keys of this home, one key file, or every enrolled key.

    Example: calyx keys show --all

    No private key is opened.
    """
    if path is not None:
        _show_file(expand(path), as_json)
        return
    with opened(home) as place:
        rows = _rows(place)
    if not everyone:
        rows = [row for row in rows if row["file"] is not None]
    if as_json:
        say_json(rows)
        return
    say_table(
        ("principal", "kind", "roles", "key", "file"),
        [(r["principal"], r["kind"], " ".join(r["roles"]), r["keyid"], r["file"] or "") for r in rows],
    )


def _rows(home: Home) -> list[dict[str, Any]]:
    from executor.homes.surroundings import peek_public
    from keys.openssh import fingerprint

    trust = check_begun(home.open_replay().sync()).trust
    rows = []
    for principal in () if trust is None else trust.principals:
        path = home.find_key(principal.id)
        held = None if path is None else peek_public(path)
        rows += [
            {
                "principal": principal.id,
                "kind": principal.kind,
                "custodian": principal.custodian,
                "roles": list(principal.roles),
                "keyid": fingerprint(entry.public),
                "key": entry.key,
                # A file that was not changed along with the trust root holds a key that is enrolled no more.
                "file": None if path is None or held not in {None, entry.public} else str(path),
            }
            for entry in principal.keys
        ]
    return rows


def _show_file(path: Path, as_json: bool) -> None:
    from keys.openssh import fingerprint, format_public, parse_public

    public = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    text = read_text(public if public.exists() else path, 64 * 1024)
    if "PRIVATE KEY" in text:
        raise UsageError(
            "no_public_key", f"there is no {public}", hint=f"make it with ssh-keygen -y -f {path} > {public}"
        )
    key = parse_public(text)
    if as_json:
        say_json({"key": format_public(key), "keyid": fingerprint(key)})
    else:
        say(format_public(key), fingerprint(key))


def _new_passphrase() -> bytes | None:
    if not person_present():
        note("note: without a terminal nobody can type a passphrase; the file is not protected by one")
        return None
    from getpass import getpass

    first = getpass("New passphrase (empty for none): ")
    if first != getpass("The same again: "):
        raise Refused("bad_passphrase", "the two passphrases differ", hint="try again")
    return first.encode("utf-8", "surrogateescape") or None
