"""The law under random walks: judging changes nothing, and what was enacted is what a replay finds."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from walk import Walk

from keys.errors import LawRefused
from keys.values import parse_time
from policies.auditing.accounts import unaccounted
from policies.fold.deployment import LIVE, Phase
from policies.fold.state import State
from policies.law.places import Place, places_of
from policies.law.step import step
from policies.law.two_key import check_two_key, examine_lease


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


def check_registers(walk: Walk) -> None:
    """The few leases and deployments that are kept as still mattering are those that looking at all would find."""
    state = walk.state
    unclaimed = [lease for lease in state.leases.values() if lease.claim_seq is None and lease.denied is None]
    assert [digest for digest in state.open_leases if state.leases[digest] not in unclaimed] == []
    assert [lease.digest for lease in unclaimed if lease.digest in state.open_leases] == list(state.open_leases)
    for lease in unclaimed:
        until = parse_time(lease.lease.execute_by)
        assert state.open_leases.get(lease.digest, until) == until
        assert lease.digest in state.open_leases or until < walk.now
    ended = {
        d.lease_digest: d for d in state.deployments.values() if d.phase in {Phase.COMPLETED, Phase.ROLLBACK_FAILED}
    }
    assert state.returnable.keys() <= ended.keys()
    completed: dict[Place, list[str]] = {}
    for digest, deployment in sorted(ended.items(), key=lambda item: item[1].claim_seq):
        if deployment.phase is Phase.ROLLBACK_FAILED:
            assert state.returnable[digest] is None
            continue
        assert deployment.completed_at is not None
        terms = state.policies[deployment.lease.policy].deploy_production
        until = deployment.completed_at + terms.retention_s
        assert state.returnable.get(digest, until) == until
        assert digest in state.returnable or until < walk.now
        for place in places_of(state, deployment.lease, deployment.intended).values():
            completed.setdefault(place, []).append(digest)
    assert {place: newest[-1] for place, newest in state.completed.items() if newest} == {
        place: newest[-1] for place, newest in completed.items()
    }


@settings(max_examples=12)
@given(st.randoms(use_true_random=False))
def test_walk_is_replayed_to_an_equal_state(random: Random) -> None:
    walk = Walk(random)
    walk.begin()
    for _ in range(50):
        walk.step()
    check_rule_agrees(walk)
    check_invariants(walk)
    check_registers(walk)
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
        check_registers(walk)
        reached.update(d.phase for d in walk.state.deployments.values())
        codes |= walk.refusals.keys()
    assert {Phase.COMPLETED, Phase.ROLLED_BACK, Phase.ABORTED, Phase.ROLLBACK_FAILED} <= reached.keys(), reached
    assert len(codes) > 20, sorted(codes)
