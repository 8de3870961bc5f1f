"""What a change of the trust root means, in a person's words."""

from __future__ import annotations

from keys.openssh_public import fingerprint
from keys.principals import TrustRoot
from keys.words import are, counted


def describe_trust(before: TrustRoot, after: TrustRoot) -> list[str]:
    """What a change of trust means, principal by principal and key by key, in a person's words; not escaped."""
    lines: list[str] = []
    old = {principal.id: principal for principal in before.principals}
    new = {principal.id: principal for principal in after.principals}
    lines += [
        f"removes {old[name].kind} {name} ({', '.join(old[name].roles) or 'no role'})"
        for name in sorted(old.keys() - new)
    ]
    for name, principal in new.items():
        had = old.get(name)
        have = {} if had is None else {fingerprint(entry.public): entry for entry in had.keys}
        get = {fingerprint(entry.public): entry for entry in principal.keys}
        roles = ", ".join(principal.roles) or "no role"
        if had is None:
            lines.append(f"enrols {principal.kind} {name} ({roles}), custodian {principal.custodian}")
        else:
            if had.roles != principal.roles:
                lines.append(f"{name}: {', '.join(had.roles) or 'no role'} becomes {roles}")
            if had.custodian != principal.custodian:
                lines.append(f"{name}: custodian {had.custodian} becomes {principal.custodian}")
        lines += [f"{name}: loses the key {keyid}" for keyid in have if keyid not in get]
        for keyid, entry in get.items():
            verified = ", with user verification" if entry.user_verification else ""
            if keyid not in have:
                lines.append(f"{name}: gets the key {keyid}{verified}")
            elif have[keyid].user_verification != entry.user_verification:
                lines.append(
                    f"{name}: the key {keyid} {'must' if entry.user_verification else 'need not'} verify its user"
                )
    was = {item.public.raw: item.position for item in before.compromised}
    for item in after.compromised:
        if was.get(item.public.raw) != item.position:
            lines.append(f"revokes {fingerprint(item.public)} as compromised from entry {item.position} on")
    for role in ("governors", "operators"):
        counts = getattr(before.thresholds, role), getattr(after.thresholds, role)
        if counts[0] != counts[1]:
            needed = counted(counts[1], role.removesuffix("s"))
            lines.append(f"{needed} {are(counts[1])} needed; before, it was {counts[0]}")
    if before.expires != after.expires:
        lines.append(f"expires {after.expires}, and did {before.expires}")
    return lines
