"""Which releases of an instance are still needed, as a pure function of the ledger's state and the time.

Needed are both trees of a deployment that lives; of one that can still be taken back, or whose rollback is ordered; of
the newest one that touched the place, and of the newest completed one, however long ago: so there always is a release
before the current one. A rollback that failed can be tried again until a later deployment touches its places, and until
then it is the newest one there. `current` itself and what a process uses, the host keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from policies.fleet import Instance
from policies.fold.state import State
from policies.kinds import ABSENT
from policies.law.places import Place, places_of

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
    wanted: dict[str, set[Place] | None] = {}
    """Deployments whose trees must stay, and where; None for everywhere that they touched."""
    for place in instances:
        newest = [state.touched[place].deployment] if place in state.touched else []
        for digest in (*newest, *state.completed.get(place, ())[-1:]):
            places = wanted.setdefault(digest, set())
            if places is not None:
                places.add(place)
    ordered = (digest for digests in state.rollback_orders.values() for digest in digests)
    back = (digest for digest, until in state.returnable.items() if until is not None and now <= until + SPARE_S)
    wanted |= dict.fromkeys([*state.live.values(), *ordered, *back])
    for digest, places in wanted.items():
        deployment = state.deployments[digest]
        touched = deployment.before if deployment.live else deployment.intended
        for name, place in places_of(state, deployment.lease, touched).items():
            if place not in instances:
                continue
            if deployment.live:
                busy.add(place)
            if places is None or place in places:
                kept.setdefault(place, set()).update((deployment.before[name], deployment.after[name]))
    return kept, busy
