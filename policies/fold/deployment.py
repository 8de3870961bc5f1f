"""The deployment's life as one table, and what the fold keeps of one deployment.

    CLAIMED -> DEPLOYING -> BAKING -> [PROMOTED -> DEPLOYING -> BAKING ->] ... -> COMPLETED -> (retention) ROLLING_BACK
    any of these before COMPLETED -> PAUSED -> back
    any after STARTED and before COMPLETED -> HALTED -> ROLLING_BACK -> ROLLED_BACK | ROLLBACK_FAILED -> ROLLING_BACK
    CLAIMED -> ABORTED

`MOVES` is the whole table. An event that it does not list for a phase is illegal there and changes nothing. Events that
do not move the phase (a result, a sample) are listed with the phase itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, TypeAlias

from pydantic import PlainSerializer

from keys.errors import LawRefused
from policies.kinds import Lease


class Phase(StrEnum):
    """Where a deployment is."""

    CLAIMED = "CLAIMED"
    DEPLOYING = "DEPLOYING"
    BAKING = "BAKING"
    PROMOTED = "PROMOTED"
    PAUSED = "PAUSED"
    HALTED = "HALTED"
    ROLLING_BACK = "ROLLING_BACK"
    ROLLED_BACK = "ROLLED_BACK"
    ROLLBACK_FAILED = "ROLLBACK_FAILED"
    COMPLETED = "COMPLETED"
    ABORTED = "ABORTED"

    # That of an Enum is computed in Python, and the table is asked for every event.
    __hash__ = str.__hash__


_P = Phase

LIVE: Final = frozenset({_P.CLAIMED, _P.DEPLOYING, _P.BAKING, _P.PROMOTED, _P.PAUSED, _P.HALTED, _P.ROLLING_BACK})
"""A target has at most one deployment in these phases."""

FORWARD: Final = frozenset({"STARTED", "TIER_INTENT", "BAKE_STARTED", "CANARY_PROMOTED", "RESUMED", "COMPLETED"})
"""Events that take a deployment on; everything else is a result, an observation or a step back."""

EXECUTOR_EVENTS: Final = frozenset(
    {
        *FORWARD,
        "INSTANCE_APPLIED",
        "TIER_APPLIED",
        "PAUSED",
        "HALTED",
        "ROLLBACK_STARTED",
        "INSTANCE_RESTORED",
        "ROLLED_BACK",
        "ROLLBACK_FAILED",
        "ABORTED",
        "PREFLIGHT_FAILED",
    }
)
MONITOR_EVENTS: Final = frozenset({"BASELINE", "SAMPLE", "VERDICT"})

LASTING_VERDICTS: Final = frozenset({"breach", "abort"})
"""Verdicts that no later one makes good: after them a deployment goes only back."""

_RESULTS_ANYWHERE: Final = (_P.DEPLOYING, _P.PAUSED, _P.HALTED, _P.ROLLING_BACK)

MOVES: Final[dict[tuple[Phase, str], Phase]] = {
    (_P.CLAIMED, "STARTED"): _P.DEPLOYING,
    (_P.CLAIMED, "ABORTED"): _P.ABORTED,
    (_P.DEPLOYING, "TIER_INTENT"): _P.DEPLOYING,
    (_P.PROMOTED, "TIER_INTENT"): _P.DEPLOYING,
    (_P.DEPLOYING, "BAKE_STARTED"): _P.BAKING,
    (_P.BAKING, "CANARY_PROMOTED"): _P.PROMOTED,
    (_P.BAKING, "COMPLETED"): _P.COMPLETED,
    # What was intended before a stop can still finish on the host; its result is recorded wherever the stop led.
    **{(phase, "INSTANCE_APPLIED"): phase for phase in _RESULTS_ANYWHERE},
    **{(phase, "TIER_APPLIED"): phase for phase in (_P.DEPLOYING, _P.PAUSED, _P.HALTED)},
    **{(phase, "PAUSED"): _P.PAUSED for phase in (_P.CLAIMED, _P.DEPLOYING, _P.BAKING, _P.PROMOTED)},
    **{(phase, "HALTED"): _P.HALTED for phase in (_P.DEPLOYING, _P.BAKING, _P.PROMOTED, _P.PAUSED)},
    # RESUMED leads back to the phase before PAUSED; `Deployment.move` looks that up.
    (_P.PAUSED, "RESUMED"): _P.PAUSED,
    # A pause before STARTED is followed by ABORTED when the order to abort comes or the window closes.
    (_P.PAUSED, "ABORTED"): _P.ABORTED,
    **{(phase, "ROLLBACK_STARTED"): _P.ROLLING_BACK for phase in (_P.HALTED, _P.COMPLETED, _P.ROLLBACK_FAILED)},
    (_P.ROLLING_BACK, "INSTANCE_RESTORED"): _P.ROLLING_BACK,
    (_P.ROLLING_BACK, "ROLLED_BACK"): _P.ROLLED_BACK,
    (_P.ROLLING_BACK, "ROLLBACK_FAILED"): _P.ROLLBACK_FAILED,
    (_P.CLAIMED, "BASELINE"): _P.CLAIMED,
    (_P.DEPLOYING, "BASELINE"): _P.DEPLOYING,
    (_P.PAUSED, "BASELINE"): _P.PAUSED,
    # What a tier runs is watched until the next one bakes, also while that is being applied.
    **{
        (phase, event): phase
        for phase in (_P.BAKING, _P.PROMOTED, _P.DEPLOYING, _P.PAUSED)
        for event in ("SAMPLE", "VERDICT")
    },
    **{(phase, "SANITY"): phase for phase in Phase},
}


@dataclass(frozen=True, slots=True)
class Baseline:
    """Gate values before the first tier; `values` is None from `absent`. `requests`: how many a value rests on."""

    values: dict[str, Decimal | None] | None
    requests: dict[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SampleNote:
    """One sample as the fold keeps it. `whole`: every gate had a value. `rest`: gate -> the same value over the
    instances that still run the old release, for gates against it; `rest_requests`: how many requests that rests on.
    """

    seq: int
    tier: int
    n: int
    made_at: int
    values: dict[str, tuple[Decimal | None, int | None]]
    whole: bool
    rest: dict[str, Decimal | None] = field(default_factory=dict)
    rest_requests: dict[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvidenceNote:
    """What `policies.law.evidence` knows of the samples so far. `stakes`: None before the first bet. `rest_bad`,
    `rest_total`: requests on the rest of the fleet, with a guess in front. `certain`: nothing might fail, and one did.
    """

    stakes: tuple[float, ...] | None
    rest_bad: float
    rest_total: float
    certain: bool


@dataclass(frozen=True, slots=True)
class CourseNote:
    """What `policies.law.courses` knows of one gate after the samples so far. `lasted`: seconds of the present run of
    bad samples. `requests`, `bad`, `allowed`, `evidence`: of an error rate. Times: seconds since 1970.
    """

    known_at: int
    bad_at: int | None
    usable: int
    lasted: int
    breached: bool
    requests: int = 0
    bad: int = 0
    allowed: Decimal = Decimal(0)
    evidence: EvidenceNote | None = None


@dataclass(frozen=True, slots=True)
class EarlierNote:
    """The first samples of a long bake, folded: `count` of them, and one note for each gate of the lease, in order."""

    count: int
    courses: tuple[CourseNote, ...]


@dataclass(frozen=True, slots=True)
class VerdictNote:
    """What the monitor said of a tier."""

    seq: int
    digest: str
    tier: int
    n: int
    verdict: str
    gate: str | None
    text: str


@dataclass(frozen=True, slots=True)
class CommandNote:
    """An order that was lawful. `applied` orders are those that an executor event answered."""

    seq: int
    digest: str
    by: str
    verb: str
    tier: int | None
    skip_bake: bool
    reason: str
    time: int


Names: TypeAlias = Annotated[set[str], PlainSerializer(sorted, return_type=list[str])]
"""Instances; written out in one order, so that what did not change is written out as it was."""


@dataclass(slots=True)
class Deployment:
    """A claimed lease and everything that happened to it. The fold alone changes it.

    `lease_digest` names it, `lease_seq` is the entry of the lease. `cohorts`: tier -> the instances it adds, in cohort
    order; `tier_of`: the same by instance. `before`, `after`: instance -> tree.
    `tier`: the newest intended tier, 0 before the first. `watched_tier`, `bake_started_at`: of the newest bake; its
    samples go on until the next one begins. `phase_before_pause`: where RESUMED leads.
    `bad_verdict`: the first breach or abort, on whatever tier. `paused_at`: of the newest pause.
    `state_leaf`, `state_seq`: of the newest claim, executor event or command. `samples`: the newest ones of the watched
    tier, while it lives; `earlier`: those before, if there are. `whole`: how many of all have a value for every gate;
    `baked_at`: when they became as many as the tier needs. `failed`: instances that the newest failed rollback left.
    `warnings`: instance -> what went wrong beside its restore, in the newest rollback. Times: seconds since 1970.
    """

    lease_digest: str
    lease_seq: int
    lease: Lease
    claim_seq: int
    counted: tuple[int, int]
    cohorts: dict[int, tuple[str, ...]]
    tier_of: dict[str, int]
    before: dict[str, str]
    after: dict[str, str]
    state_leaf: str
    state_seq: int
    phase: Phase = Phase.CLAIMED
    phase_before_pause: Phase | None = None
    started: bool = False
    started_at: int | None = None
    tier: int = 0
    tier_applied: bool = False
    intended: Names = field(default_factory=set)
    applied: Names = field(default_factory=set)
    restored: Names = field(default_factory=set)
    failed: Names = field(default_factory=set)
    warnings: dict[str, str] = field(default_factory=dict)
    baseline: Baseline | None = None
    watched_tier: int = 0
    bake_started_at: int | None = None
    paused_at: int | None = None
    resumed_at: int | None = None
    samples: list[SampleNote] = field(default_factory=list)
    earlier: EarlierNote | None = None
    whole: int = 0
    baked_at: int | None = None
    verdict: VerdictNote | None = None
    bad_verdict: VerdictNote | None = None
    halted_cause: str | None = None
    halted_text: str | None = None
    halted_at: int | None = None
    halted_tier: int | None = None
    completed_at: int | None = None
    rolled_back_at: int | None = None
    ended_at: int | None = None
    ended_seq: int | None = None
    pause_order: CommandNote | None = None
    abort_order: CommandNote | None = None
    rollback_order: CommandNote | None = None
    start_order: CommandNote | None = None
    promote_order: CommandNote | None = None
    commands: list[CommandNote] = field(default_factory=list)

    @property
    def tiers(self) -> tuple[int, ...]:
        """The tiers of the rollout, merged ones as one, rising, the last is 100."""
        return tuple(self.cohorts)

    @property
    def last_tier(self) -> bool:
        """Whether the newest intended tier is the last."""
        return bool(self.cohorts) and self.tier == self.tiers[-1]

    @property
    def next_tier(self) -> int | None:
        """The first tier after the newest intended one."""
        return next((tier for tier in self.cohorts if tier > self.tier), None)

    @property
    def live(self) -> bool:
        """Whether it occupies its target."""
        return self.phase in LIVE

    @property
    def working_phase(self) -> Phase:
        """The phase, or the one that a pause interrupted."""
        return self.phase_before_pause if self.phase is Phase.PAUSED and self.phase_before_pause else self.phase

    @property
    def samples_needed(self) -> int:
        """How many whole samples a tier needs: ceil(bake / interval)."""
        return -(-self.lease.bake_s // self.lease.interval_s)

    def whole_samples(self) -> int:
        """How many samples of the present tier have a value for every gate."""
        return self.whole if self.watched_tier == self.tier else 0

    def move(self, event: str) -> Phase:
        """The phase after an event.

        Raises: LawRefused (`illegal_transition`) when the table has no such move; nothing changes.
        """
        after = MOVES.get((self.phase, event))
        if after is None:
            raise LawRefused(
                "illegal_transition",
                f"{event} is not possible in {self.phase}",
                rule="deployment",
                phase=self.phase.value,
            )
        if event == "RESUMED":
            return self.working_phase
        return after
