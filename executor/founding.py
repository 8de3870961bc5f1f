"""The first entry of a ledger: who is in it when it begins, and what genesis says."""

from __future__ import annotations

from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from keys.errors import UsageError
from keys.openssh import OpenSshKey, format_public
from keys.principals import Kind, Role
from keys.values import Ident, fold_id, format_time
from ledger.log_key import LogKey
from policies.matrix import CapabilityMatrix
from policies.registrar import Draft

MACHINES: Final[dict[str, tuple[Kind, tuple[Role, ...]]]] = {
    "cbo": ("overseer", ("proposer",)),
    "cp14": ("agent", ("sentinel",)),
    "cp18": ("agent", ("validator",)),
    "cp19": ("monitor", ()),
    "cp20": ("executor", ()),
}
"""The machine principals of every new ledger, each a custodian of its own."""
RECOVERY: Final = "recovery"
_RESERVED: Final = frozenset({*MACHINES, RECOVERY, "log"})
TRUST_S: Final = 365 * 86_400
"""How long the first trust root lasts."""

_IDENT: Final[TypeAdapter[str]] = TypeAdapter(Ident)


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
) -> Draft:
    """What record 0 says: one human who governs, operates and approves, the machines, and, where one was given, a
    second governor whose key is kept off line. `now`: seconds since 1970.
    """
    name, key = human
    principals = [_principal(name, "human", ("approver", "governor", "operator"), key)]
    principals += [_principal(each, *MACHINES[each], machines[each]) for each in MACHINES]
    if recovery is not None:
        principals.append(_principal(RECOVERY, "human", ("governor",), recovery))
    trust = {
        "law": 1,
        "principals": principals,
        "thresholds": {"governors": 1, "operators": 1},
        "expires": format_time(now + TRUST_S),
        "compromised": [],
    }
    fields = {
        "origin": log_key.origin,
        "log_key": str(log_key.vkey),
        "trust": trust,
        "policy": policy.to_json(),
        "continues": None,
    }
    return Draft("genesis", fields)


def _principal(name: str, kind: Kind, roles: tuple[Role, ...], key: OpenSshKey) -> dict[str, Any]:
    return {
        "id": name,
        "kind": kind,
        "custodian": name,
        "roles": sorted(roles),
        "keys": [{"key": format_public(key), "user_verification": False}],
    }
