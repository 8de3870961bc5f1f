"""What a claim says: the cosignatures that counted, the cohorts, and the trees that were seen."""

from __future__ import annotations

from typing import Any

from ledger.objects import ObjectStore
from policies.names import list_json
from policies.two_key import VerifiedLease


def claim_fields(verified: VerifiedLease, epoch: int, objects: ObjectStore) -> dict[str, Any]:
    """What a claim says of a verified lease, without the common fields."""
    trees: dict[str, list[str]] = {}
    for name, tree in sorted(verified.lease.before.items()):
        trees.setdefault(tree, []).append(name)
    cohorts = verified.cohorts
    return {
        "type": "VERIFIED_2KEY",
        "epoch": epoch,
        "counted": [vote.seq for vote in verified.counted],
        "cohorts": [
            {"tier": tier, "instances": list_json(names, objects, len(cohorts))} for tier, names in cohorts.items()
        ],
        "seen": [{"tree": tree, "instances": list_json(names, objects, len(trees))} for tree, names in trees.items()],
    }
