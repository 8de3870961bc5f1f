"""Places: where an instance is, whatever it is called.

A later fleet may give the same machine and root to another target or name. Two deployments then meet there although
their targets differ, so what the law must keep apart it keeps apart by place.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from policies.fold.state import State
from policies.kinds import Lease

Place: TypeAlias = tuple[str, str]
"""Address and root."""


def places_of(state: State, lease: Lease, names: Collection[str]) -> dict[str, Place]:
    """Instance -> its place in the fleet that the lease was signed for. `names`: instances of the lease."""
    wanted = names if isinstance(names, set | frozenset | dict) else set(names)
    instances = state.fleets[lease.fleet].targets[lease.target].instances
    return {instance.name: (instance.address, instance.root) for instance in instances if instance.name in wanted}


def find_neighbour(state: State, digest: str) -> tuple[str, str] | None:
    """The lease digest of a live deployment of another target that works where the lease `digest` does, and the name
    of the lease's instance there; None when there is no such deployment.
    """
    ours = state.leases[digest]
    # Within one fleet no two targets share a place.
    others = [live for live in state.live.values() if state.leases[live].lease.fleet != ours.lease.fleet]
    if not others:
        return None
    names = {place: name for name, place in places_of(state, ours.lease, ours.after).items()}
    for other in others:
        theirs = state.leases[other]
        shared = names.keys() & set(places_of(state, theirs.lease, theirs.after).values())
        if shared:
            return other, min(names[place] for place in shared)
    return None
