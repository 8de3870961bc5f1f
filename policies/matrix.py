"""The capability matrix: what machines may do, phase by phase, and the terms of a production deployment.

People edit it as YAML (`policies/capability_matrix.yaml`, read by `policies.matrix_file`); what is signed and obeyed is
the canonical JSON of `CapabilityMatrix` inside a genesis or policy statement.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Annotated, Literal, Self, TypeAlias

from msgspec import Meta
from pydantic import Field, model_validator

from keys.values import DecimalText, Ident, Model, One, Seq
from policies.fleet import RELATIVE, Seconds, Word

Percent: TypeAlias = Annotated[int, Field(ge=1, le=100), Meta(ge=1, le=100)]
PathRule: TypeAlias = Annotated[str, Field(min_length=1, max_length=1024, pattern=RELATIVE)]
"""A path below the root, exact, or a prefix when it ends in `/`."""
ReviewRole: TypeAlias = Literal["sentinel", "validator"]


class Gate(Model):
    """One health limit.

    `source`: `tes` (points 0 to 100), `error_rate`, `cpu`, `memory` (percent 0 to 100).
    `against`: `absolute` compares the value with `limit`; `baseline` compares its distance from the value before the
    first tier; `rest` its distance from the instances that still run the old release. Where that other value does not
    exist (a first deployment, no rest), `absolute` is the limit instead, so it is mandatory for the last two.
    `breach`: the side on which a value is bad. `for_s`: how long it must stay bad before it counts. `min_samples`:
    samples needed before the gate can pass. `missing_s`: how long no value may come before that is a reason to halt.
    `min_requests`: requests in an interval below which `error_rate` says nothing.
    """

    name: Ident
    source: Literal["tes", "error_rate", "cpu", "memory"]
    against: Literal["absolute", "baseline", "rest"]
    breach: Literal["above", "below"]
    limit: DecimalText
    absolute: DecimalText | None
    for_s: Seconds
    min_samples: Annotated[int, Field(ge=1, le=10_000)]
    missing_s: Seconds
    min_requests: Annotated[int, Field(ge=0, le=1_000_000_000)]

    @model_validator(mode="after")
    def _relative_has_absolute(self) -> Self:
        if self.against != "absolute" and self.absolute is None:
            raise ValueError("a gate against baseline or rest needs `absolute` for when there is none")
        return self


class Phase(Model):
    """A phase of the matrix. Only what an `implemented` phase lists is possible."""

    name: Ident
    status: Literal["implemented", "pending"]
    capabilities: Annotated[Seq[Ident], Field(max_length=64)]


class TargetRule(Model):
    """What may change on one target. `paths`: exact paths, or prefixes that end in `/`."""

    paths: Annotated[Seq[PathRule], Field(min_length=1, max_length=1024)]


class Hook(Model):
    """A command that a deployment may run on a host: argv, no shell, a time limit."""

    argv: Annotated[Seq[Word], Field(min_length=1, max_length=64)]
    timeout_s: Seconds


class BreakGlass(Model):
    """Terms of an emergency under two human keys. `max_validity_s`: longest time from proposal to `execute_by`."""

    enabled: bool
    max_validity_s: Seconds
    review_within_s: Seconds
    user_verification: bool


class DeployProduction(Model):
    """Terms of the capability `deploy_production`.

    `tiers`: percents that every lease includes. `retention_s`: how long after `COMPLETED` a rollback needs no lease.
    `look`: approving needs a person who was shown the change. `notify`: notice (`policies.notices`) -> channel names.
    """

    enabled: bool
    targets: Annotated[dict[Ident, TargetRule], Field(max_length=1024)]
    tiers: Annotated[Seq[Percent], Field(min_length=1, max_length=100)]
    bake_s: Annotated[int, Field(ge=1, le=30 * 86_400)]
    interval_s: Annotated[int, Field(ge=1, le=86_400)]
    retention_s: Seconds
    start: Literal["auto", "command"]
    promotion: Literal["auto", "manual"]
    skip_bake: bool
    look: bool
    reviews: Annotated[Seq[ReviewRole], Field(max_length=2)]
    gates: Annotated[Seq[Gate], Field(min_length=1, max_length=32)]
    hooks: Annotated[dict[Ident, Hook], Field(max_length=64)]
    break_glass: BreakGlass
    notify: Annotated[dict[Ident, Annotated[Seq[Ident], Field(max_length=16)]], Field(max_length=64)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.tiers) != sorted(set(self.tiers)) or self.tiers[-1] != 100:
            raise ValueError("tiers must rise and end at 100")
        if len({gate.name.lower() for gate in self.gates}) != len(self.gates):
            raise ValueError("two gates share a name")
        if len(set(self.reviews)) != len(self.reviews):
            raise ValueError("a review role is listed twice")
        return self


class Phases(Model):
    """The four phases of the station."""

    reflect: Phase = Field(alias="0")
    review: Phase = Field(alias="1")
    sandbox: Phase = Field(alias="2")
    deploy: Phase = Field(alias="3")


class CapabilityMatrix(Model):
    """The policy in force."""

    version: One
    phases: Phases
    deploy_production: DeployProduction

    def deployment_enabled(self) -> bool:
        """Whether phase 3 is implemented, lists `deploy_production`, and that is switched on."""
        phase = self.phases.deploy
        return (
            phase.status == "implemented"
            and "deploy_production" in phase.capabilities
            and self.deploy_production.enabled
        )


def path_allowed(path: str, rules: Collection[str]) -> bool:
    """Whether the rules allow a changed path."""
    return not any(True for _ in paths_outside((path,), rules))


def paths_outside(paths: Iterable[str], rules: Collection[str]) -> Iterator[str]:
    """Those changed paths (a directory ends in `/`) that are none of the exact rules and below none of the prefixes."""
    exact = frozenset(rules)
    prefixes = tuple(rule for rule in rules if rule.endswith("/"))
    return (path for path in paths if path not in exact and not path.startswith(prefixes))
