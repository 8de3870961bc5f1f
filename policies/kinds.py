"""The kinds of statement and the exact shape of each predicate.

Every field is present, null stands for none, unknown fields are refused. What an `event` tells is in
`policies.event_kinds`, the law for each kind in `policies.law`. The bytes are drawn in docs/FORMAT.md.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta
from pydantic import AfterValidator, Field

from keys.plain import Plain
from keys.principals import TrustRoot
from keys.values import Count, Hash, Ident, Model, Nonce, Seq, Text, Time, parse_time, spelled, spelled_plainly
from ledger.objects import ObjectRef
from ledger.statement import HeadRef, PlainPredicate
from policies.fleet import Hooks
from policies.matrix import CapabilityMatrix, Gate, Percent

ABSENT: Final = "absent"
MAX_INLINE_NAMES: Final = 256
MAX_GROUPS: Final = 128
"""Groups of instances in one statement: with 128 of them it still fits into a record."""

_TREE: Final = ("[0-9a-f]{64}|absent", "64 lower-case hex digits or absent")
Tree: TypeAlias = Annotated[str, spelled(*_TREE), spelled_plainly(*_TREE)]
"""A tree digest, or `absent` for nothing deployed yet."""
ChangedPath: TypeAlias = Annotated[str, Field(min_length=1, max_length=4096)]
RuleName: TypeAlias = Literal["two_key", "break_glass"]

Names: TypeAlias = (
    Annotated[Seq[Ident], Field(max_length=MAX_INLINE_NAMES), Meta(max_length=MAX_INLINE_NAMES)] | ObjectRef
)
"""Instance names: inline, at most 256, or an object that is the canonical JSON array of any number of them."""


def check_paths(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Changed paths that are plain, sorted by their bytes and unique. Raises: ValueError."""
    encoded = [path.encode() for path in paths]
    if any(a >= b for a, b in pairwise(encoded)):
        raise ValueError("changed paths are not sorted by their bytes and unique")
    # A rule allows what lies below a prefix, and `static/../etc` only looks as if it did.
    if any(not {"", ".", ".."}.isdisjoint(path.removesuffix("/").split("/")) for path in paths):
        raise ValueError("a changed path is not a plain relative path")
    return paths


Paths: TypeAlias = (
    Annotated[Seq[ChangedPath], Field(max_length=MAX_INLINE_NAMES), AfterValidator(check_paths)] | ObjectRef
)
"""Changed paths, sorted by their UTF-8 bytes, a directory with a `/` at its end: inline or an object, as names."""


class Predicate(Model):
    """What every predicate says: who, in which ledger, having seen what, when."""

    by: Ident
    ledger: Hash
    head: HeadRef
    nonce: Nonce
    made_at: Time


class Continues(Model):
    """The ledger, and the last head of it, that a genesis succeeds."""

    ledger: Hash
    head: HeadRef


class Genesis(Predicate):
    """Record 0. `log_key` is the checkpoint verifier key (C2SP vkey, its name is `origin`)."""

    origin: Annotated[str, Field(min_length=1, max_length=255)]
    log_key: Annotated[str, Field(max_length=512)]
    trust: TrustRoot
    policy: CapabilityMatrix
    continues: Continues | None


class TrustProposal(Predicate):
    """A new trust root, to follow the one that `base` brought into force."""

    base: Hash
    approve_by: Time
    reason: Text
    trust: TrustRoot


class PolicyProposal(Predicate):
    """A new capability matrix."""

    base: Hash
    approve_by: Time
    reason: Text
    policy: CapabilityMatrix


class FleetProposal(Predicate):
    """A new fleet; the body is an object."""

    base: Hash
    approve_by: Time
    reason: Text
    fleet: ObjectRef


class Intent(PlainPredicate, frozen=True):
    """What someone wants to change, and why."""

    id: Ident
    target: Ident
    what: Text
    why: Text


