"""The state that the entries fold into: what is in force, what was proposed, and what every deployment did.

`policies.law.step` alone changes it. Mappings are keyed by statement digest (64 hex digits) unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from keys.principals import TrustRoot
from keys.values import ZERO_HASH, fold_id
from policies.fleet import Fleet
from policies.fold.deployment import Deployment
from policies.fold.history import History
from policies.kinds import Continues, FleetProposal, Intent, Lease, PolicyProposal, Review, TrustProposal
from policies.matrix import CapabilityMatrix


@dataclass(frozen=True, slots=True)
class SignerRef:
    """Who signed an entry, with which key. `raw`: public key, 64 hex digits. `custodian`: as declared at that entry."""

    principal: str
    kind: str
    keyid: str
    raw: str
    custodian: str


@dataclass(frozen=True, slots=True)
class Vote:
    """A cosignature as the fold keeps it. `user_verified`: the root of that position asked the key's token to verify
    its user, so the verifier saw that it did. Times: seconds since 1970.
    """

    seq: int
    digest: str
    leaf: str
    signer: SignerRef
    role: str
    review: str | None
    head_size: int
    made_at: int
    time: int
    user_verified: bool = False


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Stops cosignatures of `principal` whose head is not past `seq`."""

    seq: int
    principal: str


@dataclass(frozen=True, slots=True)
class ReviewNote:
    """An agent's verdict on a lease."""

    seq: int
    digest: str
    signer: SignerRef
    review: Review


@dataclass(slots=True)
class Ballot:
    """What was said about one proposal."""

    votes: list[Vote] = field(default_factory=list)
    withdrawals: list[Withdrawal] = field(default_factory=list)
    _standing: list[Vote] = field(default_factory=list)
    _until: dict[str, int] = field(default_factory=dict)
    """Principal -> seq of its newest withdrawal."""

    def withdrawn(self, vote: Vote) -> bool:
        """Whether its signer took a vote back, having seen at least what it had seen when it voted."""
        return vote.head_size <= self._until.get(fold_id(vote.signer.principal), -1)

    def withdrawn_in(self, vote: Vote) -> int:
        """The entry of its signer's newest withdrawal; for a vote that `withdrawn` says is one."""
        return self._until[fold_id(vote.signer.principal)]

    def standing(self) -> list[Vote]:
        """Votes that were not withdrawn, by seq: at most one for each key and role."""
        return list(self._standing)

    def add_vote(self, vote: Vote) -> None:
        """Take a vote in. It does not stand when a withdrawal says so that came before it."""
        self.votes.append(vote)
        if not self.withdrawn(vote):
            self._standing.append(vote)

    def add_withdrawal(self, withdrawal: Withdrawal) -> None:
        """Take a withdrawal in."""
        self.withdrawals.append(withdrawal)
        # Ids are the same ignoring case: a root that spells one anew gives nobody a withdrawn vote back.
        self._until[fold_id(withdrawal.principal)] = withdrawal.seq
        self._standing = [vote for vote in self._standing if not self.withdrawn(vote)]


@dataclass(slots=True)
class LeaseState:
    """A lease and what was said about it before its claim. `before`, `after`: instance -> tree."""

    digest: str
    seq: int
    time: int
    lease: Lease
    proposer: SignerRef
    before: dict[str, str]
    after: dict[str, str]
    paths: tuple[str, ...]
    ballot: Ballot = field(default_factory=Ballot)
    reviews: dict[str, ReviewNote] = field(default_factory=dict)
    denied: Withdrawal | None = None
    claim_seq: int | None = None
    preflight: list[tuple[int, str, str]] = field(default_factory=list)
    """Preflight failures: seq, code, text."""


GovernanceKind: TypeAlias = TrustProposal | PolicyProposal | FleetProposal


