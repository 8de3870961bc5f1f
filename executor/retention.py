"""Which releases of an instance are still needed, as a pure function of the ledger's state and the time.

Needed are both trees of a deployment that lives; of one that can still be taken back, or whose rollback failed or is
ordered; of the newest one that touched the place, and of the newest completed one, however long ago: so there always is
a release before the current one. `current` itself and what a process uses, the host keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from policies.deployment import Deployment, Phase
from policies.fleet import Instance
from policies.kinds import ABSENT
from policies.places import Place, places_of
from policies.state import State

SPARE_S: Final = 3_600
"""Kept longer than retention by so much: clocks differ, and what was ordered at the last second is done later."""


def plan_pruning(state: State, now: int) -> Iterator[tuple[Instance, tuple[str, ...]]]:
    """Each instance of the fleet in force where nothing is under way, and the trees that its host must keep."""
    if state.fleet is None:
        return
    instances = {(i.address, i.root): i for target in state.fleet.targets.values() for i in target.instances}
    kept, busy = _kept(state, now, instances)
    for place, instance in instances.items():
        if place not in busy:
            yield instance, tuple(sorted(kept.get(place, set()) - {ABSENT}))


def _kept(state: State, now: int, instances: dict[Place, Instance]) -> tuple[dict[Place, set[str]], set[Place]]:
    kept: dict[Place, set[str]] = {}
    busy: set[Place] = set()
    completed: set[Place] = set()
    for deployment in sorted(state.deployments.values(), key=lambda one: one.claim_seq, reverse=True):
        returns = _may_return(state, deployment, now)
        touched = deployment.before if deployment.live else deployment.intended
        for name, place in places_of(state, deployment.lease, touched).items():
            if place not in instances:
                continue
            if deployment.live:
                busy.add(place)
            ended = deployment.phase is Phase.COMPLETED and place not in completed
            if ended:
                completed.add(place)
            if returns or ended or place not in kept:
                kept.setdefault(place, set()).update((deployment.before[name], deployment.after[name]))
    return kept, busy


def _may_return(state: State, deployment: Deployment, now: int) -> bool:
    if deployment.live or deployment.phase is Phase.ROLLBACK_FAILED or deployment.rollback_order is not None:
        return True
    terms = state.policies[deployment.lease.policy].deploy_production
    return (
        deployment.phase is Phase.COMPLETED
        and deployment.completed_at is not None
        and now <= deployment.completed_at + terms.retention_s + SPARE_S
    )
