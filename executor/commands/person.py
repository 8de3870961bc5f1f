"""Which person acts, and with which key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from executor.commands.terminal import ask_passphrase, note, note_theirs
from executor.user_paths import expand, home_directory
from keys.errors import Unavailable

if TYPE_CHECKING:
    from executor.homes.find_signer import OwnKey
    from executor.homes.home import Home
    from executor.homes.surroundings import Surroundings
    from keys.principals import TrustRoot
    from keys.signer import Signer
    from policies.fold.state import State


def load_person(
    home: Home, state: State, key: Path | None, as_principal: str | None, proposed: TrustRoot | None = None
) -> Signer:
    """The signer of the human who is named, or who sits here; which key it is, is said on standard error.

    `key`: a private key file, or a `.pub` file for the agent's key. `proposed`: the trust root that is being approved.

    Raises: as `executor.homes.find_signer.find_me` and `find_signer`.
    """
    from executor.homes.find_signer import find_me, find_signer

    if state.trust is None:
        raise Unavailable("ledger_missing", "the ledger has no entry yet", hint="calyx init makes the first one")
    roots = [state.trust] if proposed is None else [state.trust, proposed]
    around = _around()
    named = None if key is None else expand(key)
    principal = as_principal or find_me(roots, home.load_settings().me, home.find_key, around, named).id
    signer = find_signer(roots, principal, named, home.find_key(principal), around)
    if all(holder.entry.public.application is None for root in roots if (holder := root.find_key(signer.keyid))):
        return signer
    from executor.homes.token_counter import CountedSigner, newest_counter

    return CountedSigner(signer, lambda: newest_counter(state, home.open_store(), signer.keyid), note)


def load_founder(name: str, key: Path) -> OwnKey:
    """The key with which a person founds a ledger; which one it is, is said on standard error. `key`: as in
    `load_person`.

    Raises: as `executor.homes.find_signer.open_own`.
    """
    from executor.homes.find_signer import open_own

    return open_own(name, expand(key), _around())


def _around() -> Surroundings:
    from executor.homes.surroundings import look_around
    from keys.agent_socket import connect_agent

    return look_around(os.environ, home_directory(), connect_agent, note_theirs, ask_passphrase)
