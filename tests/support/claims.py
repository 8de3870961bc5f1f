"""Claims that count what they are told to, lawful or not."""

from __future__ import annotations

from typing import Any

from policies.fold.state import State
from policies.law.two_key import cohorts_for


def claim_fields(state: State, lease: tuple[str, str], *counted: int) -> dict[str, Any]:
    """What a claim says that counts what it is told to. None named: the last two votes."""
    known = state.leases[lease[1]]
    seqs = list(counted) or [vote.seq for vote in known.ballot.votes][-2:]
    while len(seqs) < 2:
        seqs.insert(0, 0)
    trees: dict[str, list[str]] = {}
    for instance, tree in known.before.items():
        trees.setdefault(tree, []).append(instance)
    cohorts = cohorts_for(state, known, state.history.leaf(seqs[-1]))
    return {
        "type": "VERIFIED_2KEY",
        "epoch": state.term.epoch if state.term else 0,
        "counted": seqs,
        "cohorts": [{"tier": tier, "instances": list(names)} for tier, names in cohorts.items()],
        "seen": [{"tree": tree, "instances": names} for tree, names in trees.items()],
        "reverse": None,
    }
