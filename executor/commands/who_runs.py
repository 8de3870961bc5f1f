"""Which machine principals run on a home, and what that means for a lease that a person just approved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from executor.home import Home
    from policies.state import LeaseState, State

RUNNERS: Final = ("cp14", "cp18", "cp19", "cp20", "notify")
REVIEWERS: Final = ("cp14", "cp18")
_AGENT_STEPS: Final = frozenset({5, 6, 9})
"""Steps of the two-key rule that an agent's review and key settle."""


def describe_runs(running: Sequence[str] | None) -> str:
    """What runs, in a line. `running`: as `Home.running` gives it."""
    if running is None:
        return "is not seen from another machine"
    return ", ".join(running) or "nothing here: calyx agent run NAME reviews, calyx executor run deploys"


def describe_need(home: Home, state: State, lease: LeaseState, now: int) -> list[str]:
    """What an approval alone does not bring about: the agent's review, and an executor. One line each. `now`: seconds
    since 1970.
    """
    from policies.two_key import examine_lease

    running = home.running(RUNNERS)
    failed = [step for step in examine_lease(state, lease.digest, now) if not step.ok]
    lines = []
    if lease.lease.rule == "two_key" and any(step.number in _AGENT_STEPS for step in failed) and not lease.reviews:
        lines.append(f"no agent has reviewed it yet, and it does not run before one has: {_reviewers(running)}")
    if running is not None and "cp20" not in running:
        lines.append("no executor runs here: calyx executor run deploys it")
    return lines


def _reviewers(running: Sequence[str] | None) -> str:
    if running is None:
        return "whether one runs is not seen from another machine"
    here = [name for name in REVIEWERS if name in running]
    if not here:
        return "none runs here: calyx agent run cp14, or cp18"
    return f"{here[0]} runs here" if len(here) == 1 else f"{' and '.join(here)} run here"
