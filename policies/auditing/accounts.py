"""What became of deployments: whether a finished one accounts for every instance, and what runs still."""

from __future__ import annotations

from collections.abc import Iterable

from keys.words import counted
from policies.fold.deployment import Deployment, Phase
from policies.fold.state import State
from policies.law.taint import find_tainted


def unaccounted(deployment: Deployment) -> list[str]:
    """Instances of a finished deployment of which the ledger does not say how they ended, by name."""
    match deployment.phase:
        case Phase.COMPLETED:
            left = deployment.before.keys() - deployment.applied
        case Phase.ROLLED_BACK:
            left = deployment.intended - deployment.restored
        case Phase.ROLLBACK_FAILED:
            left = deployment.intended - deployment.restored - deployment.failed
        case _:
            left = set()
    return sorted(left)


def find_unaccounted(deployments: Iterable[Deployment]) -> Iterable[tuple[int, str]]:
    """Entry of the claim, and one line, for each instance that a finished deployment does not account for."""
    for deployment in deployments:
        for instance in unaccounted(deployment):
            text = f"{deployment.lease.id} ended, and nothing says how instance {instance} did"
            yield deployment.claim_seq, text


def note_standing(state: State) -> list[str]:
    """Lines on what is no fault and should be known: deployments that live, taint, and the ledger before this one."""
    live = sorted((state.deployments[digest] for digest in state.live.values()), key=lambda each: each.claim_seq)
    notes = [f"{each.lease.id} is {each.phase} on {each.lease.target}" for each in live]
    if state.trust is not None:
        notes += [f"tainted: {taint.text}" for taint in find_tainted(state, state.trust)]
    if state.continues is not None:
        head = state.continues.head
        notes.append(
            f"it says that it continues ledger {state.continues.ledger} after {counted(head.size, 'entry')}, "
            f"head {head.hash}; "
            "an audit of that ledger is another one"
        )
    return notes
