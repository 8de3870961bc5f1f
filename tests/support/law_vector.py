"""Makes the vector of the law: a walk's lawful records and objects, with the state that they fold into.

    PYTHONPATH=.:tests/support python tests/support/law_vector.py > tests/vectors/law.json

Before release 1.0 a change of format or law makes it again, in the same commit; after it, the vector stays as it is and
must stay lawful.
"""

from __future__ import annotations

import json
import sys
from random import Random
from typing import Any

from memory_objects import MemoryObjects
from walk import Walk

from policies.fold.state import State

SEED, STEPS = 38, 460


def summary(state: State) -> dict[str, Any]:
    """What a state comes to, in values that any implementation has."""
    deployments = {
        deployment.lease.id: {
            "phase": deployment.phase.value,
            "counted": list(deployment.counted),
            "cohorts": {str(tier): list(names) for tier, names in deployment.cohorts.items()},
            "applied": sorted(deployment.applied),
            "restored": sorted(deployment.restored),
        }
        for deployment in state.deployments.values()
    }
    return {
        "ledger": state.ledger,
        "size": state.size,
        "head": state.history.leaf(state.size - 1),
        "policy": state.policy_digest,
        "fleet": state.fleet_digest,
        "trust": state.trust_digest,
        "leases": {lease.lease.id: lease.claim_seq for lease in state.leases.values()},
        "deployments": deployments,
    }


def make_vector() -> dict[str, Any]:
    """The vector as JSON material."""
    walk = Walk(Random(SEED))
    walk.begin()
    for _ in range(STEPS):
        walk.step()
    return {
        "records": [entry.record.data.decode("ascii") for entry in walk.entries],
        "objects": [data.decode("ascii") for data in walk.objects.contents()],
        "state": summary(walk.state),
    }


def objects_of(vector: dict[str, Any]) -> MemoryObjects:
    """The objects of a vector."""
    objects = MemoryObjects()
    for data in vector["objects"]:
        objects.put(data.encode("ascii"))
    return objects


if __name__ == "__main__":
    json.dump(make_vector(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
