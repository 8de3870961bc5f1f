"""From any earlier cut: who begins at a snapshot decides what one that read every entry decides."""

from __future__ import annotations

import io
from random import Random
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from walk import Walk

from executor.agents.review import Reviewer
from executor.rollout.bookkeeping import in_order
from executor.rollout.claim import Claims, claim_fields
from executor.rollout.decide import Observations, decide
from executor.rollout.retention import plan_pruning
from executor.rollout.standing import take_standing
from executor.views.progress import describe_unclaimed, measure_progress
from executor.views.waiting import list_waiting
from keys.errors import CalyxError, LawRefused
from ledger.chain import Chain
from policies.auditing.accounts import unaccounted
from policies.fold.scratch import Scratch
from policies.fold.snapshot import Folded, read_snapshot, write_snapshot
from policies.fold.state import State
from policies.law.step import step
from policies.law.two_key import check_two_key

CODE = "ab" * 32
AGES = (0, 60, 3_600, 90_000, 30 * 86_400)
"""Seconds after the newest entry at which everyone is asked."""


class Asked:
    """An agent that only says what it would do."""

    def __init__(self, state: State, now: int, me: Any) -> None:
        self.now = lambda: now
        self.principal = me
        self.found: list[tuple[str, str]] = []
        reviewer: Any = Reviewer("sentinel", None, self, self, None, monotonic=float, log=print)  # type: ignore[arg-type]  # asked for nothing
        reviewer._review = lambda _, lease: self.found.append(("review", lease.digest))
        reviewer._cosign = lambda lease: self.found.append(("cosign", lease.digest))
        reviewer.act(state)


def claimable(state: State, now: int, walk: Walk) -> list[Any]:
    """The leases that an executor looks at, and what it would claim of them."""
    claims: Any = Claims(None, None, None, None, print)  # type: ignore[arg-type]  # asked for nothing
    objects: Any = walk.objects
    found: list[Any] = []
    for lease in claims._still_open(state):
        try:
            found.append((lease.digest, claim_fields(check_two_key(state, lease.digest, now), 1, objects)))
        except LawRefused as refusal:
            found.append((lease.digest, refusal.code, refusal.fields))
        except CalyxError as error:
            found.append((lease.digest, error.code))
    return found


def everything(state: State, walk: Walk) -> list[Any]:
    """What everyone who reads this state would do and say, at several times."""
    said: list[Any] = []
    last = state.history.time(state.size - 1)
    for now in (last + age for age in AGES):
        order = in_order(state)
        said.append([(digest, decide(state, state.deployments[digest], Observations(), now)) for digest in order])
        said.append(claimable(state, now, walk))
        said.append(list(plan_pruning(state, now)))
        said.append(take_standing(state, now, 0))
        said.append([list_waiting(state, name, now) for name in ("ada", "ben", "eve")])
        said.append([Asked(state, now, name).found for name in ("cp14", "cp18")])
        said.append([measure_progress(deployment, now) for deployment in state.deployments.values()])
        said.append([unaccounted(deployment) for deployment in state.deployments.values()])
        unclaimed = [lease for lease in state.leases.values() if lease.claim_seq is None]
        said.append([describe_unclaimed(state, lease, now) for lease in unclaimed])
    return said


@settings(max_examples=8, phases=(Phase.explicit, Phase.generate))
@given(random=st.randoms(use_true_random=False), data=st.data())
def test_same_decisions_from_a_snapshot_at_any_cut(random: Random, data: st.DataObject) -> None:
    walk = Walk(random)
    walk.begin()
    for _ in range(60):
        walk.step()
    cut = data.draw(st.integers(1, len(walk.entries)))
    state, chain = State(), Chain()
    for entry in walk.entries[:cut]:
        state = step(state, entry, walk.objects)
        chain.extend(entry.record)
    file = io.BytesIO()
    write_snapshot(file, Folded(state, chain), CODE)
    begun = read_snapshot(file, CODE, Scratch()).state
    assert everything(begun, walk) == everything(state, walk)
    for entry in walk.entries[cut:]:
        begun = step(begun, entry, walk.objects)
    assert everything(begun, walk) == everything(walk.state, walk)
