"""The first entry of a ledger: who is in it when it begins, and what genesis says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from keys.errors import UsageError
from keys.openssh import OpenSshKey, format_public
from keys.principals import Kind, Principal, Role
from keys.values import Ident, fold_id, format_time
from ledger.log_key import LogKey
from policies.kinds import Continues
from policies.matrix import CapabilityMatrix
from policies.submitter import Draft

MACHINES: Final[dict[str, tuple[Kind, tuple[Role, ...]]]] = {
    "cbo": ("overseer", ("proposer",)),
    "cp14": ("agent", ("sentinel",)),
    "cp18": ("agent", ("validator",)),
    "cp19": ("monitor", ()),
    "cp20": ("executor", ()),
}
"""The machine principals of every new ledger, each a custodian of its own."""
RECOVERY: Final = "recovery"
# Names of files in the home, too: the log's key, and the notifier's lock.
_RESERVED: Final = frozenset({*MACHINES, RECOVERY, "log", "notify"})
TRUST_S: Final = 365 * 86_400
"""How long the first trust root lasts."""

_IDENT: Final[TypeAdapter[str]] = TypeAdapter(Ident)


@dataclass(frozen=True, slots=True)
class Before:
    """What a ledger takes over from the one that it continues. `people`: humans who stay what they were. `compromised`:
    public lines of keys that are good for nothing any more.
    """

    continues: Continues | None = None
    people: tuple[Principal, ...] = ()
    compromised: tuple[str, ...] = ()


FIRST: Final = Before()
"""Nothing: the ledger begins by itself."""


def check_human_name(name: str) -> str:
    """A name that the first person may have: an id that no other founder and no key file has.

    Raises: UsageError (`bad_name`).
    """
    try:
        _IDENT.validate_python(name, strict=True)
    except ValidationError:
        raise UsageError(
            "bad_name",
            f"{name} cannot be a principal's id",
            hint="name yourself with --human: letters, digits, dots, dashes, underscores",
        ) from None
    if fold_id(name) in _RESERVED:
        raise UsageError("bad_name", f"{name} is the name of something else here", hint="use another --human")
    return name


def plan_genesis(
    human: tuple[str, OpenSshKey],
    machines: dict[str, OpenSshKey],
    recovery: OpenSshKey | None,
    policy: CapabilityMatrix,
    log_key: LogKey,
    now: int,
    before: Before = FIRST,
) -> Draft:
    """What record 0 says: one human who governs, operates and approves, the machines, and, where one was given, a
    second governor whose key is kept off line. Either of the two governors alone can change everything: the second is
    for when the first key is lost, and with a threshold of two neither could act then. `now`: seconds since 1970.
    """
    name, key = human
    principals = [_principal(name, "human", ("approver", "governor", "operator"), key)]
    principals += [_principal(each, *MACHINES[each], machines[each]) for each in MACHINES]
    if recovery is not None:
        principals.append(_principal(RECOVERY, "human", ("governor",), recovery))
    principals += [_as_json(person) for person in before.people]
    trust = {
        "law": 1,
        "principals": principals,
        "thresholds": {"governors": 1, "operators": 1},
        "expires": format_time(now + TRUST_S),
        # A key that was stolen stays worthless; nothing was signed here, so from the first entry on.
        "compromised": [{"key": line, "position": 0} for line in before.compromised],
    }
    fields = {
        "origin": log_key.origin,
        "log_key": str(log_key.vkey),
        "trust": trust,
        "policy": policy.to_json(),
        "continues": None if before.continues is None else before.continues.to_json(),
    }
    return Draft("genesis", fields)


def _as_json(principal: Principal) -> dict[str, Any]:
    found: Any = principal.to_json()
    return dict(found)


def _principal(name: str, kind: Kind, roles: tuple[Role, ...], key: OpenSshKey) -> dict[str, Any]:
    return {
        "id": name,
        "kind": kind,
        "custodian": name,
        "roles": sorted(roles),
        "keys": [{"key": format_public(key), "user_verification": False}],
    }
