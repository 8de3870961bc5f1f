"""What an `event` tells: the exact shape of each type. Who signs which, and when, is in `policies.law.events`."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final, Literal, TypeAlias, get_args

from msgspec import Meta

from keys.canonical import MAX_INTEGER
from keys.plain import Plain
from keys.values import Count, DecimalText, Hash, Ident, Seq, Text
from ledger.objects import ObjectRef
from ledger.statement import PlainPredicate
from policies.kinds import MAX_GROUPS, Names, SeenTree, Tree
from policies.matrix import Percent


def _type_of(name: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).upper()


class Detail(Plain, frozen=True, tag_field="type", tag=_type_of):
    """What one type of event tells. Its `type` is the name of its class, `TierIntent` as `TIER_INTENT`."""

    type: ClassVar[str]


class Started(Detail, frozen=True):
    """The deployment begins."""


class TierIntent(Detail, frozen=True):
    """The next effects are those on this tier's instances."""

    tier: Percent


class InstanceApplied(Detail, frozen=True):
    """An instance was flipped, reloaded and probed, and runs `tree`."""

    tier: Percent
    instance: Ident
    tree: Hash


class TierApplied(Detail, frozen=True):
    """Every instance of the tier is applied."""

    tier: Percent


class BakeStarted(Detail, frozen=True):
    """The tier is watched from this entry's time on."""

    tier: Percent


class CanaryPromoted(Detail, frozen=True):
    """The tier passed; the next one is `to`."""

    tier: Percent
    to: Percent


class Paused(Detail, frozen=True):
    """No step forward until resumed. `command`: digest of the order, null when the executor paused by itself."""

    command: Hash | None
    cause: Ident
    text: Text


class Resumed(Detail, frozen=True):
    """Forward steps go on."""

    command: Hash | None


class Halted(Detail, frozen=True):
    """No step forward any more. `evidence`: digest of the verdict or command that caused it, or null."""

    cause: Ident
    gate: Ident | None
    evidence: Hash | None
    text: Text


class RollbackStarted(Detail, frozen=True):
    """Every touched instance goes back to its tree before."""

    cause: Ident
    command: Hash | None


class InstanceRestored(Detail, frozen=True):
    """An instance runs its tree from before again (`absent`: stopped, removed). `rebuilt`: made again from objects.
    `warning`: what went wrong beside that and needs a person, such as a hook that failed; null for nothing.
    """

    instance: Ident
    tree: Tree
    rebuilt: bool
    warning: Text | None


class RolledBack(Detail, frozen=True):
    """Every touched instance is restored."""


class RollbackFailed(Detail, frozen=True):
    """At least one instance could not be restored; a person must look."""

    instances: Names
    text: Text


class Completed(Detail, frozen=True):
    """Every instance runs the new tree and the last tier passed."""


class Aborted(Detail, frozen=True):
    """The deployment ended before anything was touched."""

    cause: Ident
    text: Text


class PreflightFailed(Detail, frozen=True):
    """Why an executor did not claim a lease; nothing was consumed."""

    code: Ident
    instance: Ident | None
    text: Text


class GateValue(Plain, frozen=True):
    """A measured value, null for none. `requests`: how many requests it rests on, null where that means nothing.
    `rest`, `rest_requests`: the same over the instances that still run the old release, for a gate against it; null
    where there is none.
    """

    gate: Ident
    value: DecimalText | None
    requests: Count | None
    rest: DecimalText | None
    rest_requests: Count | None


class Baseline(Detail, frozen=True):
    """Every gate's value before the first tier; `values` is null when the target came from `absent`."""

    values: Annotated[Seq[GateValue], Meta(max_length=32)] | None


class Sample(Detail, frozen=True):
    """One interval's observation of a tier. `n` rises; `trees`: digests seen; `raw`: object with the raw values."""

    tier: Percent
    n: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
    values: Annotated[Seq[GateValue], Meta(max_length=32)]
    trees: Annotated[Seq[SeenTree], Meta(max_length=MAX_GROUPS)]
    raw: ObjectRef | None


class Verdict(Detail, frozen=True):
    """The judgement of a tier at sample `n`. `gate`: the one that decided, null when all pass."""

    tier: Percent
    n: Count
    verdict: Literal["breach", "abort", "missing", "inconclusive", "pass"]
    gate: Ident | None
    text: Text


class Sanity(Detail, frozen=True):
    """The validator's check of a running deployment."""

    verdict: Literal["pass", "fail"]
    report: ObjectRef | None
    text: Text


AnyDetail: TypeAlias = (
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
    | Sanity
)

DETAILS: Final[dict[str, type[Detail]]] = {str(model.__struct_config__.tag): model for model in get_args(AnyDetail)}
"""Type -> what an event of it tells."""
for _type, _model in DETAILS.items():
    _model.type = _type


class Event(PlainPredicate, frozen=True):
    """What a deployment did or what was seen of it. `epoch`: the term's, for the executor's events, else null."""

    epoch: Count | None
    detail: AnyDetail
