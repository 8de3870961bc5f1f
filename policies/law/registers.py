"""What of a long ledger may still matter: leases that can still be claimed, deployments that can still be taken back,
and what each place was given last.

A station that runs for years has millions of leases, and nearly all of them are over. Whoever looks for the few that
are not looks here, and not through all. Kept by the law with each entry.

`lapse` drops what is over only when there is much of it, so every reader compares the times as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol, TypeVar

from policies.fold.deployment import Deployment, Phase
from policies.fold.state import State
from policies.law.places import places_of

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

MANY: Final = 256
"""So many are kept, whether they are over or not."""
SPARE_S: Final = 86_400
"""Seconds that an entry stays after its time: no two clocks agree."""
_NEWEST: Final = 2
"""A completed deployment can be taken back only while no later one touched its instances, so behind the newest one of a
place there is never more than one that counts."""


def open_lease(state: State, digest: str, until: int, now: int) -> None:
    """A lease can be claimed from now on. `until`: its `execute_by`. Times: seconds since 1970."""
    state.open_leases[digest] = until
    lapse(state.open_leases, now)


def close_lease(state: State, digest: str) -> None:
    """A lease can be claimed no more: it was, or it was denied."""
    state.open_leases.pop(digest, None)


def end_deployment(state: State, deployment: Deployment, now: int) -> None:
    """A deployment has ended. `now`: seconds since 1970."""
    digest = deployment.lease_digest
    if deployment.phase is Phase.ROLLBACK_FAILED:
        state.returnable[digest] = None
    if deployment.phase is not Phase.COMPLETED:
        return
    terms = state.policies[deployment.lease.policy].deploy_production
    state.returnable[digest] = now + terms.retention_s
    lapse(state.returnable, now)
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for place in places_of(state, deployment.lease, deployment.intended).values():
        before = state.completed.get(place, ())
        # One tuple for all places that had the same.
        state.completed[place] = known.setdefault(before, (*before, digest)[-_NEWEST:])


def revive_deployment(state: State, deployment: Deployment) -> None:
    """A deployment that had ended is taken back now, so it is completed no more."""
    digest = deployment.lease_digest
    if digest not in state.returnable:
        return
    del state.returnable[digest]
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for place in places_of(state, deployment.lease, deployment.intended).values():
        before = state.completed.get(place, ())
        if digest in before:
            state.completed[place] = known.setdefault(before, tuple(one for one in before if one != digest))


class Ordered(Protocol[T_co]):
    """A mapping that knows what came last."""

    def __reversed__(self) -> Iterator[str]:
        """The keys, the newest first."""
        ...

    def __getitem__(self, key: str, /) -> T_co:
        """The value of a key."""
        ...


def newest_first(held: Ordered[T]) -> Iterator[T]:
    """The values of a state's mapping, the one that came last first; none is looked at before it is its turn."""
    return (held[key] for key in reversed(held))


def lapse(times: dict[str, int] | dict[str, int | None], now: int) -> None:
    """Drop what is long over, whenever there is twice as much as the last time."""
    count = len(times)
    if count >= MANY and not count & (count - 1):
        over = [digest for digest, until in times.items() if until is not None and now > until + SPARE_S]
        for digest in over:
            del times[digest]
