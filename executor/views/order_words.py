"""What is said of an order: that it is so already, or what follows from it where the deployment is."""

from __future__ import annotations

from typing import Final

from executor.views.waiting import goes_back_after
from policies.fold.deployment import Deployment, Phase

SAFE: Final = frozenset({"pause", "abort", "rollback"})
"""Orders toward safety."""
_BACK: Final = frozenset({Phase.ROLLED_BACK, Phase.ABORTED})
"""Ends in which nothing of a deployment is left, and from which nothing follows."""


def already_so(deployment: Deployment, verb: str) -> str | None:
    """Why an order toward safety has nothing left to do, in one line; None for one that has, or that is refused.

    Whoever orders twice, or later than another, wanted what is there: that is no refusal. A deployment that completed
    or whose rollback failed is not where the order leads.
    """
    if verb not in SAFE or deployment.phase not in _BACK:
        return None
    return f"{deployment.lease.id} is {deployment.phase} already, since entry {deployment.ended_seq}; nothing is added"


def what_follows(deployment: Deployment, verb: str, *, skip_bake: bool = False) -> str:
    """What the executor does with an order that the law takes now. `deployment`: as it was before the order."""
    if verb == "promote":
        return _promoted(deployment, skip_bake=skip_bake)
    if verb == "resume":
        return "the executor goes on"
    if verb == "start":
        return "the executor starts it" + (" once it is resumed" if _paused(deployment) else "")
    held = deployment.halted_cause == "tainted" and deployment.rollback_order is None
    if deployment.phase is Phase.HALTED and held and verb != "rollback":
        return "it is halted already; calyx rollback takes it back"
    ordered = deployment.rollback_order is not None or deployment.abort_order is not None
    if not held and (ordered or deployment.phase in {Phase.HALTED, Phase.ROLLING_BACK}):
        back = "it is being taken back already"
        return f"{back}, which a pause does not stop" if verb == "pause" else back
    if verb == "pause":
        told = "it stays paused" if _paused(deployment) else "the executor pauses it"
        end = "goes back" if deployment.started else "ends"
        return f"{told}; calyx resume lets it go on until {goes_back_after(deployment)}, when it {end} by itself"
    if deployment.live and not deployment.started:
        return "the executor ends it before anything is touched"
    return "the executor ends it, and takes back what it touched" if verb == "abort" else "the executor takes it back"


def _promoted(deployment: Deployment, *, skip_bake: bool) -> str:
    following = deployment.next_tier
    what = "the executor completes it" if following is None else f"the executor goes on to {following} %"
    when = [] if skip_bake else [f"the tier {deployment.tier} % passed"]
    if _paused(deployment):
        when.append("it is resumed")
    return f"{what} once {' and '.join(when)}" if when else what


def _paused(deployment: Deployment) -> bool:
    return deployment.phase is Phase.PAUSED or deployment.pause_order is not None
