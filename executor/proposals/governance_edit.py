"""Small changes of what is in force, without a file: keys, principals and thresholds of trust, switches of policy.

Each gives the whole new value. It is as lawful as what it was made from; what is proposed is checked as a whole
(`executor.proposals.governance_check`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from keys.errors import Refused
from keys.openssh_public import OpenSshKey, fingerprint, format_public
from keys.principals import TrustRoot
from keys.values import fold_id, format_time
from policies.matrix import CapabilityMatrix


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A new principal with its first key. `custodian`: None for the principal's own id."""

    id: str
    key: OpenSshKey
    kind: str
    roles: tuple[str, ...]
    custodian: str | None


@dataclass(frozen=True, slots=True)
class TrustEdit:
    """Changes of a trust root. `add_keys`: principal id and key. `user_verification`: of the keys that are added or
    enrolled. `remove_keys`: key ids. `compromised`: key id and the entry from which its cosignatures stop counting.
    `remove`: principal ids. `expires`: seconds since 1970.
    """

    add_keys: tuple[tuple[str, OpenSshKey], ...] = ()
    user_verification: bool = False
    remove_keys: tuple[str, ...] = ()
    compromised: tuple[tuple[str, int], ...] = ()
    enrol: tuple[Enrolment, ...] = ()
    remove: tuple[str, ...] = ()
    expires: int | None = None
    governors: int | None = None
    operators: int | None = None


def edit_trust(root: TrustRoot, edit: TrustEdit, known: Mapping[str, str]) -> TrustRoot:
    """A root with the changes. `known`: key id -> public line, of every key that any root ever held.

    Raises: Refused (`unknown_principal`, `unknown_key`, `key_in_use`, `no_key_left`, `id_taken`); FormatError.
    """
    principals: dict[str, dict[str, Any]] = {
        fold_id(p.id): {**_json(p), "keys": [dict(_json(entry)) for entry in p.keys]} for p in root.principals
    }
    for name in edit.remove:
        if principals.pop(fold_id(name), None) is None:
            raise _unknown_principal(name)
    for name, key in edit.add_keys:
        principal = principals.get(fold_id(name))
        if principal is None:
            raise _unknown_principal(name)
        _check_free(root, key)
        principal["keys"].append(_entry(key, edit.user_verification))
    for new in edit.enrol:
        if fold_id(new.id) in {fold_id(p.id) for p in root.principals}:
            raise Refused(
                "id_taken", f"{new.id} is enrolled already", hint=f"calyx trust propose --add-key {new.id}=FILE"
            )
        _check_free(root, new.key)
        principals[fold_id(new.id)] = {
            "id": new.id,
            "kind": new.kind,
            "custodian": new.id if new.custodian is None else new.custodian,
            "roles": sorted(set(new.roles)),
            "keys": [_entry(new.key, edit.user_verification)],
        }
    held = {fingerprint(entry.public) for p in root.principals for entry in p.keys}
    for keyid in edit.remove_keys:
        if keyid not in held:
            raise Refused("unknown_key", f"nobody holds the key {keyid} now", hint="calyx keys show --all")
    gone = {*edit.remove_keys, *(keyid for keyid, _ in edit.compromised)}
    lines = {known[keyid] for keyid in gone if keyid in known}
    for principal in principals.values():
        principal["keys"] = [entry for entry in principal["keys"] if entry["key"] not in lines]
        if not principal["keys"]:
            raise Refused(
                "no_key_left",
                f"{principal['id']} would have no key left",
                hint=f"add another one with --add-key {principal['id']}=FILE.pub, or take them out with --remove",
            )
    return TrustRoot.from_json(
        {
            "law": root.law,
            "principals": list(principals.values()),
            "thresholds": {
                "governors": root.thresholds.governors if edit.governors is None else edit.governors,
                "operators": root.thresholds.operators if edit.operators is None else edit.operators,
            },
            "expires": root.expires if edit.expires is None else format_time(edit.expires),
            "compromised": _compromised(root, edit.compromised, known),
        },
        what="the new trust root",
    )


def allow_paths(policy: CapabilityMatrix, allowed: Iterable[tuple[str, str]]) -> CapabilityMatrix:
    """A policy that also allows these paths: target and path rule each. Raises: FormatError."""
    document = _json(policy)
    targets = document["deploy_production"]["targets"]
    for target, path in allowed:
        paths = targets.setdefault(target, {"paths": []})["paths"]
        if path not in paths:
            paths.append(path)
    return CapabilityMatrix.from_json(document, what="the new policy")


def activate(policy: CapabilityMatrix) -> CapabilityMatrix:
    """A policy under which production can be deployed to: phase 3 implemented, `deploy_production` on.

    Raises: Refused (`no_target`) when no target is allowed: then it would allow nothing.
    """
    if not policy.deploy_production.targets:
        raise Refused(
            "no_target",
            "the policy allows no target, so nothing could be deployed",
            hint="say which paths of which target may change: --allow TARGET=PATH",
        )
    document = _json(policy)
    phase = document["phases"]["3"]
    phase["status"] = "implemented"
    if "deploy_production" not in phase["capabilities"]:
        phase["capabilities"].append("deploy_production")
    document["deploy_production"]["enabled"] = True
    return CapabilityMatrix.from_json(document, what="the new policy")


def deactivate(policy: CapabilityMatrix) -> CapabilityMatrix:
    """A policy under which nothing can be deployed: phase 3 pending, `deploy_production` off."""
    document = _json(policy)
    document["phases"]["3"]["status"] = "pending"
    document["deploy_production"]["enabled"] = False
    return CapabilityMatrix.from_json(document, what="the new policy")


def _compromised(root: TrustRoot, added: Iterable[tuple[str, int]], known: Mapping[str, str]) -> list[dict[str, Any]]:
    positions = {item.key: item.position for item in root.compromised}
    for keyid, position in added:
        line = known.get(keyid) or next((i.key for i in root.compromised if fingerprint(i.public) == keyid), None)
        if line is None:
            raise _unknown_key(keyid)
        before = positions.get(line)
        if before is not None and position > before:
            raise Refused(
                "bad_position",
                f"{keyid} is revoked as compromised from entry {before} on, and that is never moved to a later one",
            )
        positions[line] = position
    return [{"key": line, "position": position} for line, position in positions.items()]


def _check_free(root: TrustRoot, key: OpenSshKey) -> None:
    for principal in root.principals:
        if any(entry.public.raw == key.raw for entry in principal.keys):
            raise Refused(
                "key_in_use",
                f"{fingerprint(key)} is a key of {principal.id} already, whatever its type or comment",
                hint="make another key",
            )


def _entry(key: OpenSshKey, user_verification: bool) -> dict[str, Any]:
    return {"key": format_public(key), "user_verification": user_verification}


def _json(value: Any) -> Any:
    return value.to_json()


def _unknown_principal(name: str) -> Refused:
    return Refused("unknown_principal", f"the trust root has no principal {name}", hint="calyx trust show")


def _unknown_key(keyid: str) -> Refused:
    return Refused("unknown_key", f"no trust root of this ledger held the key {keyid}", hint="calyx trust history")
