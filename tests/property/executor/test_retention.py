"""What is removed from machines, under random walks: never what an order could still lead back to."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from walk import Walk

from executor.rollout.retention import plan_pruning
from keys.errors import LawRefused
from policies.fold.deployment import Phase
from policies.kinds import ABSENT
from policies.law.commands import check_rollback
from policies.law.places import places_of

PRUNES_IN_S = 400 * 86_400


def check_ways_back(walk: Walk) -> set[Phase]:
    """Each rollback that the law would let begin has both of its trees wherever a machine is cleared up now, or in a
    year; the phases of those that were looked at.
    """
    state = walk.state
    seen: set[Phase] = set()
    for ahead in (0, PRUNES_IN_S):
        kept = {(one.address, one.root): set(trees) for one, trees in plan_pruning(state, walk.now + ahead)}
        for deployment in state.deployments.values():
            if deployment.live:
                continue
            try:
                check_rollback(state, deployment, walk.now + ahead)
            except LawRefused:
                continue
            for name, place in places_of(state, deployment.lease, deployment.intended).items():
                if place in kept:
                    seen.add(deployment.phase)
                    assert {deployment.before[name], deployment.after[name]} - {ABSENT} <= kept[place]
    return seen


def look_on_the_way(random: Random) -> set[Phase]:
    """Go for a walk, and look again and again; the phases of what was looked at."""
    walk = Walk(random)
    seen: set[Phase] = set()
    walk.begin()
    for _ in range(20):
        for _ in range(10):
            walk.step()
        seen |= check_ways_back(walk)
    return seen


@settings(max_examples=5)
@given(st.randoms(use_true_random=False))
def test_what_a_rollback_may_still_need_is_never_removed(random: Random) -> None:
    look_on_the_way(random)


def test_walks_come_to_rollbacks_that_failed_and_may_be_tried_again() -> None:
    """A walk that never gets there would prove nothing; these seeds are known to."""
    seen = set().union(*(look_on_the_way(Random(seed)) for seed in (1, 3)))
    assert seen == {Phase.COMPLETED, Phase.ROLLBACK_FAILED}