class Artifact(Model):
    """What is deployed. `directory`: the object is a tree manifest, so its hash is the tree digest after the change.
    `patch`: the object is a git-format patch that leads from each `before` to its `after`.
    """

    type: Literal["directory", "patch"]
    sha256: Hash
    size: Count


class Change(Model):
    """Instances that go from one tree to another."""

    before: Tree
    after: Hash
    instances: Names


class Lease(Predicate):
    """A proposal to change production. `not_before`, `approve_by` <= `execute_by` <= `complete_by`, all inclusive."""

    id: Ident
    intent: Ident
    capability: Ident
    target: Ident
    fleet: Hash
    policy: Hash
    rule: RuleName
    artifact: Artifact
    changes: Annotated[Seq[Change], Field(min_length=1, max_length=MAX_GROUPS)]
    paths: Paths
    not_before: Time
    approve_by: Time
    execute_by: Time
    complete_by: Time
    tiers: Annotated[Seq[Percent], Field(min_length=1, max_length=100)]
    bake_s: Count
    interval_s: Annotated[Count, Field(ge=1)]
    gates: Annotated[Seq[Gate], Field(max_length=32)]
    start: Literal["auto", "command"]
    promotion: Literal["auto", "manual"]
    hooks: Hooks
    reason: Text | None


class Review(PlainPredicate, frozen=True):
    """An agent's verdict on a lease. `findings`: an object with the report, or null."""

    role: Literal["sentinel", "validator"]
    verdict: Literal["pass", "fail"]
    summary: Text
    findings: ObjectRef | None


class Cosignature(PlainPredicate, frozen=True):
    """Approval of a proposal in one role. `review`: digest of an agent's own review, null for people."""

    role: Literal["approver", "sentinel", "validator", "governor", "operator"]
    review: Hash | None


class Objection(PlainPredicate, frozen=True):
    """`withdraw` stops the signer's own cosignatures so far; `deny` ends a lease."""

    verb: Literal["withdraw", "deny"]
    reason: Text


class Term(PlainPredicate, frozen=True):
    """An executor takes over."""

    epoch: Count
    reason: Text


class CohortTier(Plain, frozen=True):
    """The instances that a tier adds, in cohort order."""

    tier: Percent
    instances: Names


class SeenTree(Plain, frozen=True):
    """A tree digest that was found on instances."""

    tree: Tree
    instances: Names


class Claim(PlainPredicate, frozen=True):
    """An executor takes a lease: the two-key rule held, these cosignatures (by seq) counted, these trees were there.

    `reverse`: an object with a patch for each change from a tree, that was seen to lead from its `after` back to its
    `before`; null where there is nothing to lead back to, or no patch can. Nothing is undone with it; it is evidence.
    """

    type: Literal["VERIFIED_2KEY"]
    epoch: Count
    counted: Annotated[Seq[Count], Meta(min_length=2, max_length=2)]
    cohorts: Annotated[Seq[CohortTier], Meta(min_length=1, max_length=100)]
    seen: Annotated[Seq[SeenTree], Meta(min_length=1, max_length=MAX_GROUPS)]
    reverse: ObjectRef | None


class Command(PlainPredicate, frozen=True):
    """A person's order to a deployment. `state`: leaf of the deployment's newest claim, executor event or command, for
    `start`, `resume` and `promote`, else null. `tier`: the tier to leave, for `promote`, else null.
    """

    verb: Literal["start", "pause", "resume", "promote", "abort", "rollback"]
    expires_at: Time
    state: Hash | None
    tier: Percent | None
    skip_bake: bool
    reason: Text

    def __post_init__(self) -> None:
        parse_time(self.expires_at)


class Message(PlainPredicate, frozen=True):
    """A question, an acknowledgement or an answer between principals. `reply_to`: digest of another message."""

    type: Literal["question", "acknowledgement", "answer"]
    to: Ident | None
    reply_to: Hash | None
    text: Text


AnyPredicate: TypeAlias = Predicate | PlainPredicate
"""What a statement says, in the type of its kind."""
