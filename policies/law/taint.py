"""What a key that is revoked as compromised had a part in: counted cosignatures that would not count today.

Nothing of it is undone by itself: what is in force stays, what is completed stays, and what runs goes to HALTED and
asks a human. This only names it, for the audit, for the history, and for whoever is about to revoke a key.

Source: docs/FORMAT.md, quorum and forward events.
"""

from __future__ import annotations

from dataclasses import dataclass

from keys.principals import TrustRoot
from policies.fold.state import State
from policies.law.case import vote_compromised


@dataclass(frozen=True, slots=True)
class Taint:
    """A counted cosignature by a compromised key. `kind`: of what counted it, a deployment for a lease. `name`: the
    lease's id, else the kind. `digest`: of the lease or proposal. `entry`: of the cosignature. `keyid`: of the key.
    `counted_at`: the claim, or the entry that brought the proposal into force. `live`: a deployment that still runs.
    """

    kind: str
    name: str
    digest: str
    entry: int
    keyid: str
    counted_at: int
    live: bool

    @property
    def text(self) -> str:
        """One line for a person; `name` is as the ledger has it."""
        what = f"the {self.kind} in force from" if self.kind != "deployment" else f"{self.name}, claimed in"
        return f"{what} entry {self.counted_at} counted entry {self.entry}, by a key that was revoked as compromised"


def find_tainted(state: State, trust: TrustRoot) -> list[Taint]:
    """Everything that counted a cosignature which `trust` calls compromised, by the entry that counted it."""
    if not trust.compromised:
        return []
    found = []
    for digest, deployment in state.deployments.items():
        name, at = deployment.lease.id, deployment.claim_seq
        found += [
            Taint("deployment", name, digest, v.seq, v.signer.keyid, at, deployment.live)
            for v in state.leases[digest].ballot.votes
            if v.seq in deployment.counted and vote_compromised(trust, v)
        ]
    for proposal in state.proposals.values():
        if proposal.decided_seq is not None:
            found += [
                Taint(proposal.kind, proposal.kind, proposal.digest, v.seq, v.signer.keyid, proposal.decided_seq, False)
                for v in proposal.ballot.votes
                if v.seq in proposal.counted and vote_compromised(trust, v)
            ]
    return sorted(found, key=lambda taint: (taint.counted_at, taint.entry))
