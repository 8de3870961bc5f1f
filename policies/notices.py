"""What people may be told of: the closed list of notices that a policy's `notify` sends to channels.

Names are checked where a policy is edited (`policies.matrix_file`), never by the law: a ledger stays lawful when a
later release tells of more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

ALL: Final = "all"
"""Stands in a policy for every notice."""

NOTICES: Final[dict[str, str]] = {
    "LEASE_PROPOSED": "a lease asks for approvals",
    "BREAK_GLASS_PROPOSED": "a break-glass lease asks for two humans",
    "BREAK_GLASS_CLAIMED": "a break-glass lease was claimed; where nobody reviewed it, a review is owed",
    "BREAK_GLASS_REVIEWED": "an agent reviewed a break-glass lease",
    "REVIEW_OVERDUE": "a break-glass review is overdue and stops other claims; again each day",
    "COSIGNED": "somebody approved a lease or proposal",
    "DENIED": "a lease was denied",
    "WITHDRAWN": "somebody took their approval back",
    "CLAIMED": "a lease became a deployment",
    "STARTED": "a rollout began",
    "CANARY_PROMOTED": "a tier passed, and the next one follows",
    "AWAITS_START": "a claimed deployment waits for `calyx start`",
    "AWAITS_PROMOTION": "a tier passed and waits for `calyx promote`",
    "PAUSED": "a rollout is paused",
    "RESUMED": "a paused rollout goes on",
    "HALTED": "a rollout was stopped for good",
    "ROLLBACK_STARTED": "a deployment is being taken back",
    "ROLLED_BACK": "every touched instance is restored",
    "ROLLBACK_FAILED": "an instance could not be restored; a person must look",
    "COMPLETED": "every instance runs the new tree",
    "ABORTED": "a deployment ended before anything was touched",
    "PREFLIGHT_FAILED": "a lease carries both keys and could not be claimed",
    "TRUST_PROPOSED": "a trust root asks for votes",
    "POLICY_PROPOSED": "a policy asks for votes",
    "FLEET_PROPOSED": "a fleet asks for votes",
    "TRUST_IN_FORCE": "another trust root is in force",
    "POLICY_IN_FORCE": "another policy is in force",
    "FLEET_IN_FORCE": "another fleet is in force",
    "TRUST_EXPIRING": "the trust root expires in 30 days, in 7 days, in a day, or did expire",
}

LOUD: Final = frozenset({"BREAK_GLASS_PROPOSED", "BREAK_GLASS_CLAIMED", "BREAK_GLASS_REVIEWED", "REVIEW_OVERDUE"})
"""Notices that go to every channel, whatever the policy says."""


def unknown_notices(names: Iterable[str]) -> list[str]:
    """Those names that are no notice and not `all`, in their order."""
    return [name for name in names if name != ALL and name not in NOTICES]
