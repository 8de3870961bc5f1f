"""Which person acts, and with which key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from executor.commands.terminal import ask_passphrase
from keys.errors import UsageError

if TYPE_CHECKING:
    from executor.home import Home
    from keys.principals import TrustRoot
    from keys.signer import Signer
    from policies.state import State


def load_person(
    home: Home, state: State, key: Path | None, as_principal: str | None, proposed: TrustRoot | None = None
) -> Signer:
    """The signer of the human who is named, or who sits here. `proposed`: the trust root that is being approved."""
    principal = as_principal or home.find_me(state).id
    person = None if state.trust is None else state.trust.find_principal(principal)
    if person is not None and person.kind != "human":
        raise UsageError(
            "not_a_human", f"{principal} is a machine; people approve here", hint="name yourself with --as"
        )
    named = None if key is None else key.expanduser()
    return home.load_signer(principal, state, ask_passphrase, named, proposed)
