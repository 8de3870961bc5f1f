"""Cohorts: which instances a tier adds, in an order that nobody could choose.

    key    = SHA-256("calyx-cohort-v1" || lease digest || leaf of the last counted cosignature)      (32 bytes each)
    order  = instances by HMAC-SHA-256(key, name); those labelled `canary: "true"` come first
    tier p = the first (p * N + 99) // 100 of N

The order depends on the last approval's leaf, so neither who proposes nor who approves first can aim at an instance.

Source: docs/FORMAT.md, cohorts; RFC 2104 for HMAC.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import Final

DOMAIN: Final = b"calyx-cohort-v1"


def order_instances(
    lease_digest: str, last_leaf: str, names: Iterable[str], pinned: Collection[str]
) -> tuple[str, ...]:
    """Instances in cohort order. `lease_digest`, `last_leaf`: 64 hex digits. `pinned`: names that come first."""
    key = sha256(DOMAIN + bytes.fromhex(lease_digest) + bytes.fromhex(last_leaf)).digest()
    return tuple(
        sorted(names, key=lambda name: (name not in pinned, hmac.digest(key, name.encode("ascii"), "sha256"), name))
    )


def plan_cohorts(tiers: Sequence[int], ordered: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """Tier -> the instances that it adds. Tiers whose cohorts are equal merge into the highest of them.

    `tiers`: percents, rising, the last is 100. `ordered`: every instance, in cohort order, at least one.
    """
    sizes: dict[int, int] = {}
    for tier in tiers:
        sizes[(tier * len(ordered) + 99) // 100] = tier
    plan: dict[int, tuple[str, ...]] = {}
    start = 0
    for size, tier in sorted(sizes.items()):
        plan[tier] = tuple(ordered[start:size])
        start = size
    return plan
