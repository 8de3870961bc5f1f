"""What the run loop keeps between two rounds, which is nothing that it could not lose, and how it words a result."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from executor.hosts.hooks import hooks_of
from executor.rollout.decide import Failure
from executor.rollout.effects import Step
from executor.rollout.preflight import instances_of
from executor.rollout.work import Result
from ledger.head import Head
from policies.fleet import Fleet, Instance
from policies.fold.deployment import Deployment, Phase
from policies.fold.state import State
from policies.matrix import CapabilityMatrix


@dataclass
class Memory:
    """What this process saw and may lose: failures, and the deployments that it had to do with."""

    failed: dict[str, dict[str, Failure]] = field(default_factory=dict)
    unrestored: dict[str, dict[str, Failure]] = field(default_factory=dict)
    tries: dict[tuple[str, str], int] = field(default_factory=dict)
    handled: set[str] = field(default_factory=set)
    no_space: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    looked_at: int | None = None
    counted_at: Head | None = None
    listening_since: int = 0
    _instances: dict[str, dict[str, Instance]] = field(default_factory=dict)
    _ahead: dict[str, tuple[int, deque[str]]] = field(default_factory=dict)

    def look(self, state: State) -> list[str]:
        """Deployments that may need something, in order. Those that have begun are noted, for when nothing can be
        read.
        """
        order = in_order(state)
        self.begun = {digest for digest in order if state.deployments[digest].started}
        return order

    def keep(self, digests: Collection[str]) -> None:
        """Forget all deployments but these."""
        for known in (self.failed, self.unrestored, self._instances, self._ahead):
            for digest in known.keys() - set(digests):
                known.pop(digest)
        self.no_space &= set(digests)

    def instances_of(self, deployment: Deployment, fleet: Fleet) -> dict[str, Instance]:
        """The deployment's target by instance name. `fleet`: the one that its lease names."""
        digest = deployment.lease_digest
        if digest not in self._instances:
            self._instances[digest] = instances_of(fleet, deployment.lease)
        return self._instances[digest]

    def ahead_of(self, deployment: Deployment) -> deque[str] | None:
        """What is left of the newest tier, without a look at all of it each time; None before the first one."""
        digest, tier, applied = deployment.lease_digest, deployment.tier, deployment.applied
        if tier not in deployment.cohorts:
            return None
        if digest not in self._ahead or self._ahead[digest][0] != tier:
            self._ahead[digest] = tier, deque(deployment.cohorts[tier])
        left = self._ahead[digest][1]
        while left and left[0] in applied:
            left.popleft()
        return left


def step_of(deployment: Deployment, instance: Instance, policy: CapabilityMatrix) -> Step:
    """What is to be done to one instance of a deployment."""
    name, lease = instance.name, deployment.lease
    hooks = hooks_of(policy, lease, instance)
    return Step(instance, deployment.before[name], deployment.after[name], lease.artifact, *hooks)


def result_detail(deployment: Deployment, result: Result) -> dict[str, Any]:
    """The event that says a result which is no failure."""
    name = result.name
    if result.back:
        tree = deployment.before[name]
        return {"type": "INSTANCE_RESTORED", "instance": name, "tree": tree, **asdict(result.outcome)}
    tier = deployment.tier_of[name]
    return {"type": "INSTANCE_APPLIED", "tier": tier, "instance": name, "tree": deployment.after[name]}


def in_order(state: State) -> list[str]:
    """Deployments that may need something, rollbacks first: they are never kept waiting."""
    ordered = (digest for digests in state.rollback_orders.values() for digest in digests)
    backwards = {Phase.HALTED, Phase.ROLLING_BACK}
    return sorted(
        {*state.live.values(), *ordered}, key=lambda digest: (state.deployments[digest].phase not in backwards, digest)
    )
