"""The law under random walks: judging changes nothing, and what was enacted is what a replay finds."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from walk import Walk

from keys.errors import LawRefused
from policies.accounts import unaccounted
from policies.deployment import LIVE, Phase
from policies.law.step import step
from policies.state import State
from policies.two_key import check_two_key, examine_lease


def check_rule_agrees(walk: Walk) -> None:
    """`examine_lease` and `check_two_key` say the same of every lease."""
    for digest in walk.state.leases:
        failed = [result for result in examine_lease(walk.state, digest, walk.now) if not result.ok]
        try:
            verified = check_two_key(walk.state, digest, walk.now)
        except LawRefused as refusal:
            assert failed
            assert refusal.fields["step"] == failed[0].number
            assert refusal.code == failed[0].code
        else:
            assert not failed
            a, b = (vote.signer for vote in verified.counted)
            signers = [a, b, verified.lease.proposer]
            assert len({each.principal for each in signers}) == 3
            assert len({each.raw for each in signers}) == 3
            assert len({each.custodian for each in signers}) == 3


def check_invariants(walk: Walk) -> None:
    """What is true of every state that the law allows."""
    state = walk.state
    live = [d for d in state.deployments.values() if d.phase in LIVE]
    assert {d.lease_digest for d in live} == set(state.live.values())
    assert len({d.lease.target for d in live}) == len(live)
    for deployment in state.deployments.values():
        spread = [name for names in deployment.cohorts.values() for name in names]
        assert sorted(spread) == sorted(deployment.before)
        assert deployment.applied <= deployment.intended <= set(spread)
        assert deployment.restored <= deployment.intended
        assert not unaccounted(deployment)
        if deployment.phase is Phase.COMPLETED:
            assert deployment.applied == set(spread)
        if deployment.phase is Phase.ABORTED:
            assert not deployment.intended


@settings(max_examples=12)
@given(st.randoms(use_true_random=False))
def test_walk_is_replayed_to_an_equal_state(random: Random) -> None:
    walk = Walk(random)
    walk.begin()
    for _ in range(50):
        walk.step()
    check_rule_agrees(walk)
    check_invariants(walk)
    replayed = State()
    for entry in walk.entries:
        replayed = step(replayed, entry, walk.objects)
    assert replayed == walk.state


def test_walks_reach_every_end() -> None:
    """A walk that never gets anywhere would prove nothing; these seeds are known to."""
    reached: Counter[Phase] = Counter()
    codes: set[str] = set()
    for seed in range(6):
        walk = Walk(Random(seed))
        walk.begin()
        for _ in range(160):
            walk.step()
        check_rule_agrees(walk)
        check_invariants(walk)
        reached.update(d.phase for d in walk.state.deployments.values())
        codes |= walk.refusals.keys()
    assert {Phase.COMPLETED, Phase.ROLLED_BACK, Phase.ABORTED, Phase.ROLLBACK_FAILED} <= reached.keys(), reached
    assert len(codes) > 20, sorted(codes)
