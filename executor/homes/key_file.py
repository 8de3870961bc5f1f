"""The signer whose private key lies in a file, for a principal of the trust root and for nobody else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from keys.errors import Refused, Unavailable
from keys.openssh import fingerprint, load_private_key
from keys.principals import Principal, TrustRoot
from keys.signer import FileSigner

Passphrase: TypeAlias = Callable[[Path], bytes]
"""Asks for the passphrase of a key file."""


def find_enrolled(roots: Sequence[TrustRoot], principal_id: str) -> Principal:
    """The principal in the first of these roots that has it.

    Raises: Unavailable (`ledger_missing`) for none; Refused (`unknown_principal`).
    """
    if not roots:
        raise Unavailable("ledger_missing", "the ledger has no entry yet", hint="calyx init makes the first one")
    found = next((p for root in roots if (p := root.find_principal(principal_id)) is not None), None)
    if found is None:
        raise Refused(
            "unknown_principal", f"the trust root has no principal {principal_id}", hint="calyx keys show --all"
        )
    return found


def open_signer(
    roots: Sequence[TrustRoot], principal: Principal, path: Path, passphrase: Passphrase | None
) -> FileSigner:
    """The signer whose key is in this file, where one of these roots enrols it for the principal.

    Raises: Refused (`key_not_enrolled`); as `keys.openssh.load_private_key`.
    """
    private = load_private_key(path, None if passphrase is None else lambda: passphrase(path))
    keyid = fingerprint(private.public)
    holders = {holder.principal.id for root in roots if (holder := root.find_key(keyid)) is not None}
    if principal.id not in holders:
        whose = " and ".join(sorted(holders)) or "nobody"
        raise Refused(
            "key_not_enrolled",
            f"{path} holds the key {keyid}, which is enrolled for {whose}, not for {principal.id}",
            hint=f"put the enrolled key of {principal.id} there, mode 0600; calyx keys show --all says which it is",
        )
    return FileSigner(principal.id, principal.kind, private)
