"""The row of large fleets: what it costs to plan, fold, decide and show one deployment as the fleet grows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench_measure import Row, Spread, timed
from ledger_factory import SAMPLES, TERMS, Factory

from executor.rollout.bookkeeping import Memory
from executor.rollout.decide import Observations, decide
from executor.views.progress import measure_progress
from ledger.chain import Chain, Entry
from ledger.record import MAX_RECORD
from ledger.sqlite.store import SqliteStore
from policies.fold.deployment import Deployment
from policies.fold.state import State
from policies.law.cohort import order_instances, plan_cohorts
from policies.law.step import step

# Genesis, fleet and its cosignature, term; then a deployment but for its results: seven entries to the claim, baseline
# and start, six and the samples for each tier, and the pause in the middle.
_BEFORE: Final = 4
_TIERS: Final = len(TERMS["tiers"])
_AROUND: Final = 9 + _TIERS * (4 + 2 * SAMPLES) + 4
_LOOKS: Final = 5
_SEED: Final = 1


def fleet_row(root: Path, sizes: Sequence[int]) -> Row:
    """One whole deployment over fleets of these sizes, by simulation: nothing is deployed."""
    table = [_measure(root / f"fleet-{size}", size) for size in sizes]
    first, last = table[0], table[-1]
    return Row(
        "fleet",
        f"one deployment over {sizes[-1]} instances: an entry's signature, law and fold",
        "us/entry",
        Spread.of([last["fold_us_per_entry"]]),
        Spread.of([first["fold_us_per_entry"]]),
        f"us an entry over {sizes[0]} instances",
        Spread.of([last["fold_us_per_entry"] / first["fold_us_per_entry"]]),
        note="a ratio near 1, and costs an instance that do not grow, say that the whole is linear",
        detail={"sizes": table},
    )


def _measure(root: Path, size: int) -> dict[str, Any]:
    factory = Factory(root, _SEED, size)
    path = factory.fill(_BEFORE + _AROUND + size)
    draw = random.Random(_SEED)  # noqa: S311  # which digest orders the cohorts is no secret
    digest, leaf = draw.randbytes(32).hex(), draw.randbytes(32).hex()
    plan = [
        timed(lambda: plan_cohorts(TERMS["tiers"], order_instances(digest, leaf, factory.names, ())))
        for _ in range(_LOOKS)
    ]
    with SqliteStore.open(path, read_only=True) as store:
        records = list(store.read(0, store.head().size))
    fold = _Fold(factory, size)
    seconds = timed(lambda: fold.run(records))
    if not fold.ended:
        raise RuntimeError("the deployment did not end")
    return {
        "instances": size,
        "entries": len(records),
        "largest_record_bytes": max(map(len, records)),
        "record_limit_bytes": MAX_RECORD,
        "plan_us_per_instance": Spread.of([each / size * 1e6 for each in plan]).to_json(),
        "fold_us_per_entry": seconds / len(records) * 1e6,
        "decide_us": Spread.of([each * 1e6 for each in fold.decided]).to_json(),
        "status_us_per_instance": Spread.of([each / size * 1e6 for each in fold.shown]).to_json(),
    }


class _Fold:
    """The state after each entry, and what it costs on the way to decide what is next and to show where it is: looked
    at where half of the last tier is applied, when that costs most.
    """

    def __init__(self, factory: Factory, size: int) -> None:
        self._factory = factory
        self._half = size // 2
        self._state = State()
        self._memory = Memory()
        self.decided: list[float] = []
        self.shown: list[float] = []

    @property
    def ended(self) -> bool:
        """Whether a deployment came to its end."""
        return bool(self._state.deployments) and not self._state.live

    def run(self, records: Sequence[bytes]) -> None:
        """Fold them all."""
        for entry in Chain().replay(records, None):
            self._state = step(self._state, entry, self._factory.objects)
            if not self.decided and self._state.live:
                self._look(entry)

    def _look(self, entry: Entry) -> None:
        deployment: Deployment = next(iter(self._state.deployments.values()))
        if len(deployment.applied) < self._half:
            return
        now = entry.record.seconds
        for _ in range(_LOOKS):
            # As the loop asks, which has passed over what is applied once, and not for each decision.
            seen = Observations(ahead=self._memory.ahead_of(deployment))
            self.decided.append(timed(lambda: decide(self._state, deployment, seen, now)))  # noqa: B023  # called at once
            self.shown.append(timed(lambda: measure_progress(deployment, now)))
