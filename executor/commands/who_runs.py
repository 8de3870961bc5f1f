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
    joined = " and "
    if not lacking and not given:
        # The policy asks for none by name, but one agent's key is needed all the same.
        failed = {step.missing for step in examine_lease(state, lease.digest, now) if not step.ok}
        lacking, joined = ([*REVIEWERS.values()] if "agent" in failed else []), " or "
    if not lacking:
        return []
    if running is None:
        where = "whether they run is not seen from another machine"
    elif away := [name for name in lacking if name not in running]:
        where = f"not running here: {joined.join(f'calyx agent run {name}' for name in away)}"
    else:
        where = f"running here: {joined.join(lacking)}"
    if joined == " or " and running is not None and any(name in running for name in lacking):
        where = f"running here: {' and '.join(name for name in lacking if name in running)}"
    have = "has" if len(lacking) == 1 or joined == " or " else "have"
    return [f"it does not run before {joined.join(lacking)} {have} reviewed it; {where}"]
