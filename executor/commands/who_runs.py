"""Which machine principals run on a home, and what that means for a lease that a person just approved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from keys.errors import Unavailable

if TYPE_CHECKING:
    from executor.homes.home import Home
    from policies.fold.state import LeaseState, State

RUNNERS: Final = ("cp14", "cp18", "cp19", "cp20", "notify")
REVIEWERS: Final = {"sentinel": "cp14", "validator": "cp18"}
"""Role of a review -> the agent that gives it."""
_UNSEEN: Final = "whether they run is not seen from another machine"


def describe_runs(running: Sequence[str] | None) -> str:
    """What runs, in a line. `running`: as `Home.running` gives it."""
    if running is None:
        return "is not seen from another machine"
    return ", ".join(running) or "nothing here: calyx agent run NAME reviews, calyx executor run deploys"


def describe_need(home: Home, state: State, lease: LeaseState, now: int) -> list[str]:
    """What an approval alone does not bring about: the agent's review, and an executor. One line each. `now`: seconds
    since 1970.
    """
    try:
        running = home.running(RUNNERS)
    except Unavailable:
        # The approval is in the ledger: advice that cannot be given must not look as if it were not.
        return []
    lines = [] if lease.lease.rule == "break_glass" else _reviews(state, lease, now, running)
    if running is not None and "cp20" not in running:
        lines.append("no executor runs here: calyx executor run deploys it")
    return lines


def _reviews(state: State, lease: LeaseState, now: int, running: Sequence[str] | None) -> list[str]:
    from policies.law.two_key import examine_lease

    asked = () if state.policy is None else state.policy.deploy_production.reviews
    given = {note.review.role for note in lease.reviews.values()}
    lacking = [REVIEWERS[role] for role in asked if role not in given]
    if lacking:
        return [_all_of(lacking, running)]
    # The policy asks for none by name, but one agent's key is needed all the same.
    failed = () if given else (step.missing for step in examine_lease(state, lease.digest, now) if not step.ok)
    return [_one_of([*REVIEWERS.values()], running)] if "agent" in failed else []


def _all_of(agents: Sequence[str], running: Sequence[str] | None) -> str:
    """That a lease waits for all of these, and which have to be started for that."""
    said = f"it does not run before {' and '.join(agents)} {'has' if len(agents) == 1 else 'have'} reviewed it"
    if running is None:
        return f"{said}; {_UNSEEN}"
    away = [f"calyx agent run {name}" for name in agents if name not in running]
    if away:
        return f"{said}; not running here: {' and '.join(away)}"
    return f"{said}; running here: {' and '.join(agents)}"


def _one_of(agents: Sequence[str], running: Sequence[str] | None) -> str:
    """That a lease waits for any of these, and which will do it, or could be started for that."""
    said = f"it does not run before {' or '.join(agents)} has reviewed it"
    if running is None:
        return f"{said}; {_UNSEEN}"
    here = [name for name in agents if name in running]
    if here:
        return f"{said}; running here: {' and '.join(here)}"
    return f"{said}; not running here: {' or '.join(f'calyx agent run {name}' for name in agents)}"