@dataclass(slots=True)
class ProposalState:
    """A proposal of trust, policy or fleet. `decided_seq`: the entry that brought it into force, with the cosignatures
    in `counted`, by seq.
    """

    digest: str
    seq: int
    kind: str
    proposal: GovernanceKind
    fleet: Fleet | None
    ballot: Ballot = field(default_factory=Ballot)
    decided_seq: int | None = None
    counted: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TermState:
    """The newest takeover."""

    seq: int
    epoch: int
    by: str
    leaf: str


@dataclass(frozen=True, slots=True)
class TouchNote:
    """The newest deployment that intended to change an instance."""

    seq: int
    deployment: str


@dataclass(frozen=True, slots=True)
class MessageNote:
    """A message that was said; its text is in its entry."""

    seq: int
    by: str
    to: str | None
    type: str
    reply_to: str | None


@dataclass(slots=True)
class State:
    """Everything that the law knows after the entries so far."""

    history: History = field(default_factory=History)
    ledger: str = ZERO_HASH
    """Leaf of record 0: the ledger's identity."""
    origin: str = ""
    log_key: str = ""
    """Checkpoint verifier key."""
    continues: Continues | None = None
    """The ledger that this one says it succeeds, and the last head of it."""
    trust: TrustRoot | None = None
    trust_digest: str = ZERO_HASH
    policy: CapabilityMatrix | None = None
    policy_digest: str = ZERO_HASH
    fleet: Fleet | None = None
    fleet_digest: str = ZERO_HASH
    policies: dict[str, CapabilityMatrix] = field(default_factory=dict)
    """Every policy that was ever in force: a lease's retention is that of its own."""
    fleets: dict[str, Fleet] = field(default_factory=dict)
    """Every fleet that was ever in force: a rollback goes to the machines that its lease was signed for."""
    key_owners: dict[str, str] = field(default_factory=dict)
    """Raw public key (hex) of any root so far -> principal id: a key is never reassigned."""
    kinds: dict[str, str] = field(default_factory=dict)
    """Folded id of every principal of any root so far -> its kind: the kind fixes how the keys sign."""
    ids: dict[str, str] = field(default_factory=dict)
    """Folded id of every intent and lease -> statement digest."""
    intents: dict[str, Intent] = field(default_factory=dict)
    """Folded intent id -> intent."""
    proposals: dict[str, ProposalState] = field(default_factory=dict)
    leases: dict[str, LeaseState] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    """Target -> lease digest of its live deployment."""
    touched: dict[tuple[str, str], TouchNote] = field(default_factory=dict)
    """Address and root -> the newest deployment with a TIER_INTENT there."""
    term: TermState | None = None
    messages: dict[str, MessageNote] = field(default_factory=dict)
    rollback_orders: dict[str, set[str]] = field(default_factory=dict)
    """Target -> deployments that had ended when their rollback was ordered, and did not begin it."""
    owed_reviews: dict[str, int] = field(default_factory=dict)
    """Digest of a claimed break-glass lease that nobody reviewed -> time by which its review is due, inclusive."""
    open_leases: dict[str, int] = field(default_factory=dict)
    """Every lease that was neither claimed nor denied -> until when it can be claimed, seconds since 1970; in the order
    of their entries. Long lapsed ones may be missing (`policies.law.registers`)."""
    returnable: dict[str, int | None] = field(default_factory=dict)
    """Deployments that ended and may be taken back -> until when, seconds since 1970; None after a failed rollback.
    Those long past it may be missing."""
    completed: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """Address and root -> the newest completed deployments there that were not taken back, at most two, in order."""

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.history.size

    def in_force_since(self, digest: str) -> int:
        """The entry that brought the trust root, policy or fleet with this digest into force."""
        proposal = self.proposals.get(digest)
        return 0 if proposal is None or proposal.decided_seq is None else proposal.decided_seq

    def id_seq(self, identifier: str) -> int | None:
        """The entry of the intent or lease with this id, ignoring case."""
        return self.history.find(self.ids.get(fold_id(identifier), ""))

    def find_lease(self, name: str) -> LeaseState | None:
        """The lease with this id (ignoring case) or digest."""
        return self.leases.get(name) or self.leases.get(self.ids.get(name.lower(), ""))
