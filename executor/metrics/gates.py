"""What the monitor, a person's terminal and the executor ask of a deployment's gates (`policies.law.tiers`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from policies.fold.deployment import Deployment
from policies.law.tiers import Judgement, TierJudge, judge_of
from policies.matrix import Gate

MIN_SILENCE_S: Final = 15
"""A monitor that starts needs time: silence shorter than this is never missing data."""


def silence_limit(gates: Iterable[Gate], interval_s: int) -> int:
    """Seconds without a word of the monitor that count as missing data."""
    longest = max((gate.missing_s for gate in gates), default=0)
    return max(MIN_SILENCE_S, longest) + 2 * interval_s


class RunningJudge:
    """Judges one deployment again and again as it goes on, and reads each sample once."""

    def __init__(self) -> None:
        self._key: tuple[str, int, int] | None = None
        self._tier: TierJudge | None = None

    def judge(self, deployment: Deployment, now: int, drift: str | None = None) -> Judgement:
        """Judge the tier that is watched; `inconclusive` before a bake began."""
        began = deployment.bake_started_at
        if began is None:
            return Judgement("inconclusive", None, "the bake has not begun", ())
        key = (deployment.lease_digest, deployment.watched_tier, began)
        folded = 0 if deployment.earlier is None else deployment.earlier.count
        tier = self._tier
        if tier is None or key != self._key or not folded <= tier.seen <= folded + len(deployment.samples):
            self._key, self._tier = key, judge_of(deployment)
            tier = self._tier
        for sample in deployment.samples[tier.seen - folded :]:
            tier.see(sample)
        return tier.judge(now, drift)


def judge_deployment(deployment: Deployment, now: int, drift: str | None = None) -> Judgement:
    """Judge the tier of a deployment that is watched, from what is known of all its samples; `inconclusive` before its
    bake began.
    """
    return RunningJudge().judge(deployment, now, drift)
