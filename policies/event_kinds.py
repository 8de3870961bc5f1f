"""What an `event` tells: the exact shape of each type. Who signs which, and when, is in `policies.law.events`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from keys.values import Count, DecimalText, Hash, Ident, Model, Seq, Text
from ledger.objects import ObjectRef
from policies.kinds import MAX_GROUPS, Names, Predicate, SeenTree, Tree
from policies.matrix import Percent


class Started(Model):
    """The deployment begins."""

    type: Literal["STARTED"]


class TierIntent(Model):
    """The next effects are those on this tier's instances."""

    type: Literal["TIER_INTENT"]
    tier: Percent


class InstanceApplied(Model):
    """An instance was flipped, reloaded and probed, and runs `tree`."""

    type: Literal["INSTANCE_APPLIED"]
    tier: Percent
    instance: Ident
    tree: Hash


class TierApplied(Model):
    """Every instance of the tier is applied."""

    type: Literal["TIER_APPLIED"]
    tier: Percent


class BakeStarted(Model):
    """The tier is watched from this entry's time on."""

    type: Literal["BAKE_STARTED"]
    tier: Percent


class CanaryPromoted(Model):
    """The tier passed; the next one is `to`."""

    type: Literal["CANARY_PROMOTED"]
    tier: Percent
    to: Percent


class Paused(Model):
    """No step forward until resumed. `command`: digest of the order, null when the executor paused by itself."""

    type: Literal["PAUSED"]
    command: Hash | None
    cause: Ident
    text: Text


class Resumed(Model):
    """Forward steps go on."""

    type: Literal["RESUMED"]
    command: Hash | None


class Halted(Model):
    """No step forward any more. `evidence`: digest of the verdict or command that caused it, or null."""

    type: Literal["HALTED"]
    cause: Ident
    gate: Ident | None
    evidence: Hash | None
    text: Text


class RollbackStarted(Model):
    """Every touched instance goes back to its tree before."""

    type: Literal["ROLLBACK_STARTED"]
    cause: Ident
    command: Hash | None


class InstanceRestored(Model):
    """An instance runs its tree from before again (`absent`: stopped, removed). `rebuilt`: made again from objects.
    `warning`: what went wrong beside that and needs a person, such as a hook that failed; null for nothing.
    """

    type: Literal["INSTANCE_RESTORED"]
    instance: Ident
    tree: Tree
    rebuilt: bool
    warning: Text | None


class RolledBack(Model):
    """Every touched instance is restored."""

    type: Literal["ROLLED_BACK"]


class RollbackFailed(Model):
    """At least one instance could not be restored; a person must look."""

    type: Literal["ROLLBACK_FAILED"]
    instances: Names
    text: Text


class Completed(Model):
    """Every instance runs the new tree and the last tier passed."""

    type: Literal["COMPLETED"]


class Aborted(Model):
    """The deployment ended before anything was touched."""

    type: Literal["ABORTED"]
    cause: Ident
    text: Text


class PreflightFailed(Model):
    """Why an executor did not claim a lease; nothing was consumed."""

    type: Literal["PREFLIGHT_FAILED"]
    code: Ident
    instance: Ident | None
    text: Text


class GateValue(Model):
    """A measured value, null for none. `requests`: how many requests it rests on, null where that means nothing.
    `rest`: the same over the instances that still run the old release, for a gate against it; null where there is none.
    """

    gate: Ident
    value: DecimalText | None
    requests: Count | None
    rest: DecimalText | None


class Baseline(Model):
    """Every gate's value before the first tier; `values` is null when the target came from `absent`."""

    type: Literal["BASELINE"]
    values: Annotated[Seq[GateValue], Field(max_length=32)] | None


class Sample(Model):
    """One interval's observation of a tier. `n` rises; `trees`: digests seen; `raw`: object with the raw values."""

    type: Literal["SAMPLE"]
    tier: Percent
    n: Annotated[Count, Field(ge=1)]
    values: Annotated[Seq[GateValue], Field(max_length=32)]
    trees: Annotated[Seq[SeenTree], Field(max_length=MAX_GROUPS)]
    raw: ObjectRef | None


class Verdict(Model):
    """The judgement of a tier at sample `n`. `gate`: the one that decided, null when all pass."""

    type: Literal["VERDICT"]
    tier: Percent
    n: Count
    verdict: Literal["breach", "abort", "missing", "inconclusive", "pass"]
    gate: Ident | None
    text: Text


class Sanity(Model):
    """The validator's check of a running deployment."""

    type: Literal["SANITY"]
    verdict: Literal["pass", "fail"]
    report: ObjectRef | None
    text: Text


Detail: TypeAlias = Annotated[
    Started
    | TierIntent
    | InstanceApplied
    | TierApplied
    | BakeStarted
    | CanaryPromoted
    | Paused
    | Resumed
    | Halted
    | RollbackStarted
    | InstanceRestored
    | RolledBack
    | RollbackFailed
    | Completed
    | Aborted
    | PreflightFailed
    | Baseline
    | Sample
    | Verdict
    | Sanity,
    Field(discriminator="type"),
]


class Event(Predicate):
    """What a deployment did or what was seen of it. `epoch`: the term's, for the executor's events, else null."""

    epoch: Count | None
    detail: Detail
